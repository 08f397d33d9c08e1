"""A client in another language: a program that does what it is asked, so that what is tried is written once, in Python.

It reads calls and writes their answers, each a line of JSON, and ends when its input does:
{"id": 1, "call": "partitions", "with": ["topic"]}, and {"id": 1, "answer": 3} or {"id": 1, "error": "what went wrong"}.
Each call has a thread of its own there: one that hangs holds no other up.
"""

import itertools
import json
import pathlib
import subprocess
import sys
import threading
from concurrent.futures import Future

TARGET = pathlib.Path(__file__).resolve().parents[2] / "target"
# Java starts more quickly when it compiles little, and these programs mostly wait.
QUICKLY = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx256m"]
QUIETLY = ["-Dslf4j.internal.verbosity=ERROR"]
JAVA = ["java", *QUICKLY, *QUIETLY, "-cp", f"{TARGET}/java:{TARGET}/java/*", "Client"]
PROGRAMS = {
    "java": JAVA,
    "rdkafka": [f"{TARGET}/clients/debug/rdkafka"],
    "rskafka": [f"{TARGET}/clients/debug/rskafka"],
}


class RemoteError(Exception):
    """What a client in another language says that went wrong."""


class Remote:
    def __init__(self, program, bootstrap):
        command = [*PROGRAMS[program], bootstrap]
        try:
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        except OSError as error:
            sys.exit(f"cannot run {command[0]}: {error}; tests/setup.sh installs or builds it")
        self.ids = itertools.count()
        self.lock = threading.Lock()
        # By id, what is not answered yet. None once the program has ended.
        self.asked = {}
        threading.Thread(target=self.receive, daemon=True).start()

    def call(self, name, *arguments):
        answer = Future()
        with self.lock:
            if self.asked is None:
                raise RemoteError("the program has ended")
            id = next(self.ids)
            self.asked[id] = answer
            self.process.stdin.write(json.dumps({"id": id, "call": name, "with": arguments}) + "\n")
            self.process.stdin.flush()
        return answer.result()

    def receive(self):
        for line in self.process.stdout:
            told = json.loads(line)
            answer = self.asked.pop(told["id"])
            if "error" in told:
                answer.set_exception(RemoteError(told["error"]))
            else:
                answer.set_result(told["answer"])
        with self.lock:
            unanswered, self.asked = self.asked, None
        for answer in unanswered.values():
            answer.set_exception(RemoteError("the program has ended"))

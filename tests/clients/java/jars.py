"""Takes the jars that the client for Java needs out of the only wheel in a folder, and deletes the wheel.

Usage: jars.py FOLDER
"""

import pathlib
import re
import sys
import zipfile

NEEDED = ["kafka-clients", "slf4j-api", "lz4-java", "snappy-java", "zstd-jni"]
# For what tests/clients/remote.py asks.
NEEDED += ["jackson-annotations", "jackson-core", "jackson-databind"]

folder = pathlib.Path(sys.argv[1])
(wheel,) = folder.glob("*.whl")
with zipfile.ZipFile(wheel) as files:
    for path in files.namelist():
        jar = path.rsplit("/", 1)[-1]
        if any(re.fullmatch(rf"{name}-\d.*\.jar", jar) for name in NEEDED):
            (folder / jar).write_bytes(files.read(path))
wheel.unlink()

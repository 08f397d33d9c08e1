//! PURE: finds in the last lines of a program's log why it ended. Hints and traces after a panic do not count.

/// How lines begin that follow a panic's message.
const AFTER_PANIC: [&str; 2] = ["note: ", "stack backtrace:"];

/// Returns the index of the line where the panic begins that ended the program; `None` if no panic did. A panic that is
/// followed by a log record was survived, or belongs to an earlier run.
pub fn panic_in(lines: &[String]) -> Option<usize> {
    let at = lines.iter().rposition(|line| line.starts_with("thread '") && line.contains(" panicked at "))?;
    (!lines[at..].iter().any(|line| is_record(line))).then_some(at)
}

/// Returns the panic as one line: thread, place and message.
pub fn panic_line(lines: &[String]) -> Option<String> {
    let block = &lines[panic_in(lines)?..];
    let words = block.iter().take_while(|line| !AFTER_PANIC.iter().any(|end| line.starts_with(end)));
    let words: Vec<&str> = words.map(|line| line.trim()).filter(|line| !line.is_empty()).collect();
    Some(words.join(" "))
}

/// Returns the line that says why a program ended: its panic, or its last line.
pub fn cause(said: &[u8]) -> Option<String> {
    let lines: Vec<String> = String::from_utf8_lossy(said).lines().map(str::to_owned).collect();
    let last = || lines.iter().rev().find(|line| !line.trim().is_empty()).cloned();
    panic_line(&lines).or_else(last)
}

/// Whether a line begins with a time, as the node's log records do.
fn is_record(line: &str) -> bool {
    let mut bytes = line.bytes();
    let year = bytes.by_ref().take(4).all(|byte| byte.is_ascii_digit());
    year && bytes.next() == Some(b'-') && line.contains('T')
}

#[cfg(test)]
mod tests {
    use super::*;

    const PANIC: &str = "\
2026-01-31T10:15:30.123456Z  INFO esnode: starting
thread 'raft' (4711) panicked at esnode/src/driver/run.rs:17:5:
term 18446744073709551615 is out of range
second line
stack backtrace:
   0: std::panicking::begin_panic
             at /rustc/x/library/std/src/panicking.rs:1:2
note: Some details are omitted, run with `RUST_BACKTRACE=full` for a verbose backtrace.";

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_panic_is_told_as_the_panic() {
        let told = "thread 'raft' (4711) panicked at esnode/src/driver/run.rs:17:5: term 18446744073709551615 is out of \
                    range second line";
        assert_eq!(panic_line(&lines(PANIC)).as_deref(), Some(told));
        assert_eq!(cause(PANIC.as_bytes()).as_deref(), Some(told));
        assert_eq!(panic_in(&lines(PANIC)), Some(1));
        let supervised =
            format!("{PANIC}\neventstream.service: Main process exited, code=exited, status=101/n/a");
        assert_eq!(panic_in(&lines(&supervised)), Some(1));
        let short = "thread 'main' panicked at src/main.rs:1:1:\nboom\nnote: run with `RUST_BACKTRACE=1` environment variable";
        assert_eq!(
            cause(short.as_bytes()).as_deref(),
            Some("thread 'main' panicked at src/main.rs:1:1: boom")
        );
    }

    #[test]
    fn of_several_panics_the_last_counts_and_none_of_an_earlier_run() {
        let twice = format!("{PANIC}\n{}", PANIC.replace("out of range", "too large"));
        assert!(panic_line(&lines(&twice)).unwrap().contains("too large"));
        let later = format!("{PANIC}\n2026-01-31T10:16:00.000000Z ERROR esnode: the port is taken");
        assert_eq!(panic_in(&lines(&later)), None);
        assert!(cause(later.as_bytes()).unwrap().ends_with("the port is taken"));
    }

    #[test]
    fn without_a_panic_the_last_words_are_the_last_line() {
        assert_eq!(cause(b"one\ntwo\n\n").as_deref(), Some("two"));
        assert_eq!(cause(b"").as_deref(), None);
    }
}

//! PURE: tells the output of a script from other text on the same SSH channel. A login shell, its startup files and a
//! forced command may all print, before the script and after it.
//!
//! A mark that nobody else can know is printed on a line of its own before the script's output. Behind the output it is
//! printed again, followed by the script's exit status. Both stand on standard output and on standard error.

use crate::engine::ports::PortError;
use crate::hosts::ssh::{Output, Source, Status, StreamEvent, quote};

/// Prints the mark, runs the script, and prints the mark again with the script's exit status.
const WRAPPER: &str = r#"mark() { printf '\n%s\n' "$*"; printf '\n%s\n' "$*" >&2; }
mark "$1"; sh -c "$2"; code=$?; mark "$1 $code"; exit $code"#;
/// How many lines an error shows of what was printed instead of the mark.
const MAX_NOISE_LINES: usize = 5;

/// Returns the command line that runs `script` between two marks, for a login shell.
pub fn line(mark: &str, script: &str) -> String {
    quote::join(["exec", "sh", "-c", WRAPPER, "sh", mark, script])
}

/// The output of one script, without anything that was printed around it.
#[derive(Debug, PartialEq, Eq)]
pub struct Framed {
    /// The script's exit status.
    pub code: i32,
    /// Standard output, without white space at its ends.
    pub stdout: String,
    /// Standard error, without white space at its ends.
    pub stderr: String,
}

/// Returns what `output` holds between the two marks.
///
/// # Errors
/// If the script was never begun; the error then shows what was printed instead. If the output ends before the second
/// mark.
pub fn read(mark: &str, output: &Output) -> Result<Framed, PortError> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    let Some(said) = behind(mark, &stdout) else {
        let noise = stdout.lines().chain(stderr.lines()).map(str::to_owned);
        return Err(not_begun(noise.collect(), &output.status));
    };
    let errors = behind(mark, &stderr).unwrap_or(&stderr);
    let (errors, _) = before(mark, errors).unwrap_or((errors, 0));
    let Some((said, code)) = before(mark, said) else {
        let failure = PortError::failed(format!("the script was cut off: {}", output.status));
        return Err(errors.lines().fold(failure, PortError::detail));
    };
    Ok(Framed { code, stdout: said.trim().to_owned(), stderr: errors.trim().to_owned() })
}

/// The text after the first line that is the mark; `None` without such a line.
fn behind<'a>(mark: &str, text: &'a str) -> Option<&'a str> {
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        at += line.len();
        if line.trim_end() == mark {
            return text.get(at..);
        }
    }
    None
}

/// The text before the last mark, and the exit status that follows that mark.
fn before<'a>(mark: &str, text: &'a str) -> Option<(&'a str, i32)> {
    let at = text.rfind(&format!("\n{mark} "))?;
    let (said, rest) = text.split_at(at);
    let code = rest.trim_start().strip_prefix(mark)?.split_whitespace().next()?;
    Some((said, code.parse().ok()?))
}

/// The error for a login that ended, or ran something else, before it reached the script.
fn not_begun(noise: Vec<String>, status: &Status) -> PortError {
    let failure =
        PortError::failed(format!("its login shell does not run commands: it exited first, {status}"));
    let noise: Vec<String> = noise.into_iter().filter(|line| !line.trim().is_empty()).collect();
    let last = noise.len().saturating_sub(MAX_NOISE_LINES);
    let failure = noise
        .into_iter()
        .skip(last)
        .fold(failure, |failure, line| failure.detail(format!("it printed: {line}")));
    failure
        .hint("check its startup files for `exit` or `exec`: ~/.bashrc, ~/.profile, /etc/profile.d")
        .hint("the user needs a shell that can run sh (getent passwd), and no forced command: ForceCommand, command=\"...\"")
}

/// Does what [`read`] does for output that arrives line by line.
#[derive(Debug)]
pub struct Lines {
    mark: String,
    begun: bool,
    begun_errors: bool,
    noise: Vec<String>,
}

impl Lines {
    /// No line has arrived yet.
    pub fn new(mark: &str) -> Self {
        Self { mark: mark.to_owned(), begun: false, begun_errors: false, noise: Vec::new() }
    }

    /// Returns `said` if the script printed it; `None` for a mark and for what something else printed.
    ///
    /// # Errors
    /// If the stream ends before the first mark: the script was never begun.
    pub fn take(&mut self, said: StreamEvent) -> Result<Option<StreamEvent>, PortError> {
        let (source, line) = match said {
            StreamEvent::Ended(status) if !self.begun => {
                return Err(not_begun(std::mem::take(&mut self.noise), &status));
            }
            StreamEvent::Ended(_) => return Ok(Some(said)),
            StreamEvent::Line(source, line) => (source, line),
        };
        let begun = if source == Source::Stdout { &mut self.begun } else { &mut self.begun_errors };
        if *begun {
            let is_end = line.strip_prefix(self.mark.as_str()).is_some_and(|rest| rest.starts_with(' '));
            return Ok((!is_end).then_some(StreamEvent::Line(source, line)));
        }
        *begun = line == self.mark;
        if !*begun {
            if self.noise.len() == MAX_NOISE_LINES {
                self.noise.remove(0);
            }
            self.noise.push(line);
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    const MARK: &str = "8a1f3c5e";

    /// Runs `script` as a login shell does that has `before` in its startup files, and prints `after` when it ends.
    fn login(before: &str, script: &str, after: &str) -> Result<Framed, PortError> {
        let line = line(MARK, script);
        let shell = format!("({before}\n{line})\n{after}");
        let output = Command::new("sh").args(["-c", &shell]).output().unwrap();
        let status = Status::Exited(output.status.code().unwrap());
        read(MARK, &Output { status, stdout: output.stdout, stderr: output.stderr })
    }

    #[test]
    fn only_what_the_script_prints_counts_whatever_is_said_around_it() {
        let plain = login("", "echo out; echo why >&2; exit 3", "").unwrap();
        assert_eq!(plain, Framed { code: 3, stdout: "out".to_owned(), stderr: "why".to_owned() });
        for before in ["echo WELCOME", "printf 'no end of line'", "echo warned >&2; echo pid 4711", "set -x"]
        {
            for after in ["", "echo logout; echo bye >&2; exit 7", "printf '\\npid 1\\n'"] {
                let said = login(before, "echo out; echo why >&2; exit 3", after).unwrap();
                assert_eq!(said, plain, "{before}, {after}");
            }
        }
        let silent = login("echo WELCOME", "exit 0", "echo bye").unwrap();
        assert_eq!((silent.code, silent.stdout.as_str()), (0, ""));
    }

    #[test]
    fn a_script_may_end_as_it_likes() {
        for (script, code) in
            [("exec true", 0), ("trap 'echo bye' EXIT; exit 4", 4), ("kill -9 $$", 137), ("if", 2)]
        {
            assert_eq!(login("echo WELCOME", script, "").unwrap().code, code, "{script}");
        }
    }

    #[test]
    fn a_login_that_ends_before_is_told_from_a_script_that_says_nothing() {
        for before in ["echo go away; exit 1", "exit 0", "exec true"] {
            let failure = login(before, "echo out", "").unwrap_err();
            assert!(failure.message.contains("does not run commands"), "{failure}");
            assert!(failure.hints[0].contains("~/.bashrc"), "{failure:?}");
        }
        let failure = login("echo go away; exit 1", "echo out", "").unwrap_err();
        assert_eq!(failure.details, ["it printed: go away"]);
        let cut = Output {
            status: Status::Signalled("KILL".to_owned()),
            stdout: format!("\n{MARK}\nhalf").into_bytes(),
            stderr: Vec::new(),
        };
        assert!(read(MARK, &cut).unwrap_err().message.contains("was cut off"));
    }

    #[test]
    fn lines_that_come_one_by_one_are_told_apart_too() {
        let mut lines = Lines::new(MARK);
        let mut take = |line: &str| lines.take(StreamEvent::Line(Source::Stdout, line.to_owned())).unwrap();
        assert_eq!((take("held"), take("WELCOME"), take(MARK)), (None, None, None));
        assert_eq!(take("held"), Some(StreamEvent::Line(Source::Stdout, "held".to_owned())));
        assert_eq!(take(&format!("{MARK} 75")), None);
        let mut lines = Lines::new(MARK);
        lines.take(StreamEvent::Line(Source::Stdout, "go away".to_owned())).unwrap();
        let failure = lines.take(StreamEvent::Ended(Status::Exited(1))).unwrap_err();
        assert_eq!(failure.details, ["it printed: go away"]);
    }
}

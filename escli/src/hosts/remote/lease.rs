//! The lease of a host: keeps other operators away as long as an operation works on the host.
//!
//! A process on the host holds a lock. escli sends it a line every few seconds, and it releases the lock when no line
//! comes any more, because escli or the network has failed. It answers each line. An escli that gets no answer
//! considers the lease lost well before the host releases the lock.

use std::time::Duration;

use shared::ids::NodeId;
use shared::spec::Privilege;

use super::frame;
use super::shell::script;
use crate::engine::lock::Holder;
use crate::engine::ports::{LeaseLost, PortError, PortErrorKind};
use crate::hosts::ssh::{KeepAlive, Lines, SshError, StreamEvent, quote};
use crate::plan::layout::HostLayout;

/// How often a line is sent to the host, and how long its answer may take.
pub const KEEP_ALIVE: KeepAlive =
    KeepAlive { interval: Duration::from_secs(2), timeout: Duration::from_secs(15) };
/// Seconds without a line after which the host releases the lock; more than both times of [`KEEP_ALIVE`] together.
pub const RELEASE_AFTER_S: u64 = 30;
/// How long the host waits for another holder to release the lock.
pub const LOCK_WAIT: Duration = Duration::from_secs(2);
/// Exit status of the script if another operation holds the lock.
const TAKEN: i32 = 75;

/// Returns the script that takes the host's lock for `holder` and prints `held`. It holds the lock as long as a line
/// arrives at least every `silence` seconds. If another operation holds the lock, it prints that holder and exits with
/// [`TAKEN`].
pub fn hold(layout: &HostLayout, holder: &Holder, silence: u64) -> String {
    let lock = match layout.privilege {
        Privilege::Sudo => "/run/eventstream-operation.lock",
        Privilege::None => "$HOME/.eventstream-operation.lock",
    };
    let body = format!(
        r#"as_root flock -w {wait} -E {TAKEN} {lock} sh -c 'printf "%s\n" "$2" > "$1"; echo held
while timeout {silence} sh -c "read -r beat"; do echo .; done' sh {lock} {holder}
code=$?
[ $code != {TAKEN} ] || cat {lock}
exit $code"#,
        wait = LOCK_WAIT.as_secs(),
        holder = quote::word(&serde_json::to_string(holder).unwrap_or_default())
    );
    script(layout, &body)
}

/// The lease of one host, released when the value is dropped.
#[derive(Debug)]
pub struct Lease {
    node: NodeId,
    lines: Lines,
    lost: Option<String>,
}

impl Lease {
    /// Waits until the script of [`hold`], whose output is between two `mark`s, has taken the lock.
    ///
    /// # Errors
    /// [`PortErrorKind::Locked`] with the holder, if another operation has it; otherwise what the host printed instead.
    pub async fn taken(node: NodeId, mark: &str, mut lines: Lines) -> Result<Self, PortError> {
        let mut framed = frame::Lines::new(mark);
        let mut said = Vec::new();
        while let Some(next) = lines.next().await {
            let next = next.map_err(|error| super::port_error(&error))?;
            match framed.take(next).map_err(|error| on(node, error))? {
                Some(StreamEvent::Line(_, line)) if line == "held" => {
                    return Ok(Self { node, lines, lost: None });
                }
                Some(StreamEvent::Line(_, line)) => said.push(line),
                Some(StreamEvent::Ended(_)) => break,
                None => {}
            }
        }
        Err(not_taken(node, &said))
    }

    /// Returns why the lease is lost; `None` as long as it is held.
    pub fn lost(&mut self) -> Option<LeaseLost> {
        while self.lost.is_none() {
            self.lost = match self.lines.ready()? {
                Some(Ok(StreamEvent::Line(..))) => continue,
                Some(Ok(StreamEvent::Ended(status))) => Some(format!("its host released it: {status}")),
                Some(Err(error)) => Some(why(&error)),
                None => Some("the connection was closed".to_owned()),
            };
        }
        Some(LeaseLost { node: self.node, reason: self.lost.clone().unwrap_or_default() })
    }
}

fn why(error: &SshError) -> String {
    let message = &error.message;
    message.rsplit_once(": ").map_or(message.as_str(), |(_, why)| why).to_owned()
}

fn on(node: NodeId, error: PortError) -> PortError {
    PortError { message: format!("node {node}: {}", error.message), ..error }
}

/// The error for a host that does not say in time whether it has taken the lock.
pub fn unsaid(id: NodeId) -> PortError {
    PortError::failed(format!("node {id}: its host does not say whether it can be reserved"))
        .hint("check its login shell: escli check")
}

fn not_taken(id: NodeId, said: &[String]) -> PortError {
    let holder = said.iter().find_map(|line| serde_json::from_str::<Holder>(line).ok());
    let Some(Holder { who, operation, since, .. }) = holder else {
        let error = PortError::failed(format!("node {id}: its host cannot be reserved for this operation"));
        return PortError { details: said.to_vec(), ..error };
    };
    let what =
        format!("another operation is running on node {id}'s host: {operation} by {who} since {since}");
    PortError::new(PortErrorKind::Locked, what).hint(format!(
        "wait until it has finished, then try again; the host is released when that escli exits, or {RELEASE_AFTER_S} s after its \
         connection is lost"
    ))
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::process::{Child, Command, Stdio};
    use std::time::Instant;

    use shared::spec::Service;

    use super::*;

    fn begin(home: &std::path::Path, operation: &str, silence: u64) -> Child {
        let layout = HostLayout {
            install: "/nowhere".to_owned(),
            data: "/nowhere/data".to_owned(),
            user: None,
            privilege: Privilege::None,
            service: Service::Process,
        };
        let holder = Holder {
            who: "ada@desk".to_owned(),
            operation: operation.to_owned(),
            since: "2026-01-31T10:15:30Z".to_owned(),
            pid: 4711,
        };
        let mut command = Command::new("sh");
        command.args(["-c", &hold(&layout, &holder, silence)]).env("HOME", home);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
    }

    fn first_line(child: &mut Child) -> String {
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        line
    }

    #[test]
    fn who_is_second_is_told_who_is_first_and_gets_in_once_that_has_ended() {
        let home = tempfile::tempdir().unwrap();
        let mut first = begin(home.path(), "up", 60);
        assert_eq!(first_line(&mut first), "held\n");
        let second = begin(home.path(), "down", 60).wait_with_output().unwrap();
        assert_eq!(second.status.code(), Some(TAKEN));
        let said = String::from_utf8(second.stdout).unwrap();
        let refused = not_taken(2, &said.lines().map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(refused.kind, PortErrorKind::Locked);
        assert!(refused.message.contains("node 2's host: up by ada@desk since"), "{refused}");
        // The end of its input is the end of escli.
        drop(first.stdin.take());
        assert!(first.wait().unwrap().success());
        assert_eq!(first_line(&mut begin(home.path(), "down", 1)), "held\n");
    }

    #[test]
    fn the_host_lets_go_of_an_escli_that_has_fallen_silent_and_not_before() {
        assert!(KEEP_ALIVE.interval + KEEP_ALIVE.timeout < Duration::from_secs(RELEASE_AFTER_S));
        let home = tempfile::tempdir().unwrap();
        let mut first = begin(home.path(), "up", 1);
        let mut input = first.stdin.take().unwrap();
        assert_eq!(first_line(&mut first), "held\n");
        for _ in 0..4 {
            std::thread::sleep(Duration::from_millis(400));
            input.write_all(b"\n").unwrap();
            assert!(first.try_wait().unwrap().is_none(), "it hears from us");
        }
        // Its input stays open: nothing but the silence tells.
        let began = Instant::now();
        first.wait().unwrap();
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
        drop(input);
    }
}

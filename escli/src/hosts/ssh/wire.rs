//! One SSH session on one socket, never waiting longer than it may. libssh2 runs without blocking; the waiting is here.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use libssh2_sys::LIBSSH2_ERROR_EAGAIN;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use ssh2::{BlockDirections, ErrorCode, Session};

use super::SshError;

/// Why something on a wire came to nothing.
#[derive(Debug)]
pub enum WireError {
    /// Time ran out.
    Timeout,
    /// The host has said nothing for too long, not even to be asked whether it is there.
    Silent,
    /// The host, or somebody on the way, has closed the connection.
    Closed,
    /// Nobody waits for it any more.
    Abandoned,
    /// The command's input cannot be read.
    Input(std::io::Error),
    /// It prints more than anybody could want.
    TooMuch,
    /// libssh2 says so.
    Error(ssh2::Error),
}

impl WireError {
    /// The number that libssh2 gives the error.
    pub fn code(&self) -> Option<i32> {
        match self {
            Self::Error(error) => code(error),
            _ => None,
        }
    }

    /// In words, for the end of a sentence.
    pub fn text(&self) -> String {
        match self {
            Self::Timeout => "no answer in time".to_owned(),
            Self::Silent => "the host went silent".to_owned(),
            Self::Closed => "the connection was closed".to_owned(),
            Self::Abandoned => "nobody waits for it any more".to_owned(),
            Self::Input(error) => format!("cannot read its input: {error}"),
            Self::TooMuch => "it prints too much".to_owned(),
            Self::Error(error) => error.message().to_ascii_lowercase(),
        }
    }
}

fn code(error: &ssh2::Error) -> Option<i32> {
    match error.code() {
        ErrorCode::Session(code) => Some(code),
        ErrorCode::SFTP(_) => None,
    }
}

/// Until when something must be done. Time in which a person is asked does not count.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Instant);

impl Deadline {
    /// That far from now.
    pub fn after(limit: Duration) -> Self {
        Self(Instant::now() + limit)
    }

    /// What is left of it.
    pub fn left(&self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    /// Whichever comes first.
    #[must_use]
    pub fn or_after(self, limit: Duration) -> Self {
        Self(self.0.min(Instant::now() + limit))
    }

    /// Does something that takes a person's time, and gives that time back.
    pub fn pausing<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let begin = Instant::now();
        let result = work();
        self.0 += begin.elapsed();
        result
    }
}

/// A session and its socket.
pub struct Wire {
    /// The session, which does not block.
    pub session: Session,
    socket: OwnedFd,
    heard: Instant,
}

impl Wire {
    /// A session on a connected socket, before the handshake.
    ///
    /// # Errors
    /// When there are no descriptors, or no memory.
    pub fn new(socket: OwnedFd) -> Result<Self, SshError> {
        let failed = |what: &str| SshError::failed(format!("cannot begin an SSH session: {what}"));
        let mut session = Session::new().map_err(|error| failed(error.message()))?;
        let theirs = socket.try_clone().map_err(|error| failed(&error.to_string()))?;
        session.set_tcp_stream(theirs);
        session.set_blocking(false);
        Ok(Self { session, socket, heard: Instant::now() })
    }

    /// Calls until the call no longer has to wait for the host. Time inside a call does not count: only the agent takes
    /// any, and it may be asking a person.
    ///
    /// # Errors
    /// When it fails, or time runs out.
    pub fn until<T>(
        &mut self,
        deadline: &mut Deadline,
        mut call: impl FnMut(&mut Session) -> Result<T, ssh2::Error>,
    ) -> Result<T, WireError> {
        loop {
            match deadline.pausing(|| call(&mut self.session)) {
                Err(error) if code(&error) == Some(LIBSSH2_ERROR_EAGAIN) => {}
                result => return result.map_err(WireError::Error),
            }
            if deadline.left().is_zero() {
                return Err(WireError::Timeout);
            }
            self.wait(deadline.left());
        }
    }

    /// Waits until the last call may go on, or for that long.
    pub fn wait(&mut self, longest: Duration) {
        self.wait_with(longest, None);
    }

    /// The same, and for another descriptor as well; says what that one is ready for.
    pub fn wait_with(&mut self, longest: Duration, other: Option<(BorrowedFd<'_>, PollFlags)>) -> PollFlags {
        let flags = match self.session.block_directions() {
            BlockDirections::Outbound => PollFlags::OUT,
            BlockDirections::Both => PollFlags::IN | PollFlags::OUT,
            BlockDirections::Inbound | BlockDirections::None => PollFlags::IN,
        };
        let mut fds = vec![PollFd::from_borrowed_fd(self.socket.as_fd(), flags)];
        fds.extend(other.map(|(fd, flags)| PollFd::from_borrowed_fd(fd, flags)));
        // sshd holds small packets back until earlier ones are acknowledged, which takes 40 ms by default. It lasts for a
        // moment only, and a jump's socket knows nothing of it.
        #[cfg(target_os = "linux")]
        let _ = rustix::net::sockopt::set_tcp_quickack(&self.socket, true);
        let timeout = Timespec::try_from(longest).ok();
        // A signal ends the wait early, and everybody asks again anyway.
        _ = poll(&mut fds, timeout.as_ref());
        if !fds[0].revents().is_empty() {
            self.heard = Instant::now();
        }
        fds.get(1).map_or(PollFlags::empty(), PollFd::revents)
    }

    /// Whether a packet is half sent: then only the call that sends it may be made.
    pub fn is_sending(&self) -> bool {
        matches!(self.session.block_directions(), BlockDirections::Outbound | BlockDirections::Both)
    }

    /// Whether the other end has closed the connection, and everything from it is read.
    pub fn is_closed(&self) -> bool {
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        match recv(&self.socket, &mut [0; 1][..], flags) {
            Ok((_, count)) => count == 0,
            Err(error) => error != Errno::WOULDBLOCK,
        }
    }

    /// For how long nothing has moved on the socket while somebody waited for it.
    pub fn silent_for(&self) -> Duration {
        self.heard.elapsed()
    }

    /// Begins to listen for silence.
    pub fn listen(&mut self) {
        self.heard = Instant::now();
    }
}

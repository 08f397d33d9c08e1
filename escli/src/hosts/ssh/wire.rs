//! One SSH session on one socket. libssh2 never blocks here; all waiting is in this file, and has limits.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use libssh2_sys::LIBSSH2_ERROR_EAGAIN;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use ssh2::{BlockDirections, ErrorCode, Session};

use super::SshError;

/// Why an action on a wire failed.
#[derive(Debug)]
pub enum WireError {
    /// Its time limit has passed.
    Timeout,
    /// The host was silent for too long, although it was asked for a sign of life.
    Silent,
    /// The connection was closed.
    Closed,
    /// The caller does not wait any more.
    Abandoned,
    /// The command's input cannot be read.
    Input(std::io::Error),
    /// The command has printed too much.
    TooMuch,
    /// An error of libssh2.
    Error(ssh2::Error),
}

impl WireError {
    /// Returns libssh2's number for the error.
    pub fn code(&self) -> Option<i32> {
        match self {
            Self::Error(error) => code(error),
            _ => None,
        }
    }

    /// Returns the error in words, for the end of a sentence.
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

/// When something must be done. Time in which the operator answers a question does not count.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Instant);

impl Deadline {
    /// Returns the deadline after `limit` from now.
    pub fn after(limit: Duration) -> Self {
        Self(Instant::now() + limit)
    }

    /// Returns the time that is left.
    pub fn left(&self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    /// Returns the earlier one of this deadline and the time after `limit` from now.
    #[must_use]
    pub fn or_after(self, limit: Duration) -> Self {
        Self(self.0.min(Instant::now() + limit))
    }

    /// Runs `work`, and extends the deadline by the time that it took.
    pub fn pausing<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let begin = Instant::now();
        let result = work();
        self.0 += begin.elapsed();
        result
    }
}

/// An SSH session and its socket.
pub struct Wire {
    /// The session, in non-blocking mode.
    pub session: Session,
    socket: OwnedFd,
    heard: Instant,
}

impl Wire {
    /// Returns a session on a connected socket, before the handshake.
    ///
    /// # Errors
    /// If there are no file descriptors left, or no memory.
    pub fn new(socket: OwnedFd) -> Result<Self, SshError> {
        let failed = |what: &str| SshError::failed(format!("cannot begin an SSH session: {what}"));
        let mut session = Session::new().map_err(|error| failed(error.message()))?;
        let theirs = socket.try_clone().map_err(|error| failed(&error.to_string()))?;
        session.set_tcp_stream(theirs);
        session.set_blocking(false);
        Ok(Self { session, socket, heard: Instant::now() })
    }

    /// Repeats `call` until it no longer has to wait for the host. Time inside the call does not count for the
    /// deadline, because only an agent takes any, which may be asking the operator.
    ///
    /// # Errors
    /// If the call fails, or time runs out.
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

    /// Waits until the last call can continue, for at most `longest`.
    pub fn wait(&mut self, longest: Duration) {
        self.wait_with(longest, None);
    }

    /// As [`Self::wait`], but also waits for another descriptor, and returns what that one is ready for.
    pub fn wait_with(&mut self, longest: Duration, other: Option<(BorrowedFd<'_>, PollFlags)>) -> PollFlags {
        let flags = match self.session.block_directions() {
            BlockDirections::Outbound => PollFlags::OUT,
            BlockDirections::Both => PollFlags::IN | PollFlags::OUT,
            BlockDirections::Inbound | BlockDirections::None => PollFlags::IN,
        };
        let mut fds = vec![PollFd::from_borrowed_fd(self.socket.as_fd(), flags)];
        fds.extend(other.map(|(fd, flags)| PollFd::from_borrowed_fd(fd, flags)));
        // sshd delays small packets until earlier ones are acknowledged, by default for up to 40 ms. The option must be
        // set again each time, and has no effect on a jump's socket.
        #[cfg(target_os = "linux")]
        let _ = rustix::net::sockopt::set_tcp_quickack(&self.socket, true);
        let timeout = Timespec::try_from(longest).ok();
        // A signal ends the wait early, which is harmless, since all callers check again.
        _ = poll(&mut fds, timeout.as_ref());
        if !fds[0].revents().is_empty() {
            self.heard = Instant::now();
        }
        fds.get(1).map_or(PollFlags::empty(), PollFd::revents)
    }

    /// Returns whether a packet is only partly sent. Then only the call that sends it may be made.
    pub fn is_sending(&self) -> bool {
        matches!(self.session.block_directions(), BlockDirections::Outbound | BlockDirections::Both)
    }

    /// Returns whether the other end has closed the connection, and everything from it was read.
    pub fn is_closed(&self) -> bool {
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        match recv(&self.socket, &mut [0; 1][..], flags) {
            Ok((_, count)) => count == 0,
            Err(error) => error != Errno::WOULDBLOCK,
        }
    }

    /// Returns for how long nothing has arrived on the socket while somebody waited for it.
    pub fn silent_for(&self) -> Duration {
        self.heard.elapsed()
    }

    /// Starts to measure silence.
    pub fn listen(&mut self) {
        self.heard = Instant::now();
    }
}

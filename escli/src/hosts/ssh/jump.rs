//! Through one host to the next. libssh2 wants a socket, so a thread carries bytes between one end of a socket pair and
//! a channel of the session before; it ends when either side does.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use libssh2_sys::LIBSSH2_ERROR_CHANNEL_FAILURE;
use rustix::event::PollFlags;
use ssh2::Channel;

use super::wire::{Deadline, Wire};
use super::{Destination, SshError};
use shared::spec::authority;

/// How much is carried at once.
const CHUNK: usize = 64 * 1024;
/// Longest wait without looking again; everything that matters wakes the thread.
const LONG: Duration = Duration::from_secs(60);

/// A socket that leads to `next` through the host that `wire` is logged in to.
///
/// # Errors
/// `Unreachable` when that host cannot connect to the next in time.
pub fn through(
    mut wire: Wire,
    before: &Destination,
    next: &Destination,
    deadline: &mut Deadline,
) -> Result<OwnedFd, SshError> {
    let channel = open(&mut wire, before, &next.name, (&next.host, next.port), deadline)?;
    let (ours, theirs) = UnixStream::pair().map_err(|error| cannot(&error))?;
    carry(wire, before, channel, theirs)?;
    Ok(ours.into())
}

/// Lets `local` lead to a port, through the host that `wire` is logged in to.
///
/// # Errors
/// `Unreachable` when that host cannot connect to the port in time.
pub fn forward(
    mut wire: Wire,
    before: &Destination,
    (host, port): (&str, u16),
    local: UnixStream,
    deadline: &mut Deadline,
) -> Result<(), SshError> {
    let channel = open(&mut wire, before, host, (host, port), deadline)?;
    carry(wire, before, channel, local)
}

fn open(
    wire: &mut Wire,
    before: &Destination,
    name: &str,
    (host, port): (&str, u16),
    deadline: &mut Deadline,
) -> Result<Channel, SshError> {
    let opened = wire.until(deadline, |session| session.channel_direct_tcpip(host, port, None));
    opened.map_err(|stop| {
        let (place, jump) = (authority(host, port), &before.name);
        let why = match stop.code() {
            Some(LIBSSH2_ERROR_CHANNEL_FAILURE) => format!("{jump} cannot connect to it ({})", stop.text()),
            _ => stop.text(),
        };
        SshError::unreachable(format!("{name} ({place}) cannot be reached through {jump}: {why}"))
            .hint(format!("try on {jump}: nc -vz {host} {port}"))
            .hint(format!("its sshd must allow it: AllowTcpForwarding yes, on {jump}"))
    })
}

fn carry(wire: Wire, before: &Destination, channel: Channel, local: UnixStream) -> Result<(), SshError> {
    local.set_nonblocking(true).map_err(|error| cannot(&error))?;
    let carrier = thread::Builder::new().name(format!("jump {}", before.name));
    carrier.spawn(move || _ = Carrier { wire, channel, local }.run()).map_err(|error| cannot(&error))?;
    Ok(())
}

fn cannot(error: &io::Error) -> SshError {
    SshError::failed(format!("cannot begin a jump: {error}"))
}

struct Carrier {
    wire: Wire,
    channel: Channel,
    local: UnixStream,
}

/// Bytes on their way.
struct Pipe {
    bytes: Vec<u8>,
    done: usize,
    full: usize,
}

impl Pipe {
    fn new() -> Self {
        Self { bytes: vec![0; CHUNK], done: 0, full: 0 }
    }

    fn is_empty(&self) -> bool {
        self.done == self.full
    }

    /// Whether anything moved; an end is an error.
    fn fill(&mut self, from: &mut impl Read) -> io::Result<bool> {
        if !self.is_empty() {
            return Ok(false);
        }
        match from.read(&mut self.bytes) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                (self.done, self.full) = (0, count);
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn empty(&mut self, into: &mut impl Write) -> io::Result<bool> {
        if self.is_empty() {
            return Ok(false);
        }
        match into.write(&self.bytes[self.done..self.full]) {
            Ok(count) => {
                self.done += count;
                Ok(count > 0)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl Carrier {
    fn run(mut self) -> io::Result<()> {
        let (mut there, mut back) = (Pipe::new(), Pipe::new());
        loop {
            let mut moved = there.fill(&mut self.local)?;
            moved |= self.whole(|carrier| there.empty(&mut carrier.channel))?;
            moved |= self.whole(|carrier| back.fill(&mut carrier.channel))?;
            moved |= back.empty(&mut self.local)?;
            // Reading takes in the news that there is room to write, and the socket says nothing of it then.
            let room = !there.is_empty() && self.channel.write_window().remaining > 0;
            if !moved && !room {
                let mut flags = PollFlags::empty();
                flags.set(PollFlags::IN, there.is_empty());
                flags.set(PollFlags::OUT, !back.is_empty());
                self.pause(flags)?;
            }
        }
    }

    /// Does it again while a packet of it is half sent, before anything else is done. Reading sends packets too: they
    /// make room at the other end.
    fn whole(&mut self, mut step: impl FnMut(&mut Self) -> io::Result<bool>) -> io::Result<bool> {
        loop {
            let moved = step(self)?;
            if moved || !self.wire.is_sending() {
                return Ok(moved);
            }
            self.pause(PollFlags::empty())?;
        }
    }

    /// Waits until something can move; an error when nobody is left at the near end.
    fn pause(&mut self, flags: PollFlags) -> io::Result<()> {
        let seen = self.wire.wait_with(LONG, Some((self.local.as_fd(), flags)));
        let gone = seen.intersects(PollFlags::HUP | PollFlags::ERR) && !flags.contains(PollFlags::IN);
        if gone { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(()) }
    }
}

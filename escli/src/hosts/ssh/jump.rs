//! Leads through one host to the next. libssh2 needs a socket, so it gets one end of a socket pair, and a thread copies
//! bytes between the other end and a channel of the previous host's session. The thread ends when either side is
//! closed.

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

/// Number of bytes copied at once.
const CHUNK: usize = 64 * 1024;
/// Longest wait between two checks; everything that matters ends it earlier.
const LONG: Duration = Duration::from_secs(60);

/// Returns a socket that leads to `next` through the host of `wire`.
///
/// # Errors
/// `Unreachable` if that host cannot connect to `next` in time.
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

/// Connects `local` to a port, through the host of `wire`.
///
/// # Errors
/// `Unreachable` if that host cannot connect to the port in time.
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

/// A buffer of bytes in one direction.
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

    /// Reads into the empty buffer; returns whether anything was read. The end of the input is an error.
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
            // Reading also receives the message that the channel has room again, so the socket need not become readable
            // for it.
            let room = !there.is_empty() && self.channel.write_window().remaining > 0;
            if !moved && !room {
                let mut flags = PollFlags::empty();
                flags.set(PollFlags::IN, there.is_empty());
                flags.set(PollFlags::OUT, !back.is_empty());
                self.pause(flags)?;
            }
        }
    }

    /// Calls `step`, and repeats it as long as a packet of it is only partly sent, since libssh2 allows no other call
    /// then. Reading sends packets too: they tell the other end that there is room.
    fn whole(&mut self, mut step: impl FnMut(&mut Self) -> io::Result<bool>) -> io::Result<bool> {
        loop {
            let moved = step(self)?;
            if moved || !self.wire.is_sending() {
                return Ok(moved);
            }
            self.pause(PollFlags::empty())?;
        }
    }

    /// Waits until something can be copied. Returns an error if the local end is closed.
    fn pause(&mut self, flags: PollFlags) -> io::Result<()> {
        let seen = self.wire.wait_with(LONG, Some((self.local.as_fd(), flags)));
        let gone = seen.intersects(PollFlags::HUP | PollFlags::ERR) && !flags.contains(PollFlags::IN);
        if gone { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(()) }
    }
}

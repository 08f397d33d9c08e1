//! A local socket that leads to a port behind a host, as `ssh -L` makes one, for programs that speak another protocol
//! than SSH.

use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::{io, thread};

use tempfile::TempDir;

use super::host::Host;
use super::wire::Deadline;
use super::{Destination, Limits, Passphrases, SshError, jump};

/// Where a connection failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// At the host: the login failed, or the host does not forward.
    Host,
    /// At the port: nothing accepts connections there.
    Port,
}

/// Forwards as long as the value lives. Each connection to the socket becomes a connection to the port, in an SSH
/// session of its own.
#[derive(Debug)]
pub struct Forward {
    socket: PathBuf,
    failure: Arc<Mutex<Option<(Obstacle, SshError)>>>,
    _private: TempDir,
}

/// The way that every connection takes.
struct Tunnel {
    via: Host,
    host: String,
    port: u16,
    failure: Arc<Mutex<Option<(Obstacle, SshError)>>>,
}

impl Forward {
    /// Listens on a new socket that leads to `port` of `host`, as `via` calls it. Nothing is connected yet.
    ///
    /// # Errors
    /// `Failed` if no socket can be created that only the operator may use.
    pub fn begin(
        via: Destination,
        host: &str,
        port: u16,
        passphrases: Arc<Passphrases>,
        limits: Limits,
    ) -> Result<Self, SshError> {
        let failed = |error: io::Error| SshError::failed(format!("cannot listen for a forward: {error}"));
        let private = tempfile::Builder::new().prefix("escli-").tempdir().map_err(failed)?;
        let socket = private.path().join("forward");
        let listener = UnixListener::bind(&socket).map_err(failed)?;
        let failure = Arc::new(Mutex::new(None));
        let via = Host { destination: via, passphrases, limits };
        let tunnel = Arc::new(Tunnel { via, host: host.to_owned(), port, failure: Arc::clone(&failure) });
        thread::Builder::new()
            .name(format!("forward {host}"))
            .spawn(move || {
                for local in listener.incoming().map_while(Result::ok) {
                    let tunnel = Arc::clone(&tunnel);
                    // If no thread can be started, the connection is dropped, which its client notices.
                    _ = thread::Builder::new().name("forward".to_owned()).spawn(move || tunnel.carry(local));
                }
            })
            .map_err(failed)?;
        Ok(Self { socket, failure, _private: private })
    }

    /// Path of the socket; only the operator may connect to it.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Returns why the last connection failed, if it did.
    pub fn error(&self) -> Option<(Obstacle, SshError)> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Tunnel {
    fn carry(&self, local: UnixStream) {
        // The client looks for the error when its connection ends, so the connection stays open until the error is
        // stored.
        let _open = local.try_clone();
        let failure = self.open(local).err();
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = failure;
    }

    fn open(&self, local: UnixStream) -> Result<(), (Obstacle, SshError)> {
        let mut deadline = Deadline::after(self.via.limits.open);
        let wire = self.via.dial(deadline).map_err(|error| (Obstacle::Host, error))?;
        let led = jump::forward(wire, &self.via.destination, (&self.host, self.port), local, &mut deadline);
        led.map_err(|error| {
            // sshd names what it forbids; this text means that the port itself refused.
            let is_refused = error.to_string().contains("connect failed");
            (if is_refused { Obstacle::Port } else { Obstacle::Host }, error)
        })
    }
}

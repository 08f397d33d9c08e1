//! A socket of this machine that leads to a port behind a jump host, as `ssh -L` does it: for programs that speak
//! something else than SSH with what only that host can reach.

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
    /// At the host: it could not be logged in to, or does not forward.
    Host,
    /// At the port: nobody takes connections there.
    Port,
}

/// Listens as long as it lives. Every connection to it is a connection to the port, with an SSH session of its own.
#[derive(Debug)]
pub struct Forward {
    socket: PathBuf,
    failure: Arc<Mutex<Option<(Obstacle, SshError)>>>,
    _private: TempDir,
}

/// What every connection goes through.
struct Tunnel {
    via: Host,
    host: String,
    port: u16,
    failure: Arc<Mutex<Option<(Obstacle, SshError)>>>,
}

impl Forward {
    /// A socket that leads to `port` of `host`, as `via` calls it. Nothing is reached yet.
    ///
    /// # Errors
    /// `Failed`, when this machine has no place for a socket that is only the operator's.
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
                    // Without a thread the connection is dropped, and whoever made it sees that.
                    _ = thread::Builder::new().name("forward".to_owned()).spawn(move || tunnel.carry(local));
                }
            })
            .map_err(failed)?;
        Ok(Self { socket, failure, _private: private })
    }

    /// The socket; nobody else may connect to it.
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
        // Whoever sees the connection end must find why, so it ends after that was written down.
        let _open = local.try_clone();
        let failure = self.open(local).err();
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = failure;
    }

    fn open(&self, local: UnixStream) -> Result<(), (Obstacle, SshError)> {
        let mut deadline = Deadline::after(self.via.limits.open);
        let wire = self.via.dial(deadline).map_err(|error| (Obstacle::Host, error))?;
        let led = jump::forward(wire, &self.via.destination, (&self.host, self.port), local, &mut deadline);
        led.map_err(|error| {
            // sshd has its own words for what it does not allow; else the port itself refused.
            let is_refused = error.to_string().contains("connect failed");
            (if is_refused { Obstacle::Port } else { Obstacle::Host }, error)
        })
    }
}

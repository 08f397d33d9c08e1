//! Opens a session to a destination: name resolution, TCP, jump hosts, handshake, host key, authentication.

use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::sync::mpsc;
use std::time::Duration;
use std::{io, thread};

use libssh2_sys::{LIBSSH2_ERROR_KEX_FAILURE, LIBSSH2_ERROR_KEY_EXCHANGE_FAILURE};
use shared::spec::{HostKeys, authority};
use ssh2::MethodType;

use super::auth::{Passphrases, log_in};
use super::known_hosts::{Name, each_kind};
use super::wire::{Deadline, Wire, WireError};
use super::{Destination, SshError, SshErrorKind, host_key, jump};

/// Connects to the destination and logs in, also on each jump host.
///
/// # Errors
/// `Unreachable`, `Refused` or `Failed`, with the host at which the attempt ended.
pub fn dial(
    destination: &Destination,
    passphrases: &Passphrases,
    mut deadline: Deadline,
) -> Result<Wire, SshError> {
    // The type of a pinned key is not known, so the host is asked for one type after the other.
    let mut kinds = matches!(destination.host_keys, HostKeys::Pinned(_)).then(each_kind);
    // A key that differs from the pinned one is a better explanation than a type that the host does not have.
    let mut refused = None;
    loop {
        let kind = kinds.as_mut().and_then(Iterator::next);
        match walk(destination, kind, passphrases, &mut deadline) {
            Err(Step::OtherKind(error)) if kind.is_some() => {
                refused = refused.or(Some(error).filter(|error| error.kind == SshErrorKind::Refused));
            }
            Err(Step::Over(error) | Step::OtherKind(error)) => return Err(refused.unwrap_or(error)),
            Ok(wire) => return Ok(wire),
        }
    }
}

/// How one attempt ended.
enum Step {
    Over(SshError),
    /// The host showed another key than the pinned one, or has no key of the requested type.
    OtherKind(SshError),
}

impl From<SshError> for Step {
    fn from(error: SshError) -> Self {
        Self::Over(error)
    }
}

fn walk(
    destination: &Destination,
    kind: Option<&str>,
    passphrases: &Passphrases,
    deadline: &mut Deadline,
) -> Result<Wire, Step> {
    let mut reached: Option<(Wire, &Destination)> = None;
    for hop in destination.jumps.iter().chain([destination]) {
        let socket = match reached.take() {
            None => connect(hop, deadline)?,
            Some((wire, before)) => jump::through(wire, before, hop, deadline)?,
        };
        let mut wire = Wire::new(socket)?;
        let kind = kind.filter(|_| std::ptr::eq(hop, destination));
        if let Some(added) = greet(&mut wire, hop, kind, deadline)? {
            passphrases.tell(&added);
        }
        log_in(&mut wire, hop, passphrases, deadline)?;
        reached = Some((wire, hop));
    }
    let nowhere = || SshError::failed("a destination without a host");
    reached.map(|(wire, _)| wire).ok_or_else(|| nowhere().into())
}

/// Does the handshake and checks the host's key. Returns a message for the operator if the key was added to the known
/// ones.
fn greet(
    wire: &mut Wire,
    hop: &Destination,
    kind: Option<&str>,
    deadline: &mut Deadline,
) -> Result<Option<String>, Step> {
    let known = host_key::known(hop)?;
    let algorithms = kind.map_or_else(|| known.algorithms(&Name::of(hop)), str::to_owned);
    let at = || format!("{} ({})", hop.name, authority(&hop.host, hop.port));
    let preferred = wire.session.method_pref(MethodType::HostKey, &algorithms);
    preferred.map_err(|error| {
        SshError::failed(format!("cannot ask {} for its host key: {}", at(), error.message()))
    })?;
    match wire.until(deadline, ssh2::Session::handshake) {
        Ok(()) => {}
        Err(stop @ WireError::Timeout) => {
            let message = format!("{} takes connections and says nothing: {}", at(), stop.text());
            return Err(SshError::unreachable(message)
                .hint("something else may listen there, or the host is overloaded: look at its sshd")
                .into());
        }
        // libssh2 reports the same error whether the host has no algorithm in common or has closed the connection.
        Err(stop) if is_disagreement(&stop) && !wire.is_closed() => {
            let error = SshError::failed(format!("{} and escli have no algorithms in common", at()))
                .detail(stop.text())
                .detail(format!("asked for host keys: {algorithms}"));
            return Err(if kind.is_some() { Step::OtherKind(error) } else { error.into() });
        }
        Err(stop) => {
            let message = format!("{} ended the connection at once: {}", at(), stop.text());
            return Err(SshError::unreachable(message)
                .hint(
                    "its sshd may have too many logins at once (MaxStartups), or no SSH server listens there",
                )
                .into());
        }
    }
    let key = wire.session.host_key().map(|(key, _)| key.to_vec());
    let key = key.ok_or_else(|| SshError::failed(format!("{} showed no host key", at())))?;
    host_key::check(hop, &known, &key).map_err(|error| {
        let other = kind.is_some() && host_key::is_other_than_pinned(hop, &key);
        if other { Step::OtherKind(error) } else { error.into() }
    })
}

fn is_disagreement(stop: &WireError) -> bool {
    matches!(stop.code(), Some(LIBSSH2_ERROR_KEX_FAILURE | LIBSSH2_ERROR_KEY_EXCHANGE_FAILURE))
}

fn connect(hop: &Destination, deadline: &Deadline) -> Result<OwnedFd, SshError> {
    reach(hop, &resolve(hop, deadline)?, deadline)
}

/// Connects to the first address that accepts. The time is divided among the addresses.
pub(super) fn reach(
    hop: &Destination,
    addresses: &[SocketAddr],
    deadline: &Deadline,
) -> Result<OwnedFd, SshError> {
    let mut failures = Vec::new();
    for (index, address) in addresses.iter().enumerate() {
        let share = deadline.left() / u32::try_from(addresses.len() - index).unwrap_or(1);
        let share = hop.connect_timeout.map_or(share, |most| share.min(most));
        let result = TcpStream::connect_timeout(address, share.max(Duration::from_millis(1)));
        match result.and_then(|stream| stream.set_nodelay(true).map(|()| stream)) {
            Ok(stream) => return Ok(stream.into()),
            Err(error) => failures.push(format!("{address}: {}", plainly(&error))),
        }
    }
    let port = hop.port;
    Err(match &failures[..] {
        [only] => SshError::unreachable(format!("{} cannot be reached: {only}", hop.name)),
        _ => {
            SshError::unreachable(format!("{} cannot be reached at any address", hop.name)).details(failures)
        }
    }
    .hint(format!("is the host up, and does sshd listen on port {port}? Another port goes into deploy.ssh")))
}

fn plainly(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::TimedOut => "no answer in time".to_owned(),
        _ => error.to_string().split(" (os error").next().unwrap_or_default().to_ascii_lowercase(),
    }
}

/// Resolves a name. The system's resolver has no time limit, so a thread waits for it.
fn resolve(hop: &Destination, deadline: &Deadline) -> Result<Vec<SocketAddr>, SshError> {
    if let Ok(address) = hop.host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, hop.port)]);
    }
    let (host, port) = (hop.host.clone(), hop.port);
    let (reply, answer) = mpsc::channel();
    thread::spawn(move || reply.send((host.as_str(), port).to_socket_addrs().map(Iterator::collect)));
    let found: Result<Vec<_>, _> = match answer.recv_timeout(deadline.left()) {
        Ok(found) => found,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    };
    let host = &hop.host;
    let unknown = |why: String| {
        SshError::unreachable(format!(
            "{} cannot be reached: no address for the name {host}: {why}",
            hop.name
        ))
        .hint(format!("try: getent hosts {host}; or write the address into cluster.yaml"))
    };
    match found {
        Ok(found) if found.is_empty() => Err(unknown("the name has none".to_owned())),
        Ok(found) => Ok(found),
        Err(error) => Err(unknown(plainly(&error))),
    }
}

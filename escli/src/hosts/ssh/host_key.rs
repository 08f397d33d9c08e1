//! Decides whether the key of a host is trusted, adds it to the known keys if that is wanted, and explains a refusal.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Mutex;

use sha2::{Digest, Sha256};
use shared::spec::{HostKeys, authority};

use super::known_hosts::{Entry, HostKeyStatus, KnownHosts, Name, fingerprint, kind_of};
use super::{Destination, SshError, quote};

/// Only one key is added at a time: several connections may meet the same jump host at once.
static ADDING: Mutex<()> = Mutex::new(());

/// Reads the destination's files of known hosts.
///
/// # Errors
/// If a file exists and cannot be read.
pub fn known(destination: &Destination) -> Result<KnownHosts, SshError> {
    let mut known = KnownHosts::default();
    for path in &destination.known_hosts {
        match fs::read(path) {
            Ok(bytes) => known.read(path, &String::from_utf8_lossy(&bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                let path = path.display();
                return Err(SshError::failed(format!("cannot read the known hosts in {path}: {error}")));
            }
        }
    }
    Ok(known)
}

/// Returns whether a key is pinned for this host and `key` is another one.
pub fn is_other_than_pinned(destination: &Destination, key: &[u8]) -> bool {
    matches!(&destination.host_keys, HostKeys::Pinned(wanted) if fingerprint(key) != *wanted)
}

/// Checks the key of a host. If new hosts are accepted, adds an unknown key, and returns a message for the operator
/// about it.
///
/// # Errors
/// `Refused` if the key is not trusted; `Failed` if it cannot be added.
pub fn check(destination: &Destination, known: &KnownHosts, key: &[u8]) -> Result<Option<String>, SshError> {
    let name = Name::of(destination);
    let verdict = known.check(&name, key);
    if let HostKeyStatus::Revoked(entry) = &verdict {
        return Err(revoked(destination, entry, key));
    }
    match (&destination.host_keys, verdict) {
        (HostKeys::Pinned(wanted), _) if fingerprint(key) == *wanted => Ok(None),
        (HostKeys::Pinned(wanted), _) => Err(not_pinned(destination, wanted, key)),
        (_, HostKeyStatus::Known) => Ok(None),
        (_, HostKeyStatus::Changed(entries)) => Err(changed(destination, &name, &entries, key)),
        (HostKeys::AcceptNew, HostKeyStatus::Unknown(_)) => accept(destination, &name, key),
        (_, HostKeyStatus::Unknown(authorities)) => Err(unknown(destination, &authorities, key)),
        (_, HostKeyStatus::Revoked(entry)) => Err(revoked(destination, &entry, key)),
    }
}

fn accept(destination: &Destination, name: &Name, key: &[u8]) -> Result<Option<String>, SshError> {
    let Some(path) = destination.known_hosts.first() else {
        let message = format!("there is no file to write the host key of {} to", destination.name);
        return Err(SshError::failed(message).hint("name one: known_hosts in deploy.ssh of cluster.yaml"));
    };
    // A panic while the lock is held leaves nothing half done, so a poisoned lock can be used.
    let _guard = ADDING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    match self::known(destination)?.check(name, key) {
        HostKeyStatus::Known => return Ok(None),
        // Meanwhile another connection has met this host and added a different key.
        HostKeyStatus::Changed(entries) => return Err(changed(destination, name, &entries, key)),
        _ => {}
    }
    let random = Sha256::digest(uuid::Uuid::new_v4());
    let salt = destination.hash_known_hosts.then_some(&random[..20]);
    append(path, &name.line(key, salt)).map_err(|error| {
        let message =
            format!("cannot add the host key of {} to {}: {error}", destination.name, path.display());
        SshError::failed(message).hint("name another file: known_hosts in deploy.ssh of cluster.yaml")
    })?;
    let added = format!("{} is met for the first time and believed: {}", who(destination), shown(key));
    Ok(Some(format!("{added}, now in {}", path.display())))
}

/// Appends the line in one write. Replacing the file by a rename would break a link, and lose what ssh adds meanwhile.
fn append(path: &Path, line: &str) -> io::Result<()> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let open = || OpenOptions::new().append(true).read(true).create(true).mode(0o600).open(path);
    let mut file: File = open()?;
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    let separator = if text.last().is_some_and(|last| *last != b'\n') { "\n" } else { "" };
    file.write_all(format!("{separator}{line}").as_bytes())?;
    file.sync_data()
}

fn who(destination: &Destination) -> String {
    let place = authority(&destination.host, destination.port);
    if place == destination.name { place } else { format!("{} ({place})", destination.name) }
}

/// Returns the type of the key in everyday form, and its fingerprint.
fn shown(key: &[u8]) -> String {
    let kind = kind_of(key);
    let kind = kind.trim_start_matches("ssh-").split("-sha2").next().unwrap_or(kind);
    format!("{} {}", kind.to_ascii_uppercase(), fingerprint(key))
}

fn at(entry: &Entry) -> String {
    format!("{} line {}", entry.file.display(), entry.line)
}

fn revoked(destination: &Destination, entry: &Entry, key: &[u8]) -> SshError {
    SshError::refused(format!("the host key of {} is revoked", who(destination)))
        .detail(format!("offered: {}", shown(key)))
        .detail(format!("revoked: {}", at(entry)))
        .hint("give the host a new key, or remove the line if the key is sound")
}

fn not_pinned(destination: &Destination, wanted: &str, key: &[u8]) -> SshError {
    SshError::refused(format!("the host key of {} is not the one in cluster.yaml", who(destination)))
        .detail(format!("wanted:  {wanted}"))
        .detail(format!("offered: {}", shown(key)))
        .hint("if the host was set up anew, put the new fingerprint into host_keys")
}

fn changed(destination: &Destination, name: &Name, entries: &[Entry], key: &[u8]) -> SshError {
    let known = entries.iter().map(|entry| format!("known:   {} ({})", shown(&entry.key), at(entry)));
    let mut error = SshError::refused(format!("the host key of {} has changed", who(destination)))
        .details(known)
        .detail(format!("offered: {}", shown(key)))
        .detail("somebody may be between here and the host, or the host was set up anew");
    let mut files: Vec<_> = entries.iter().map(|entry| &entry.file).collect();
    files.dedup();
    for file in files {
        let file = file.display().to_string();
        let command = quote::join(["ssh-keygen", "-f", &file, "-R", &name.full]);
        error = error.hint(format!("if the host was set up anew: {command}"));
    }
    error
}

fn unknown(destination: &Destination, authorities: &[Entry], key: &[u8]) -> SshError {
    let files: Vec<_> = destination.known_hosts.iter().map(|path| path.display().to_string()).collect();
    let authorities = authorities.iter().map(|entry| {
        format!(
            "{} trusts an authority for it, which escli cannot use: it needs the host's own key",
            at(entry)
        )
    });
    let jumps: Vec<_> = destination.jumps.iter().map(Destination::address).collect();
    let mut words = vec!["ssh".to_owned()];
    if !jumps.is_empty() {
        words.extend(["-J".to_owned(), jumps.join(",")]);
    }
    if let Some(file) = files.first() {
        words.extend(["-o".to_owned(), format!("UserKnownHostsFile={file}")]);
    }
    words.extend(["-p".to_owned(), destination.port.to_string()]);
    words.push(format!("{}@{}", destination.user, destination.host));
    let login = quote::join(words.iter().map(String::as_str));
    SshError::refused(format!("the host key of {} is not known", who(destination)))
        .detail(format!("offered: {}", shown(key)))
        .detail(format!("looked in: {}", files.join(", ")))
        .details(authorities)
        .hint(format!("log in once by hand and compare the fingerprint: {login}"))
        .hint("or believe what hosts show when they are first met: host_keys: accept-new in deploy.ssh")
}

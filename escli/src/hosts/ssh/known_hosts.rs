//! PURE: the files of known host keys, in OpenSSH's format: which keys a host has, and whether a key that it shows is
//! one.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD};
use hmac::{Hmac, Mac};
use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::Destination;

/// The types of host keys that can be verified, best first, each with its signature algorithms.
const KINDS: [(&str, &str); 5] = [
    ("ssh-ed25519", "ssh-ed25519"),
    ("ecdsa-sha2-nistp256", "ecdsa-sha2-nistp256"),
    ("ecdsa-sha2-nistp384", "ecdsa-sha2-nistp384"),
    ("ecdsa-sha2-nistp521", "ecdsa-sha2-nistp521"),
    ("ssh-rsa", "rsa-sha2-512,rsa-sha2-256"),
];
/// How a hashed name begins.
const HASHED: &str = "|1|";

/// The entries of several files.
#[derive(Clone, Debug, Default)]
pub struct KnownHosts {
    entries: Vec<Entry>,
}

/// One entry: a key of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Path of the file.
    pub file: PathBuf,
    /// Line number in the file, from 1.
    pub line: usize,
    /// The key in SSH's wire format.
    pub key: Vec<u8>,
    marker: Marker,
    names: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Marker {
    None,
    Authority,
    Revoked,
}

/// What the known keys say about a key that a host shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostKeyStatus {
    /// It is a key of this host.
    Known,
    /// No key of this host is known. The entries are certificate authorities for it, which are not supported.
    Unknown(Vec<Entry>),
    /// Other keys of this host are known: these.
    Changed(Vec<Entry>),
    /// The key was revoked by this entry.
    Revoked(Entry),
}

impl KnownHosts {
    /// Adds the entries of a file. Invalid lines are ignored, as in ssh.
    pub fn read(&mut self, file: &Path, text: &str) {
        let entries = text.lines().enumerate().filter_map(|(index, line)| entry(file, index + 1, line));
        self.entries.extend(entries);
    }

    /// Returns what the entries say about a key.
    pub fn check(&self, name: &Name, key: &[u8]) -> HostKeyStatus {
        let of_name = |entry: &&Entry| matches(&entry.names, &name.full) || matches(&entry.names, &name.bare);
        if let Some(revoked) = self.with(Marker::Revoked).filter(of_name).find(|entry| entry.key == key) {
            return HostKeyStatus::Revoked(revoked.clone());
        }
        let known = self.keys(name);
        if known.iter().any(|entry| entry.key == key) {
            return HostKeyStatus::Known;
        }
        // The key of a host's SSH server on port 22 says nothing about a server on another port.
        let changed: Vec<_> = known.into_iter().filter(|entry| matches(&entry.names, &name.full)).collect();
        if changed.is_empty() {
            return HostKeyStatus::Unknown(self.with(Marker::Authority).filter(of_name).cloned().collect());
        }
        HostKeyStatus::Changed(changed.into_iter().cloned().collect())
    }

    /// Returns the signature algorithms to ask for. Those of known keys come first, so that a host with several keys
    /// shows one that can be compared.
    pub fn algorithms(&self, name: &Name) -> String {
        let known = self.keys(name);
        let is_known = |kind: &str| known.iter().any(|entry| kind_of(&entry.key) == kind);
        let (first, rest): (Vec<_>, Vec<_>) = KINDS.into_iter().partition(|(kind, _)| is_known(kind));
        first.into_iter().chain(rest).map(|(_, algorithms)| algorithms).collect::<Vec<_>>().join(",")
    }

    /// Returns the keys that are known for host and port; if there are none, those for the host alone.
    fn keys(&self, name: &Name) -> Vec<&Entry> {
        let of = |wanted: &str| -> Vec<&Entry> {
            self.with(Marker::None).filter(|entry| matches(&entry.names, wanted)).collect()
        };
        let full = of(&name.full);
        if full.is_empty() { of(&name.bare) } else { full }
    }

    fn with(&self, marker: Marker) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(move |entry| entry.marker == marker)
    }
}

/// The name under which a host's key is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// Host with port, unless the port is 22.
    pub full: String,
    /// The host alone.
    bare: String,
}

impl Name {
    /// Returns the name for a destination.
    pub fn of(destination: &Destination) -> Self {
        if let Some(alias) = &destination.host_key_alias {
            let alias = alias.to_ascii_lowercase();
            return Self { full: alias.clone(), bare: alias };
        }
        let bare = destination.host.to_ascii_lowercase();
        let full = match destination.port {
            22 => bare.clone(),
            port => format!("[{bare}]:{port}"),
        };
        Self { full, bare }
    }

    /// Returns the line to add for a new key. With a salt, the name is hashed.
    pub fn line(&self, key: &[u8], salt: Option<&[u8]>) -> String {
        let name = match salt {
            None => self.full.clone(),
            Some(salt) => {
                let hash = hash(salt, &self.full);
                format!("{HASHED}{}|{}", BASE64_STANDARD.encode(salt), BASE64_STANDARD.encode(hash))
            }
        };
        format!("{name} {} {}\n", kind_of(key), BASE64_STANDARD.encode(key))
    }
}

/// Returns the fingerprint of a key, `SHA256:` and the hash, as `ssh-keygen -l` prints it.
pub fn fingerprint(key: &[u8]) -> String {
    format!("SHA256:{}", BASE64_STANDARD_NO_PAD.encode(Sha256::digest(key)))
}

/// Returns the type of a key, such as `ssh-ed25519`; empty if the key is invalid.
pub fn kind_of(key: &[u8]) -> &str {
    let field = || {
        let (length, rest) = key.split_first_chunk::<4>()?;
        let field = rest.get(..usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
        std::str::from_utf8(field).ok()
    };
    field().unwrap_or_default()
}

/// Returns the types of keys to ask for one after the other, if the type of the wanted key is not known.
pub fn each_kind() -> impl Iterator<Item = &'static str> {
    KINDS.iter().map(|(_, algorithms)| *algorithms)
}

fn entry(file: &Path, line: usize, text: &str) -> Option<Entry> {
    let mut words = text.split_whitespace();
    let mut names = words.next().filter(|word| !word.starts_with('#'))?;
    let mut marker = Marker::None;
    if names.starts_with('@') {
        marker = match names {
            "@revoked" => Marker::Revoked,
            "@cert-authority" => Marker::Authority,
            _ => return None,
        };
        names = words.next()?;
    }
    let _kind = words.next()?;
    let key = BASE64_STANDARD.decode(words.next()?).ok()?;
    Some(Entry { file: file.to_owned(), line, key, marker, names: names.to_owned() })
}

/// Returns whether a name matches the beginning of a line: patterns separated by commas, or a hashed name.
fn matches(names: &str, name: &str) -> bool {
    if let Some(hashed) = names.strip_prefix(HASHED) {
        let parts = || {
            let (salt, wanted) = hashed.split_once('|')?;
            Some((BASE64_STANDARD.decode(salt).ok()?, BASE64_STANDARD.decode(wanted).ok()?))
        };
        return parts().is_some_and(|(salt, wanted)| hash(&salt, name) == wanted);
    }
    let mut found = false;
    for pattern in names.split(',') {
        let pattern = pattern.to_ascii_lowercase();
        match pattern.strip_prefix('!') {
            Some(except) if wild(except.as_bytes(), name.as_bytes()) => return false,
            Some(_) => {}
            None => found |= wild(pattern.as_bytes(), name.as_bytes()),
        }
    }
    found
}

fn hash(salt: &[u8], name: &str) -> Vec<u8> {
    // This cannot fail, because an HMAC accepts keys of any length.
    let Ok(mac) = Hmac::<Sha1>::new_from_slice(salt) else { return Vec::new() };
    mac.chain_update(name).finalize().into_bytes().to_vec()
}

/// Matches a pattern in which `*` is any text and `?` any character. Only the last `*` is ever tried again, so the time
/// stays small.
fn wild(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(c) if *c == b'?' || *c == text[t] => (p, t) = (p + 1, t + 1),
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    (p, t) = (at + 1, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

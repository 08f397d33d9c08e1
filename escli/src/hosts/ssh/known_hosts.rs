//! PURE. The files of known host keys, as OpenSSH writes them: which keys a host has, and what to make of one it shows.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD};
use hmac::{Hmac, Mac};
use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::Destination;

/// Kinds of host keys that can be checked, best first, and the signatures that prove each.
const KINDS: [(&str, &str); 5] = [
    ("ssh-ed25519", "ssh-ed25519"),
    ("ecdsa-sha2-nistp256", "ecdsa-sha2-nistp256"),
    ("ecdsa-sha2-nistp384", "ecdsa-sha2-nistp384"),
    ("ecdsa-sha2-nistp521", "ecdsa-sha2-nistp521"),
    ("ssh-rsa", "rsa-sha2-512,rsa-sha2-256"),
];
/// How a hashed name begins.
const HASHED: &str = "|1|";

/// What several files say.
#[derive(Clone, Debug, Default)]
pub struct KnownHosts {
    entries: Vec<Entry>,
}

/// One key in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The file.
    pub file: PathBuf,
    /// The line in it, from 1.
    pub line: usize,
    /// The key.
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

/// What to make of the key that a host shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostKeyStatus {
    /// It is the host's.
    Known,
    /// Nothing is known of this host, except perhaps authorities that would vouch for it.
    Unknown(Vec<Entry>),
    /// The host had these keys.
    Changed(Vec<Entry>),
    /// This key is not to be believed any more.
    Revoked(Entry),
}

impl KnownHosts {
    /// Adds what a file says. What is invalid is passed over, as ssh does.
    pub fn read(&mut self, file: &Path, text: &str) {
        let entries = text.lines().enumerate().filter_map(|(index, line)| entry(file, index + 1, line));
        self.entries.extend(entries);
    }

    /// What to make of a key.
    pub fn check(&self, name: &Name, key: &[u8]) -> HostKeyStatus {
        let of_name = |entry: &&Entry| matches(&entry.names, &name.full) || matches(&entry.names, &name.bare);
        if let Some(revoked) = self.with(Marker::Revoked).filter(of_name).find(|entry| entry.key == key) {
            return HostKeyStatus::Revoked(revoked.clone());
        }
        let known = self.keys(name);
        if known.iter().any(|entry| entry.key == key) {
            return HostKeyStatus::Known;
        }
        // Another key of the bare host says nothing of a server at another port.
        let changed: Vec<_> = known.into_iter().filter(|entry| matches(&entry.names, &name.full)).collect();
        if changed.is_empty() {
            return HostKeyStatus::Unknown(self.with(Marker::Authority).filter(of_name).cloned().collect());
        }
        HostKeyStatus::Changed(changed.into_iter().cloned().collect())
    }

    /// Signature algorithms to ask for, those of the keys that are known first: a host with several keys then shows one
    /// that can be compared.
    pub fn algorithms(&self, name: &Name) -> String {
        let known = self.keys(name);
        let is_known = |kind: &str| known.iter().any(|entry| kind_of(&entry.key) == kind);
        let (first, rest): (Vec<_>, Vec<_>) = KINDS.into_iter().partition(|(kind, _)| is_known(kind));
        first.into_iter().chain(rest).map(|(_, algorithms)| algorithms).collect::<Vec<_>>().join(",")
    }

    /// The keys of this host, those for just its port before those for the host.
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

/// Under which name a host's key is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// With the port, unless that is 22.
    pub full: String,
    /// The host alone.
    bare: String,
}

impl Name {
    /// That of a destination.
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

    /// The line that makes a key known; with a salt the name is hashed.
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

/// `SHA256:` and the hash, as `ssh-keygen -l` prints it.
pub fn fingerprint(key: &[u8]) -> String {
    format!("SHA256:{}", BASE64_STANDARD_NO_PAD.encode(Sha256::digest(key)))
}

/// The kind of a key by its first field, such as `ssh-ed25519`; empty when it is invalid.
pub fn kind_of(key: &[u8]) -> &str {
    let field = || {
        let (length, rest) = key.split_first_chunk::<4>()?;
        let field = rest.get(..usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
        std::str::from_utf8(field).ok()
    };
    field().unwrap_or_default()
}

/// Kinds of keys to ask for one by one, when it is not known of which kind the wanted one is.
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

/// Whether a name is among those at the beginning of a line: patterns with commas between, or one that is hashed.
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
    // An HMAC takes keys of any length.
    let Ok(mac) = Hmac::<Sha1>::new_from_slice(salt) else { return Vec::new() };
    mac.chain_update(name).finalize().into_bytes().to_vec()
}

/// `*` is any text and `?` any character. Linear but for one `*` to come back to.
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

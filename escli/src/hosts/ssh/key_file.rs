//! What can be learnt of a key file without its passphrase.

use std::path::{Path, PathBuf};
use std::{fs, io};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

/// A file that may hold a private key.
#[derive(Debug, PartialEq, Eq)]
pub enum KeyFile {
    /// The file does not exist.
    Missing,
    /// The file cannot be used, for this reason.
    Unusable(String),
    /// Only the public half exists; the agent may hold the private one.
    Public(Vec<u8>),
    /// A private key.
    Private {
        /// Whether a passphrase is needed.
        encrypted: bool,
        /// The public half, if it can be read.
        public: Option<Vec<u8>>,
    },
}

impl KeyFile {
    /// Reads a file and the `.pub` beside it.
    pub fn look(path: &Path) -> Self {
        let text = match fs::read(path) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return public(&beside(path)).map_or(Self::Missing, Self::Public);
            }
            Err(error) => return Self::Unusable(error.to_string()),
        };
        if let Some(key) = public_line(&text) {
            return Self::Public(key);
        }
        match header(&text) {
            None => Self::Unusable("not a private key".to_owned()),
            Some((encrypted, inside)) => {
                Self::Private { encrypted, public: inside.or_else(|| public(&beside(path))) }
            }
        }
    }

    /// Returns the public half, if it is known.
    pub fn public_half(&self) -> Option<&[u8]> {
        match self {
            Self::Public(key) | Self::Private { public: Some(key), .. } => Some(key),
            _ => None,
        }
    }
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".pub");
    PathBuf::from(name)
}

fn public(path: &Path) -> Option<Vec<u8>> {
    public_line(&fs::read_to_string(path).ok()?)
}

/// Parses a line of the form `ssh-ed25519 AAAA... comment`; returns the key in SSH's wire format.
pub(super) fn public_line(text: &str) -> Option<Vec<u8>> {
    let mut words = text.lines().find(|line| !line.starts_with('#'))?.split_whitespace();
    let (kind, key) = (words.next()?, BASE64_STANDARD.decode(words.next()?).ok()?);
    (super::known_hosts::kind_of(&key) == kind).then_some(key)
}

/// Returns whether the key is encrypted, and its public half if the format has it outside the encrypted part.
fn header(text: &str) -> Option<(bool, Option<Vec<u8>>)> {
    let begin = text.lines().find(|line| line.starts_with("-----BEGIN ") && line.contains("PRIVATE KEY"))?;
    if !begin.contains("OPENSSH") {
        let encrypted = begin.contains("ENCRYPTED") || text.contains("Proc-Type: 4,ENCRYPTED");
        return Some((encrypted, None));
    }
    let body: String =
        text.lines().skip_while(|line| *line != begin).skip(1).take_while(|l| !l.starts_with('-')).collect();
    let bytes = BASE64_STANDARD.decode(body.trim()).ok()?;
    let rest = bytes.strip_prefix(b"openssh-key-v1\0")?;
    let (cipher, rest) = field(rest)?;
    let (_derivation, rest) = field(rest)?;
    let (_options, rest) = field(rest)?;
    let key = rest.get(4..).and_then(field).map(|(key, _)| key.to_vec());
    Some((cipher != b"none", key))
}

/// Splits the first field of SSH's wire format from the bytes after it.
pub(super) fn field(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)
}

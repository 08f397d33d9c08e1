//! Certificates of users (`KEY-cert.pub`): finds them, and tells which key each belongs to (OpenSSH,
//! PROTOCOL.certkeys).

use std::path::{Path, PathBuf};

use super::key_file::{field, public_line};

/// A certificate's type is the type of its key with this suffix.
const SUFFIX: &[u8] = b"-cert-v01@openssh.com";

/// A certificate that was read from a file.
#[derive(Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Path of the file.
    pub path: PathBuf,
    blob: Vec<u8>,
}

impl Certificate {
    /// Returns the certificates in the files `named`. If none is named, looks for one beside each of `keys`, as ssh
    /// does.
    pub fn find(named: &[PathBuf], keys: &[PathBuf]) -> Vec<Self> {
        let beside: Vec<PathBuf> = keys.iter().map(|key| beside(key)).collect();
        let paths = if named.is_empty() { &beside[..] } else { named };
        paths.iter().filter_map(|path| Self::read(path)).collect()
    }

    fn read(path: &Path) -> Option<Self> {
        let blob = public_line(&std::fs::read_to_string(path).ok()?)?;
        let (kind, _) = field(&blob)?;
        kind.ends_with(SUFFIX).then_some(Self { path: path.to_owned(), blob })
    }

    /// The certificate in SSH's wire format, as an agent lists it.
    pub fn blob(&self) -> &[u8] {
        &self.blob
    }

    /// Returns whether it belongs to the key in the file `key`, whose public half is `public`. If that is not known,
    /// the file's name decides.
    pub fn is_for(&self, key: &Path, public: Option<&[u8]>) -> bool {
        public
            .map_or_else(|| self.path == beside(key), |public| certifies(&self.blob, public).unwrap_or(false))
    }
}

/// Whether the certificate contains the public key: its type, a nonce, then the key's fields after its type. `None` if
/// either is invalid.
fn certifies(certificate: &[u8], public: &[u8]) -> Option<bool> {
    let (kind, rest) = field(certificate)?;
    let (_nonce, rest) = field(rest)?;
    let (plain, key) = field(public)?;
    Some(kind.strip_suffix(SUFFIX)? == plain && rest.starts_with(key))
}

fn beside(key: &Path) -> PathBuf {
    let mut name = key.as_os_str().to_owned();
    name.push("-cert.pub");
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::super::key_file::KeyFile;
    use super::*;

    #[test]
    fn a_certificate_is_for_its_own_key_of_any_kind() {
        let dir = tempfile::tempdir().unwrap();
        let keygen = |args: &[&str]| {
            let output =
                Command::new("ssh-keygen").arg("-q").args(args).current_dir(dir.path()).output().unwrap();
            assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        };
        keygen(&["-t", "ed25519", "-N", "", "-f", "ca"]);
        let kinds = ["ed25519", "ecdsa", "rsa"];
        for kind in kinds {
            keygen(&["-t", kind, "-N", "", "-f", kind]);
            keygen(&["-s", "ca", "-I", "ada", "-n", "root", &format!("{kind}.pub")]);
        }
        let keys: Vec<_> = kinds.iter().map(|kind| dir.path().join(kind)).collect();
        let found = Certificate::find(&[], &keys);
        assert_eq!(found.len(), kinds.len());
        for (at, certificate) in found.iter().enumerate() {
            for (key, path) in keys.iter().enumerate() {
                let file = KeyFile::look(path);
                assert_eq!(certificate.is_for(path, file.public_half()), at == key, "{kinds:?} {at} {key}");
                assert_eq!(certificate.is_for(path, None), at == key);
            }
        }
        let named = [dir.path().join("rsa-cert.pub"), dir.path().join("nothing"), dir.path().join("rsa.pub")];
        let found = Certificate::find(&named, &keys);
        assert_eq!(found.iter().map(|found| &found.path).collect::<Vec<_>>(), [&named[0]]);
    }
}

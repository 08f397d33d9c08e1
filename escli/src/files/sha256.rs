//! SHA-256 digests as hexadecimal text.

use std::fs::File;
use std::io;
use std::path::Path;

use sha2::{Digest, Sha256};
use shared::hex;

/// Returns the digest of `bytes` in hex.
pub fn hex(bytes: &[u8]) -> String {
    hex::encode(&Sha256::digest(bytes))
}

/// Returns the digest of a file's content in hex.
///
/// # Errors
/// If the file cannot be read.
pub fn of_file(path: &Path) -> io::Result<String> {
    let mut hasher = Sha256::new();
    io::copy(&mut File::open(path)?, &mut hasher)?;
    Ok(hex::encode(&hasher.finalize()))
}

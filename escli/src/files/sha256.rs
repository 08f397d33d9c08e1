//! SHA-256 as operators read it.

use std::fs::File;
use std::io;
use std::path::Path;

use sha2::{Digest, Sha256};

/// In hex, of bytes.
pub fn hex(bytes: &[u8]) -> String {
    text(&Sha256::digest(bytes))
}

/// In hex, of a file.
///
/// # Errors
/// The system's.
pub fn of_file(path: &Path) -> io::Result<String> {
    let mut hasher = Sha256::new();
    io::copy(&mut File::open(path)?, &mut hasher)?;
    Ok(text(&hasher.finalize()))
}

/// A digest in hex.
pub fn text(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

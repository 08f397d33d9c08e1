//! A compressed archive, written file by file, which only its owner can read.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Serialize;

use super::redact::redact;
use crate::output::SCHEMA_VERSION;

/// Largest file in the archive, in bytes. Of a longer one the end is kept, which matters most.
const MAX_BYTES: usize = 4 << 20;

/// One file of the archive, present or missing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// Its path below the archive's one folder.
    pub path: String,
    /// Its size in bytes.
    pub bytes: usize,
    /// Number of bytes that were cut off at its beginning.
    #[serde(skip_serializing_if = "is_zero")]
    pub left_out: usize,
    /// Why it is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// The last file of the archive, which lists the others.
#[derive(Serialize)]
struct Manifest<'a> {
    schema_version: u32,
    archive: &'a str,
    entries: &'a [Entry],
}

/// An archive that is being written.
pub struct Archive {
    tar: tar::Builder<GzEncoder<File>>,
    folder: String,
    mtime: u64,
    entries: Vec<Entry>,
}

impl Archive {
    /// Creates an archive at `path`, where nothing may exist. All files in it are in `folder`, and have the time
    /// `mtime`, in seconds since 1970.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn create(path: &Path, folder: &str, mtime: u64) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        let tar = tar::Builder::new(GzEncoder::new(file, Compression::default()));
        Ok(Self { tar, folder: folder.to_owned(), mtime, entries: Vec::new() })
    }

    /// Adds a file, or notes why it is missing. Secrets are redacted first.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn add(&mut self, path: &str, part: Result<String, String>) -> io::Result<()> {
        let text = match part {
            Ok(text) => redact(&text),
            Err(why) => {
                let (path, missing) = (path.to_owned(), Some(redact(&why)));
                self.entries.push(Entry { path, bytes: 0, left_out: 0, missing });
                return Ok(());
            }
        };
        let kept = ending(&text, MAX_BYTES);
        self.write(path, kept.as_bytes())?;
        let left_out = text.len() - kept.len();
        self.entries.push(Entry { path: path.to_owned(), bytes: kept.len(), left_out, missing: None });
        Ok(())
    }

    fn write(&mut self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_size(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        header.set_mode(0o600);
        header.set_mtime(self.mtime);
        self.tar.append_data(&mut header, format!("{}/{path}", self.folder), bytes)
    }

    /// Adds `manifest.json`, and syncs the archive.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn finish(mut self) -> io::Result<Vec<Entry>> {
        let manifest =
            Manifest { schema_version: SCHEMA_VERSION, archive: &self.folder, entries: &self.entries };
        let text = serde_json::to_string_pretty(&manifest)?;
        self.write("manifest.json", text.as_bytes())?;
        let mut file = self.tar.into_inner()?.finish()?;
        file.flush()?;
        file.sync_all()?;
        Ok(self.entries)
    }
}

/// Returns the end of `text`, at most `limit` bytes.
fn ending(text: &str, limit: usize) -> &str {
    let mut from = text.len().saturating_sub(limit);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    &text[from..]
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn parts_are_redacted_and_bounded_and_nothing_is_overwritten() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("b.tar.gz");
        let mut archive = Archive::create(&path, "b", 7).unwrap();
        archive.add("n1/log.txt", Ok("x".repeat(MAX_BYTES) + "\nTOKEN=hunter2 and on\n")).unwrap();
        archive.add("n2/log.txt", Err("connection refused".to_owned())).unwrap();
        let entries = archive.finish().unwrap();
        assert_eq!((entries[0].bytes, entries[0].left_out), (MAX_BYTES, 25));
        assert!(Archive::create(&path, "b", 7).is_err(), "it is there");
        let file = File::open(&path).unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(file));
        let mut seen = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            seen.push((entry.path().unwrap().display().to_string(), text));
        }
        assert_eq!(
            seen.iter().map(|(path, _)| path.as_str()).collect::<Vec<_>>(),
            ["b/n1/log.txt", "b/manifest.json"]
        );
        assert!(seen[0].1.ends_with("\nTOKEN=[redacted] and on\n"));
        assert!(seen[1].1.contains("\"missing\": \"connection refused\""), "{}", seen[1].1);
    }

    #[test]
    fn a_cut_never_splits_a_letter() {
        assert_eq!(ending("aüb", 2), "b");
        assert_eq!(ending("ab", 5), "ab");
    }
}

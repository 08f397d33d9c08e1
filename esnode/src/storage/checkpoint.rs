//! Checkpoints: what the state machine was after a certain entry, so that a start replays only what came later.
//!
//! A file per checkpoint under `checkpoints`, named by the entry's index; the newest two are kept, so that one damaged
//! file costs nothing but time. What is in it is the caller's; this module sees to it that it is whole. A checkpoint also
//! records where the log begins: what came before may be missing, anything else may not.
//!
//! ```text
//! magic [8] | format version u32 | payload crc u32 | payload length u64 | index u64 | term u64
//! | start sequence u32 | reserved u32 (zero) | index before the start u64 | its term u64 | reserved u32 (zero) | crc u32
//! | payload                                                                                       (little endian)
//! ```

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes};
use parking_lot::Mutex;

use super::frame::{u32_at, u64_at};
use super::{Log, OpenError, room, segment, sync_dir};

/// The newest format of checkpoints this program knows.
const FORMAT_VERSION: u32 = 1;
const MAGIC: [u8; 8] = *b"EVSTRCKP";
pub(super) const HEADER_LEN: usize = 72;
/// Where they are in the data directory.
pub(super) const DIR: &str = "checkpoints";
const EXTENSION: &str = ".ckpt";
/// A checkpoint that is being written.
const UNFINISHED: &str = "next.tmp";
/// How many are kept.
const KEPT: usize = 2;

/// Where a log begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// Sequence number of the first segment.
    pub sequence: u32,
    /// Index and term of the entry before the first.
    pub before: (u64, u64),
}

impl Default for Start {
    fn default() -> Self {
        Self { sequence: 1, before: (0, 0) }
    }
}

/// A checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Everything up to this entry is in it.
    pub index: u64,
    /// The entry's term.
    pub term: u64,
    /// Where the log began when it was written.
    pub start: Start,
    /// What the caller gave.
    pub payload: Bytes,
}

/// The checkpoints of a data directory. Cheap to clone; safe from any thread.
#[derive(Clone, Debug, Default)]
pub struct Checkpoints {
    dir: PathBuf,
    /// Index and start of those kept, newest last. Held while one is written.
    kept: Arc<Mutex<Vec<(u64, Start)>>>,
}

/// What was found of them.
pub(super) struct Found {
    pub checkpoints: Checkpoints,
    pub newest: Option<Checkpoint>,
    /// Files that are not what was written, each with the reason, newest first.
    pub damaged: Vec<(String, String)>,
}

/// Reads the checkpoints under `dir`; removes one that was not finished.
pub(super) fn find(dir: &Path) -> Result<Found, OpenError> {
    let dir = dir.join(DIR);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(segment::at(&dir, ""))?;
    match fs::remove_file(dir.join(UNFINISHED)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(segment::at(&dir, UNFINISHED)(error).into());
        }
        _ => {}
    }
    let mut found = Found { checkpoints: Checkpoints::default(), newest: None, damaged: Vec::new() };
    for name in names(&dir)?.into_iter().rev() {
        let bytes = fs::read(dir.join(&name)).map_err(segment::at(&dir, &name))?;
        match decode(&name, bytes.into())? {
            Ok(checkpoint) => {
                found.checkpoints.kept.lock().insert(0, (checkpoint.index, checkpoint.start));
                found.newest.get_or_insert(checkpoint);
            }
            Err(reason) => found.damaged.push((format!("{DIR}/{name}"), reason)),
        }
    }
    found.checkpoints.dir = dir;
    Ok(found)
}

/// Names of all checkpoints in `dir`, oldest first.
pub(super) fn names(dir: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for file in fs::read_dir(dir).map_err(segment::at(dir, ""))? {
        let name = file?.file_name().to_string_lossy().into_owned();
        if name.ends_with(EXTENSION) {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Name of the checkpoint of this entry.
pub(super) fn file_name(index: u64) -> String {
    format!("{index:020}{EXTENSION}")
}

impl Checkpoints {
    /// Writes a checkpoint of everything up to entry `index`, which is applied; durable on return. Then deletes what
    /// is no longer needed: older checkpoints, and the files of retired segments that neither of those kept needs.
    ///
    /// # Errors
    /// The system's. With [`is_full`] nothing has changed; any other is final.
    pub fn write(&self, log: &Log, index: u64, term: u64, payload: &[u8]) -> io::Result<()> {
        let mut kept = self.kept.lock();
        if kept.last().is_some_and(|(newest, _)| *newest > index) {
            // A snapshot from another node came in between.
            return Ok(());
        }
        // A checkpoint vouches that the log reaches as far as it does.
        log.settle()?;
        let start = log.start();
        let put = || {
            self.put((index, term, start), payload).map_err(segment::at(&self.dir, UNFINISHED)).inspect_err(
                |_| {
                    // What is left of it is removed at the next start, at the latest.
                    drop(fs::remove_file(self.dir.join(UNFINISHED)));
                },
            )
        };
        match put() {
            Err(error) if is_full(&error) && room::give_up(log.dir()) => put()?,
            put => put?,
        }
        sync_dir(&self.dir)?;
        kept.retain(|(kept, _)| *kept != index);
        kept.push((index, start));
        let older = kept.len().saturating_sub(KEPT);
        kept.drain(..older);
        let needed: Vec<_> = kept.iter().map(|(index, _)| file_name(*index)).collect();
        remove_others(&self.dir, &needed)?;
        match &kept[..] {
            // A single one is of no use if it is damaged: the way back is then to replay the whole log.
            [older, _] => log.remove_retired(older.1.sequence),
            _ => Ok(()),
        }
    }

    /// Whether the files of retired segments wait for newer checkpoints: those kept would need them.
    pub fn owes(&self, log: &Log) -> bool {
        let first = log.start().sequence;
        self.kept.lock().iter().any(|(_, start)| start.sequence < first)
    }

    /// The newest one's entry, if there is one.
    pub fn newest_index(&self) -> Option<u64> {
        self.kept.lock().last().map(|(index, _)| *index)
    }

    /// The newest one, as it is on the disk.
    ///
    /// # Errors
    /// The system's; `InvalidData` if it is damaged.
    pub fn newest(&self) -> io::Result<Option<Checkpoint>> {
        let kept = self.kept.lock();
        let Some((index, _)) = kept.last() else { return Ok(None) };
        let name = file_name(*index);
        let bytes = fs::read(self.dir.join(&name)).map_err(segment::at(&self.dir, &name))?;
        let damaged = |reason| {
            let message = format!("the checkpoint {DIR}/{name} is damaged: {reason}");
            io::Error::new(io::ErrorKind::InvalidData, message)
        };
        decode(&name, bytes.into()).map_err(io::Error::other)?.map(Some).map_err(damaged)
    }

    /// Runs `install`, which puts the checkpoint `index` in the place of all others, while none is written.
    pub(super) fn replace(
        &self,
        (index, start): (u64, Start),
        install: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        let mut kept = self.kept.lock();
        install()?;
        *kept = vec![(index, start)];
        Ok(())
    }

    fn put(&self, (index, term, start): (u64, u64, Start), payload: &[u8]) -> io::Result<()> {
        let mut options = OpenOptions::new();
        let temporary = self.dir.join(UNFINISHED);
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(&encode(index, term, start, payload))?;
        file.sync_all()?;
        fs::rename(temporary, self.dir.join(file_name(index)))
    }
}

/// Removes all checkpoints but the one of this name.
pub(super) fn keep_only(dir: &Path, name: &str) -> io::Result<()> {
    remove_others(dir, &[name.to_owned()])
}

fn remove_others(dir: &Path, needed: &[String]) -> io::Result<()> {
    for name in names(dir)?.into_iter().filter(|name| !needed.contains(name)) {
        fs::remove_file(dir.join(&name)).map_err(segment::at(dir, &name))?;
    }
    Ok(())
}

/// A whole checkpoint's bytes.
pub(super) fn encode(index: u64, term: u64, start: Start, payload: &[u8]) -> Vec<u8> {
    let mut bytes = header(index, term, start, payload);
    bytes.extend_from_slice(payload);
    bytes
}

/// Whether an error says that the disk is full: a checkpoint can then wait, nothing depends on it.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn header(index: u64, term: u64, start: Start, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_LEN);
    bytes.put_slice(&MAGIC);
    bytes.put_u32_le(FORMAT_VERSION);
    bytes.put_u32_le(crc32c::crc32c(payload));
    bytes.put_u64_le(payload.len() as u64);
    bytes.put_u64_le(index);
    bytes.put_u64_le(term);
    bytes.put_u32_le(start.sequence);
    bytes.put_u32_le(0);
    bytes.put_u64_le(start.before.0);
    bytes.put_u64_le(start.before.1);
    bytes.put_u32_le(0);
    bytes.put_u32_le(crc32c::crc32c(&bytes));
    bytes
}

/// The checkpoint in `bytes`, or what is wrong with it; an error only for one that a later version wrote.
pub(super) fn decode(name: &str, mut bytes: Bytes) -> Result<Result<Checkpoint, String>, OpenError> {
    let bad = |reason: &str| Ok(Err(reason.to_owned()));
    if bytes.len() < HEADER_LEN {
        return bad("the file is too short for a header");
    }
    if bytes[..8] != MAGIC {
        return bad("this is not the header of a checkpoint");
    }
    let payload = bytes.split_off(HEADER_LEN);
    let intact = u32_at(&bytes, HEADER_LEN - 4) == crc32c::crc32c(&bytes[..HEADER_LEN - 4]);
    match u32_at(&bytes, 8) {
        found if found > FORMAT_VERSION && intact => {
            let file = format!("{DIR}/{name}");
            return Err(OpenError::Version { file, found, known: FORMAT_VERSION });
        }
        _ if !intact => return bad("checksum mismatch in the header"),
        _ => {}
    }
    if u64_at(&bytes, 16) != payload.len() as u64 {
        return bad("the file's length is not what it should be");
    }
    if u32_at(&bytes, 12) != crc32c::crc32c(&payload) {
        return bad("checksum mismatch");
    }
    bytes.advance(24);
    let (index, term) = (bytes.get_u64_le(), bytes.get_u64_le());
    if file_name(index) != name {
        return Ok(Err(format!("it belongs in a file named {}", file_name(index))));
    }
    let sequence = bytes.get_u32_le();
    bytes.advance(4);
    let before = (bytes.get_u64_le(), bytes.get_u64_le());
    Ok(Ok(Checkpoint { index, term, start: Start { sequence, before }, payload }))
}

//! Segments and a checkpoint from another node, on their way into this node's log.
//!
//! They gather in `incoming`, one file per segment named by its generation, and can be gone on with after a crash. What
//! is complete is read through, frame by frame. The writer then takes it over in one step, [`super::Wal::write`]:
//! everything is made ready under its last name and synced, a *commit* file that lists the renames follows, and only
//! then are they done. A crash before the commit file has changed nothing; one after it is made up for by the next
//! start ([`finish`]).

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::index::Index;
use super::outgoing::{Offer, Piece};
use super::segment::{self, Header, Segment};
use super::{OpenError, checkpoint, recovery, sync_dir};

const DIR: &str = "incoming";
const COMMIT: &str = "commit";
/// Received bytes that are written out in one go: others may share the disk, and wait for no more than that.
const SYNC_EVERY: u64 = 1 << 20;

/// Where pieces gather.
#[derive(Clone, Debug)]
pub struct Incoming {
    dir: PathBuf,
}

/// A piece that is being received.
#[derive(Debug)]
pub struct Receiving {
    file: File,
    name: String,
    have: u64,
    unsynced: u64,
}

/// All that an offer promised, whole and durable; ready to take its place in the log.
#[derive(Debug)]
pub struct Staged {
    /// The last entry.
    pub(super) index: u64,
    pub(super) term: u64,
    /// Index and term of the entry before the first segment's first.
    pub(super) before: (u64, u64),
    pub(super) payload: Bytes,
    pub(super) parts: Vec<Part>,
}

/// A segment that is whole.
#[derive(Debug)]
pub struct Part {
    pub(super) header: Header,
    pub(super) length: u64,
    pub(super) index: Index,
    pub(super) file_name: String,
}

/// The renames that make an installation, from names in `incoming` to paths in the data directory.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Commit {
    pub renames: Vec<(String, String)>,
    /// The only checkpoint that counts afterwards.
    pub checkpoint: String,
}

impl Incoming {
    /// The place for it in the data directory `dir`; created when it is needed.
    pub fn of(dir: &Path) -> Self {
        Self { dir: dir.join(DIR) }
    }

    /// Makes ready for an offer: what has gathered for another one is removed.
    ///
    /// # Errors
    /// The system's.
    pub fn begin(&self, offer: &Offer) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.dir).map_err(self.named(""))?;
        for file in fs::read_dir(&self.dir).map_err(self.named(""))? {
            let name = file?.file_name().to_string_lossy().into_owned();
            if !offer.segments.iter().any(|piece| file_name(piece.generation) == name) {
                fs::remove_file(self.dir.join(&name)).map_err(self.named(&name))?;
            }
        }
        Ok(())
    }

    /// Removes all that has gathered.
    ///
    /// # Errors
    /// The system's.
    pub fn discard(&self) -> io::Result<()> {
        match fs::remove_dir_all(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done.map_err(self.named("")),
        }
    }

    /// Goes on with a piece where it was left.
    ///
    /// # Errors
    /// The system's.
    pub fn receive(&self, piece: Piece) -> io::Result<Receiving> {
        let name = file_name(piece.generation);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(self.dir.join(&name)).map_err(self.named(&name))?;
        let have = file.metadata().map_err(self.named(&name))?.len();
        if have > piece.length {
            // A later offer ends earlier only if it comes from a log that was cut.
            file.set_len(0).map_err(self.named(&name))?;
        }
        Ok(Receiving { file, name, have: if have > piece.length { 0 } else { have }, unsynced: 0 })
    }

    /// Makes a piece that is complete durable and reads it through, frame by frame.
    ///
    /// # Errors
    /// [`OpenError::Corrupt`] if it is not what it should be: it is removed, and must be received again. The system's.
    pub fn check(&self, piece: Piece) -> Result<Part, OpenError> {
        let name = file_name(piece.generation);
        self.read_through(piece, &name).inspect_err(|_| self.remove(&name))
    }

    /// Puts together all that an offer promised.
    ///
    /// # Errors
    /// [`OpenError::Corrupt`] if the pieces do not make a log that ends with the checkpoint; the system's.
    pub fn complete(&self, offer: &Offer, payload: Bytes, parts: Vec<Part>) -> Result<Staged, OpenError> {
        let first = parts.first().map_or(1, |part| part.index.first());
        let mut whole = Index::after((first.saturating_sub(1), 0));
        // Numbers do not count: an installation that a crash cut short has left new ones in some, and old ones in others.
        for (number, part) in (1..).zip(&parts) {
            if !whole.extend(&part.index.renumbered(number)) {
                self.remove(&part.file_name);
                let reason = "the segment does not continue the one before it";
                return Err(OpenError::corrupt(&part.file_name, 0, reason));
            }
        }
        let Offer { index, term, before, .. } = *offer;
        if (whole.last(), whole.term(index)) != (index, Some(term)) {
            let reason = format!("the segments end at entry {}, the checkpoint at {index}", whole.last());
            return Err(OpenError::corrupt(DIR, 0, reason));
        }
        sync_dir(&self.dir)?;
        Ok(Staged { index, term, before, payload, parts })
    }

    fn read_through(&self, piece: Piece, name: &str) -> Result<Part, OpenError> {
        let segment = Segment::open_unnamed(&self.dir, name)?;
        segment.file()?.sync_all().map_err(self.named(name))?;
        if segment.header.generation != piece.generation || segment.capacity != piece.length {
            return Err(OpenError::corrupt(name, 0, "this is not the segment that was offered"));
        }
        let segment = Arc::new(segment);
        let index = recovery::check_sealed(&segment, piece.length, |_| ())?;
        Ok(Part { header: segment.header, length: piece.length, index, file_name: name.to_owned() })
    }

    fn remove(&self, name: &str) {
        // One that stays is found again, and removed then.
        drop(fs::remove_file(self.dir.join(name)));
    }

    fn named<'a>(&'a self, name: &'a str) -> impl Fn(io::Error) -> io::Error + Copy + 'a {
        segment::at(&self.dir, name)
    }

    /// Gives a segment another header, durably.
    pub(super) fn put_header(&self, name: &str, header: &Header) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(self.dir.join(name)).map_err(self.named(name))?;
        file.write_all_at(&header.encode(), 0).and_then(|()| file.sync_all()).map_err(self.named(name))
    }

    /// Writes a file whole, durable but for its name.
    pub(super) fn put(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let path = self.dir.join(name);
        fs::write(&path, bytes).and_then(|()| File::open(&path)?.sync_all()).map_err(self.named(name))
    }

    /// A new segment that takes over after the last one installed, with its head written, durable but for its name.
    pub(super) fn put_tail(&self, name: &str, capacity: u64, head: &[u8]) -> io::Result<File> {
        self.remove(name);
        let file = segment::allocate(&self.dir.join(name), capacity).map_err(self.named(name))?;
        file.write_all_at(head, 0).and_then(|()| file.sync_all()).map_err(self.named(name))?;
        Ok(file)
    }

    /// Decides that the renames are to be: from here on there is no way back.
    pub(super) fn decide(&self, commit: &Commit) -> io::Result<()> {
        let json = serde_json::to_string(commit)?;
        self.put("commit.tmp", format!("{json}\n{:08x}\n", crc32c::crc32c(json.as_bytes())).as_bytes())?;
        sync_dir(&self.dir)?;
        fs::rename(self.dir.join("commit.tmp"), self.dir.join(COMMIT)).map_err(self.named(COMMIT))?;
        sync_dir(&self.dir)
    }
}

impl Receiving {
    /// Bytes that are there.
    pub fn have(&self) -> u64 {
        self.have
    }

    /// Adds more.
    ///
    /// # Errors
    /// The system's.
    pub fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", self.name));
        self.file.write_all_at(bytes, self.have).map_err(named)?;
        self.have += bytes.len() as u64;
        self.unsynced += bytes.len() as u64;
        if self.unsynced >= SYNC_EVERY {
            self.unsynced = 0;
            self.file.sync_data().map_err(named)?;
        }
        Ok(())
    }
}

impl Staged {
    /// The last entry.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// Its term.
    pub fn term(&self) -> u64 {
        self.term
    }

    /// The checkpoint's payload.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }
}

fn file_name(generation: u64) -> String {
    format!("{generation:016x}.part")
}

/// Whether there is a commit file whose renames may not be done yet.
pub(super) fn is_decided(dir: &Path) -> bool {
    dir.join(DIR).join(COMMIT).exists()
}

/// Does what a commit file says, if there is one. Run before the log and the checkpoints are looked at.
pub(super) fn finish(dir: &Path) -> Result<(), OpenError> {
    let incoming = dir.join(DIR);
    let text = match fs::read_to_string(incoming.join(COMMIT)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        read => read.map_err(segment::at(&incoming, COMMIT))?,
    };
    let damaged = || OpenError::corrupt("incoming/commit", 0, "checksum mismatch");
    let (json, crc) = text.split_once('\n').ok_or_else(damaged)?;
    if crc != format!("{:08x}\n", crc32c::crc32c(json.as_bytes())) {
        return Err(damaged());
    }
    let commit: Commit = serde_json::from_str(json).map_err(|_| damaged())?;
    for (from, to) in &commit.renames {
        match fs::rename(incoming.join(from), dir.join(to)) {
            // Done before a crash.
            Err(error) if error.kind() == io::ErrorKind::NotFound && dir.join(to).exists() => {}
            done => done.map_err(segment::at(dir, to))?,
        }
    }
    checkpoint::keep_only(&dir.join(checkpoint::DIR), &commit.checkpoint)?;
    sync_dir(&dir.join("log"))?;
    sync_dir(&dir.join(checkpoint::DIR))?;
    fs::remove_file(incoming.join(COMMIT)).map_err(segment::at(&incoming, COMMIT))?;
    Ok(sync_dir(&incoming)?)
}

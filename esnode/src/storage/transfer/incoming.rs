//! Segments and a snapshot from another node while they arrive. Transfers can be resumed after a crash. What
//! is complete is read through, frame by frame.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::DIR;
use super::outgoing::{Offer, OfferedPack, OfferedSegment};
use crate::storage::error::OpenError;
use crate::storage::files::{allocate, create_dir, named, sync_dir, write_synced};
use crate::storage::log::header::Header;
use crate::storage::log::index::Index;
use crate::storage::log::packs;
use crate::storage::log::recovery;
use crate::storage::log::segment::Segment;

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
    pub(crate) index: u64,
    pub(crate) term: u64,
    /// Index and term of the entry before the first segment's first.
    pub(crate) before: (u64, u64),
    pub(crate) payload: Bytes,
    pub(crate) parts: Vec<ReceivedSegment>,
    /// The packs that take the place of all that there are; `None` if those stay.
    pub(crate) packs: Option<Vec<ReceivedPack>>,
}

/// A segment that is whole.
#[derive(Debug)]
pub struct ReceivedSegment {
    pub(crate) header: Header,
    pub(crate) length: u64,
    pub(crate) index: Index,
    pub(crate) file_name: String,
}

/// A pack that is whole.
#[derive(Debug)]
pub struct ReceivedPack {
    pub(crate) file_name: String,
    /// The name that it gets.
    pub(crate) name: String,
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
        create_dir(&self.dir)?;
        for file in fs::read_dir(&self.dir).map_err(self.named(""))? {
            let name = file?.file_name().to_string_lossy().into_owned();
            let packs = offer.packs.iter().flatten().map(|pack| &pack.piece);
            if !offer.segments.iter().chain(packs).any(|piece| file_name(piece.generation) == name) {
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
    pub fn receive(&self, piece: OfferedSegment) -> io::Result<Receiving> {
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
    /// [`OpenError::Corrupt`] if it is not what it should be: it is removed, and must be received again. The
    /// system's.
    pub fn check(&self, piece: OfferedSegment) -> Result<ReceivedSegment, OpenError> {
        let name = file_name(piece.generation);
        self.read_through(piece, &name).inspect_err(|_| self.remove(&name))
    }

    /// Makes a pack that is complete durable and reads it through; `is_intact` says whether a batch is.
    ///
    /// # Errors
    /// As [`Incoming::check`].
    pub fn check_pack(
        &self,
        offered: &OfferedPack,
        is_intact: impl Fn(&[u8]) -> bool,
    ) -> Result<ReceivedPack, OpenError> {
        let file_name = file_name(offered.piece.generation);
        let read = || {
            let pack = packs::open_received(&self.dir, &file_name, &offered.name)?;
            if pack.id() != offered.piece.generation || pack.length() != offered.piece.length {
                return Err(OpenError::corrupt(&file_name, 0, "this is not the pack that was offered"));
            }
            pack.check(is_intact).map_err(|error| match error.kind() {
                io::ErrorKind::InvalidData => OpenError::corrupt(&file_name, 0, error.to_string()),
                _ => error.into(),
            })
        };
        read().inspect_err(|_| self.remove(&file_name))?;
        Ok(ReceivedPack { file_name, name: offered.name.clone() })
    }

    /// Puts together all that an offer promised.
    ///
    /// # Errors
    /// [`OpenError::Corrupt`] if the pieces do not make a log that ends with the snapshot; the system's.
    pub fn complete(
        &self,
        offer: &Offer,
        payload: Bytes,
        parts: Vec<ReceivedSegment>,
        packs: Option<Vec<ReceivedPack>>,
    ) -> Result<Staged, OpenError> {
        let first = parts.first().map_or(1, |part| part.index.first());
        let mut whole = Index::after((first.saturating_sub(1), 0));
        // Numbers do not count: an installation that a crash cut short has left new ones in some, and old
        // ones in others.
        for (number, part) in (1..).zip(&parts) {
            if !whole.extend(&part.index.renumbered(number)) {
                self.remove(&part.file_name);
                let reason = "the segment does not continue the one before it";
                return Err(OpenError::corrupt(&part.file_name, 0, reason));
            }
        }
        let Offer { index, term, before, .. } = *offer;
        if (whole.last(), whole.term(index)) != (index, Some(term)) {
            let reason = format!("the segments end at entry {}, the snapshot at {index}", whole.last());
            return Err(OpenError::corrupt(DIR, 0, reason));
        }
        if !packs::join(packs.iter().flatten().map(|pack| pack.name.as_str())) {
            return Err(OpenError::corrupt(DIR, 0, "the packs do not join"));
        }
        sync_dir(&self.dir)?;
        Ok(Staged { index, term, before, payload, parts, packs })
    }

    fn read_through(&self, piece: OfferedSegment, name: &str) -> Result<ReceivedSegment, OpenError> {
        let segment = Segment::open_unnamed(&self.dir, name)?;
        segment.file()?.sync_all().map_err(self.named(name))?;
        if segment.header.generation != piece.generation || segment.capacity != piece.length {
            return Err(OpenError::corrupt(name, 0, "this is not the segment that was offered"));
        }
        let segment = Arc::new(segment);
        let index = recovery::check_sealed(&segment, piece.length, |_| ())?;
        Ok(ReceivedSegment {
            header: segment.header,
            length: piece.length,
            index,
            file_name: name.to_owned(),
        })
    }

    fn remove(&self, name: &str) {
        // One that stays is found again, and removed then.
        drop(fs::remove_file(self.dir.join(name)));
    }

    fn named<'a>(&'a self, name: &'a str) -> impl Fn(io::Error) -> io::Error + Copy + 'a {
        named(&self.dir, name)
    }

    /// Gives a segment another header, durably.
    pub(crate) fn put_header(&self, name: &str, header: &Header) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(self.dir.join(name)).map_err(self.named(name))?;
        file.write_all_at(&header.encode(), 0).and_then(|()| file.sync_all()).map_err(self.named(name))
    }

    /// Writes a file whole, durable but for its name.
    pub(crate) fn put(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        write_synced(&self.dir, name, bytes)
    }

    /// A new segment that takes over after the last one installed, with its head written, durable but for its
    /// name.
    pub(crate) fn put_tail(&self, name: &str, capacity: u64, head: &[u8]) -> io::Result<File> {
        self.remove(name);
        let file = allocate(&self.dir.join(name), capacity).map_err(self.named(name))?;
        file.write_all_at(head, 0).and_then(|()| file.sync_all()).map_err(self.named(name))?;
        Ok(file)
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

    /// The snapshot's payload.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }
}

fn file_name(generation: u64) -> String {
    format!("{generation:016x}.part")
}

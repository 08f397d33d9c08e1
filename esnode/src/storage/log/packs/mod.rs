//! Packs: files that hold batches of older entries, sorted by partition.
//!
//! The log interleaves all partitions, and holds an event as long as any other in its segment. A pack takes the place of
//! segments, or of other packs: it holds what is kept of their entries, each partition's batches one after the other, and an
//! index ([`crate::batch_index`]) behind them. The first segments of the log can go then.
//!
//! Packs are never changed, and join without gaps. A file is named by its entries, and by a generation. It comes into being
//! whole (written, synced, renamed), and what it replaces is deleted afterwards. So no list of files is needed: after a crash,
//! a pack that holds all entries of another one has replaced it, and of two with the same entries the higher generation has.

mod name;
mod writer;

use std::fs::{self, File};
use std::io;
use std::ops::{ControlFlow, RangeInclusive};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};

use super::open_files::{OpenFiles, SegmentFile};
use super::segment_indexes::IndexFile;
use crate::batch_index::Wanted;
use crate::batch_index::segment_index::SegmentIndex;
use crate::storage::error::OpenError;
use crate::storage::files::{self, named, remove_if_present, sync_dir};
use name::{EXTENSION, Name};
pub use writer::PackWriter;

/// Name of a pack that is being written.
const UNFINISHED: &str = "pack.tmp";

/// The packs of a log. Cheap to clone; safe from any thread.
#[derive(Clone, Debug, Default)]
pub struct Packs {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    dir: PathBuf,
    files: Arc<OpenFiles>,
    /// In the order of their entries, without gaps.
    packs: RwLock<Vec<Arc<Pack>>>,
    /// Locked by whoever changes which files there are.
    changes: Mutex<FileChanges>,
}

/// What has happened to the files.
#[derive(Debug, Default)]
struct FileChanges {
    /// How often all packs were replaced.
    epoch: u64,
    /// A change has failed half-way. The next start sees what has become of it; until then nothing else is changed.
    failed: bool,
}

/// A pack.
#[derive(Debug)]
pub struct Pack {
    name: Name,
    file: Arc<SegmentFile>,
    /// Bytes of the file.
    length: u64,
    /// Where each partition's batches are.
    pub(crate) index: Arc<SegmentIndex<IndexFile>>,
}

impl Pack {
    fn open(dir: &Path, name: Name, files: &Arc<OpenFiles>) -> Result<Self, OpenError> {
        let file_name = name.to_string();
        let pack = Self::open_at(dir, &file_name, name)?;
        pack.file.close_when_idle(dir.join(file_name), files);
        Ok(pack)
    }

    fn open_at(dir: &Path, file_name: &str, name: Name) -> Result<Self, OpenError> {
        let file = File::open(dir.join(file_name)).map_err(named(dir, file_name))?;
        let length = file.metadata().map_err(named(dir, file_name))?.len();
        let file = Arc::new(SegmentFile::new(file));
        let index = SegmentIndex::open(IndexFile::new(Arc::clone(&file)), length);
        let index = index.map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
                OpenError::corrupt(file_name, 0, error.to_string())
            }
            _ => named(dir, file_name)(error).into(),
        })?;
        if !name.is_of(index.id(), index.entries()) {
            return Err(OpenError::corrupt(file_name, 0, "this is another pack"));
        }
        Ok(Self { name, file, length, index: Arc::new(index) })
    }

    /// The entries whose batches it holds.
    pub fn entries(&self) -> &RangeInclusive<u64> {
        &self.name.entries
    }

    /// One more than that of the packs that it has replaced.
    pub fn generation(&self) -> u64 {
        self.name.generation
    }

    /// Bytes of the file.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The file's name.
    pub fn file_name(&self) -> String {
        self.name.to_string()
    }

    /// Reads as many bytes at `offset` as fit in `buffer`. An error names the file.
    ///
    /// # Errors
    /// Those of the file system; `UnexpectedEof` beyond the end.
    pub fn read_into(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let named = |error: io::Error| {
            io::Error::new(error.kind(), format!("{}: reading at byte {offset}: {error}", self.name))
        };
        std::os::unix::fs::FileExt::read_exact_at(&*self.file.get()?, buffer, offset).map_err(named)
    }

    /// Tells the file from every other one.
    pub fn id(&self) -> u64 {
        self.index.id().generation
    }

    /// Reads everything, and hands each batch to `is_intact`.
    ///
    /// # Errors
    /// `InvalidData` if something is damaged; those of the file system.
    pub(crate) fn check(&self, is_intact: impl Fn(&[u8]) -> bool) -> io::Result<()> {
        let damaged = |position: u32| {
            let reason = format!("{}: the batch at byte {position} is damaged", self.name);
            io::Error::new(io::ErrorKind::InvalidData, reason)
        };
        for row in self.index.rows() {
            let mut failed = Ok(());
            let _: ControlFlow<()> = self.index.batches(&row?, Wanted::Offset(i64::MIN), |indexed| {
                let read = self.read(indexed.position.into(), indexed.batch.length as usize);
                failed = read.and_then(|batch| {
                    is_intact(&batch).then_some(()).ok_or_else(|| damaged(indexed.position))
                });
                if failed.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })?;
            failed?;
        }
        Ok(())
    }

    /// Reads `length` bytes at `offset`.
    ///
    /// # Errors
    /// As [`Pack::read_into`].
    pub fn read(&self, offset: u64, length: usize) -> io::Result<Bytes> {
        let mut buffer = vec![0; length];
        self.read_into(offset, &mut buffer)?;
        Ok(buffer.into())
    }

    /// Whoever still reads it can continue when the file is gone.
    fn keep_open(&self) {
        if let Err(error) = self.file.pin() {
            tracing::warn!(%error, "cannot keep a deleted pack open that is still being read");
        }
    }

    /// Deletes the file.
    fn delete(self: Arc<Self>, dir: &Path) -> io::Result<()> {
        if Arc::strong_count(&self) > 1 {
            self.keep_open();
        }
        remove_if_present(dir, &self.file_name())
    }
}

impl Packs {
    /// Opens the packs in `dir`, which has the segments of the log, and deletes those that others have replaced.
    ///
    /// # Errors
    /// [`OpenError`] if one is missing or damaged; those of the file system.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        remove_if_present(dir, UNFINISHED)?;
        let (kept, replaced) = names(dir)?;
        let files = Arc::new(OpenFiles::default());
        let packs = RwLock::new(open_all(dir, kept, &files)?);
        for name in replaced {
            remove_if_present(dir, &name.to_string())?;
        }
        sync_dir(dir)?;
        let dir = dir.to_owned();
        Ok(Self { shared: Arc::new(Shared { dir, files, packs, changes: Mutex::default() }) })
    }

    /// Runs `install`, which puts other packs in the place of all. Whoever reads them can continue.
    ///
    /// # Errors
    /// Those of `install`, and as [`Packs::open`]. All are final.
    pub(crate) fn replace_all(&self, install: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let mut changes = self.shared.changes.lock();
        changes.epoch += 1;
        for pack in self.all() {
            pack.keep_open();
        }
        install()?;
        let packs = open_all(
            &self.shared.dir,
            names(&self.shared.dir).map_err(io::Error::other)?.0,
            &self.shared.files,
        );
        *self.shared.packs.write() = packs.map_err(io::Error::other)?;
        Ok(())
    }

    /// All packs, in the order of their entries.
    pub fn all(&self) -> Vec<Arc<Pack>> {
        self.shared.packs.read().clone()
    }

    /// The pack that holds the batches of this entry.
    pub fn holding(&self, entry: u64) -> Option<Arc<Pack>> {
        let packs = self.shared.packs.read();
        let at = packs.partition_point(|pack| *pack.entries().end() < entry);
        packs.get(at).filter(|pack| pack.entries().contains(&entry)).cloned()
    }

    /// The first entry whose batches are in a pack, and the last one.
    pub fn entries(&self) -> Option<RangeInclusive<u64>> {
        let packs = self.shared.packs.read();
        Some(*packs.first()?.entries().start()..=*packs.last()?.entries().end())
    }

    /// The last entry whose batches are in a pack; 0 if there is none.
    pub fn last_index(&self) -> u64 {
        self.entries().map_or(0, |entries| *entries.end())
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.shared.packs.read().iter().map(|pack| pack.length).sum()
    }

    /// How often all packs were replaced. What is decided about those before must not be done to those after.
    pub fn epoch(&self) -> u64 {
        self.shared.changes.lock().epoch
    }

    /// Begins a pack of these entries. They are those of packs of this `epoch` that it will replace, or follow the last one.
    ///
    /// # Errors
    /// Those of the file system; an earlier one that has left a change half done.
    pub fn begin(&self, entries: RangeInclusive<u64>, epoch: u64) -> io::Result<PackWriter> {
        if self.shared.changes.lock().failed {
            return Err(io::Error::other("an earlier change of the packs has failed; start the node again"));
        }
        // What somebody else still writes is not this one's.
        remove_if_present(&self.shared.dir, UNFINISHED)?;
        PackWriter::create(&self.shared.dir.join(UNFINISHED), self.next_name(entries), epoch)
    }

    /// Gives up a pack that could not be written whole: others need the room.
    pub fn abandon(&self) {
        // If it stays, the next one takes its place.
        drop(remove_if_present(&self.shared.dir, UNFINISHED));
    }

    fn next_name(&self, entries: RangeInclusive<u64>) -> Name {
        let packs = self.shared.packs.read();
        let replaced = packs.iter().filter(|pack| name::includes(&entries, pack.entries()));
        let generation = replaced.map(|pack| pack.name.generation).max().map_or(1, |newest| newest + 1);
        Name { entries, generation }
    }

    /// Puts a pack that is written whole in the place of those whose entries it has. Durable on return. Returns false, and
    /// changes nothing, if the packs are no longer those for which it was begun.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn put(&self, written: PackWriter) -> io::Result<bool> {
        let dir = &self.shared.dir;
        let mut changes = self.shared.changes.lock();
        let (name, epoch) = (written.name.clone(), written.epoch);
        written.finish()?;
        if epoch != changes.epoch || !self.joins(&name) {
            remove_if_present(dir, UNFINISHED)?;
            return Ok(false);
        }
        let pack = Pack::open_at(dir, UNFINISHED, name).map_err(io::Error::other)?;
        let put = self.put_in_place(Arc::new(pack));
        changes.failed |= put.is_err();
        put.map(|()| true)
    }

    fn put_in_place(&self, pack: Arc<Pack>) -> io::Result<()> {
        let (dir, file_name) = (&self.shared.dir, pack.file_name());
        fs::rename(dir.join(UNFINISHED), dir.join(&file_name)).map_err(named(dir, UNFINISHED))?;
        sync_dir(dir)?;
        pack.file.close_when_idle(dir.join(file_name), &self.shared.files);
        for replaced in self.replace(pack) {
            replaced.delete(dir)?;
        }
        // A pack that came back, because its deletion was lost, would bring back what this one no longer holds once this one
        // is gone, too.
        sync_dir(dir)
    }

    /// Whether a pack of this name can become one of them.
    fn joins(&self, name: &Name) -> bool {
        let packs = self.shared.packs.read();
        let follows = packs.last().is_none_or(|last| *name.entries.start() == *last.entries().end() + 1);
        let mut replaced = packs.iter().filter(|pack| name::includes(&name.entries, pack.entries()));
        let first = replaced.next();
        let last = replaced.next_back().or(first);
        let replaces = first.is_some_and(|first| first.entries().start() == name.entries.start())
            && last.is_some_and(|last| last.entries().end() == name.entries.end());
        (follows || replaces) && self.next_name(name.entries.clone()) == *name
    }

    /// Puts a pack into its place. Returns those that it has replaced.
    fn replace(&self, pack: Arc<Pack>) -> Vec<Arc<Pack>> {
        let mut packs = self.shared.packs.write();
        let from = packs.partition_point(|known| known.entries().start() < pack.entries().start());
        let to = packs.partition_point(|known| known.entries().end() <= pack.entries().end());
        packs.splice(from..to, [pack]).collect()
    }

    /// Deletes the first packs, as long as all of their entries are before `entry`. Nothing in them is kept.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn delete_before(&self, entry: u64) -> io::Result<()> {
        let mut changes = self.shared.changes.lock();
        let deleted: Vec<_> = {
            let mut packs = self.shared.packs.write();
            let count = packs.partition_point(|pack| *pack.entries().end() < entry);
            packs.drain(..count).collect()
        };
        // The oldest first: a crash leaves no gap.
        let dir = &self.shared.dir;
        let done = deleted.into_iter().try_for_each(|pack| pack.delete(dir).and_then(|()| sync_dir(dir)));
        changes.failed |= done.is_err();
        done
    }

    /// Runs `gather` until the packs are the same before and after: a pack that is made meanwhile may lack events that the
    /// gathered snapshot knows, and the log what is in that pack.
    pub(crate) fn unchanged<T>(
        &self,
        mut gather: impl FnMut(&[Arc<Pack>]) -> io::Result<T>,
    ) -> io::Result<T> {
        loop {
            let packs = self.all();
            let gathered = gather(&packs)?;
            let now = self.all();
            if now.len() == packs.len() && now.iter().zip(&packs).all(|(now, then)| Arc::ptr_eq(now, then)) {
                return Ok(gathered);
            }
        }
    }
}

/// Whether these are names of packs that join, in the order of their entries.
pub(crate) fn join<'a>(names: impl Iterator<Item = &'a str>) -> bool {
    let parsed = names.map(|name| name.parse::<Name>().ok().filter(|parsed| parsed.to_string() == name));
    parsed.collect::<Option<Vec<_>>>().is_some_and(|names| name::gap(&names).is_none())
}

fn open_all(dir: &Path, names: Vec<Name>, files: &Arc<OpenFiles>) -> Result<Vec<Arc<Pack>>, OpenError> {
    names.into_iter().map(|name| Pack::open(dir, name, files).map(Arc::new)).collect()
}

/// Opens a pack for a caller that must not change a byte.
pub(crate) fn open_to_read(dir: &Path, name: &str) -> Result<Pack, OpenError> {
    Pack::open_at(dir, name, parse(name)?)
}

fn parse(name: &str) -> Result<Name, OpenError> {
    name.parse().map_err(|()| OpenError::corrupt(name, 0, "this is not the name of a pack"))
}

/// Opens a pack that does not have its final name yet, and makes it durable.
pub(crate) fn open_received(dir: &Path, file_name: &str, name: &str) -> Result<Pack, OpenError> {
    let pack = Pack::open_at(dir, file_name, parse(name)?)?;
    pack.file.get().and_then(|file| file.sync_all()).map_err(named(dir, file_name))?;
    Ok(pack)
}

/// Deletes all packs in `dir` but those with these names.
pub(crate) fn keep_only(dir: &Path, kept: &[String]) -> io::Result<()> {
    for name in files::list(dir, EXTENSION)?.into_iter().filter(|name| !kept.contains(name)) {
        remove_if_present(dir, &name)?;
    }
    Ok(())
}

/// The names of the packs in `dir` that count, in the order of their entries, and of those that others have replaced.
pub(crate) fn names(dir: &Path) -> Result<(Vec<Name>, Vec<Name>), OpenError> {
    let mut found = Vec::new();
    for file in files::list(dir, EXTENSION)? {
        found.push(parse(&file)?);
    }
    let (kept, replaced) = name::sort(found);
    match name::gap(&kept) {
        Some(behind) => {
            Err(OpenError::corrupt(&behind.to_string(), 0, "the pack does not continue the one before it"))
        }
        None => Ok((kept, replaced)),
    }
}

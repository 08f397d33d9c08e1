//! Reads a data directory that no node uses, every byte that counts, and changes none of them.
//!
//! What a start would refuse is damage. What it would pass over, cut or make again is said too, and is
//! harmless. Unlike a start, this goes on after the first that it finds, and trusts no footer.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use shared::verified::Verified;

use super::error::OpenError;
use super::files::named;
use super::log::LogStart;
use super::log::footer;
use super::log::open_files::OpenFiles;
use super::log::packs;
use super::log::recovery::{self, FoundLog};
use super::log::segment::{self, Segment};
use super::log::tail::Unread;
use super::snapshot::{self, Snapshot};
use super::transfer::commit;

/// Reads everything under `dir`, whose lock the caller holds. `decode` says what is wrong with the content of
/// a snapshot, `is_intact` whether a batch of a pack is.
///
/// # Errors
/// The system's; and when an installation of files from another node is half done.
pub fn verify(
    dir: &Path,
    decode: impl Fn(&[u8]) -> Result<(), String>,
    is_intact: impl Fn(&[u8]) -> bool,
) -> io::Result<Verified> {
    if commit::is_decided(dir) {
        return Err(io::Error::other(
            "files from another node were being put in place when the node ended; start it, which finishes that, stop \
             it, and verify again",
        ));
    }
    let mut verified = Verified::new();
    let snapshots = read_snapshots(dir, &mut verified, decode)?;
    let start = snapshots.first().map_or_else(LogStart::default, |oldest| oldest.start);
    verified.snapshot = snapshots.last().map_or(0, |newest| newest.index);
    read_packs(&dir.join("log"), &mut verified, is_intact)?;
    let files = Arc::default();
    let log = Reading { dir: dir.join("log"), start, segments: Vec::new(), files, whole: true };
    let found = log.read(&mut verified)?;
    verified.first_index = found.index.first();
    verified.last_index = found.index.last();
    verified.last_term = found.index.term(verified.last_index);
    // Of a log with holes it cannot be said what it lacks besides.
    if verified.ok {
        for snapshot in &snapshots {
            found
                .reaches((snapshot.index, snapshot.term))
                .or_else(|error| refused(&mut verified, "", error))?;
        }
    }
    Ok(verified)
}

/// Reads all packs through.
fn read_packs(dir: &Path, verified: &mut Verified, is_intact: impl Fn(&[u8]) -> bool) -> io::Result<()> {
    let (names, replaced) = match packs::names(dir) {
        Ok(names) => names,
        Err(error) => return refused(verified, "log/", error),
    };
    for name in replaced {
        let reason = "another pack has replaced it; the next start deletes it";
        verified.note(format!("log/{name}"), 0, reason, true);
    }
    for name in names.iter().map(ToString::to_string) {
        match packs::open_to_read(dir, &name) {
            Err(error) => refused(verified, "log/", error)?,
            Ok(pack) => {
                verified.bytes += pack.length();
                match pack.check(&is_intact) {
                    Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                        verified.note(format!("log/{name}"), 0, error.to_string(), false);
                    }
                    checked => checked?,
                }
            }
        }
    }
    Ok(())
}

/// Those that are whole, oldest first.
fn read_snapshots(
    dir: &Path,
    verified: &mut Verified,
    decode: impl Fn(&[u8]) -> Result<(), String>,
) -> io::Result<Vec<Snapshot>> {
    let dir = dir.join(snapshot::DIR);
    let mut whole = Vec::new();
    if !dir.exists() {
        return Ok(whole);
    }
    for name in snapshot::names(&dir)? {
        let path = format!("{}/{name}", snapshot::DIR);
        let bytes = fs::read(dir.join(&name)).map_err(named(&dir, &name))?;
        match snapshot::decode(&name, bytes.into()) {
            Err(error) => refused(verified, "", error)?,
            Ok(Err(reason)) => verified.note(path, 0, reason, false),
            Ok(Ok(snapshot)) => {
                if let Err(reason) = decode(&snapshot.payload) {
                    verified.note(path, snapshot::HEADER_LEN as u64, reason, false);
                }
                whole.push(snapshot);
            }
        }
    }
    Ok(whole)
}

fn snapshot_path(index: u64) -> String {
    format!("{}/{}", snapshot::DIR, snapshot::file_name(index))
}

/// The log, on its way through.
struct Reading {
    dir: PathBuf,
    start: LogStart,
    /// Those whose header is whole.
    segments: Vec<Arc<Segment>>,
    files: Arc<OpenFiles>,
    /// All headers are.
    whole: bool,
}

impl Reading {
    fn read(mut self, verified: &mut Verified) -> io::Result<FoundLog> {
        let mut found = FoundLog::after(self.start.before);
        if !self.dir.exists() {
            return Ok(found);
        }
        self.open(verified)?;
        verified.segments = self.segments.len() as u64;
        for (at, segment) in self.segments.iter().enumerate() {
            match self.segments.get(at + 1) {
                Some(next) if follows(segment, next) => self.sealed(segment, next, &mut found, verified)?,
                // Where it ends stands in the header that is not to be had; its frames are read all the same.
                Some(_) => self.last(segment, &mut FoundLog::default(), verified)?,
                None => self.last(segment, &mut found, verified)?,
            }
        }
        found.segments = self.segments.into();
        Ok(found)
    }

    /// Reads all headers, and sees whether they make a chain.
    fn open(&mut self, verified: &mut Verified) -> io::Result<()> {
        for name in segment::list(&self.dir)? {
            match Segment::open_to_read(&self.dir, &name) {
                Ok(segment) => {
                    let segment = Arc::new(segment);
                    segment.close_when_idle(&self.dir, &self.files);
                    self.segments.push(segment);
                }
                Err(error) => {
                    self.whole = false;
                    refused(verified, "log/", error)?;
                }
            }
        }
        if !self.whole {
            return Ok(());
        }
        for pair in self.segments.windows(2).filter(|pair| !follows(&pair[0], &pair[1])) {
            verified.note(path(&pair[1]), 0, "the segment does not continue the one before it", false);
        }
        match self.segments.first() {
            Some(first) if first.header.sequence > self.start.sequence => {
                let (sequence, before) = (first.header.sequence - 1, first.name.clone());
                refused(verified, "log/", OpenError::Missing { sequence, before })
            }
            _ => Ok(()),
        }
    }

    fn sealed(
        &self,
        segment: &Arc<Segment>,
        next: &Segment,
        found: &mut FoundLog,
        verified: &mut Verified,
    ) -> io::Result<()> {
        let end = next.header.previous_end;
        verified.bytes += end;
        match recovery::check_sealed(segment, end, |_| ()) {
            Err(error) => return refused(verified, "log/", error),
            // What came before the start is kept for nobody's sake, and need not join.
            Ok(index) if segment.header.sequence >= self.start.sequence => {
                // Behind damage nothing joins.
                if verified.ok
                    && let Err(error) = found.extend(segment, &index)
                {
                    refused(verified, "log/", error)?;
                }
            }
            Ok(_) => {}
        }
        let rest = Unread::survey(segment, end)?;
        if rest.dirty_end > end {
            verified.note(path(segment), end, "bytes behind the end that nobody reads", true);
        }
        let footer = footer::path(&self.dir, &segment.name);
        if footer.exists() && footer::read(&self.dir, segment, end).is_none() {
            let name = Path::new(&segment.name).with_extension(footer::EXTENSION);
            let reason = "the footer is not whole; the next start reads the segment itself";
            verified.note(format!("log/{}", name.display()), 0, reason, true);
        }
        Ok(())
    }

    fn last(&self, segment: &Arc<Segment>, found: &mut FoundLog, verified: &mut Verified) -> io::Result<()> {
        let joins = self.whole && verified.ok;
        let mut alone = FoundLog::default();
        let found = if joins { found } else { &mut alone };
        // One that stands alone follows nothing.
        let read = if joins { found.replay_last(segment) } else { found.read_last(segment) };
        read.or_else(|error| refused(verified, "log/", error))?;
        verified.bytes += found.end;
        if let Some((_, offset, bytes)) = &found.torn {
            let reason = format!(
                "a torn tail of {bytes} bytes, never acknowledged: what a crash leaves; the next start cuts it"
            );
            verified.note(path(segment), *offset, reason, true);
        }
        Ok(())
    }
}

fn path(segment: &Segment) -> String {
    format!("log/{}", segment.name)
}

fn follows(one: &Segment, next: &Segment) -> bool {
    next.header.sequence == one.header.sequence + 1
        && next.header.previous_generation == one.header.generation
}

/// Takes note of what a reader refused; what the system refused is an error here too.
fn refused(verified: &mut Verified, folder: &str, error: OpenError) -> io::Result<()> {
    match error {
        OpenError::Io(error) => return Err(error),
        OpenError::Corrupt { file, offset, reason } => {
            verified.note(format!("{folder}{file}"), offset, reason, false);
        }
        OpenError::Missing { sequence, before } => {
            let reason = format!("segment number {sequence}, just before this one, is missing");
            verified.note(format!("{folder}{before}"), 0, reason, false);
        }
        OpenError::Snapshot { file, reason } => verified.note(file, 0, reason, false),
        OpenError::Lost { index, reason, .. } => {
            verified.note(
                snapshot_path(index),
                0,
                format!("the log does not hold its entry: {reason}"),
                false,
            );
        }
        OpenError::Version { file, found, known } => {
            let reason = format!("format version {found}; this program knows versions up to {known}");
            verified.note(format!("{folder}{file}"), 8, reason, false);
        }
    }
    Ok(())
}

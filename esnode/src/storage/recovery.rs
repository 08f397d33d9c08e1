//! Opening a log: replay what is there, cut what had not finished, refuse what is damaged.
//!
//! Frames are replayed in the order of the files; a later entry replaces what is at its index and above. Where a
//! frame does not validate, either the last write before a crash had not finished, or the disk lost what it had
//! promised to keep. Every frame says up to where everything was durable when it was written, so the two can be told
//! apart exactly: a bad place that any later valid frame vouches for is corruption.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::Path;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};

use super::frame::{self, Broken, Content, Frame};
use super::log::{Durable, Log};
use super::segment::{self, Segment};
use super::stats::WalStats;
use super::wal::{Tail, Wal, begin_segment};
use super::{OpenError, Options, Recovered, filler, sync_dir};

/// Bytes read at a time.
const READ: usize = 4 << 20;

/// Opens, or creates, the log under `dir/log`.
pub fn open(dir: &Path, options: Options) -> Result<(Log, Wal, Recovered), OpenError> {
    let dir = dir.join("log");
    if !dir.exists() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
        dir.parent().map_or(Ok(()), sync_dir)?;
    }
    // A prepared file that was never used.
    match fs::remove_file(filler::next_path(&dir)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let mut replay = Replay::default();
    let paths = Segment::list(&dir)?;
    for (place, path) in paths.iter().enumerate() {
        replay.segment(Segment::open(path)?, place + 1 == paths.len())?;
    }
    let Replay { mut durable, mut recovered, offset, fresh, .. } = replay;
    let (segment, offset) = match durable.segments.last() {
        Some(segment) => (segment.clone(), offset),
        None => {
            let file = filler::create_next(&dir, options.segment_bytes)?;
            let segment = begin_segment(&dir, file, 1, 0)?;
            durable.segments.push(segment.clone());
            (segment, segment::HEADER)
        }
    };
    durable.end = segment.base + offset;
    // What could not have been committed without being here counts as unknown.
    recovered.hard_state.commit = recovered.hard_state.commit.min(durable.index.last());
    let stats = Arc::new(WalStats::default());
    let log = Log::new(durable, Arc::clone(&stats));
    let tail = Tail { segment, offset, hard_state: recovered.hard_state, fresh };
    let wal = Wal::new(dir, options, log.clone(), stats, tail)?;
    Ok((log, wal, recovered))
}

#[derive(Default)]
struct Replay {
    durable: Durable,
    recovered: Recovered,
    /// Offset behind the last frame of the newest segment.
    offset: u64,
    /// The newest segment has no entry.
    fresh: bool,
}

impl Replay {
    fn segment(&mut self, segment: Segment, last: bool) -> Result<(), OpenError> {
        let expected = self.durable.segments.last().map(|before| before.base + self.offset);
        if expected.is_some_and(|position| position != segment.base) {
            let before = self.durable.segments.last().map(Segment::name).unwrap_or_default();
            return Err(OpenError::Corrupt {
                file: before,
                offset: self.offset,
                reason: format!("the log breaks off here, but goes on in {}", segment.name()),
            });
        }
        if expected.is_none() && segment.base != 0 {
            return Err(OpenError::corrupt(&segment.path, 0, "the segments before this one are missing"));
        }
        self.durable.segments.push(segment.clone());
        self.fresh = true;
        let mut reader =
            Reader { segment: &segment, offset: segment::HEADER, buffer: Bytes::new(), at_end: false };
        let broken = loop {
            match reader.next()? {
                Ok(frame) => self.take(frame, segment.base + reader.offset, &mut reader)?,
                Err(broken) => break broken,
            }
        };
        self.offset = reader.offset;
        if last { self.end_of_log(&segment) } else { self.end_of_segment(&segment, broken) }
    }

    fn take(&mut self, frame: Frame, position: u64, reader: &mut Reader<'_>) -> Result<(), OpenError> {
        match frame.content {
            Content::HardState(state) => self.recovered.hard_state = state,
            Content::Entry(entry) => {
                if entry.index == 0 || entry.index > self.durable.index.last() + 1 {
                    let path = &reader.segment.path;
                    return Err(OpenError::corrupt(
                        path,
                        reader.offset,
                        "an entry does not follow the one before it",
                    ));
                }
                self.durable.index.push(entry.index, entry.term, position, std::mem::take(&mut self.fresh));
            }
        }
        reader.advance(frame.length);
        Ok(())
    }

    /// A segment that another follows was durable before that one was begun: it ends with a clean end or full.
    fn end_of_segment(&self, segment: &Segment, broken: Broken) -> Result<(), OpenError> {
        match broken {
            Broken::End | Broken::Short(_) => Ok(()),
            Broken::Bad => {
                Err(OpenError::corrupt(&segment.path, self.offset, "a frame does not match its checksum"))
            }
        }
    }

    /// Behind the last frame there is nothing, or a write that had not finished, or damage.
    fn end_of_log(&mut self, segment: &Segment) -> Result<(), OpenError> {
        let rest = read_from(segment, self.offset)?;
        let Some(dirty) = rest.iter().rposition(|byte| *byte != 0).map(|last| last + 1) else {
            return Ok(());
        };
        let here = segment.base + self.offset;
        if let Some(at) = (0..dirty).find(|at| vouches(&rest[*at..], segment.generation, here)) {
            let reason = format!(
                "a frame does not match its checksum, although the frame at byte {} was written \
                                  after this one was durable",
                self.offset + at as u64
            );
            return Err(OpenError::corrupt(&segment.path, self.offset, &reason));
        }
        segment.file.write_all_at(&vec![0; dirty], self.offset)?;
        segment.file.sync_data()?;
        self.recovered.torn = Some((segment.name(), self.offset, dirty as u64));
        Ok(())
    }
}

/// Whether a valid frame at the start of `bytes` says that the log was durable beyond `position`.
fn vouches(bytes: &[u8], generation: u32, position: u64) -> bool {
    let Ok(length) = frame::check(bytes, generation) else { return false };
    frame::read(&Bytes::copy_from_slice(&bytes[..length]), generation)
        .is_ok_and(|frame| frame.synced > position)
}

fn read_from(segment: &Segment, offset: u64) -> io::Result<Vec<u8>> {
    let length = segment.file.metadata()?.len().saturating_sub(offset);
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
    segment.file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}

/// Frames of one file, in order.
struct Reader<'a> {
    segment: &'a Segment,
    offset: u64,
    buffer: Bytes,
    at_end: bool,
}

impl Reader<'_> {
    fn next(&mut self) -> io::Result<Result<Frame, Broken>> {
        loop {
            match frame::read(&self.buffer, self.segment.generation) {
                Err(Broken::Short(needed)) if !self.at_end => self.fill(needed)?,
                outcome => return Ok(outcome),
            }
        }
    }

    fn advance(&mut self, length: usize) {
        self.buffer.advance(length);
        self.offset += length as u64;
    }

    fn fill(&mut self, needed: usize) -> io::Result<()> {
        let left = self.segment.file.metadata()?.len().saturating_sub(self.offset);
        let wanted = left.min(needed.max(READ) as u64);
        self.at_end = wanted == left;
        let mut bytes = BytesMut::zeroed(usize::try_from(wanted).unwrap_or(0));
        self.segment.file.read_exact_at(&mut bytes, self.offset)?;
        self.buffer = bytes.freeze();
        Ok(())
    }
}

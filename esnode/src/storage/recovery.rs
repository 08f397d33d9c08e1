//! Finding out, at the start, what the log holds; cutting a torn tail; refusing damage. Runs before the writer.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use super::OpenError;
use super::filler::{UNFINISHED, ZEROES};
use super::frame::{self, Frame, STATE_LEN};
use super::index::{Index, Position};
use super::segment::{self, Frames, Next, SEGMENT_HEADER_LEN, Segment};
use crate::entry::{Entry, HardState};

/// Bytes read at once.
const CHUNK: usize = 1 << 20;
/// Zeroes are skipped in steps of this size.
const BLOCK: usize = 4096;

/// What is in the log.
#[derive(Default)]
pub(super) struct Found {
    pub segments: VecDeque<Arc<Segment>>,
    pub index: Index,
    pub hard_state: HardState,
    /// Where the last segment's frames end.
    pub end: u64,
    /// File name, offset and length of the torn tail that was cut.
    pub torn: Option<(String, u64, u64)>,
}

/// Removes a segment that was being prepared; it holds nothing.
pub(super) fn remove_unfinished(dir: &Path) -> io::Result<()> {
    match fs::remove_file(dir.join(UNFINISHED)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(segment::at(dir, UNFINISHED)(error)),
        _ => Ok(()),
    }
}

/// Reads the whole log. On return everything found is durable.
pub(super) fn recover(dir: &Path) -> Result<Found, OpenError> {
    let segments = open_segments(dir)?;
    if let Some(last) = segments.back() {
        settle(last).map_err(segment::at(dir, &last.name))?;
    }
    replay(segments)
}

/// Reads all that is in these segments, which continue one another, and cuts the last one's torn tail.
pub(super) fn replay(segments: VecDeque<Arc<Segment>>) -> Result<Found, OpenError> {
    let mut found = Found { segments, ..Found::default() };
    let ends: Vec<u64> = found.segments.iter().skip(1).map(|next| next.header.previous_end).collect();
    for (segment, end) in found.segments.clone().into_iter().zip(ends) {
        found.replay_sealed(segment, end)?;
    }
    if let Some(last) = found.segments.back().cloned() {
        found.replay_last(&last)?;
    }
    // Others may have told this node of commits that it had not yet stored itself.
    found.hard_state.commit = found.hard_state.commit.min(found.index.last());
    Ok(found)
}

/// Opens all segments, in order, and checks that none is missing.
fn open_segments(dir: &Path) -> Result<VecDeque<Arc<Segment>>, OpenError> {
    let mut names = Vec::new();
    for file in fs::read_dir(dir).map_err(segment::at(dir, ""))? {
        let name = file?.file_name().to_string_lossy().into_owned();
        if segment::is_segment(&name) {
            names.push(name);
        }
    }
    names.sort_unstable();
    let mut segments: VecDeque<Arc<Segment>> = VecDeque::new();
    for name in names {
        let next = Segment::open(dir, &name)?;
        let (sequence, generation) =
            segments.back().map_or((0, 0), |last| (last.header.sequence, last.header.generation));
        if next.header.sequence > sequence + 1 {
            return Err(OpenError::Missing { sequence: next.header.sequence - 1, before: name });
        }
        if next.header.sequence <= sequence || next.header.previous_generation != generation {
            return Err(OpenError::corrupt(&name, 0, "the segment does not continue the one before it"));
        }
        segments.push_back(Arc::new(next));
    }
    Ok(segments)
}

impl Found {
    /// A segment with a successor: it was synced up to `end`, so whatever is wrong below is damage.
    fn replay_sealed(&mut self, segment: Arc<Segment>, end: u64) -> Result<(), OpenError> {
        let name = segment.name.clone();
        let mut frames = Frames::new(segment, SEGMENT_HEADER_LEN as u64, CHUNK);
        while frames.offset() < end {
            let offset = frames.offset();
            match frames.next()? {
                Next::Frame(frame) => self.replay(&frames, offset, &frame)?,
                Next::Bad(reason) => return Err(OpenError::corrupt(&name, offset, reason)),
                Next::End => return Err(OpenError::corrupt(&name, offset, "the rest of the file is gone")),
            }
        }
        match frames.offset() {
            offset if offset == end => Ok(()),
            offset => {
                Err(OpenError::corrupt(&name, offset, format!("the log should end at byte {end} here")))
            }
        }
    }

    /// The last segment: its tail may be torn.
    fn replay_last(&mut self, segment: &Arc<Segment>) -> Result<(), OpenError> {
        let mut frames = Frames::new(segment.clone(), SEGMENT_HEADER_LEN as u64, CHUNK);
        let reason = loop {
            let offset = frames.offset();
            match frames.next()? {
                Next::Frame(frame) => self.replay(&frames, offset, &frame)?,
                Next::Bad(reason) => break reason,
                Next::End => break "an entry is gone",
            }
        };
        self.end = frames.offset();
        let rest = Rest::survey(segment, self.end)?;
        // A new segment's first state frame is synced before the file gets its name.
        let never_torn = self.end == SEGMENT_HEADER_LEN as u64;
        if rest.synced_to > self.end || never_torn {
            return Err(OpenError::corrupt(&segment.name, self.end, reason));
        }
        if rest.dirty_end > self.end {
            cut(segment, self.end, rest.dirty_end)?;
            self.torn = Some((segment.name.clone(), self.end, rest.dirty_end - self.end));
        }
        Ok(())
    }

    fn replay(&mut self, frames: &Frames, offset: u64, frame: &Frame) -> Result<(), OpenError> {
        match *frame {
            Frame::State(state) => self.hard_state = state.hard_state,
            Frame::Entry(Entry { index, term, .. }) => {
                let segment = frames.segment();
                let previous = index.checked_sub(1).and_then(|previous| self.index.term(previous));
                if previous.is_none_or(|previous| previous > term) {
                    let reason = format!(
                        "entry {index} of term {term} cannot follow entry {} of term {}",
                        self.index.last(),
                        self.index.term(self.index.last()).unwrap_or_default()
                    );
                    return Err(OpenError::corrupt(&segment.name, offset, reason));
                }
                let offset = u32::try_from(offset).expect("segments are below 4 GiB");
                self.index.append(index, term, Position { segment: segment.header.sequence, offset });
            }
        }
        Ok(())
    }
}

/// What lies behind the last frame that can be read.
struct Rest {
    /// The highest `synced_to` that any valid state frame there claims.
    synced_to: u64,
    /// Behind the last byte that is not zero.
    dirty_end: u64,
}

impl Rest {
    /// Looks at every byte from `start` on. Only state frames are sought: they have one length, so the time is linear
    /// whatever the bytes are.
    fn survey(segment: &Segment, start: u64) -> io::Result<Self> {
        let mut rest = Self { synced_to: 0, dirty_end: start };
        let mut offset = start;
        while offset < segment.capacity {
            let left = usize::try_from(segment.capacity - offset).unwrap_or(usize::MAX);
            // A frame may reach over the chunk's end.
            let bytes = segment.read(offset, left.min(CHUNK + STATE_LEN - 1))?;
            for block in (0..bytes.len().min(CHUNK)).step_by(BLOCK) {
                let end = bytes.len().min(block + BLOCK);
                if bytes[block..end] != ZEROES[..end - block] {
                    rest.survey_block(segment, offset, &bytes, block..end);
                }
            }
            offset += CHUNK as u64;
        }
        Ok(rest)
    }

    fn survey_block(&mut self, segment: &Segment, base: u64, bytes: &[u8], block: std::ops::Range<usize>) {
        for at in block {
            if bytes[at] == 0 {
                continue;
            }
            let offset = base + at as u64;
            self.dirty_end = self.dirty_end.max(offset + 1);
            if let Some(state) = frame::find_state(segment.seed, offset, &bytes[at..]) {
                self.synced_to = self.synced_to.max(state.synced_to);
            }
        }
    }
}

/// Makes what is read next what is on the disk. A killed process may have left bytes in memory only; and after a
/// failed sync the system keeps the bytes it could not write, and calls them clean.
fn settle(segment: &Segment) -> io::Result<()> {
    segment.file.sync_data()?;
    Ok(rustix::fs::fadvise(&segment.file, 0, None, rustix::fs::Advice::DontNeed)?)
}

/// Zeroes `start..end`, so that nothing of the tail ever comes back.
fn cut(segment: &Segment, start: u64, end: u64) -> io::Result<()> {
    let mut offset = start;
    while offset < end {
        let length = usize::try_from(end - offset).unwrap_or(usize::MAX).min(ZEROES.len());
        segment.file.write_all_at(&ZEROES[..length], offset)?;
        offset += length as u64;
    }
    segment.file.sync_data()
}

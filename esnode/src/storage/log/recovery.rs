//! Recovery of the log when a node starts: reads what the segments hold, refuses a damaged log, and cuts off a torn
//! tail. It is finished before the writer begins.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::frame::Frame;
use super::header::{self, SEGMENT_HEADER_LEN};
use super::index::{Index, Position};
use super::open_files::OpenFiles;
use super::positions::Positions;
use super::scan::{Frames, Next};
use super::segment::{self, Segment};
use super::tail::{self, Unread};
use super::{LogStart, footer};
use crate::entry::{Entry, HardState};
use crate::storage::error::OpenError;
use crate::storage::files::named;

/// Bytes read at once.
const CHUNK: usize = 1 << 20;

/// What recovery has found in the log.
#[derive(Default)]
pub(crate) struct FoundLog {
    pub segments: VecDeque<Arc<Segment>>,
    /// The files of all segments but the last.
    pub files: Arc<OpenFiles>,
    pub index: Index,
    /// The index of the last segment alone; `index` holds its entries too.
    pub tail: Index,
    /// Positions of all entries of the last segment.
    pub positions: Positions,
    pub hard_state: HardState,
    /// The offset at which the last segment's frames end.
    pub end: u64,
    /// File name, offset and length of the torn tail, which is to be cut.
    pub torn: Option<(String, u64, u64)>,
}

/// Reads the log in `dir` from `start` on, and changes nothing except that it writes missing footers. When it returns,
/// everything that it has found is durable. A sealed segment is only read if it has no valid footer.
pub(crate) fn recover(dir: &Path, start: LogStart) -> Result<FoundLog, OpenError> {
    let mut found = FoundLog::after(start.before);
    found.segments = open_segments(dir, start, &found.files)?;
    let ends: Vec<u64> = found.segments.iter().skip(1).map(|next| next.header.previous_end).collect();
    for (segment, end) in found.segments.clone().into_iter().zip(ends) {
        let index = match footer::read(dir, &segment, end).filter(|_| end <= segment.capacity) {
            Some(index) => index,
            None => read_sealed(dir, &segment, end)?,
        };
        found.extend(&segment, &index)?;
    }
    if let Some(last) = found.segments.back().cloned() {
        tail::drop_cached(&last).map_err(named(dir, &last.name))?;
        found.replay_last(&last)?;
    }
    // Another node may have told this one of commits beyond what it had stored itself.
    found.hard_state.commit = found.hard_state.commit.min(found.index.last());
    Ok(found)
}

/// Opens all segments from `start` on, in order, and checks that none is missing.
fn open_segments(
    dir: &Path,
    start: LogStart,
    files: &Arc<OpenFiles>,
) -> Result<VecDeque<Arc<Segment>>, OpenError> {
    let mut segments: VecDeque<Arc<Segment>> = VecDeque::new();
    for name in segment::list(dir)? {
        if header::sequence(&name).is_some_and(|sequence| sequence < start.sequence) {
            continue;
        }
        let next = Segment::open(dir, &name)?;
        let (sequence, generation) = match segments.back() {
            Some(last) => (last.header.sequence, last.header.generation),
            // The segments before `start` are deleted, so there is nothing to compare with.
            None if start.sequence > 1 => (start.sequence - 1, next.header.previous_generation),
            None => (0, 0),
        };
        if next.header.sequence > sequence + 1 {
            return Err(OpenError::Missing { sequence: next.header.sequence - 1, before: name });
        }
        if next.header.sequence <= sequence || next.header.previous_generation != generation {
            return Err(OpenError::corrupt(&name, 0, "the segment does not continue the one before it"));
        }
        if let Some(sealed) = segments.back() {
            sealed.close_when_idle(dir, files);
        }
        segments.push_back(Arc::new(next));
    }
    Ok(segments)
}

/// Reads a sealed segment, and writes the footer that it lacks.
fn read_sealed(dir: &Path, segment: &Arc<Segment>, end: u64) -> Result<Index, OpenError> {
    let index = check_sealed(segment, end, |_| ())?;
    if let Err(error) = footer::write(dir, segment, end, &index) {
        tracing::warn!(file = segment.name, %error, "cannot write down what a segment holds");
    }
    Ok(index)
}

/// Reads a sealed segment and returns its index. Everything before `end` was synced, so whatever is wrong there is
/// damage. `progress` is called with the offset of each frame.
pub(crate) fn check_sealed(
    segment: &Arc<Segment>,
    end: u64,
    mut progress: impl FnMut(u64),
) -> Result<Index, OpenError> {
    let mut frames = Frames::new(segment.clone(), SEGMENT_HEADER_LEN as u64, CHUNK);
    let mut index = Index::default();
    while frames.offset() < end {
        let offset = frames.offset();
        progress(offset);
        match frames.next()? {
            Next::Frame(Frame::Entry(entry)) => drop(note(&mut index, segment, offset, &entry)?),
            Next::Frame(Frame::State(_)) => {}
            Next::Bad(reason) => return Err(OpenError::corrupt(&segment.name, offset, reason)),
            Next::End => {
                return Err(OpenError::corrupt(&segment.name, offset, "the rest of the file is gone"));
            }
        }
    }
    match frames.offset() {
        offset if offset == end => Ok(index),
        offset => {
            let reason = format!("the log should end at byte {end} here");
            Err(OpenError::corrupt(&segment.name, offset, reason))
        }
    }
}

/// Adds an entry to the index of its segment, if it can follow the entry before it there. Whether the first entry, and
/// one that supersedes others, can follow the segments before is only known when their indexes are joined
/// ([`FoundLog::extend`]).
fn note(index: &mut Index, segment: &Segment, offset: u64, entry: &Entry) -> Result<Position, OpenError> {
    let Entry { index: at, term, .. } = *entry;
    let within = !index.entries().is_empty() && at > index.first();
    if at == 0 || (within && index.term(at - 1).is_none_or(|previous| previous > term)) {
        return Err(cannot_follow(index, segment, offset, (at, term)));
    }
    let offset = u32::try_from(offset).expect("segments are below 4 GiB");
    let position = Position { segment: segment.header.sequence, offset };
    index.append(at, term, position);
    Ok(position)
}

fn cannot_follow(index: &Index, segment: &Segment, offset: u64, (at, term): (u64, u64)) -> OpenError {
    let reason = format!(
        "entry {at} of term {term} cannot follow entry {} of term {}",
        index.last(),
        index.term(index.last()).unwrap_or_default()
    );
    OpenError::corrupt(&segment.name, offset, reason)
}

impl FoundLog {
    /// Checks that the log holds the last entry of a snapshot, given by index and term.
    pub fn reaches(&self, (index, term): (u64, u64)) -> Result<(), OpenError> {
        let reason = match self.index.term(index) {
            _ if self.segments.is_empty() => "it is gone".to_owned(),
            Some(found) if found == term => return Ok(()),
            Some(found) => format!("the entry there is of term {found}"),
            None => format!("it ends at entry {}", self.index.last()),
        };
        Err(OpenError::Lost { index, term, reason })
    }

    /// Adds the index of the next segment.
    pub fn extend(&mut self, segment: &Segment, next: &Index) -> Result<(), OpenError> {
        if self.index.extend(next) {
            return Ok(());
        }
        let first = next.entries()[0];
        let entry = (first.index, next.term(first.index).unwrap_or_default());
        Err(cannot_follow(&self.index, segment, first.position.offset.into(), entry))
    }

    /// Returns an empty log whose first entry will follow the entry of this index and term.
    pub fn after(before: (u64, u64)) -> Self {
        Self { index: Index::after(before), ..Self::default() }
    }

    /// A log of one segment, whose entries are yet to be read with [`FoundLog::replay_last`].
    #[cfg(any(test, feature = "fuzzing"))]
    pub fn of(segment: Arc<Segment>) -> Self {
        Self { segments: [segment].into(), ..Self::default() }
    }

    /// Reads the last segment, and adds its entries behind those of all others.
    pub fn replay_last(&mut self, segment: &Arc<Segment>) -> Result<(), OpenError> {
        self.read_last(segment)?;
        let tail = std::mem::take(&mut self.tail);
        self.extend(segment, &tail)?;
        self.tail = tail;
        Ok(())
    }

    /// Reads the last segment alone, whose tail may be torn, into `tail`, `hard_state`, `end` and `torn`.
    pub fn read_last(&mut self, segment: &Arc<Segment>) -> Result<(), OpenError> {
        let mut frames = Frames::new(segment.clone(), SEGMENT_HEADER_LEN as u64, CHUNK);
        let reason = loop {
            let offset = frames.offset();
            match frames.next()? {
                Next::Frame(Frame::State(state)) => self.hard_state = state.hard_state,
                Next::Frame(Frame::Entry(entry)) => {
                    let position = note(&mut self.tail, segment, offset, &entry)?;
                    self.positions.append(entry.index, position);
                }
                Next::Bad(reason) => break reason,
                Next::End => break "an entry is gone",
            }
        };
        self.end = frames.offset();
        let rest = Unread::survey(segment, self.end)?;
        // A new segment's first state frame is synced before the file gets its name, so it cannot be torn.
        let never_torn = self.end == SEGMENT_HEADER_LEN as u64;
        if rest.synced_to > self.end || never_torn {
            return Err(OpenError::corrupt(&segment.name, self.end, reason));
        }
        if rest.dirty_end > self.end {
            self.torn = Some((segment.name.clone(), self.end, rest.dirty_end - self.end));
        }
        Ok(())
    }

    /// Overwrites the torn tail with zeroes, so that no part of it is ever read as an entry.
    pub fn cut_tail(&self) -> io::Result<()> {
        match (&self.torn, self.segments.back()) {
            (Some((_, start, length)), Some(last)) => tail::zero(last, *start, start + length),
            _ => Ok(()),
        }
    }
}

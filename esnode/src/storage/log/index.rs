//! The positions of entries, kept small: an index entry every 16 KiB of log, and the runs of entries of one term. Pure;
//! knows no files.

/// Bytes of log between two entries of the index.
const INTERVAL: u32 = 16 << 10;

/// The position of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    /// Sequence number of the segment.
    pub segment: u32,
    /// Bytes from the start of the file.
    pub offset: u32,
}

/// The sparse index.
///
/// Index entries are sorted both by index and by position. There is one at the start of every segment, and one for
/// every log entry that superseded others. So the log entries between two index entries lie one after the other in one
/// file, and superseded ones only come after them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Index {
    entries: Vec<IndexEntry>,
    terms: Vec<TermRun>,
    last: u64,
    /// Index and term of the entry just before the first one; known although that entry is deleted.
    base: (u64, u64),
    supersessions: u64,
}

/// A place where a scan can start: the entry `index` lies at `position`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IndexEntry {
    pub index: u64,
    pub position: Position,
}

/// Entries of one term, from `first` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TermRun {
    pub first: u64,
    pub term: u64,
}

/// Where to scan for an entry, and how far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    /// The entry at `position`: the wanted one, or one shortly before it.
    pub first: u64,
    /// Where to start.
    pub position: Position,
    /// The first entry that needs another span.
    pub end: Option<u64>,
    /// Offset in the same segment behind which no wanted entry lies; `None` if it is not known.
    pub until: Option<u32>,
}

impl Index {
    /// Returns an empty index of a log that continues after this entry, given by index and term.
    pub fn after(base: (u64, u64)) -> Self {
        Self { last: base.0, base, ..Self::default() }
    }

    /// Returns an index with these index entries and runs, whose last log entry is `last`.
    pub fn of(entries: Vec<IndexEntry>, terms: Vec<TermRun>, last: u64) -> Self {
        Self { entries, terms, last, ..Self::default() }
    }

    /// Its entries, in order.
    pub fn entries(&self) -> &[IndexEntry] {
        &self.entries
    }

    /// Its runs of equal terms, in order.
    pub fn terms(&self) -> &[TermRun] {
        &self.terms
    }

    /// Index and term of the entry just before the first.
    pub fn base(&self) -> (u64, u64) {
        self.base
    }

    /// Returns the lowest index present; the one after the base if the index is empty.
    pub fn first(&self) -> u64 {
        self.entries.first().map_or(self.base.0 + 1, |entry| entry.index)
    }

    /// Returns the highest index present; that of the base if the index is empty.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// Returns how often entries were superseded. A scan during which this changes must start again.
    pub fn supersessions(&self) -> u64 {
        self.supersessions
    }

    /// Term of the entry at `index`, if it is present or the base.
    pub fn term(&self, index: u64) -> Option<u64> {
        if index == self.base.0 {
            return Some(self.base.1);
        }
        let run = self.terms.partition_point(|run| run.first <= index).checked_sub(1)?;
        (index <= self.last).then(|| self.terms[run].term)
    }

    /// Adds a log entry. One at or below the last index supersedes that one and all above. There must be no gap.
    pub fn append(&mut self, index: u64, term: u64, position: Position) {
        let supersedes = index <= self.last;
        if supersedes {
            self.supersessions += 1;
            self.entries.truncate(self.entries.partition_point(|entry| entry.index < index));
            self.terms.truncate(self.terms.partition_point(|run| run.first < index));
        }
        let near = self.entries.last().is_some_and(|entry| {
            entry.position.segment == position.segment && position.offset - entry.position.offset < INTERVAL
        });
        if supersedes || !near {
            self.entries.push(IndexEntry { index, position });
        }
        if self.terms.last().is_none_or(|run| run.term != term) {
            self.terms.push(TermRun { first: index, term });
        }
        self.last = index;
    }

    /// Appends the index of another segment, whose entries supersede those from its first index on. Returns false, and
    /// changes nothing, if its first entry cannot follow the entry before it.
    pub fn extend(&mut self, next: &Self) -> bool {
        let (Some(entry), Some(run)) = (next.entries.first(), next.terms.first()) else { return true };
        let before = entry.index.checked_sub(1).and_then(|before| self.term(before));
        if before.is_none_or(|before| before > run.term) {
            return false;
        }
        self.append(entry.index, run.term, entry.position);
        self.entries.extend_from_slice(&next.entries[1..]);
        self.terms.extend_from_slice(&next.terms[1..]);
        self.last = next.last;
        true
    }

    /// The lowest index in the segment, if there are entries in it.
    pub fn first_in(&self, segment: u32) -> Option<u64> {
        let at = self.entries.partition_point(|entry| entry.position.segment < segment);
        self.entries.get(at).filter(|entry| entry.position.segment == segment).map(|entry| entry.index)
    }

    /// The lowest index in the segments after this one, if there are entries in them.
    pub fn first_after(&self, segment: u32) -> Option<u64> {
        let at = self.entries.partition_point(|entry| entry.position.segment <= segment);
        self.entries.get(at).map(|entry| entry.index)
    }

    /// Returns the same index for a segment with another number.
    pub fn renumbered(&self, segment: u32) -> Self {
        let mut index = self.clone();
        index.entries.iter_mut().for_each(|entry| entry.position.segment = segment);
        index
    }

    /// Returns an empty index that replaces this one, of a log that continues after this entry, given by index and
    /// term.
    pub fn replaced(&self, before: (u64, u64)) -> Self {
        Self { supersessions: self.supersessions + 1, ..Self::after(before) }
    }

    /// Removes the entries of all segments before `segment`, which is not empty.
    pub fn delete_before(&mut self, segment: u32) {
        let gone = self.entries.partition_point(|entry| entry.position.segment < segment);
        let Some(first) = self.entries.get(gone).map(|entry| entry.index) else { return };
        self.base = (first - 1, self.term(first - 1).unwrap_or_default());
        self.entries.drain(..gone);
        let run = self.terms.partition_point(|run| run.first <= first) - 1;
        self.terms.drain(..run);
        self.terms[0].first = first;
    }

    /// Returns where to scan for the entry at `index`, which is present. The caller wants the entries up to `high`
    /// (exclusive).
    pub fn span(&self, index: u64, high: u64) -> Option<Span> {
        let at = self.entries.partition_point(|entry| entry.index <= index).checked_sub(1)?;
        let IndexEntry { index: first, position } = self.entries[at];
        let beyond = self.entries[at..].partition_point(|entry| entry.index < high);
        let until = self.entries.get(at + beyond).filter(|entry| entry.position.segment == position.segment);
        Some(Span {
            first,
            position,
            end: self.entries.get(at + 1).map(|entry| entry.index),
            until: until.map(|entry| entry.position.offset),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(segment: u32, offset: u32) -> Position {
        Position { segment, offset }
    }

    #[test]
    fn stays_sparse() {
        let mut index = Index::default();
        for i in 0..100_000u32 {
            index.append(u64::from(i) + 1, 1, at(1, i * 100));
        }
        assert!(index.entries.len() <= 100_000 * 100 / 16_384 + 1, "{}", index.entries.len());
        assert_eq!(index.terms.len(), 1);
        assert_eq!(size_of::<IndexEntry>(), 16);
        let span = index.span(50_000, 50_010).unwrap();
        assert!(span.first <= 50_000 && span.end.unwrap() > 50_000);
        assert!(u64::from(span.until.unwrap()) >= 50_008 * 100);
    }

    #[test]
    fn a_superseded_suffix_is_never_met() {
        let mut index = Index::default();
        for i in 1..=10u32 {
            index.append(u64::from(i), 1, at(1, i * 10));
        }
        index.append(6, 2, at(1, 200));
        index.append(7, 2, at(1, 210));
        assert_eq!((index.first(), index.last(), index.supersessions()), (1, 7, 1));
        assert_eq!([0, 5, 6, 7, 8].map(|i| index.term(i)), [Some(0), Some(1), Some(2), Some(2), None]);
        let span = index.span(4, 8).unwrap();
        assert_eq!((span.first, span.position, span.end), (1, at(1, 10), Some(6)));
        let span = index.span(7, 8).unwrap();
        assert_eq!((span.first, span.position, span.end), (6, at(1, 200), None));

        index.append(1, 3, at(2, 10));
        assert_eq!((index.first(), index.last()), (1, 1));
        assert_eq!(index.entries.len(), 1);
        assert_eq!(index.term(1), Some(3));
    }

    #[test]
    fn segments_put_together_are_as_if_appended_one_by_one() {
        let appends =
            [(1, 1, 1), (2, 1, 1), (3, 1, 1), (3, 2, 2), (4, 2, 2), (2, 3, 2), (3, 3, 2), (4, 3, 3)];
        let mut whole = Index::default();
        let mut parts = [Index::default(), Index::default(), Index::default()];
        for (offset, (index, term, segment)) in (1..).zip(appends) {
            whole.append(index, term, at(segment, offset));
            parts[segment as usize - 1].append(index, term, at(segment, offset));
        }
        let mut together = Index::default();
        assert!(parts.iter().all(|part| together.extend(part)));
        assert_eq!(
            (together.entries, together.terms, together.last),
            (whole.entries, whole.terms, whole.last)
        );
        let mut gap = Index::default();
        assert!(!gap.extend(&parts[1]), "what it supersedes is missing");
        let mut older = Index::after((1, 9));
        assert!(!older.extend(&parts[1]), "terms never fall");
    }

    #[test]
    fn what_is_deleted_leaves_its_last_term() {
        let mut index = Index::default();
        for (i, term, segment) in [(1, 1, 1), (2, 1, 1), (3, 4, 2), (4, 4, 2), (5, 4, 3)] {
            index.append(i, term, at(segment, u32::try_from(i).unwrap()));
        }
        index.delete_before(2);
        assert_eq!((index.first(), index.last(), index.base()), (3, 5, (2, 1)));
        assert_eq!([1, 2, 3, 5].map(|i| index.term(i)), [None, Some(1), Some(4), Some(4)]);
        index.delete_before(3);
        assert_eq!(
            (index.first(), index.base(), index.term(4), index.term(5)),
            (5, (4, 4), Some(4), Some(4))
        );
        let empty = Index::after((7, 2));
        assert_eq!((empty.first(), empty.last(), empty.term(7), empty.term(6)), (8, 7, Some(2), None));
    }

    #[test]
    fn a_segment_starts_with_a_point() {
        let mut index = Index::default();
        index.append(1, 1, at(1, 10));
        index.append(2, 1, at(2, 10));
        let span = index.span(1, 3).unwrap();
        assert_eq!((span.end, span.until), (Some(2), None));
        assert_eq!(Index::default().span(1, 2), None);
    }
}

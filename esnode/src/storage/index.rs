//! Where in the files the live entries are: a sparse index, small for any length of log.

/// Log bytes between two points, at least.
const SPACING: u64 = 16 << 10;

/// An entry whose place is known. From here to the next point the live entries stand one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Point {
    /// The entry.
    pub(super) index: u64,
    /// Log position of its frame.
    pub(super) position: u64,
}

/// Points in ascending order, and the terms of all entries as runs.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    points: Vec<Point>,
    terms: Vec<(u64, u64)>,
    last: u64,
}

impl Index {
    /// Takes the next live entry. One at or below the last index replaces everything from there on, and so does
    /// `fresh`, the first entry of a segment, get a point of its own: a walk from a point meets no dead entries and no
    /// end of a file before the next point.
    pub(super) fn push(&mut self, index: u64, term: u64, position: u64, fresh: bool) {
        let replaces = index <= self.last;
        if replaces {
            self.points.truncate(self.points.partition_point(|point| point.index < index));
            self.terms.truncate(self.terms.partition_point(|(first, _)| *first < index));
        }
        let far = self.points.last().is_none_or(|point| position - point.position >= SPACING);
        if far || fresh || replaces {
            self.points.push(Point { index, position });
        }
        if self.terms.last().is_none_or(|(_, last)| *last != term) {
            self.terms.push((index, term));
        }
        self.last = index;
    }

    pub(super) fn first(&self) -> u64 {
        self.points.first().map_or(1, |point| point.index)
    }

    pub(super) fn last(&self) -> u64 {
        self.last
    }

    pub(super) fn term(&self, index: u64) -> Option<u64> {
        match index {
            0 => Some(0),
            _ if index < self.first() || index > self.last => None,
            _ => self.terms[..self.terms.partition_point(|(first, _)| *first <= index)]
                .last()
                .map(|(_, term)| *term),
        }
    }

    /// The point to walk from for `index`, and the index that the walk must stop before.
    pub(super) fn walk(&self, index: u64) -> Option<(Point, u64)> {
        let next = self.points.partition_point(|point| point.index <= index);
        let point = *self.points.get(next.checked_sub(1)?)?;
        Some((point, self.points.get(next).map_or(u64::MAX, |point| point.index)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_suffix_is_forgotten() {
        let mut index = Index::default();
        for i in 1..=5 {
            index.push(i, 1, i * 100, i == 1);
        }
        index.push(3, 2, 600, false);
        assert_eq!((index.last(), index.term(2), index.term(3), index.term(4)), (3, Some(1), Some(2), None));
        assert_eq!(index.walk(2), Some((Point { index: 1, position: 100 }, 3)));
        assert_eq!(index.walk(3), Some((Point { index: 3, position: 600 }, u64::MAX)));
    }
}

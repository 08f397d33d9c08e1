//! The positions of the newest entries, one by one: those that [`crate::batch_index::recent`] may ask for.

use std::collections::VecDeque;

use super::index::Position;

/// The positions of all entries from a certain one on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Positions {
    first: u64,
    positions: VecDeque<Position>,
}

impl Positions {
    /// Adds an entry. One that is here already is superseded, and all above it.
    pub fn append(&mut self, index: u64, position: Position) {
        match self.place(index).filter(|place| *place <= self.positions.len()) {
            Some(place) => self.positions.truncate(place),
            None => *self = Self { first: index, positions: VecDeque::new() },
        }
        self.positions.push_back(position);
    }

    /// The position of an entry, if it is here.
    pub fn get(&self, index: u64) -> Option<Position> {
        self.positions.get(self.place(index)?).copied()
    }

    /// Drops the entries up to `last`.
    pub fn forget(&mut self, last: u64) {
        let Some(place) = self.place(last + 1) else { return };
        self.positions.drain(..place.min(self.positions.len()));
        self.positions.shrink_to(2 * self.positions.len());
        self.first = last + 1;
    }

    fn place(&self, index: u64) -> Option<usize> {
        usize::try_from(index.checked_sub(self.first)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_the_newest_without_a_gap() {
        let at = |offset| Position { segment: 1, offset };
        let mut positions = Positions::default();
        for index in 5..10 {
            positions.append(index, at(u32::try_from(index).unwrap()));
        }
        assert_eq!([4, 5, 9, 10].map(|index| positions.get(index)), [None, Some(at(5)), Some(at(9)), None]);
        positions.append(7, at(70));
        assert_eq!([6, 7, 8].map(|index| positions.get(index)), [Some(at(6)), Some(at(70)), None]);
        positions.forget(6);
        positions.append(8, at(80));
        assert_eq!([6, 7, 8].map(|index| positions.get(index)), [None, Some(at(70)), Some(at(80))]);
        positions.append(3, at(30));
        assert_eq!([3, 7].map(|index| positions.get(index)), [Some(at(30)), None]);
        positions.append(50, at(50));
        assert_eq!([3, 50].map(|index| positions.get(index)), [None, Some(at(50))]);
        positions.forget(60);
        positions.append(61, at(61));
        assert_eq!([50, 61].map(|index| positions.get(index)), [None, Some(at(61))]);
    }
}

//! Where a client's reads go on, kept from one Fetch to the next.

use std::collections::HashMap;

use parking_lot::Mutex;

use super::reading::Source;
use crate::state_machine::{Position, TopicId};

/// Partitions whose position one connection remembers.
const MAX_CURSORS: usize = 10_000;

/// Where in the log a client's reads go on, by partition: the offset that comes next, and where it is.
/// Spares the walk from the nearest entry that the index knows.
#[derive(Debug, Default)]
pub struct Cursors(Mutex<HashMap<(TopicId, u32), (i64, Position)>>);

impl Cursors {
    /// The position of `offset`, if the last read of the partition ended there.
    pub fn get(&self, source: &Source, offset: i64) -> Option<Position> {
        let cursors = self.0.lock();
        cursors.get(&(source.topic, source.partition)).filter(|(next, _)| *next == offset).map(|(_, at)| *at)
    }

    /// Remembers that the partition's next read begins with `offset`, which is at `position`.
    pub fn put(&self, source: &Source, offset: i64, position: Position) {
        let mut cursors = self.0.lock();
        if cursors.len() >= MAX_CURSORS {
            cursors.clear();
        }
        cursors.insert((source.topic, source.partition), (offset, position));
    }
}

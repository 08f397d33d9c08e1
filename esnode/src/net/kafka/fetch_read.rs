//! Reads the partitions of a Fetch: their own batches, by the index; or, where it does not tell, all entries of the log from
//! some place on, for all partitions at once. Blocking.

use std::io;
use std::ops::Range;

use super::partition_read::{PartitionRead, Room, State};
use super::reading::{self, Sources};
use crate::node::handle::Handle;
use crate::runtime::stored_batches as stored;
use crate::storage::batch_reader::{BatchReader, StoredBatch};

/// Bytes of one partition that are read at a time.
const CHUNK: usize = 512 << 10;
/// Once an answer holds something, so many reads of the log are made for one more partition.
const SCAN: usize = 16;

/// Reads what all partitions that are behind have in entries before `high`.
pub fn read(node: &Handle, reads: &mut [PartitionRead], room: &mut Room, high: u64) -> io::Result<()> {
    let behind = reads.iter_mut().filter(|read| read.wants(high).is_some()).collect();
    let unknown = read_indexed(node.batches(), behind, room)?;
    walk(node, unknown, room, high)?;
    let state_machine = node.state_machine();
    reads.iter_mut().for_each(|read| read.find_aborted(&state_machine));
    Ok(())
}

/// Reads what the index knows. Returns the partitions of which it does not know what comes next.
fn read_indexed<'a>(
    reader: &BatchReader,
    reads: Vec<&'a mut PartitionRead>,
    room: &mut Room,
) -> io::Result<Vec<&'a mut PartitionRead>> {
    let (mut small, mut unknown) = (Small::default(), Vec::new());
    for read in reads {
        match read.choose(reader, room) {
            Some(chosen) if chosen.iter().map(stored::size).sum::<usize>() < CHUNK => small.add(read, chosen),
            Some(chosen) => unknown.extend(read_alone(reader, read, &chosen, room)?),
            None => unknown.push(read),
        }
    }
    unknown.extend(small.read(reader, room)?);
    Ok(unknown)
}

/// Reads what a partition has chosen, in pieces that fit in the processor's cache. Returns the partition if nothing was
/// where the index says.
fn read_alone<'a>(
    reader: &BatchReader,
    read: &'a mut PartitionRead,
    chosen: &[StoredBatch],
    room: &mut Room,
) -> io::Result<Option<&'a mut PartitionRead>> {
    let mut rest = chosen;
    while !rest.is_empty() {
        let (chunk, further) = rest.split_at(fitting(rest));
        let batches = stored::read(reader, chunk)?;
        let is_whole = batches.len() == chunk.len();
        read.take_stored(if is_whole { chunk } else { rest }, &batches, room);
        rest = if is_whole { further } else { &[] };
    }
    Ok((!read.stop_if_read(chosen)).then_some(read))
}

/// How many of these batches are read at a time.
fn fitting(batches: &[StoredBatch]) -> usize {
    let mut bytes = 0;
    let fits = |stored: &&StoredBatch| {
        let fits = bytes == 0 || bytes + stored::size(stored) <= CHUNK;
        bytes += stored::size(stored);
        fits
    };
    batches.iter().take_while(fits).count()
}

/// Partitions that have little to read: batches of several may lie close to each other.
#[derive(Default)]
struct Small<'a> {
    reads: Vec<(&'a mut PartitionRead, Range<usize>)>,
    chosen: Vec<StoredBatch>,
}

impl<'a> Small<'a> {
    fn add(&mut self, read: &'a mut PartitionRead, chosen: Vec<StoredBatch>) {
        self.reads.push((read, self.chosen.len()..self.chosen.len() + chosen.len()));
        self.chosen.extend(chosen);
    }

    /// Returns the partitions of which nothing was where the index says.
    fn read(self, reader: &BatchReader, room: &mut Room) -> io::Result<Vec<&'a mut PartitionRead>> {
        let batches = stored::read(reader, &self.chosen)?;
        let read = self.reads.into_iter().filter_map(|(read, place)| {
            let there = place.start.min(batches.len())..place.end.min(batches.len());
            let chosen = &self.chosen[place];
            read.take_stored(chosen, &batches[there], room);
            (!read.stop_if_read(chosen)).then_some(read)
        });
        Ok(read.collect())
    }
}

/// Reads the entries of the log, from the places that the partitions are known to begin at.
fn walk(node: &Handle, mut reads: Vec<&mut PartitionRead>, room: &mut Room, high: u64) -> io::Result<()> {
    reads.retain_mut(|read| read.begin_walk(node));
    let source = |read: &&mut PartitionRead| match &read.state {
        State::Behind(source, _) => Some(source.clone()),
        _ => None,
    };
    let sources = Sources::new(reads.iter().filter_map(source).collect());
    for turn in 0..reads.len() {
        let mut count = 0;
        while let Some(low) = reads[turn].wants(high) {
            // A partition with little in a log full of others must not hold up what has been found.
            if room.taken > 0 && (count == SCAN || room.bytes == 0) {
                break;
            }
            let entries = match reading::read(node, &sources, low, high) {
                // They were packed meanwhile. The next fetch finds them there.
                Err(_) if low < node.log().first_index() => break,
                read => read?,
            };
            if entries.is_empty() {
                break;
            }
            for batches in &entries {
                for (place, read) in reads.iter_mut().enumerate() {
                    read.take(place, batches, room)?;
                }
            }
            count += 1;
        }
    }
    Ok(())
}

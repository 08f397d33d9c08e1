//! Reads the partitions of a Fetch: their own batches, by the index; or, where it does not tell, all entries of the log from
//! some place on, for all partitions at once. Blocking.

use std::io;

use super::partition_read::{PartitionRead, Room, State};
use super::reading::{self, Sources};
use super::stored;
use crate::node::handle::Handle;
use crate::storage::batch_reader::BatchReader;

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
    let (mut known, mut unknown, mut chosen) = (Vec::new(), Vec::new(), Vec::new());
    for read in reads {
        match read.choose(reader, room) {
            Some(of_it) => {
                known.push((read, chosen.len()..chosen.len() + of_it.len()));
                chosen.extend(of_it);
            }
            None => unknown.push(read),
        }
    }
    let batches = stored::read(reader, &chosen)?;
    for (read, place) in known {
        let there = place.start.min(batches.len())..place.end.min(batches.len());
        if !read.take_stored(&chosen[place], &batches[there], room) {
            unknown.push(read);
        }
    }
    Ok(unknown)
}

/// Reads the entries of the log, from the places that the partitions are known to begin at.
fn walk(node: &Handle, mut reads: Vec<&mut PartitionRead>, room: &mut Room, high: u64) -> io::Result<()> {
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
            let entries = reading::read(node, &sources, low, high)?;
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

//! What many topics and partitions cost, and what is kept of them beside themselves.

use std::collections::BTreeMap;
use std::ptr;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use crate::state_machine::command::Command;
use crate::state_machine::tests::batch;
use crate::state_machine::{
    MAX_PARTITIONS, MAX_PARTITIONS_IN_ALL, MAX_PRUNED, Partition, SLICES_FORMAT, StateMachine,
};

fn payload(commands: &[Command]) -> Bytes {
    let mut out = BytesMut::new();
    commands.iter().for_each(|command| command.encode(&mut out));
    out.freeze()
}

fn create(name: String, partitions: u32) -> Command {
    Command::CreateTopic { name, partitions, configs: BTreeMap::new() }
}

fn append(topic: u32, partition: u32) -> Command {
    Command::Append { topic, partition, batch: batch(1, 0, None) }
}

/// As many partitions as there may be, in topics of this size, each with an event.
fn full(partitions: u32) -> StateMachine {
    let topics = u32::try_from(MAX_PARTITIONS_IN_ALL).unwrap() / partitions;
    let mut state = StateMachine::default();
    let commands: Vec<_> = (0..topics).map(|topic| create(format!("t{topic}"), partitions)).collect();
    state.apply(1, 1, &payload(&commands));
    for topic in 1..=topics {
        let commands: Vec<_> = (0..partitions).map(|partition| append(topic, partition)).collect();
        state.apply(1 + u64::from(topic), 1, &payload(&commands));
    }
    state
}

/// The shortest time of several attempts: whatever else the machine does only adds to it.
fn shortest(mut attempt: impl FnMut() -> Duration) -> Duration {
    (0..20).map(|_| attempt()).min().unwrap_or_default()
}

#[test]
fn a_clone_of_everything_and_the_first_change_after_it_take_no_time() {
    for partitions in [1, MAX_PARTITIONS] {
        let mut state = full(partitions);
        let (mut index, entry) = (state.applied_index(), payload(&[append(77, 0)]));
        let took = shortest(|| {
            index += 1;
            let began = Instant::now();
            let clone = state.clone();
            state.apply(index, 1, &entry);
            let took = began.elapsed();
            assert_eq!(clone.applied_index() + 1, state.applied_index());
            took
        });
        assert!(took < Duration::from_micros(100), "{took:?} with topics of {partitions}");
    }
}

#[test]
fn a_clone_shares_what_did_not_change() {
    let mut state = full(MAX_PARTITIONS);
    let clone = state.clone();
    state.apply(state.applied_index() + 1, 1, &payload(&[append(2, 5)]));
    let places = |state: &StateMachine| -> Vec<*const Partition> {
        state.topics().flat_map(|topic| &topic.partitions).map(ptr::from_ref).collect()
    };
    let changed = places(&state).into_iter().zip(places(&clone)).filter(|(one, other)| one != other).count();
    assert_eq!(changed, 1);
    let next = |state: &StateMachine| state.topic_by_id(2).unwrap().partitions[5].high_watermark();
    assert_eq!((next(&state), next(&clone)), (2, 1));
}

#[test]
fn what_a_delete_of_a_thousand_partitions_and_their_creation_cost_does_not_depend_on_the_others() {
    let mut state = full(MAX_PARTITIONS);
    let mut index = state.applied_index();
    let mut number = state.topics_version().0;
    let took = shortest(|| {
        index += 1;
        let commands =
            [Command::DeleteTopicById { topic: number }, create(format!("n{number}"), MAX_PARTITIONS)];
        number += u32::from(number < 100) + 1;
        let entry = payload(&commands);
        let began = Instant::now();
        let applied = state.apply(index, 1, &entry);
        let took = began.elapsed();
        // Elsewhere.
        drop(applied);
        took
    });
    assert!(took < Duration::from_millis(1), "{took:?}");
}

#[test]
fn the_oldest_entry_with_events_is_known_without_looking_for_it() {
    for seed in 0..20 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut state = StateMachine { max_index_entries: random.usize(5..50), ..StateMachine::default() };
        for index in 1..random.u64(2..300) {
            let commands: Vec<_> = (0..random.usize(1..5))
                .map(|_| {
                    let (topic, partition) = (random.u32(1..6), random.u32(..4));
                    match random.u8(..20) {
                        0 => Command::DeleteTopicById { topic },
                        1..4 => create(format!("t{}", random.u8(..6)), 4),
                        4..8 => Command::DeleteRecords { topic, partition, start_offset: random.i64(..40) },
                        _ => append(topic, partition),
                    }
                })
                .collect();
            let padding = Command::Append { topic: 99, partition: 0, batch: Bytes::from(vec![0; 17 << 10]) };
            state.apply(index, 1, &payload(&[&commands[..], &[padding]].concat()));
            if random.u8(..10) == 0 {
                state = serde_json::from_slice(&serde_json::to_vec(&state).unwrap()).unwrap();
            }
            let partitions = state.topics().flat_map(|topic| &topic.partitions);
            let first = partitions.filter_map(|partition| partition.locate(partition.start_offset()));
            let first = first.map(|position| position.index).min();
            assert_eq!(state.low_watermark(), first.unwrap_or(index + 1), "seed {seed}, entry {index}");
        }
    }
}

#[test]
fn indexes_are_pruned_a_few_at_a_time_and_alike_after_a_snapshot() {
    let (max_index_entries, index_interval) = (2500, 50 << 10);
    let with_format =
        |format| StateMachine { format, max_index_entries, index_interval, ..Default::default() };
    let (mut state, mut earlier) = (with_format(SLICES_FORMAT), with_format(SLICES_FORMAT - 1));
    let topic = payload(&[create("t".to_owned(), MAX_PARTITIONS)]);
    for state in [&mut state, &mut earlier] {
        state.apply(1, 1, &topic);
    }
    let all: Vec<_> = (0..MAX_PARTITIONS).map(|partition| append(1, partition)).collect();
    let lengths = |state: &StateMachine| -> Vec<usize> {
        let topic = state.topic("t").unwrap();
        topic.partitions.iter().map(Partition::index_entries).collect()
    };
    for index in 2..5 {
        for state in [&mut state, &mut earlier] {
            state.apply(index, 1, &payload(&all));
        }
    }
    assert!(earlier.pruning.is_none() && earlier.index_entries < 2500, "earlier programs prune all at once");
    let begun = lengths(&state).iter().filter(|length| **length < 3).count();
    assert_eq!((begun, state.index_entries), (MAX_PRUNED, 3000 - MAX_PRUNED));
    let mut restored: StateMachine = serde_json::from_slice(&serde_json::to_vec(&state).unwrap()).unwrap();
    for index in 5..12 {
        for state in [&mut state, &mut restored] {
            state.apply(index, 1, &payload(&[append(1, 0)]));
            assert_eq!(state.index_entries, lengths(state).iter().sum::<usize>());
        }
    }
    assert_eq!(serde_json::to_value(&state).unwrap(), serde_json::to_value(&restored).unwrap());
    assert!(state.pruning.is_none() && state.index_entries < 2500, "{} entries left", state.index_entries);
}

//! The state machine against a plain model, under random commands.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};

use super::command::{Command, Refusal, Reply};
use super::{
    MAX_CONFIG_BYTES, MAX_PARTITIONS, MAX_PARTITIONS_IN_ALL, Position, StateMachine, valid_topic_name,
};

/// A batch whose header is all that counts here.
pub fn batch(records: i32, max_timestamp: i64, producer: Option<(i64, i16, i32)>) -> Bytes {
    let (id, epoch, sequence) = producer.unwrap_or((-1, -1, -1));
    let mut out = BytesMut::new();
    out.put_i64(0);
    out.put_i32(49);
    out.put_i32(-1);
    out.put_i8(2);
    out.put_u32(0);
    out.put_i16(0);
    out.put_i32(records - 1);
    out.put_i64(0);
    out.put_i64(max_timestamp);
    out.put_i64(id);
    out.put_i16(epoch);
    out.put_i32(sequence);
    out.put_i32(records);
    out.freeze()
}

fn payload(commands: &[Command]) -> Bytes {
    let mut out = BytesMut::new();
    commands.iter().for_each(|command| command.encode(&mut out));
    out.freeze()
}

fn create(name: &str, partitions: u32) -> Command {
    Command::CreateTopic { name: name.to_owned(), partitions, configs: BTreeMap::new() }
}

fn append(topic: u32, partition: u32, batch: Bytes) -> Command {
    Command::Append { topic, partition, batch }
}

#[test]
fn a_deleted_topics_number_is_never_used_again() {
    let mut state_machine = StateMachine::default();
    let delete = Command::DeleteTopic { name: "t".to_owned() };
    let applied =
        state_machine.apply(1, 1, &payload(&[create("t", 1), create("t", 1), delete, create("t", 2)]));
    let exists = Reply::Refused(Refusal::TopicExists);
    assert_eq!(applied.replies, [Reply::TopicCreated(1), exists, Reply::Done, Reply::TopicCreated(2)]);
    let late = state_machine.apply(2, 1, &payload(&[append(1, 0, batch(1, 0, None))]));
    assert_eq!(late.replies, [Reply::Refused(Refusal::UnknownTopic)]);
    assert_eq!(state_machine.topic("t").unwrap().partitions.len(), 2);
}

#[test]
fn all_topics_together_have_a_limit_that_deleting_makes_room_under() {
    let mut state_machine = StateMachine::default();
    let full = MAX_PARTITIONS_IN_ALL / MAX_PARTITIONS as usize;
    let many: Vec<_> = (0..=full).map(|topic| create(&format!("t{topic}"), MAX_PARTITIONS)).collect();
    let applied = state_machine.apply(1, 1, &payload(&many));
    let refused = Reply::Refused(Refusal::TooManyPartitions);
    assert_eq!(applied.replies.iter().position(|reply| *reply == refused), Some(full));
    assert_eq!(applied.touched.len(), MAX_PARTITIONS_IN_ALL);
    let delete = Command::DeleteTopic { name: "t3".to_owned() };
    let again = state_machine.apply(
        2,
        1,
        &payload(&[create("u", 1), delete, create("u", MAX_PARTITIONS), create("v", 1)]),
    );
    assert!(matches!(
        again.replies[..],
        [Reply::Refused(_), Reply::Done, Reply::TopicCreated(_), Reply::Refused(_)]
    ));
}

#[test]
fn configurations_have_a_limit_too() {
    let mut state_machine = StateMachine::default();
    let value = "x".repeat(MAX_CONFIG_BYTES - 100);
    let alter = |key: &str, value: Option<&str>| Command::AlterTopic {
        name: "t".to_owned(),
        changes: BTreeMap::from([(key.to_owned(), value.map(str::to_owned))]),
    };
    let commands = [
        create("t", 1),
        alter("large", Some(&value)),
        alter("more", Some("y")),
        alter("large", Some("z")),
        alter("more", Some(&value)),
        alter("large", None),
        Command::DeleteTopic { name: "t".to_owned() },
        create("t", 1),
        alter("large", Some(&value)),
    ];
    let replies = state_machine.apply(1, 1, &payload(&commands)).replies;
    let refused: Vec<_> = replies.iter().map(|reply| matches!(reply, Reply::Refused(_))).collect();
    assert_eq!(refused, [false, false, true, false, true, false, false, false, false]);
}

#[test]
fn topic_names_follow_kafkas_rules() {
    assert!(["a", "a.b_c-9", &"x".repeat(249)].into_iter().all(valid_topic_name));
    assert!(!["", ".", "..", "a b", "ä", &"x".repeat(250)].into_iter().any(valid_topic_name));
}

#[test]
fn a_retry_answers_with_the_first_offset_and_adds_nothing() {
    let mut state_machine = StateMachine::default();
    let first = append(1, 0, batch(3, 0, Some((7, 0, 0))));
    let applied = state_machine.apply(1, 1, &payload(&[create("t", 1), first.clone(), first]));
    assert_eq!(applied.replies[1], applied.replies[2]);
    let partition = &state_machine.topic("t").unwrap().partitions[0];
    assert_eq!(partition.high_watermark(), 3);
    assert!(partition.is_rejected(1, 2) && !partition.is_rejected(1, 1));
}

#[test]
fn malformed_commands_are_ignored_alike_everywhere() {
    let mut state_machine = StateMachine::default();
    let mut bytes = BytesMut::from(&payload(&[create("t", 1)])[..]);
    bytes.put_u8(99);
    let applied = state_machine.apply(1, 1, &bytes.freeze());
    assert_eq!((applied.replies.len(), applied.malformed.is_some()), (1, true));
    let applied = state_machine.apply(2, 1, &payload(&[append(1, 0, Bytes::from_static(b"no batch"))]));
    assert_eq!(applied.replies, [Reply::Refused(Refusal::InvalidBatch)]);
}

#[test]
fn a_member_is_bound_once() {
    use shared::ids::StoreId;
    use uuid::Uuid;
    let mut state_machine = StateMachine::default();
    let bind = |id| Command::Bind { node: 1, store: StoreId(Uuid::from_u128(id)) };
    let applied = state_machine.apply(1, 1, &payload(&[bind(1), bind(1), bind(2)]));
    assert_eq!(applied.replies, [Reply::Done, Reply::Done, Reply::Refused(Refusal::BoundElsewhere)]);
}

#[test]
fn the_format_is_raised_never_lowered_and_survives_a_snapshot() {
    let mut state_machine = StateMachine::default();
    assert_eq!(state_machine.format(), 1);
    let before = state_machine.digest();
    let raise = |to| Command::RaiseFormat { to };
    state_machine.apply(0, 1, &payload(&[raise(3), raise(2)]));
    assert!(state_machine.format() == 3 && state_machine.digest() != before);
    let mut stored = serde_json::to_value(&state_machine).unwrap();
    assert_eq!(serde_json::from_value::<StateMachine>(stored.clone()).unwrap().format(), 3);
    // A snapshot from before there were formats.
    stored.as_object_mut().unwrap().remove("format");
    assert_eq!(serde_json::from_value::<StateMachine>(stored).unwrap().format(), 1);
}

#[test]
fn places_are_remembered_within_bounds_however_long_the_log() {
    let mut state_machine = StateMachine::default();
    state_machine.apply(1, 1, &payload(&[create("t", 3)]));
    // Entries a little larger than the first interval.
    let padding = append(9, 0, Bytes::from(vec![0; 17 << 10]));
    let entry = payload(&[append(1, 0, batch(1, 5, None)), append(1, 2, batch(1, 5, None)), padding]);
    let entries = 60_000;
    for index in 2..2 + entries {
        state_machine.apply(index, 1, &entry);
        assert!(state_machine.index_entries <= super::MAX_INDEX_ENTRIES);
    }
    assert!(
        state_machine.index_entries > super::MAX_INDEX_ENTRIES / 4,
        "{} points left",
        state_machine.index_entries
    );
    let partitions = &state_machine.topic("t").unwrap().partitions;
    assert_eq!(
        state_machine.index_entries,
        partitions.iter().map(|partition| partition.index_entries()).sum::<usize>()
    );
    for offset in (0..entries.cast_signed()).step_by(97) {
        let at = partitions[2].locate(offset).unwrap();
        let apart = 2 + offset.cast_unsigned() - at.index;
        assert_eq!(at.base_offset.cast_unsigned() + 2, at.index);
        assert!(
            apart * entry.len() as u64 <= state_machine.index_interval,
            "{apart} entries to scan for {offset}"
        );
    }
    let before = serde_json::to_vec(&state_machine).unwrap().len();
    assert!(before < 2 << 20, "a snapshot of {before} bytes");
    state_machine.apply(entries + 2, 1, &payload(&[Command::DeleteTopic { name: "t".to_owned() }]));
    assert_eq!(state_machine.index_entries, 0);
}

#[test]
fn more_partitions_than_places_are_no_endless_loop() {
    let mut state_machine = StateMachine { max_index_entries: 10, ..StateMachine::default() };
    state_machine.apply(1, 1, &payload(&[create("t", 40)]));
    let entry = payload(&(0..40).map(|at| append(1, at, batch(1, 5, None))).collect::<Vec<_>>());
    (2..50).for_each(|index| drop(state_machine.apply(index, 1, &entry)));
    let partitions = &state_machine.topic("t").unwrap().partitions;
    assert!(partitions.iter().all(|partition| partition.locate(20).is_some()));
}

/// What a reader finds from `at` on: offsets and newest timestamps of the partition's live batches.
fn scan(
    entries: &[Bytes],
    state_machine: &StateMachine,
    partition: u32,
    at: Position,
) -> Vec<(i64, i64, i64)> {
    let state = &state_machine.topic("t").unwrap().partitions[partition as usize];
    let mut base = at.base_offset;
    let mut found = Vec::new();
    for (index, entry) in (1..).zip(entries).skip_while(|(index, _)| *index < at.index) {
        for (ordinal, command) in (0..).zip(Command::decode_all(entry)) {
            let Ok(Command::Append { topic: 1, partition: of, batch }) = command else { continue };
            if of != partition || state.is_rejected(index, ordinal) {
                continue;
            }
            let header = super::batch::BatchHeader::parse(&batch).unwrap();
            found.push((base, base + header.records() - 1, header.max_timestamp));
            base += header.records();
        }
    }
    found
}

#[test]
fn every_offset_and_time_is_found_where_a_plain_model_has_it() {
    for seed in 0..40 {
        let mut random = fastrand::Rng::with_seed(seed);
        let (mut state_machine, mut twin) = (StateMachine::default(), StateMachine::default());
        let mut entries = vec![payload(&[create("t", 3)])];
        let mut sequences = [0; 3];
        for _ in 0..random.usize(1..400) {
            let commands: Vec<_> = (0..random.usize(1..6))
                .map(|_| {
                    let partition = random.u32(..4);
                    let records = random.i32(1..5);
                    let producer = (partition < 3 && random.bool()).then(|| {
                        let sequence = &mut sequences[partition as usize];
                        let used = if random.u8(..8) == 0 { (*sequence - 1).max(0) } else { *sequence };
                        *sequence = used + records;
                        (7, 0, used)
                    });
                    append(1, partition, batch(records, random.i64(0..1000), producer))
                })
                .collect();
            entries.push(payload(&commands));
        }
        let mut model: Vec<Vec<(i64, i64, i64)>> = vec![Vec::new(); 3];
        for (index, entry) in (1..).zip(&entries) {
            let before: Vec<i64> = state_machine
                .topic("t")
                .map_or(vec![0; 3], |t| t.partitions.iter().map(|p| p.high_watermark()).collect());
            let applied = state_machine.apply(index, 1, entry);
            twin.apply(index, 1, entry);
            if random.u8(..8) == 0 {
                // As from a snapshot.
                state_machine = serde_json::from_slice(&serde_json::to_vec(&state_machine).unwrap()).unwrap();
            }
            let mut next = before;
            for (command, reply) in Command::decode_all(entry).zip(&applied.replies) {
                let (Ok(Command::Append { partition, batch, .. }), Reply::Appended { base_offset, .. }) =
                    (command, reply)
                else {
                    continue;
                };
                let p = partition as usize;
                if *base_offset == next[p] {
                    let header = super::batch::BatchHeader::parse(&batch).unwrap();
                    next[p] += header.records();
                    model[p].push((*base_offset, next[p] - 1, header.max_timestamp));
                }
            }
        }
        assert_eq!(state_machine.digest(), twin.digest());
        assert_eq!(serde_json::to_value(&state_machine).unwrap(), serde_json::to_value(&twin).unwrap());
        for (partition, batches) in (0..).zip(&model) {
            let state = &state_machine.topic("t").unwrap().partitions[partition as usize];
            assert_eq!(state.high_watermark(), batches.last().map_or(0, |(_, last, _)| last + 1));
            for (at, (base, last, _)) in batches.iter().enumerate() {
                let found = scan(&entries, &state_machine, partition, state.locate(*last).unwrap());
                assert_eq!(found[found.len() - (batches.len() - at)].0, *base, "seed {seed}");
            }
            for time in [0, 250, 500, 999, 1000] {
                let wanted = batches.iter().find(|(.., newest)| *newest >= time);
                let found = state.locate_time(time).map(|at| scan(&entries, &state_machine, partition, at));
                let found = found.and_then(|found| found.into_iter().find(|(.., newest)| *newest >= time));
                assert_eq!(found.as_ref(), wanted, "seed {seed}, time {time}");
            }
        }
    }
}

#[test]
fn what_is_needed_of_the_log_only_grows_younger_and_holds_every_event_kept() {
    for seed in 0..40 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut state_machine = StateMachine::default();
        let mut entries = vec![payload(&[create("t", 3)])];
        state_machine.apply(1, 1, &entries[0]);
        let mut dropped_before = 0;
        for index in 2..random.u64(3..400) {
            let commands: Vec<_> = (0..random.usize(1..6))
                .map(|_| {
                    let partition = random.u32(..3);
                    if random.u8(..10) > 0 {
                        return append(1, partition, batch(random.i32(1..5), 0, None));
                    }
                    // Often within this very entry's events, or past all of them.
                    let next =
                        state_machine.topic("t").unwrap().partitions[partition as usize].high_watermark();
                    Command::DeleteRecords { topic: 1, partition, start_offset: next + random.i64(-20..8) }
                })
                .collect();
            entries.push(payload(&commands));
            state_machine.apply(index, 1, entries.last().unwrap());
            assert!(state_machine.low_watermark() >= dropped_before, "seed {seed}, entry {index}");
            dropped_before = state_machine.low_watermark();
            for (number, partition) in (0..).zip(&state_machine.topic("t").unwrap().partitions) {
                let Some(at) = partition.locate(partition.start_offset()) else {
                    assert_eq!(partition.start_offset(), partition.high_watermark());
                    continue;
                };
                let found = scan(&entries, &state_machine, number, at);
                assert!(at.index >= dropped_before && at.base_offset <= partition.start_offset());
                assert_eq!(
                    found.last().unwrap().1 + 1,
                    partition.high_watermark(),
                    "seed {seed}, entry {index}"
                );
            }
        }
    }
}

#[test]
fn before_format_2_events_go_by_their_stamps_and_by_size() {
    use super::retention::{Retention, due};
    let mut state_machine = StateMachine::default();
    state_machine.apply(1, 1, &payload(&[create("t", 1), create("kept", 1)]));
    // Of 20 KiB each, so that every batch has a point of its own.
    let large = |time| {
        let mut bytes = BytesMut::from(&batch(10, time, None)[..]);
        bytes.resize(20 << 10, 0);
        bytes[8..12].copy_from_slice(&((20 << 10) - 12_i32).to_be_bytes());
        bytes.freeze()
    };
    for (index, time) in (2..).zip([100, 300, 200, 400]) {
        state_machine.apply(index, 1, &payload(&[append(1, 0, large(time)), append(2, 0, large(time))]));
    }
    let set = |key: &str, value: &str| Command::AlterTopic {
        name: "kept".to_owned(),
        changes: BTreeMap::from([(key.to_owned(), Some(value.to_owned()))]),
    };
    state_machine.apply(6, 1, &payload(&[set("retention.ms", "-1"), set("retention.bytes", "-1")]));
    let trim = |start_offset| vec![Command::DeleteRecords { topic: 1, partition: 0, start_offset }];
    assert_eq!(due(&state_machine, Retention::default(), i64::MAX), []);
    let age = |now| due(&state_machine, Retention { ms: Some(50), bytes: None }, now);
    assert_eq!((age(150), age(151)), (vec![], trim(10)));
    // The third batch is older than the second, and goes with it.
    assert_eq!((age(350), age(351), age(451)), (trim(10), trim(30), trim(40)));
    let size = |bytes| due(&state_machine, Retention { ms: None, bytes: Some(bytes) }, 0);
    assert_eq!((size(80 << 10), size(60 << 10), size(1), size(0)), (vec![], trim(10), trim(30), trim(30)));
    state_machine.apply(7, 1, &payload(&trim(30)));
    assert_eq!(state_machine.topic("t").unwrap().partitions[0].start_offset(), 30);
    assert_eq!(state_machine.low_watermark(), 2, "the other topic keeps the log");
}

#[test]
fn events_are_kept_for_as_long_as_they_were_to_be_whatever_their_stamps_say() {
    use super::clock::Tick;
    use super::retention::{Retention, due};
    const NOW: i64 = 1_700_000_000_000;
    const KEPT: u64 = 60_000;
    let tick = |ms| Command::Clock(Tick { ms, wall: ms, doubted: false, made_up: 0 });
    let mut state_machine = StateMachine::default();
    // Unknown, zero, in seconds, a backfill, right, and in the future.
    let stamps = [-1, 0, NOW / 1000, NOW - 86_400_000, NOW, NOW + 86_400_000, i64::MAX];
    state_machine.apply(1, 1, &payload(&[tick(NOW), create("t", 7)]));
    let appends: Vec<_> =
        (0..).zip(stamps).map(|(partition, stamp)| append(1, partition, batch(3, stamp, None))).collect();
    state_machine.apply(2, 1, &payload(&appends));
    let due = |now| due(&state_machine, Retention { ms: Some(KEPT), bytes: None }, now).len();
    let until = NOW + KEPT.cast_signed();
    assert_eq!(due(until), 0, "too early");
    assert_eq!(due(until + 3000), stamps.len(), "kept too long");
    assert_eq!(due(i64::MIN), 0);
}

#[test]
fn a_topic_grows_within_the_limits_and_keeps_what_it_has() {
    let mut state_machine = StateMachine::default();
    let grow = |name: &str, count| Command::CreatePartitions { name: name.to_owned(), count };
    state_machine.apply(1, 1, &payload(&[create("t", 2), append(1, 1, batch(3, 0, None))]));
    let applied =
        state_machine.apply(2, 1, &payload(&[grow("t", 4), grow("t", 4), grow("t", 3), grow("u", 9)]));
    let (invalid, unknown) = (Reply::Refused(Refusal::InvalidTopic), Reply::Refused(Refusal::UnknownTopic));
    assert_eq!(applied.replies, [Reply::Done, invalid.clone(), invalid.clone(), unknown]);
    assert_eq!((applied.touched, applied.topics), (vec![(1, 2), (1, 3)], true));
    let next: Vec<_> =
        state_machine.topic("t").unwrap().partitions.iter().map(|p| p.high_watermark()).collect();
    assert_eq!(next, [0, 3, 0, 0]);
    assert_eq!(state_machine.remaining_partitions(), MAX_PARTITIONS_IN_ALL - 4);
    let most =
        state_machine.apply(3, 1, &payload(&[grow("t", MAX_PARTITIONS + 1), grow("t", MAX_PARTITIONS)]));
    assert_eq!(most.replies, [invalid, Reply::Done]);
    let full = MAX_PARTITIONS_IN_ALL / MAX_PARTITIONS as usize - 2;
    let many: Vec<_> = (0..full).map(|topic| create(&format!("f{topic}"), MAX_PARTITIONS)).collect();
    state_machine.apply(4, 1, &payload(&many));
    let last = payload(&[create("u", MAX_PARTITIONS - 1), grow("u", MAX_PARTITIONS), create("v", 1)]);
    assert_eq!(state_machine.apply(5, 1, &last).replies[2], Reply::Refused(Refusal::TooManyPartitions));
    let delete = Command::DeleteTopic { name: "t".to_owned() };
    state_machine.apply(6, 1, &payload(&[delete]));
    assert_eq!(state_machine.remaining_partitions(), MAX_PARTITIONS as usize);
}

#[test]
fn a_topic_deleted_by_its_number_is_not_its_successor() {
    let mut state_machine = StateMachine::default();
    let delete = |topic| Command::DeleteTopicById { topic };
    let name = Command::DeleteTopic { name: "t".to_owned() };
    let commands = [create("t", 1), name, create("t", 1), delete(1), delete(2), create("t", 1)];
    let replies = state_machine.apply(1, 1, &payload(&commands)).replies;
    assert_eq!(replies[3..], [Reply::Refused(Refusal::UnknownTopic), Reply::Done, Reply::TopicCreated(3)]);
}

#[test]
fn the_terms_of_events_are_known_again_after_a_snapshot_and_no_part_of_what_replicas_compare() {
    let mut state_machine = StateMachine::default();
    state_machine.apply(1, 1, &payload(&[create("t", 1)]));
    for (index, term) in (2..).zip([1, 1, 3, 4]) {
        state_machine.apply(index, term, &payload(&[append(1, 0, batch(10, 0, None))]));
    }
    let stored = serde_json::to_value(&state_machine).unwrap();
    let read: StateMachine = serde_json::from_value(stored.clone()).unwrap();
    let end = |state_machine: &StateMachine, term| {
        state_machine.topic("t").unwrap().partitions[0].end_of_term(term)
    };
    for state_machine in [&state_machine, &read] {
        assert_eq!(
            (end(state_machine, 1), end(state_machine, 2), end(state_machine, 3)),
            ((1, 20), (1, 20), (3, 30))
        );
    }
    // From a program that kept none.
    let mut stored = stored;
    let partition = &mut stored["topics"]["1"]["partitions"][0];
    assert!(partition.as_object_mut().unwrap().remove("terms").is_some());
    let older: StateMachine = serde_json::from_value(stored).unwrap();
    assert_eq!(older.digest(), state_machine.digest());
    assert_eq!(end(&older, 1), (1, 40), "no earlier than it can be");
}

#[test]
fn a_time_is_looked_for_among_what_is_kept() {
    let mut state = StateMachine::default();
    let commands = [
        create("t", 1),
        append(1, 0, batch(1, 10, None)),
        Command::DeleteRecords { topic: 1, partition: 0, start_offset: 1 },
        append(1, 0, batch(1, 5, None)),
    ];
    for (index, command) in (1..).zip(commands) {
        state.apply(index, 1, &payload(&[command]));
    }
    let place = state.topic_by_id(1).unwrap().partitions[0].locate_time(3).unwrap();
    assert_eq!((place.index, place.base_offset), (4, 1));
}

#[test]
fn a_newest_time_that_is_gone_hides_nothing_that_is_left() {
    let mut state_machine = StateMachine::default();
    state_machine.apply(1, 1, &payload(&[create("t", 1)]));
    for (index, time) in (2..).zip([9_000, 100, 200]) {
        state_machine.apply(index, 1, &payload(&[append(1, 0, batch(10, time, None))]));
    }
    state_machine.apply(
        9,
        1,
        &payload(&[Command::DeleteRecords { topic: 1, partition: 0, start_offset: 10 }]),
    );
    let partition = &state_machine.topic("t").unwrap().partitions[0];
    for time in [50, 150, 8_000] {
        let at = partition.locate_time(time).map(|at| at.base_offset);
        assert!(at.is_some_and(|at| at <= 10), "{time}: {at:?}");
    }
    assert_eq!(partition.locate_time(9_001), None);
}

/// Snapshots of every version of this program have these names: what a field is called here is another
/// matter.
#[test]
fn the_names_in_a_snapshot_stay() {
    let mut machine = StateMachine::default();
    machine.apply(1, 1, &payload(&[create("t", 1), append(1, 0, batch(1, 0, None))]));
    let json = serde_json::to_value(&machine).unwrap();
    let keys = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(
        keys(&json).join(" "),
        "applied clock cluster config_bytes format groups last_topic max_points members names next_producer \
         partitions payload points spacing topics transactions"
    );
    assert_eq!(keys(&json["members"]).join(" "), "added bindings changed_at spent");
    assert_eq!(
        keys(&json["topics"]["1"]["partitions"][0]).join(" "),
        "bytes latest max_timestamp next_offset points producers run_is_open start_offset terms transactions \
         void_runs voids"
    );
}

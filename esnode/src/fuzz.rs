//! The doors that strangers' bytes come through, for fuzzers and for the tests that replay what fuzzers found.
//!
//! One function each. It takes any bytes, panics when a promise is broken and is silent otherwise; it touches no file
//! and no socket. What a checksum would keep out is mended first, so that the code behind it is reached.

use bytes::{Bytes, BytesMut};
use shared::spec;

pub use crate::batch_index::fuzz as index;
pub use crate::net::admin::fuzz as admin;
pub use crate::net::kafka::fuzz as kafka;
pub use crate::net::peer::{fuzz as peer, mended as mended_frames};
use crate::state_machine::StateMachine;
use crate::state_machine::command::{Command, Malformed};
pub use crate::storage::fuzz as segment;

/// A function to be fuzzed.
pub type Target = fn(&[u8]);

/// All of them, by name; seeds lie in `fuzz/seeds/NAME`.
pub const TARGETS: [(&str, Target); 7] = [
    ("peer", peer),
    ("kafka", kafka),
    ("admin", admin),
    ("config", config),
    ("command", command),
    ("segment", segment),
    ("index", index),
];

/// A cluster.yaml: a problem, or a file that reads back the same.
pub fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(file) = spec::parse("cluster.yaml", text) {
        let written = file.to_yaml();
        assert_eq!(spec::parse("cluster.yaml", &written).as_ref(), Ok(&file), "{written}");
    }
}

/// An entry's payload: commands that encode to what they were read from, and a state that takes them.
pub fn command(bytes: &[u8]) {
    let payload = Bytes::copy_from_slice(bytes);
    let read: Vec<Result<Command, Malformed>> = Command::decode_all(&payload).collect();
    for command in read.iter().flatten() {
        let mut again = BytesMut::new();
        command.encode(&mut again);
        let back: Vec<_> = Command::decode_all(&again.freeze()).collect();
        assert_eq!(back, [Ok(command.clone())]);
    }
    let (mut one, mut two) = (StateMachine::default(), StateMachine::default());
    for index in 1..=2 {
        let applied = one.apply(index, 1, &payload);
        assert_eq!(applied.replies.len(), read.iter().flatten().count());
        assert_eq!(applied.malformed.is_some(), read.iter().any(Result::is_err));
        two.apply(index, 1, &payload);
    }
    assert_eq!(one.digest(), two.digest());
}

#[cfg(test)]
pub mod seeds {
    //! The inputs that a fuzzer starts from: real encodings, generated and committed.

    use std::collections::{BTreeMap, BTreeSet};
    use std::fs;
    use std::path::Path;

    use shared::ids::{ClusterId, StoreId};
    use uuid::Uuid;

    use super::*;
    use crate::state_machine::groups::{CommittedOffset, GroupChange, OffsetCommit};
    use crate::state_machine::transactions::{Ending, ProducerIdentity, TransactionChange};

    /// Seeds by name.
    pub type Seeds = BTreeMap<String, Vec<u8>>;

    /// Asserts that these are the committed seeds of a target, and that it takes them; with UPDATE=1 writes them.
    pub fn check(name: &str, seeds: &Seeds) {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds").join(name);
        if std::env::var_os("UPDATE").is_some() {
            let _ = fs::remove_dir_all(&dir);
            fs::create_dir_all(&dir).unwrap();
            seeds.iter().for_each(|(name, bytes)| fs::write(dir.join(name), bytes).unwrap());
        }
        let (_, target) = TARGETS.iter().find(|target| target.0 == name).unwrap();
        for (name, bytes) in seeds {
            let file = dir.join(name);
            let committed = fs::read(&file).unwrap_or_default();
            assert!(committed == *bytes, "{} is out of date; `make fix` writes it", file.display());
            target(bytes);
        }
        let files = fs::read_dir(&dir).unwrap();
        let files: BTreeSet<_> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        assert!(files.iter().eq(seeds.keys()), "{} holds other seeds; `make fix` cleans up", dir.display());
    }

    #[test]
    fn the_committed_seeds_of_commands() {
        let batch = crate::net::kafka::tests::batch_of(3);
        let topic = |name: &str, partitions, configs: &[(&str, &str)]| Command::CreateTopic {
            name: name.to_owned(),
            partitions,
            configs: configs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        };
        let append = |partition| Command::Append { topic: 1, partition, batch: batch.clone() };
        let lists = [
            ("found", vec![Command::Bootstrap { cluster_id: ClusterId(Uuid::from_u128(7)) }]),
            ("bind", vec![Command::Bind { node: 3, store: StoreId(Uuid::from_u128(9)) }]),
            (
                "topics",
                vec![
                    topic("a", 3, &[("retention.ms", "1000")]),
                    Command::DeleteTopic { name: "a".to_owned() },
                ],
            ),
            (
                "partitions",
                vec![
                    topic("a", 1, &[]),
                    Command::CreatePartitions { name: "a".to_owned(), count: 3 },
                    Command::DeleteTopicById { topic: 1 },
                ],
            ),
            ("appends", vec![topic("a", 2, &[]), append(0), append(1), append(0)]),
            ("producer", vec![Command::AllocateProducer, Command::AllocateProducer]),
            ("transaction", transaction()),
        ];
        let encode = |commands: &[Command]| {
            let mut out = BytesMut::new();
            commands.iter().for_each(|command| command.encode(&mut out));
            out.to_vec()
        };
        check("command", &lists.iter().map(|(name, list)| ((*name).to_owned(), encode(list))).collect());
    }

    /// A transaction in two partitions and a group that commits, and what is left of the next one.
    fn transaction() -> Vec<Command> {
        let producer = ProducerIdentity { id: 1, epoch: 0 };
        let partitions = vec![(1, 0), (1, 1)];
        let offset = CommittedOffset { offset: 7, leader_epoch: -1, metadata: "m".to_owned(), committed: 0 };
        let commit = OffsetCommit {
            member: String::new(),
            instance: None,
            generation: -1,
            offsets: vec![(1, 0, offset)],
        };
        let group = "g".to_owned();
        let ending = Ending { producer, commit: true, fence: false, time: 5, partitions: partitions.clone() };
        let changes = [
            TransactionChange::Init { timeout_ms: 60_000, known: None },
            TransactionChange::AddPartitions { producer, partitions: partitions.clone() },
            TransactionChange::AddGroup { producer, group: group.clone() },
            TransactionChange::CommitOffsets { producer, group: group.clone(), commit },
            TransactionChange::End(ending),
            TransactionChange::AddPartitions { producer, partitions },
            TransactionChange::Init { timeout_ms: 60_000, known: Some(producer) },
        ];
        let topic = Command::CreateTopic { name: "a".to_owned(), partitions: 2, configs: BTreeMap::new() };
        let changes = changes.map(|change| Command::Transaction { id: "t".to_owned(), change });
        let delete = Command::Group { group, change: GroupChange::Delete };
        [topic].into_iter().chain(changes).chain([delete]).collect()
    }

    #[test]
    fn the_committed_seeds_of_configurations() {
        let node = "    - id: 1\n      host: 10.0.0.1\n      client_port: 9000\n      cluster_port: 9100\n";
        let rest = "  raft:\n    election_timeout_min: 150\n    election_timeout_max: 300\n    heartbeat_interval: 50\n    \
                    rpc_timeout: 100\n  storage:\n    data_dir: /var/lib/eventstream/raft\n    wal_sync: true\n    \
                    snapshot_interval: 1000\nnetwork:\n  max_connections: 1000\n  tcp_nodelay: true\n  keepalive: true\n";
        let small = format!("cluster:\n  node_id: 1\n  nodes:\n{node}");
        let whole = format!("{small}{rest}");
        let flow =
            "{cluster: {nodes: [{id: 1, host: &h a}, {id: 2, host: *h, http_port: 0x1f90}]}, network: {}}";
        let seeds =
            [("small", small.as_str()), ("whole", &whole), ("flow", flow), ("list", "- a\n- [b, {c: d}]\n")];
        check("config", &seeds.map(|(name, text)| (name.to_owned(), text.into())).into());
    }
}

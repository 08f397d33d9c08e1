//! DescribeLogDirs: what this node's data directory holds of each partition, and how much room its disk has.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use kafka_protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use kafka_protocol::messages::{DescribeLogDirsRequest, DescribeLogDirsResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use tokio::task::spawn_blocking;

use super::answer::Answer;
use super::frame::{BadRequest, Outcome, Request};
use super::session::Session;
use crate::state_machine::{StateMachine, Topic};

/// The first version with the room on the disk.
const DISK_SINCE: i16 = 4;
/// Bytes that a partition and a topic without its name take at most.
const PARTITION: usize = 24;
const TOPIC: usize = 16;

/// Serves DescribeLogDirs.
pub fn handle(session: &Arc<Session>, request: &Request) -> Result<Answer, BadRequest> {
    let body: DescribeLogDirsRequest = request.decode()?;
    let (session, to) = (Arc::clone(session), request.to);
    Ok(Answer::later(async move {
        let dir = session.node().file().cluster.storage.data_dir.clone();
        // A network file system may take its time.
        let look = spawn_blocking(move || Disk::look(dir.as_ref()));
        let Ok(disk) = look.await else { return Outcome::Close };
        let wanted = Wanted::new(body.topics);
        let state = session.node().frozen_state();
        let size = wanted.size(&state);
        let of = Arc::clone(&session);
        let make = move || {
            let dir = of.node().file().cluster.storage.data_dir.display().to_string();
            to.send(&answer(dir, wanted.topics(&state), disk, to.version))
        };
        session.shared.memory.answer(size, make).await
    }))
}

/// Bytes of the file system that the data directory is on; -1 when it does not tell.
#[derive(Clone, Copy, Debug)]
struct Disk {
    total: i64,
    usable: i64,
}

impl Disk {
    fn look(dir: &Path) -> Self {
        let bytes = |blocks: u64, size: u64| i64::try_from(blocks.saturating_mul(size)).unwrap_or(i64::MAX);
        rustix::fs::statvfs(dir).map_or(Self { total: -1, usable: -1 }, |disk| Self {
            total: bytes(disk.f_blocks, disk.f_frsize),
            usable: bytes(disk.f_bavail, disk.f_frsize),
        })
    }
}

/// Partitions by topic; `None` is all of them.
struct Wanted(Option<BTreeMap<TopicName, BTreeSet<i32>>>);

impl Wanted {
    fn new(topics: Option<Vec<DescribableLogDirTopic>>) -> Self {
        Self(topics.map(|topics| {
            let mut wanted = BTreeMap::<_, BTreeSet<i32>>::new();
            for topic in topics {
                wanted.entry(topic.topic).or_default().extend(topic.partitions);
            }
            wanted
        }))
    }

    /// The topics that there are, and the partitions wanted of each; `None` is all of them.
    fn look<'a>(
        &'a self,
        state_machine: &'a StateMachine,
    ) -> Box<dyn Iterator<Item = (&'a Topic, Option<&'a BTreeSet<i32>>)> + 'a> {
        match &self.0 {
            None => Box::new(state_machine.topics().map(|topic| (topic, None))),
            Some(wanted) => Box::new(
                wanted
                    .iter()
                    .filter_map(|(name, partitions)| Some((state_machine.topic(name)?, Some(partitions)))),
            ),
        }
    }

    /// Bytes that the answer takes at most.
    fn size(&self, state_machine: &StateMachine) -> usize {
        let size = |(topic, _): (&Topic, _)| TOPIC + topic.name.len() + PARTITION * topic.partitions.len();
        self.look(state_machine).map(size).sum::<usize>() + (8 << 10)
    }

    fn topics(&self, state_machine: &StateMachine) -> Vec<DescribeLogDirsTopic> {
        let topics = self.look(state_machine).map(|(topic, wanted)| {
            let numbered = (0..).zip(&topic.partitions);
            let asked = numbered.filter(|(index, _)| wanted.is_none_or(|wanted| wanted.contains(index)));
            let partitions = asked.map(|(index, partition)| {
                DescribeLogDirsPartition::default()
                    .with_partition_index(index)
                    .with_partition_size(i64::try_from(partition.kept_bytes()).unwrap_or(i64::MAX))
            });
            DescribeLogDirsTopic::default()
                .with_name(TopicName(StrBytes::from_string(topic.name.clone())))
                .with_partitions(partitions.collect())
        });
        topics.collect()
    }
}

fn answer(
    dir: String,
    topics: Vec<DescribeLogDirsTopic>,
    disk: Disk,
    version: i16,
) -> DescribeLogDirsResponse {
    let result =
        DescribeLogDirsResult::default().with_log_dir(StrBytes::from_string(dir)).with_topics(topics);
    let result = match version {
        DISK_SINCE.. => result.with_total_bytes(disk.total).with_usable_bytes(disk.usable),
        _ => result,
    };
    DescribeLogDirsResponse::default().with_results(vec![result])
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use kafka_protocol::messages::ApiKey;
    use kafka_protocol::protocol::Encodable;

    use super::*;
    use crate::net::kafka::leader_epoch::tests::state_machine;
    use crate::net::kafka::tests::{batch_of, encodes};
    use crate::state_machine::command::Command;

    fn listed(topics: Option<&[(&'static str, &[i32])]>) -> Vec<(i32, i64)> {
        let wanted = topics.map(|topics| {
            let topics = topics.iter().map(|(name, partitions)| {
                DescribableLogDirTopic::default()
                    .with_topic(TopicName((*name).into()))
                    .with_partitions(partitions.to_vec())
            });
            topics.collect()
        });
        let (wanted, state_machine) = (Wanted::new(wanted), state_machine(&[1, 1]));
        let disk = Disk { total: 100, usable: 50 };
        let ask = |version| answer("/data".to_owned(), wanted.topics(&state_machine), disk, version);
        encodes(ApiKey::DescribeLogDirs, ask);
        let answer = ask(4);
        assert!(answer.compute_size(4).unwrap() <= wanted.size(&state_machine));
        assert_eq!((answer.results[0].total_bytes, answer.results[0].usable_bytes), (100, 50));
        let partitions = answer.results[0].topics.iter().flat_map(|topic| &topic.partitions);
        partitions.map(|partition| (partition.partition_index, partition.partition_size)).collect()
    }

    #[test]
    fn partitions_are_as_large_as_the_batches_that_they_keep() {
        let both = i64::try_from(2 * batch_of(10).len()).unwrap();
        assert_eq!(listed(None), [(0, both)]);
        assert_eq!(listed(Some(&[("t", &[0, 0, 7]), ("u", &[0]), ("t", &[0])])), [(0, both)], "each once");
        assert_eq!((listed(Some(&[("t", &[])])), listed(Some(&[]))), (vec![], vec![]));
    }

    #[test]
    fn a_partition_that_keeps_nothing_takes_nothing() {
        let mut state_machine = state_machine(&[1]);
        let mut payload = BytesMut::new();
        Command::DeleteRecords { topic: 1, partition: 0, start_offset: 10 }.encode(&mut payload);
        state_machine.apply(3, 1, &payload.freeze());
        assert_eq!(Wanted(None).topics(&state_machine)[0].partitions[0].partition_size, 0);
    }

    #[test]
    fn a_disk_tells_its_room() {
        let disk = Disk::look(Path::new("/"));
        assert!(0 < disk.usable && disk.usable <= disk.total, "{disk:?}");
        assert_eq!(Disk::look(Path::new("/no/such/place")).total, -1);
    }
}

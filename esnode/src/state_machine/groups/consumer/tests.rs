//! Groups of the consumer protocol as clients meet them, one heartbeat after the other.

mod model;

use super::*;
use crate::state_machine::groups::{CommittedOffset, GroupChange, Groups, Joining, OffsetCommit, Protocol};

/// A group under test, the topics by name with their ids and sizes, and the log's time.
struct Lab {
    groups: Groups,
    topics: BTreeMap<String, (TopicId, u32)>,
    now: i64,
}

fn beat(member: &str, epoch: i32) -> Heartbeat {
    Heartbeat {
        member: member.to_owned(),
        epoch,
        instance: None,
        rack: None,
        client_id: "c".to_owned(),
        client_host: "/127.0.0.1".to_owned(),
        rebalance_timeout: None,
        topics: None,
        pattern: None,
        assignor: None,
        owned: None,
    }
}

fn joining(member: &str) -> Heartbeat {
    Heartbeat {
        rebalance_timeout: Some(5_000),
        topics: Some(["t".to_owned()].into()),
        owned: Some(Partitions::new()),
        ..beat(member, 0)
    }
}

fn owning(member: &str, epoch: i32, partitions: impl IntoIterator<Item = u32>) -> Heartbeat {
    Heartbeat { owned: Some(of_t(partitions)), ..beat(member, epoch) }
}

fn of_t(partitions: impl IntoIterator<Item = u32>) -> Partitions {
    partitions.into_iter().map(|partition| (1, partition)).collect()
}

fn told(epoch: i32, partitions: impl IntoIterator<Item = u32>) -> Result<HeartbeatReply, GroupError> {
    Ok(HeartbeatReply { epoch, assignment: Some(of_t(partitions)) })
}

fn nothing_new(epoch: i32) -> Result<HeartbeatReply, GroupError> {
    Ok(HeartbeatReply { epoch, assignment: None })
}

impl Lab {
    /// Without a group, and with a topic of four partitions.
    fn new() -> Self {
        Self { groups: Groups::default(), topics: [("t".to_owned(), (1, 4))].into(), now: 1_000 }
    }

    fn change(&mut self, change: GroupChange) -> Result<GroupReply, GroupError> {
        let topics = self.topics.clone();
        let outcome = self.groups.apply("g", change, self.now, &|name| topics.get(name).copied());
        let bytes: usize = self.groups.groups.values().map(|group| group.bytes()).sum();
        assert_eq!(self.groups.bytes, bytes, "what all groups take is counted");
        outcome
    }

    /// Sends a heartbeat as the coordinator takes it: one that changes nothing is no change.
    fn send(&mut self, heartbeat: Heartbeat) -> Result<HeartbeatReply, GroupError> {
        let group = self.groups.get("g").and_then(|group| group.consumer());
        let answer = group.map_or(Ok(None), |group| group.answer(&heartbeat));
        let before = group.cloned();
        match self.change(GroupChange::Consumer(ConsumerChange::Heartbeat(heartbeat))) {
            Ok(GroupReply::Heartbeat(reply)) => {
                let same = before.is_some_and(|before| before.members == self.group().members);
                assert_eq!(
                    answer,
                    Ok(same.then(|| reply.clone())),
                    "what is answered at once is what changes nothing"
                );
                Ok(reply)
            }
            Err(error) => {
                assert!(answer == Err(error) || before.is_none());
                Err(error)
            }
            other => panic!("{other:?}"),
        }
    }

    fn group(&self) -> &ConsumerGroup {
        self.groups.get("g").and_then(|group| group.consumer()).expect("the group is there")
    }

    fn leave(&mut self, member: &str) -> GroupReply {
        let leaving = Leaving { member: member.to_owned(), instance: None };
        self.change(GroupChange::Leave(vec![leaving])).unwrap()
    }

    fn topic(&mut self, name: &str, size: (TopicId, u32)) -> Vec<String> {
        self.topics.insert(name.to_owned(), size);
        let topics = self.topics.clone();
        self.groups.topic_changed(name, &|name| topics.get(name).copied())
    }

    fn commit(&mut self, member: &str, epoch: i32) -> Result<GroupReply, GroupError> {
        let kept = CommittedOffset { offset: 5, leader_epoch: 1, metadata: String::new(), committed: 0 };
        self.change(GroupChange::Commit(OffsetCommit {
            member: member.to_owned(),
            instance: None,
            generation: epoch,
            offsets: vec![(1, 0, kept)],
        }))
    }

    /// Two members that share the topic, both in epoch 2.
    fn shared() -> Self {
        let mut lab = Self::new();
        lab.send(joining("a")).unwrap();
        lab.send(joining("b")).unwrap();
        lab.send(beat("a", 1)).unwrap();
        lab.send(owning("a", 1, [0, 1])).unwrap();
        assert_eq!(lab.send(owning("b", 2, [])), told(2, [2, 3]));
        assert_eq!((lab.group().state(), lab.group().epoch()), ("Stable", 2));
        let group = lab.groups.get("g").unwrap();
        assert_eq!((group.state(), group.member_count()), ("Stable", 2));
        lab
    }
}

#[test]
fn the_first_member_gets_all_and_hears_nothing_new_afterwards() {
    let mut lab = Lab::new();
    assert_eq!(lab.send(joining("a")), told(1, 0..4));
    assert_eq!(lab.send(owning("a", 1, 0..4)), nothing_new(1));
    assert_eq!(lab.send(beat("a", 1)), nothing_new(1));
    let full = Heartbeat { epoch: 1, owned: Some(of_t(0..4)), ..joining("a") };
    assert_eq!(lab.send(full), told(1, 0..4), "whoever tells all is told all");
}

#[test]
fn a_partition_goes_to_its_new_owner_once_the_old_one_gave_it_up() {
    let mut lab = Lab::new();
    lab.send(joining("a")).unwrap();
    assert_eq!(lab.send(joining("b")), told(2, []), "all is with a still");
    assert_eq!(lab.group().state(), "Reconciling");
    assert_eq!(lab.send(owning("a", 1, 0..4)), told(1, [0, 1]), "a has to give up 2 and 3");
    assert_eq!(lab.send(beat("b", 2)), nothing_new(2));
    assert_eq!(lab.send(beat("a", 1)), nothing_new(1), "it does not say that it did");
    assert_eq!(lab.send(owning("a", 1, [0, 1, 2])), nothing_new(1), "it has not yet");
    assert_eq!(lab.send(beat("b", 2)), nothing_new(2));
    assert_eq!(lab.send(owning("a", 1, [0, 1])), told(2, [0, 1]));
    assert_eq!(lab.send(beat("b", 2)), told(2, [2, 3]));
    assert_eq!(lab.group().state(), "Stable");
}

#[test]
fn whoever_leaves_or_is_too_slow_leaves_its_partitions_to_the_others() {
    let mut lab = Lab::shared();
    assert_eq!(lab.leave("b"), GroupReply::Left(vec![None]));
    assert_eq!(lab.send(beat("a", 2)), told(3, 0..4));
    assert_eq!(lab.leave("b"), GroupReply::Left(vec![Some(GroupError::UnknownMember)]));
    assert_eq!(lab.send(beat("b", 2)), Err(GroupError::UnknownMember));
    lab.send(joining("b")).unwrap();
    lab.send(beat("a", 3)).unwrap();
    let fence = |epoch| GroupChange::Consumer(ConsumerChange::Fence { member: "a".to_owned(), epoch });
    lab.change(fence(2)).unwrap();
    assert!(lab.group().members().contains_key("a"), "that was before");
    lab.change(fence(3)).unwrap();
    assert_eq!(lab.send(beat("a", 3)), Err(GroupError::UnknownMember));
    assert_eq!(lab.send(beat("b", 4)), told(5, 0..4));
    lab.change(fence(5)).unwrap();
    assert_eq!(lab.group().members().len(), 1, "nobody has anything to give up");
}

#[test]
fn a_member_that_missed_a_response_may_come_with_the_epoch_before() {
    let mut lab = Lab::shared();
    lab.leave("b");
    lab.send(beat("a", 2)).unwrap();
    assert_eq!(lab.send(beat("a", 2)), Err(GroupError::FencedEpoch), "it does not say what it has");
    assert_eq!(lab.send(owning("a", 2, [0, 1])), told(3, 0..4));
    assert_eq!(lab.send(owning("a", 2, [0, 9])), Err(GroupError::FencedEpoch));
    assert_eq!(lab.send(beat("a", 1)), Err(GroupError::FencedEpoch));
    assert_eq!(lab.send(beat("a", 4)), Err(GroupError::FencedEpoch));
    assert_eq!(lab.send(joining("a")), told(3, 0..4), "it has nothing, and begins again");
}

#[test]
fn topics_that_come_grow_and_go_are_assigned_anew() {
    let mut lab = Lab::shared();
    assert!(lab.topic("u", (2, 4)).is_empty(), "nobody subscribes to it");
    assert_eq!(lab.topic("t", (1, 6)), ["g"]);
    assert_eq!(lab.send(beat("a", 2)), told(3, [0, 1, 4]));
    assert_eq!(lab.send(beat("b", 2)), told(3, [2, 3, 5]));
    let both = Some(["t".to_owned(), "u".to_owned()].into());
    let reply = lab.send(Heartbeat { topics: both, ..beat("a", 3) }).unwrap();
    assert_eq!((reply.epoch, reply.assignment), (3, Some(of_t([0]))), "a is to take u, and gives up 1 and 4");
    lab.topics.remove("t");
    lab.topic("v", (3, 1));
    assert_eq!(lab.group().epoch(), 4);
    let topics = lab.topics.clone();
    lab.groups.topic_changed("t", &|name| topics.get(name).copied());
    assert_eq!(lab.send(owning("b", 3, [2, 3, 5])), told(3, []));
    assert_eq!(lab.send(owning("b", 3, [])), told(5, []));
}

#[test]
fn a_pattern_means_what_it_was_found_to_match() {
    let matching = |topics: &[&str]| Pattern {
        regex: "[tu]".to_owned(),
        topics: topics.iter().map(|topic| (*topic).to_owned()).collect(),
    };
    let mut lab = Lab::new();
    let by_pattern = Heartbeat { topics: None, pattern: Some(Some(matching(&["t"]))), ..joining("a") };
    assert_eq!(lab.send(by_pattern), told(1, 0..4));
    assert!(lab.topic("u", (2, 1)).is_empty(), "nobody has looked yet whether it matches");
    let rematch = |topics: &[&str]| GroupChange::Consumer(ConsumerChange::Match(matching(topics)));
    lab.change(rematch(&["t", "u"])).unwrap();
    lab.change(rematch(&["t", "u"])).unwrap();
    assert_eq!((lab.group().epoch(), lab.group().patterns().len()), (2, 1), "once is enough");
    let all = of_t(0..4).into_iter().chain([(2, 0)]).collect();
    assert_eq!(lab.send(beat("a", 1)), Ok(HeartbeatReply { epoch: 2, assignment: Some(all) }));
    assert!(lab.group().is_subscribed("u"));
    let by_name = Heartbeat { topics: Some(["t".to_owned()].into()), pattern: Some(None), ..beat("a", 2) };
    assert_eq!(lab.send(by_name), told(2, 0..4));
    assert!(!lab.group().is_subscribed("u") && lab.group().patterns().is_empty());
}

#[test]
fn a_static_member_that_goes_for_a_while_gets_back_what_it_had() {
    let mut lab = Lab::new();
    let instance = |member| Heartbeat { instance: Some("i".to_owned()), ..joining(member) };
    lab.send(instance("s1")).unwrap();
    lab.send(joining("t")).unwrap();
    lab.send(owning("s1", 1, 0..2)).unwrap();
    lab.send(owning("s1", 1, 0..2)).unwrap();
    lab.send(beat("t", 2)).unwrap();
    assert_eq!(lab.send(instance("s2")), Err(GroupError::UnreleasedInstance));
    let release = |member: &str| {
        GroupChange::Consumer(ConsumerChange::ReleaseInstance {
            member: member.to_owned(),
            instance: "i".to_owned(),
        })
    };
    assert_eq!(lab.change(release("s2")), Err(GroupError::FencedInstance));
    lab.change(release("s1")).unwrap();
    assert_eq!(lab.group().members()["s1"].epoch, RELEASED);
    assert_eq!(lab.send(beat("s1", 2)), Err(GroupError::FencedEpoch));
    assert_eq!(lab.send(instance("s2")), told(2, [0, 1]));
    assert_eq!((lab.group().epoch(), lab.group().state()), (2, "Stable"), "no other member has to know");
    assert_eq!(lab.send(beat("s1", 2)), Err(GroupError::UnknownMember));
    let old = Heartbeat { instance: Some("i".to_owned()), ..beat("s1", 2) };
    assert_eq!(lab.send(old), Err(GroupError::FencedInstance));
}

#[test]
fn the_assignor_is_the_one_that_most_prefer() {
    let mut lab = Lab::new();
    let range = |member| Heartbeat { assignor: Some(Assignor::Range), ..joining(member) };
    lab.send(joining("a")).unwrap();
    assert_eq!(lab.group().assignor(), Assignor::Uniform);
    lab.send(range("b")).unwrap();
    assert_eq!(lab.group().assignor(), Assignor::Range);
    let uniform = Heartbeat { assignor: Some(Assignor::Uniform), ..beat("a", 1) };
    lab.send(uniform).unwrap();
    assert_eq!((lab.group().assignor(), lab.group().epoch()), (Assignor::Uniform, 3), "as many for each");
}

#[test]
fn offsets_are_committed_in_the_members_epoch() {
    let mut lab = Lab::shared();
    assert_eq!(lab.commit("a", 2), Ok(GroupReply::Done));
    assert_eq!(lab.commit("a", 1), Err(GroupError::StaleEpoch));
    assert_eq!(lab.commit("c", 2), Err(GroupError::UnknownMember));
    assert_eq!(lab.commit("", -1), Err(GroupError::UnknownMember), "it has members");
    lab.leave("a");
    assert_eq!(lab.commit("b", 2), Ok(GroupReply::Done), "it has not heard of epoch 3 yet");
    assert_eq!(lab.change(GroupChange::Delete), Err(GroupError::NonEmpty));
    lab.now = 2_000;
    lab.leave("b");
    let group = lab.groups.get("g").unwrap();
    assert_eq!((group.empty_since(), lab.group().state()), (Some(2_000), "Empty"));
    lab.now = 3_000;
    assert_eq!(lab.send(beat("b", 3)), Err(GroupError::UnknownMember));
    assert_eq!(lab.groups.get("g").unwrap().empty_since(), Some(2_000));
    assert_eq!(lab.commit("", -1), Ok(GroupReply::Done));
    assert_eq!(lab.change(GroupChange::Delete), Ok(GroupReply::Done));
    assert!(lab.groups.get("g").is_none());
}

#[test]
fn a_group_without_members_is_of_the_protocol_of_whoever_joins_next() {
    let classic = || {
        GroupChange::Join(Joining {
            member: "k".to_owned(),
            is_new: true,
            instance: None,
            client_id: "c".to_owned(),
            client_host: "/127.0.0.1".to_owned(),
            session_timeout: 6_000,
            rebalance_timeout: 6_000,
            protocol_type: "consumer".to_owned(),
            protocols: vec![Protocol { name: "range".to_owned(), metadata: Default::default() }],
        })
    };
    let mut lab = Lab::shared();
    lab.commit("a", 2).unwrap();
    assert_eq!(lab.change(classic()), Err(GroupError::InconsistentProtocol));
    lab.leave("a");
    lab.leave("b");
    assert!(lab.change(classic()).is_ok());
    assert!(lab.groups.get("g").unwrap().consumer().is_none());
    assert_eq!(lab.send(joining("a")), Err(GroupError::NotFound));
    lab.leave("k");
    assert_eq!(lab.send(beat("a", 2)), Err(GroupError::UnknownMember));
    assert!(lab.groups.get("g").unwrap().consumer().is_none(), "only whoever joins makes it one");
    assert_eq!(lab.send(joining("a")), told(1, 0..4));
    assert!(lab.groups.get("g").unwrap().offsets().get(1, 0).is_some());
}

#[test]
fn a_snapshot_holds_a_group_whole() {
    let mut lab = Lab::shared();
    lab.send(joining("c")).unwrap();
    lab.send(beat("a", 2)).unwrap();
    let stored = serde_json::to_vec(&lab.groups).unwrap();
    let read: Groups = serde_json::from_slice(&stored).unwrap();
    let digest = |groups: &Groups| {
        let mut all = Vec::new();
        groups.fingerprint(|bytes| all.extend_from_slice(bytes));
        (all, groups.bytes)
    };
    assert_eq!(digest(&read), digest(&lab.groups));
}

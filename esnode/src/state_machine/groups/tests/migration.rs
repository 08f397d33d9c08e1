//! Groups that go over from one protocol to the other and back, while they have members.

mod crossing;
mod limits;
mod model;

use bytes::Bytes;

use super::*;
use crate::state_machine::groups::consumer::{
    ConsumerChange, ConsumerGroup, Heartbeat, HeartbeatReply, Partitions, RELEASED,
};
use crate::state_machine::groups::subscription::tests::{assignment, subscription};

/// A group under test, of consumers of a topic of four partitions.
struct Lab {
    groups: Groups,
}

fn topics(name: &str) -> Option<(TopicId, u32)> {
    (name == "t").then_some((1, 4))
}

fn of_t(partitions: impl IntoIterator<Item = u32>) -> Partitions {
    partitions.into_iter().map(|partition| (1, partition)).collect()
}

/// Of a member that has these partitions and keeps them until it is told to give them up.
fn classic(member: &str, is_new: bool, owned: &[u32]) -> Joining {
    let metadata = subscription(&["t"], owned);
    let protocols = vec![Protocol { name: "cooperative-sticky".to_owned(), metadata }];
    Joining { protocols, rebalance_timeout: 5_000, ..joining(member, is_new) }
}

fn beat(member: &str, epoch: i32) -> Heartbeat {
    Heartbeat {
        member: member.to_owned(),
        epoch,
        instance: None,
        rack: None,
        client_id: "c".to_owned(),
        client_host: "/127.0.0.1".to_owned(),
        rebalance_timeout: (epoch == 0).then_some(5_000),
        topics: (epoch == 0).then(|| ["t".to_owned()].into()),
        pattern: None,
        assignor: None,
        owned: (epoch == 0).then(Partitions::new),
    }
}

impl Lab {
    /// Members a and b of the classic protocol, in generation 1, with two partitions each.
    fn shared() -> Self {
        let mut lab = Self { groups: Groups::default() };
        for member in ["a", "b"] {
            lab.join(classic(member, true, &[])).unwrap();
        }
        lab.change(GroupChange::CompleteJoin { generation: 0 }).unwrap();
        lab.assign(1, &[("a", &[2, 3]), ("b", &[0, 1])], 0);
        lab
    }

    fn assign(&mut self, generation: i32, shares: &[(&str, &[u32])], user_data: usize) {
        let member = self.group().leader().unwrap().to_owned();
        let told = |share: &[u32]| assignment("t", share, user_data);
        let assignments = shares.iter().map(|(member, share)| ((*member).to_owned(), told(share)));
        let assignments = assignments.collect();
        self.change(GroupChange::Assign { member, generation, assignments }).unwrap();
    }

    fn change(&mut self, change: GroupChange) -> Result<GroupReply, GroupError> {
        let outcome = self.groups.apply("g", change, 1_000, &topics);
        let bytes: usize = self.groups.groups.values().map(|group| group.bytes()).sum();
        assert_eq!(self.groups.bytes, bytes, "what all groups take is counted");
        outcome
    }

    fn join(&mut self, joining: Joining) -> Result<GroupReply, GroupError> {
        self.change(GroupChange::Join(joining))
    }

    /// The epoch that a member of the classic protocol is in once it has joined again, and what it may have then.
    fn rejoin(&mut self, member: &str, owned: &[u32]) -> (i32, Partitions) {
        let reply = self.join(classic(member, false, owned)).unwrap();
        let GroupReply::Admitted { epoch } = reply else { panic!("{reply:?}") };
        (epoch, self.consumers().members()[member].assigned.clone())
    }

    fn send(&mut self, heartbeat: Heartbeat) -> Result<HeartbeatReply, GroupError> {
        match self.change(GroupChange::Consumer(ConsumerChange::Heartbeat(heartbeat)))? {
            GroupReply::Heartbeat(reply) => Ok(reply),
            other => panic!("{other:?}"),
        }
    }

    fn leave(&mut self, member: &str) {
        let leaving = Leaving { member: member.to_owned(), instance: None };
        assert_eq!(self.change(GroupChange::Leave(vec![leaving])), Ok(GroupReply::Left(vec![None])));
    }

    fn commit(&mut self, member: &str, generation: i32) -> Result<GroupReply, GroupError> {
        let (member, offsets) = (member.to_owned(), Vec::new());
        self.change(GroupChange::Commit(OffsetCommit { member, instance: None, generation, offsets }))
    }

    fn group(&self) -> &Group {
        self.groups.get("g").expect("the group is there")
    }

    fn consumers(&self) -> &ConsumerGroup {
        self.group().consumer().expect("it is of the consumer protocol")
    }

    fn hears(&self, member: &str, generation: i32) -> Result<(), GroupError> {
        self.group().heartbeat(generation, member, None)
    }
}

/// What members of a group hear that has changed its protocol or epoch.
const JOIN_AGAIN: Result<(), GroupError> = Err(GroupError::RebalanceInProgress);

#[test]
fn members_of_the_classic_protocol_stay_and_give_up_what_the_new_one_gets() {
    let mut lab = Lab::shared();
    let told = lab.send(beat("x", 0)).unwrap();
    assert_eq!(told.assignment, Some(Partitions::new()), "all is with the others still");
    let epoch = told.epoch;
    assert_eq!((lab.group().state(), lab.group().member_count()), ("Reconciling", 3));
    assert_eq!(lab.commit("b", 1), Ok(GroupReply::Done), "its generation goes on until it joins");
    assert_eq!((lab.hears("b", 1), lab.hears("a", 1)), (JOIN_AGAIN, JOIN_AGAIN));
    assert_eq!(lab.rejoin("b", &[0, 1]), (1, of_t([0])), "it has to give up 1 first");
    assert_eq!(lab.hears("b", 1), JOIN_AGAIN, "and to say that it did");
    assert_eq!(lab.send(beat("x", epoch)).unwrap().assignment, None);
    assert_eq!(lab.rejoin("b", &[0, 1]), (1, of_t([0])), "it has not yet");
    assert_eq!(lab.rejoin("b", &[0]), (epoch, of_t([0])));
    assert_eq!(lab.hears("b", epoch), Ok(()));
    assert_eq!(lab.hears("b", 1), Err(GroupError::IllegalGeneration));
    assert_eq!(lab.commit("b", 1), Err(GroupError::IllegalGeneration));
    assert_eq!(lab.commit("b", epoch), Ok(GroupReply::Done));
    assert_eq!(lab.send(beat("x", epoch)).unwrap().assignment, Some(of_t([1])));
    assert_eq!(lab.rejoin("a", &[2, 3]), (epoch, of_t([2, 3])));
    assert_eq!(lab.group().state(), "Stable");
}

#[test]
fn a_member_that_gives_up_all_to_join_gets_its_part_at_once_and_the_rest_when_it_is_free() {
    let mut lab = Lab::shared();
    let epoch = lab.send(beat("x", 0)).unwrap().epoch;
    assert_eq!(lab.rejoin("b", &[]), (epoch, of_t([0])));
    assert_eq!(lab.send(beat("x", epoch)).unwrap().assignment, Some(of_t([1])));
    assert_eq!(lab.join(classic("c", true, &[])), Ok(GroupReply::Admitted { epoch: epoch + 1 }));
    let had = |lab: &Lab| lab.consumers().members()["c"].assigned.clone();
    assert_eq!((had(&lab), lab.hears("c", epoch + 1)), (of_t([]), Ok(())), "a has it all still");
    assert_eq!(lab.rejoin("a", &[]), (epoch + 1, of_t([2])));
    assert_eq!(lab.hears("c", epoch + 1), JOIN_AGAIN);
    assert_eq!(lab.rejoin("c", &[]), (epoch + 1, of_t([3])));
    assert_eq!(lab.hears("c", epoch + 1), Ok(()));
}

#[test]
fn whoever_does_not_join_again_in_time_is_removed() {
    let mut lab = Lab::shared();
    let epoch = lab.send(beat("x", 0)).unwrap().epoch;
    let waits = |lab: &Lab, id: &str| lab.consumers().waited_for().any(|(waited_for, _)| waited_for == id);
    assert!(waits(&lab, "b") && waits(&lab, "a") && !waits(&lab, "x"));
    lab.rejoin("b", &[0, 1]);
    assert!(waits(&lab, "b"), "it has not given up 1 yet");
    lab.rejoin("b", &[0]);
    assert!(!waits(&lab, "b"));
    let fence = |member: &str, epoch| ConsumerChange::Fence { member: member.to_owned(), epoch };
    lab.change(GroupChange::Consumer(fence("b", epoch))).unwrap();
    lab.change(GroupChange::Consumer(fence("a", 0))).unwrap();
    assert_eq!(lab.group().member_count(), 3, "one does not wait, and that was the other's epoch before");
    lab.change(GroupChange::Consumer(fence("a", 1))).unwrap();
    assert_eq!(lab.hears("a", 1), Err(GroupError::UnknownMember));
    assert_eq!(lab.join(classic("a", false, &[2, 3])), Err(GroupError::UnknownMember));
}

#[test]
fn the_last_member_of_the_consumer_protocol_leaves_a_group_of_the_classic_one_that_rebalances() {
    let mut lab = Lab::shared();
    let epoch = lab.send(beat("x", 0)).unwrap().epoch;
    lab.rejoin("a", &[]);
    lab.rejoin("b", &[]);
    lab.send(beat("x", epoch)).unwrap();
    lab.leave("x");
    let group = lab.group();
    assert!(group.consumer().is_none());
    assert_eq!((group.generation(), group.protocol_type()), (epoch, "consumer"));
    assert_eq!((group.state(), lab.hears("a", epoch)), ("PreparingRebalance", JOIN_AGAIN));
    assert_eq!(lab.commit("a", epoch), Ok(GroupReply::Done), "of what it read until now");
    lab.join(classic("a", false, &[0])).unwrap();
    lab.join(classic("b", false, &[2])).unwrap();
    lab.assign(epoch + 1, &[("a", &[0, 1]), ("b", &[2, 3])], 0);
    assert_eq!((lab.group().state(), lab.hears("a", epoch + 1)), ("Stable", Ok(())));
}

#[test]
fn what_members_had_is_known_in_every_phase_of_a_rebalance() {
    let mut lab = Lab::shared();
    let epoch = lab.send(beat("x", 0)).unwrap().epoch;
    lab.rejoin("b", &[]);
    lab.leave("x");
    // Nobody has joined since: b has 0 still, a has 2 and 3, and 1 is free.
    let told = lab.send(beat("y", 0)).unwrap();
    assert_eq!(told.assignment, Some(of_t([1])));
    let had = |lab: &Lab, id: &str| lab.consumers().members()[id].assigned.clone();
    assert_eq!((had(&lab, "b"), had(&lab, "a")), (of_t([0]), of_t([2, 3])));
    lab.leave("y");
    // All have joined, and nobody was assigned: what they kept is what they have.
    for (member, owned) in [("b", &[0][..]), ("a", &[2])] {
        lab.join(classic(member, false, owned)).unwrap();
    }
    assert_eq!(lab.group().phase(), Phase::CompletingRebalance);
    assert!(lab.group().generation() > epoch);
    lab.send(beat("z", 0)).unwrap();
    assert_eq!((had(&lab, "b"), had(&lab, "a")), (of_t([0]), of_t([2])));
}

#[test]
fn a_member_that_has_not_heard_its_assignment_may_have_what_it_kept() {
    let mut lab = Lab::shared();
    lab.join(classic("c", true, &[])).unwrap();
    lab.join(classic("b", false, &[0, 1])).unwrap();
    lab.join(classic("a", false, &[2, 3])).unwrap();
    lab.assign(2, &[("b", &[0]), ("a", &[2]), ("c", &[])], 0);
    lab.send(beat("x", 0)).unwrap();
    let had = lab.consumers().members().values().flat_map(|member| &member.assigned).count();
    assert_eq!(had, 4, "x may have nothing before a and b say that they gave it up");
}

#[test]
fn only_consumers_as_kafka_has_them_go_over() {
    let mut lab = Lab::shared();
    lab.join(Joining { instance: None, ..joining("c", true) }).expect_err("it has no assignor in common");
    let mut other = classic("c", true, &[]);
    other.protocols[0].metadata = Bytes::from_static(b"?");
    lab.join(other).unwrap();
    assert_eq!(lab.send(beat("x", 0)), Err(GroupError::NotFound), "what c says is no subscription");
    assert_eq!(lab.group().phase(), Phase::PreparingRebalance { initial: false });
    lab.leave("c");
    lab.join(classic("a", false, &[])).unwrap();
    lab.join(classic("b", false, &[])).unwrap();
    lab.assign(2, &[("a", &[0, 1]), ("b", &[2, 3])], 1);
    assert_eq!(lab.send(beat("x", 0)), Err(GroupError::NotFound), "an assignor of their own says more");
    assert_eq!((lab.group().state(), lab.hears("a", 2)), ("Stable", Ok(())));
    lab.join(classic("a", false, &[])).unwrap();
    lab.join(classic("b", false, &[])).unwrap();
    lab.assign(3, &[("a", &[0, 1]), ("b", &[2, 3])], 0);
    assert_eq!(lab.send(beat("x", 1)), Err(GroupError::UnknownMember), "it does not join");
    lab.send(beat("x", 0)).unwrap();
    assert_eq!(lab.join(joining("d", true)), Err(GroupError::InconsistentProtocol));
    let connect = Joining { protocol_type: "connect".to_owned(), ..classic("d", true, &[]) };
    assert_eq!(lab.join(connect), Err(GroupError::InconsistentProtocol));
    assert_eq!(lab.join(classic("x", false, &[])), Err(GroupError::UnknownMember));
    assert_eq!(lab.send(beat("a", 3)), Err(GroupError::UnknownMember), "it is of the classic protocol");
}

#[test]
fn a_static_member_goes_over_with_what_it_was_to_have() {
    let fixed =
        |member: &str, is_new| Joining { instance: Some("i".to_owned()), ..classic(member, is_new, &[]) };
    let mut lab = Lab { groups: Groups::default() };
    lab.join(fixed("s1", true)).unwrap();
    lab.change(GroupChange::CompleteJoin { generation: 0 }).unwrap();
    lab.assign(1, &[("s1", &[0, 1, 2, 3])], 0);
    // Its client does not say that it goes.
    let consumer = |member: &str| Heartbeat { instance: Some("i".to_owned()), ..beat(member, 0) };
    assert_eq!(lab.send(consumer("s2")).unwrap().assignment, Some(of_t(0..4)));
    assert_eq!(lab.group().member_count(), 1);
    assert_eq!(lab.group().heartbeat(1, "s1", Some("i")), Err(GroupError::FencedInstance));
    let released = ConsumerChange::ReleaseInstance { member: "s2".to_owned(), instance: "i".to_owned() };
    lab.change(GroupChange::Consumer(released)).unwrap();
    assert_eq!(lab.consumers().members()["s2"].epoch, RELEASED);
    lab.join(fixed("s3", true)).unwrap();
    assert!(lab.group().consumer().is_none(), "the last of the consumer protocol has become a classic one");
    assert_eq!(lab.join(fixed("s3", false)).map(drop), Ok(()));
    assert_eq!(lab.group().phase(), Phase::CompletingRebalance);
}

#[test]
fn a_snapshot_holds_a_mixed_group_whole() {
    let mut lab = Lab::shared();
    lab.send(beat("x", 0)).unwrap();
    lab.rejoin("a", &[0, 1]);
    let digest = |groups: &Groups| {
        let mut all = Vec::new();
        groups.fingerprint(|bytes| all.extend_from_slice(bytes));
        (all, groups.bytes)
    };
    let check = |lab: &Lab| {
        let stored = serde_json::to_vec(&lab.groups).unwrap();
        let read: Groups = serde_json::from_slice(&stored).unwrap();
        assert_eq!(digest(&read), digest(&lab.groups));
        assert_eq!(serde_json::to_vec(&read).unwrap(), stored);
    };
    check(&lab);
    lab.leave("x");
    check(&lab);
}

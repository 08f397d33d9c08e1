//! Groups as clients meet them, one change after the other.

mod migration;

use bytes::Bytes;

use super::*;

/// A group under test, and the log's time.
struct Lab {
    groups: Groups,
    now: i64,
}

impl Lab {
    fn new() -> Self {
        Self { groups: Groups::default(), now: 1_000 }
    }

    fn change(&mut self, change: GroupChange) -> Result<GroupReply, GroupError> {
        let outcome = self.groups.apply("g", change, self.now, &|_| None);
        let bytes: usize = self.groups.groups.values().map(|group| group.bytes()).sum();
        assert_eq!(self.groups.bytes, bytes, "what all groups take is counted");
        outcome
    }

    fn group(&self) -> &Group {
        self.groups.get("g").expect("the group is there")
    }

    fn join(&mut self, member: &str, is_new: bool) -> Result<GroupReply, GroupError> {
        self.change(GroupChange::Join(joining(member, is_new)))
    }

    fn complete(&mut self) {
        let generation = self.group().generation();
        self.change(GroupChange::CompleteJoin { generation }).unwrap();
    }

    /// The leader gives every member its own name.
    fn assign(&mut self) -> Result<GroupReply, GroupError> {
        let (group, leader) = (self.group(), self.group().leader().unwrap().to_owned());
        let assignments = group.members().keys().map(|id| (id.clone(), Bytes::from(id.clone()))).collect();
        let generation = group.generation();
        self.change(GroupChange::Assign { member: leader, generation, assignments })
    }

    /// A group of these members in generation 1.
    fn stable(members: &[&str]) -> Self {
        let mut lab = Self::new();
        members.iter().for_each(|member| assert_eq!(lab.join(member, true), JOINED_FIRST));
        lab.complete();
        lab.assign().unwrap();
        assert_eq!((lab.group().phase(), lab.group().generation()), (Phase::Stable, 1));
        lab
    }

    fn commit(&mut self, member: &str, generation: i32, offset: i64) -> Result<GroupReply, GroupError> {
        let kept = CommittedOffset { offset, leader_epoch: 1, metadata: "m".to_owned(), committed: 0 };
        self.change(GroupChange::Commit(OffsetCommit {
            member: member.to_owned(),
            instance: None,
            generation,
            offsets: vec![(7, 0, kept)],
        }))
    }

    fn leave(&mut self, member: &str) -> GroupReply {
        let leaving = Leaving { member: member.to_owned(), instance: None };
        self.change(GroupChange::Leave(vec![leaving])).unwrap()
    }
}

const JOINED_FIRST: Result<GroupReply, GroupError> = Ok(GroupReply::Joined { after: 0 });

fn joining(member: &str, is_new: bool) -> Joining {
    let protocol = |name: &str| Protocol { name: name.to_owned(), metadata: Bytes::from_static(b"t") };
    Joining {
        member: member.to_owned(),
        is_new,
        instance: None,
        client_id: "c".to_owned(),
        client_host: "/127.0.0.1".to_owned(),
        session_timeout: 6_000,
        rebalance_timeout: 60_000,
        protocol_type: "consumer".to_owned(),
        protocols: vec![protocol("range"), protocol("roundrobin")],
    }
}

fn instance(member: &str, is_new: bool) -> GroupChange {
    GroupChange::Join(Joining { instance: Some("i".to_owned()), ..joining(member, is_new) })
}

#[test]
fn a_new_group_waits_for_more_members_and_then_assigns() {
    let lab = Lab::stable(&["a", "b"]);
    let group = lab.group();
    assert_eq!((group.leader(), group.protocol()), (Some("a"), Some("range")));
    assert!(group.members().iter().all(|(id, member)| member.assignment == id.as_bytes()));
}

#[test]
fn a_member_that_comes_makes_everybody_join_again() {
    let mut lab = Lab::stable(&["a", "b"]);
    assert_eq!(lab.join("c", true), Ok(GroupReply::Joined { after: 1 }));
    assert_eq!(lab.group().phase(), Phase::PreparingRebalance { initial: false });
    lab.join("a", false).unwrap();
    assert_eq!(lab.group().generation(), 1, "b has not joined yet");
    lab.join("b", false).unwrap();
    assert_eq!((lab.group().generation(), lab.group().phase()), (2, Phase::CompletingRebalance));
    assert!(lab.group().members().values().all(|member| member.assignment.is_empty()));
    lab.assign().unwrap();
    assert_eq!((lab.group().phase(), lab.group().leader()), (Phase::Stable, Some("a")));
}

#[test]
fn whoever_does_not_join_in_time_is_removed() {
    let mut lab = Lab::stable(&["a", "b"]);
    lab.join("c", true).unwrap();
    lab.complete();
    assert_eq!(lab.group().members().keys().collect::<Vec<_>>(), ["c"]);
    assert_eq!((lab.group().generation(), lab.group().leader()), (2, Some("c")));
    assert_eq!(lab.join("a", false), Err(GroupError::UnknownMember));
    // That the rebalance before it was long has been decided already.
    lab.change(GroupChange::CompleteJoin { generation: 1 }).unwrap();
    assert_eq!(lab.group().generation(), 2);
}

#[test]
fn a_member_that_asks_again_costs_no_rebalance_unless_it_leads_or_has_changed() {
    let mut lab = Lab::stable(&["a", "b"]);
    assert_eq!(lab.join("b", false), Ok(GroupReply::Unchanged));
    assert_eq!(lab.group().members()["b"].assignment, "b");
    let mut changed = joining("b", false);
    changed.protocols.pop();
    assert_eq!(lab.change(GroupChange::Join(changed)), Ok(GroupReply::Joined { after: 1 }));
    let mut lab = Lab::stable(&["a", "b"]);
    assert_eq!(lab.join("a", false), Ok(GroupReply::Joined { after: 1 }));
}

#[test]
fn a_static_member_that_starts_again_takes_its_place_without_a_rebalance() {
    let mut lab = Lab::new();
    lab.change(instance("s1", true)).unwrap();
    lab.join("t", true).unwrap();
    lab.complete();
    lab.assign().unwrap();
    assert_eq!(lab.change(instance("s2", true)), Ok(GroupReply::Unchanged));
    let group = lab.group();
    assert_eq!((group.phase(), group.leader()), (Phase::Stable, Some("s2")));
    assert_eq!(group.members()["s2"].assignment, "s1");
    assert_eq!(group.member("s1", Some("i")).err(), Some(GroupError::FencedInstance));
    assert_eq!(lab.change(instance("s1", false)), Err(GroupError::FencedInstance));
    let leaving = Leaving { member: String::new(), instance: Some("i".to_owned()) };
    assert_eq!(lab.change(GroupChange::Leave(vec![leaving])), Ok(GroupReply::Left(vec![None])));
    assert_eq!(lab.group().members().keys().collect::<Vec<_>>(), ["t"]);
}

#[test]
fn members_of_another_kind_or_without_a_common_protocol_are_refused() {
    let mut lab = Lab::stable(&["a"]);
    let other = Joining { protocol_type: "connect".to_owned(), ..joining("b", true) };
    assert_eq!(lab.change(GroupChange::Join(other)), Err(GroupError::InconsistentProtocol));
    let mut other = joining("b", true);
    other.protocols.iter_mut().for_each(|protocol| protocol.name.push('x'));
    assert_eq!(lab.change(GroupChange::Join(other)), Err(GroupError::InconsistentProtocol));
    let nothing = Joining { protocols: Vec::new(), ..joining("a", false) };
    assert_eq!(lab.change(GroupChange::Join(nothing)), Err(GroupError::InconsistentProtocol));
    assert_eq!(lab.group().phase(), Phase::Stable);
}

#[test]
fn the_protocol_is_one_that_all_can_do_and_most_prefer() {
    let mut lab = Lab::new();
    for (member, names) in [("a", ["x", "y"]), ("b", ["y", "z"]), ("c", ["z", "y"])] {
        let protocols = names.map(|name| Protocol { name: name.to_owned(), metadata: Bytes::new() });
        let joining = Joining { protocols: protocols.to_vec(), ..joining(member, true) };
        lab.change(GroupChange::Join(joining)).unwrap();
    }
    lab.complete();
    assert_eq!(lab.group().protocol(), Some("y"));
}

#[test]
fn only_the_leader_of_this_generation_assigns() {
    let mut lab = Lab::stable(&["a", "b"]);
    lab.join("c", true).unwrap();
    let assign = |member: &str, generation| GroupChange::Assign {
        member: member.to_owned(),
        generation,
        assignments: vec![("a".to_owned(), Bytes::from_static(b"all"))],
    };
    assert_eq!(lab.change(assign("a", 1)), Err(GroupError::RebalanceInProgress));
    lab.join("a", false).unwrap();
    lab.join("b", false).unwrap();
    assert_eq!(lab.change(assign("a", 1)), Err(GroupError::IllegalGeneration));
    assert_eq!(lab.change(assign("b", 2)), Err(GroupError::RebalanceInProgress));
    assert_eq!(lab.change(assign("d", 2)), Err(GroupError::UnknownMember));
    assert_eq!(lab.change(assign("a", 2)), Ok(GroupReply::Done));
}

#[test]
fn whoever_leaves_makes_the_others_join_again_and_the_last_one_leaves_the_offsets() {
    let mut lab = Lab::stable(&["a", "b"]);
    lab.commit("a", 1, 5).unwrap();
    assert_eq!(lab.leave("a"), GroupReply::Left(vec![None]));
    assert_eq!(lab.group().phase(), Phase::PreparingRebalance { initial: false });
    assert_eq!(lab.leave("a"), GroupReply::Left(vec![Some(GroupError::UnknownMember)]));
    lab.join("b", false).unwrap();
    assert_eq!((lab.group().generation(), lab.group().leader()), (2, Some("b")));
    lab.leave("b");
    assert_eq!((lab.group().phase(), lab.group().empty_since()), (Phase::Empty, Some(1_000)));
    assert_eq!(lab.group().offsets().get(7, 0).map(|kept| kept.offset), Some(5));
}

#[test]
fn offsets_are_committed_by_members_of_the_generation_or_by_anybody_without_a_group() {
    let mut lab = Lab::new();
    assert_eq!(lab.commit("", -1, 3), Ok(GroupReply::Done));
    assert_eq!(lab.commit("a", 1, 4), Err(GroupError::UnknownMember));
    lab.join("a", true).unwrap();
    assert_eq!(lab.commit("", -1, 4), Err(GroupError::UnknownMember), "it has members now");
    lab.complete();
    assert_eq!(lab.commit("a", 1, 4), Err(GroupError::RebalanceInProgress));
    lab.assign().unwrap();
    assert_eq!(lab.commit("a", 0, 4), Err(GroupError::IllegalGeneration));
    lab.now = 2_000;
    assert_eq!(lab.commit("a", 1, 4), Ok(GroupReply::Done));
    let kept = lab.group().offsets().get(7, 0).unwrap();
    assert_eq!((kept.offset, kept.committed), (4, 2_000));
    assert_eq!(Lab::new().commit("a", 1, 4), Err(GroupError::IllegalGeneration));
}

#[test]
fn only_a_group_without_members_is_deleted() {
    let mut lab = Lab::stable(&["a"]);
    assert_eq!(lab.change(GroupChange::Delete), Err(GroupError::NonEmpty));
    lab.commit("a", 1, 4).unwrap();
    lab.leave("a");
    assert_eq!(lab.change(GroupChange::Delete), Ok(GroupReply::Done));
    assert!(lab.groups.get("g").is_none());
    assert_eq!(lab.change(GroupChange::Delete), Err(GroupError::NotFound));
}

#[test]
fn offsets_expire_only_when_the_group_was_without_members_all_that_time() {
    let mut lab = Lab::stable(&["a"]);
    lab.commit("a", 1, 4).unwrap();
    lab.now = 5_000;
    let expire = |committed| GroupChange::Expire { committed };
    lab.change(expire(4_000)).unwrap();
    assert!(!lab.group().offsets().is_empty(), "it has a member");
    lab.leave("a");
    lab.change(expire(4_000)).unwrap();
    assert!(!lab.group().offsets().is_empty(), "it had a member then");
    lab.change(expire(5_000)).unwrap();
    assert!(lab.groups.get("g").is_none(), "nothing is left of it");
}

#[test]
fn a_deleted_topic_takes_its_offsets_with_it() {
    let mut lab = Lab::stable(&["a"]);
    lab.commit("a", 1, 4).unwrap();
    lab.groups.topic_deleted(8, 4);
    assert!(!lab.group().offsets().is_empty());
    lab.groups.topic_deleted(7, 4);
    assert!(lab.group().offsets().is_empty());
}

#[test]
fn a_group_goes_with_its_last_offsets_from_format_4_on() {
    for (format, is_left) in [(3, true), (4, false)] {
        let mut lab = Lab::stable(&["a"]);
        lab.commit("a", 1, 5).unwrap();
        lab.leave("a");
        lab.groups.topic_deleted(7, format);
        assert_eq!(lab.groups.get("g").is_some(), is_left, "format {format}");
        assert!(is_left || lab.groups.bytes == 0);
    }
}

#[test]
fn a_snapshot_holds_a_group_whole() {
    let mut lab = Lab::stable(&["a", "b"]);
    lab.commit("a", 1, 4).unwrap();
    lab.join("c", true).unwrap();
    let stored = serde_json::to_vec(&lab.groups).unwrap();
    let read: Groups = serde_json::from_slice(&stored).unwrap();
    let digest = |groups: &Groups| {
        let mut all = Vec::new();
        groups.fingerprint(|bytes| all.extend_from_slice(bytes));
        (all, groups.bytes)
    };
    assert_eq!(digest(&read), digest(&lab.groups));
}

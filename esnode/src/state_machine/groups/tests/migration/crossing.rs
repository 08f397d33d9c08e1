//! Members that are busy with something else while their group goes over to the other protocol.

use super::*;

fn fixed(member: &str, is_new: bool) -> Joining {
    Joining { instance: Some("i".to_owned()), ..classic(member, is_new, &[]) }
}

fn committed(member: &str, generation: i32, instance: Option<&str>) -> GroupChange {
    let offset = CommittedOffset { offset: 5, leader_epoch: 1, metadata: String::new(), committed: 0 };
    GroupChange::Commit(OffsetCommit {
        member: member.to_owned(),
        instance: instance.map(str::to_owned),
        generation,
        offsets: vec![(1, 0, offset)],
    })
}

#[test]
fn a_leader_that_assigns_too_late_joins_again() {
    let mut lab = Lab { groups: Groups::default() };
    for member in ["a", "b"] {
        lab.join(classic(member, true, &[])).unwrap();
    }
    lab.change(GroupChange::CompleteJoin { generation: 0 }).unwrap();
    let epoch = lab.send(beat("x", 0)).unwrap().epoch;
    let assign = |member: &str, generation| GroupChange::Assign {
        member: member.to_owned(),
        generation,
        assignments: vec![("a".to_owned(), assignment("t", &[0, 1, 2, 3], 0))],
    };
    assert_eq!(lab.change(assign("a", 1)), Err(GroupError::RebalanceInProgress));
    assert_eq!(lab.change(assign("a", 0)), Err(GroupError::IllegalGeneration));
    assert_eq!(lab.change(assign("x", epoch)), Err(GroupError::UnknownMember));
    assert_eq!(lab.rejoin("a", &[]).0, epoch, "it is a member still");
}

#[test]
fn a_member_that_has_not_heard_of_the_last_epoch_goes_on_in_its_own_until_it_joins() {
    let mut lab = Lab::shared();
    let epoch = lab.send(beat("x", 0)).unwrap().epoch;
    lab.rejoin("b", &[]);
    lab.leave("x");
    assert_eq!(lab.group().generation(), epoch);
    let illegal = Err(GroupError::IllegalGeneration);
    assert_eq!((lab.hears("a", 1), lab.hears("b", epoch)), (JOIN_AGAIN, JOIN_AGAIN));
    assert_eq!((lab.hears("a", epoch), lab.hears("b", 1)), (illegal, illegal));
    assert_eq!(lab.commit("a", 1), Ok(GroupReply::Done), "of what it reads until it joins");
    assert_eq!(lab.commit("b", epoch), Ok(GroupReply::Done));
    // And there and back again.
    lab.send(beat("y", 0)).unwrap();
    assert_eq!((lab.hears("a", 1), lab.commit("a", 1)), (JOIN_AGAIN, Ok(GroupReply::Done)));
    lab.leave("y");
    assert_eq!((lab.hears("a", 1), lab.commit("a", 1)), (JOIN_AGAIN, Ok(GroupReply::Done)));
    lab.join(classic("a", false, &[2, 3])).unwrap();
    assert_eq!((lab.hears("a", 1), lab.hears("a", lab.group().generation())), (illegal, JOIN_AGAIN));
}

#[test]
fn a_static_member_of_the_classic_protocol_is_not_released_by_a_heartbeat_of_the_other() {
    let mut lab = Lab::shared();
    lab.send(beat("x", 0)).unwrap();
    let reply = lab.join(fixed("s1", true)).unwrap();
    let GroupReply::Admitted { epoch } = reply else { panic!("{reply:?}") };
    let release = ConsumerChange::ReleaseInstance { member: "s1".to_owned(), instance: "i".to_owned() };
    assert_eq!(lab.change(GroupChange::Consumer(release)), Err(GroupError::UnknownMember));
    assert_eq!(lab.consumers().members()["s1"].epoch, epoch);
}

#[test]
fn a_static_member_of_the_classic_protocol_that_was_replaced_hears_so_when_it_commits() {
    let mut lab = Lab::shared();
    lab.send(beat("x", 0)).unwrap();
    let reply = lab.join(fixed("s1", true)).unwrap();
    let GroupReply::Admitted { epoch } = reply else { panic!("{reply:?}") };
    assert_eq!(lab.change(committed("s1", epoch, Some("i"))), Ok(GroupReply::Done));
    lab.join(fixed("s2", true)).unwrap();
    assert_eq!(lab.change(committed("s1", epoch, Some("i"))), Err(GroupError::FencedInstance));
    assert_eq!(lab.change(committed("s2", epoch, Some("i"))), Ok(GroupReply::Done));
}

#[test]
fn the_generation_goes_on_when_a_mixed_group_has_emptied() {
    let mut lab = Lab::shared();
    lab.change(committed("a", 1, None)).unwrap();
    lab.send(beat("x", 0)).unwrap();
    ["a", "b", "x"].iter().for_each(|member| lab.leave(member));
    let epoch = lab.consumers().epoch();
    assert!(epoch > 1);
    lab.join(classic("c", true, &[])).unwrap();
    let generation = lab.group().generation();
    lab.change(GroupChange::CompleteJoin { generation }).unwrap();
    assert_eq!(lab.group().generation(), epoch + 1);
}

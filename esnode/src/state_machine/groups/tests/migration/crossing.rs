//! Members that are busy with something else while their group goes over to the other protocol.

use super::*;

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

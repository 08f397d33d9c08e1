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

//! What groups that go over may take of the room that all groups have, and of what is looked at.

use std::cell::Cell;

use super::*;

const NAMES: usize = 1_000;

/// Of a member whose subscription takes far more bytes once it is read.
fn subscribed(member: &str) -> Joining {
    let names: Vec<String> = (0..NAMES).map(|number| format!("{number:x}")).collect();
    let names: Vec<&str> = ["t"].into_iter().chain(names.iter().map(String::as_str)).collect();
    let metadata = subscription(&names, &[]);
    let protocols = vec![Protocol { name: "cooperative-sticky".to_owned(), metadata }];
    Joining { protocols, ..classic(member, true, &[]) }
}

fn of_subscribers() -> Lab {
    let mut lab = Lab { groups: Groups::default() };
    for member in ["a", "b"] {
        lab.join(subscribed(member)).unwrap();
    }
    lab.change(GroupChange::CompleteJoin { generation: 0 }).unwrap();
    lab.assign(1, &[("a", &[2, 3]), ("b", &[0, 1])], 0);
    lab
}

fn joins(member: &str) -> GroupChange {
    GroupChange::Consumer(ConsumerChange::Heartbeat(beat(member, 0)))
}

/// What comes of the change where the group may take so many bytes more.
fn with_room(lab: &Lab, change: GroupChange, room: usize) -> (Result<(), GroupError>, Group) {
    let mut group = lab.group().clone();
    let outcome = group.apply(change, 1_000, &topics, room);
    (outcome.map(drop), group)
}

#[test]
fn a_group_goes_over_only_where_there_is_room_for_what_its_members_have_said() {
    let lab = of_subscribers();
    let before = lab.group().bytes();
    assert!(before < 20_000, "{before}");
    let (refused, group) = with_room(&lab, joins("x"), 20_000);
    assert_eq!(refused, Err(GroupError::NoRoom));
    assert_eq!((group.consumer().is_none(), group.bytes(), group.state()), (true, before, "Stable"));
    let (done, grown) = with_room(&lab, joins("x"), usize::MAX >> 1);
    assert_eq!(done, Ok(()));
    let needs = grown.bytes() - before;
    assert!(needs > 2 * 48 * NAMES, "{needs}");
    assert_eq!(with_room(&lab, joins("x"), needs).0, Ok(()));
    assert_eq!(with_room(&lab, joins("x"), needs - 1).0, Err(GroupError::NoRoom), "to the byte");
}

#[test]
fn the_room_is_what_all_groups_leave() {
    let mut lab = of_subscribers();
    lab.groups.bytes = MAX_BYTES - 20_000;
    let refused = lab.groups.apply("g", joins("x"), 1_000, &topics);
    assert_eq!((refused, lab.group().consumer().is_none()), (Err(GroupError::NoRoom), true));
}

#[test]
fn whoever_joins_a_group_that_went_over_finds_room_or_is_refused() {
    let mut lab = Lab::shared();
    lab.send(beat("x", 0)).unwrap();
    let (refused, group) = with_room(&lab, GroupChange::Join(subscribed("c")), 20_000);
    assert_eq!((refused, group.member_count()), (Err(GroupError::NoRoom), 3));
    assert_eq!(with_room(&lab, GroupChange::Join(subscribed("c")), 100_000).0, Ok(()));
}

#[test]
fn what_a_member_had_whose_id_another_takes_goes_to_those_that_are_left() {
    let fixed = |member: &str| Joining { instance: Some("i".to_owned()), ..classic(member, true, &[]) };
    let mut lab = Lab { groups: Groups::default() };
    for member in ["x", "y"] {
        lab.send(beat(member, 0)).unwrap();
    }
    lab.join(fixed("s")).unwrap();
    lab.join(fixed("x")).unwrap();
    let members = lab.consumers().members();
    assert_eq!(members.keys().collect::<Vec<_>>(), ["x", "y"]);
    assert_eq!(members.values().map(|member| member.target.len()).sum::<usize>(), 4);
}

#[test]
fn all_partitions_of_a_group_are_looked_at_only_for_a_member_that_waits_for_some() {
    let mut lab = Lab::shared();
    let has_to_join = |lab: &Lab, id: &str| {
        let asked = Cell::new(false);
        let group = lab.consumers();
        let has_to = group.has_to_join_unless(&group.members()[id], |_| {
            asked.set(true);
            true
        });
        (has_to, asked.get())
    };
    let epoch = lab.send(beat("x", 0)).unwrap().epoch;
    assert_eq!(has_to_join(&lab, "a"), (true, false), "it is behind");
    lab.rejoin("b", &[0, 1]);
    assert_eq!(has_to_join(&lab, "b"), (true, false), "it has to give up 1");
    lab.rejoin("b", &[0]);
    lab.send(beat("x", epoch)).unwrap();
    lab.rejoin("a", &[2, 3]);
    assert_eq!(lab.group().state(), "Stable");
    assert_eq!((has_to_join(&lab, "a"), has_to_join(&lab, "b")), ((false, false), (false, false)));
    let mut lab = Lab::shared();
    lab.send(beat("x", 0)).unwrap();
    lab.join(classic("c", true, &[])).unwrap();
    assert_eq!(has_to_join(&lab, "c"), (false, true), "it waits for what others have");
}

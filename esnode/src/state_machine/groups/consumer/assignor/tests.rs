//! What the assignors promise, for any members and topics.

use proptest::prelude::*;

use super::*;

/// Members by their ids: what each subscribes to, and had.
type Members = BTreeMap<String, (BTreeSet<TopicId>, Partitions)>;

fn assign(assignor: Assignor, members: &Members, topics: &BTreeMap<TopicId, u32>) -> Vec<Partitions> {
    let subscribers = members.iter().map(|(member, (subscribed, before))| Subscriber {
        member,
        instance: None,
        topics: Rc::new(subscribed.clone()),
        before,
    });
    assignor.assign(&subscribers.collect::<Vec<_>>(), topics)
}

/// Members that all subscribe to all topics, and have nothing yet.
fn alike(count: usize, topics: &BTreeMap<TopicId, u32>) -> Members {
    let all: BTreeSet<TopicId> = topics.keys().copied().collect();
    (0..count).map(|number| (format!("m{number:03}"), (all.clone(), Partitions::new()))).collect()
}

fn had(mut members: Members, shares: Vec<Partitions>) -> Members {
    members.values_mut().zip(shares).for_each(|((_, before), share)| *before = share);
    members
}

fn spread(shares: &[Partitions]) -> usize {
    let sizes = || shares.iter().map(Partitions::len);
    sizes().max().unwrap_or(0) - sizes().min().unwrap_or(0)
}

/// How many partitions have gone from one member to another.
fn moves_between(before: &Members, after: &Members, shares: &[Partitions]) -> usize {
    let after: BTreeMap<&String, &Partitions> = after.keys().zip(shares).collect();
    let lost = |id: &String, had: &Partitions| after.get(id).map_or(0, |share| had.difference(share).count());
    before.iter().map(|(id, (_, had))| lost(id, had)).sum()
}

fn topics() -> impl Strategy<Value = BTreeMap<TopicId, u32>> {
    proptest::collection::btree_map(1..8_u32, 1..20_u32, 0..6)
}

/// Members with subscriptions, to topics that there are and to others, and with whatever they say that they had.
fn members() -> impl Strategy<Value = Members> {
    let subscribed = proptest::collection::btree_set(1..10_u32, 0..8);
    let before = proptest::collection::btree_set((1..10_u32, 0..25_u32), 0..12);
    proptest::collection::btree_map("[a-f]{1,2}", (subscribed, before), 0..9)
}

proptest! {
    #[test]
    fn every_partition_has_one_owner_who_subscribes_to_it(topics in topics(), members in members()) {
        for assignor in Assignor::ALL {
            let shares = assign(assignor, &members, &topics);
            let mut seen = Partitions::new();
            for ((subscribed, _), share) in members.values().zip(&shares) {
                for partition in share {
                    prop_assert!(subscribed.contains(&partition.0) && seen.insert(*partition), "{assignor:?}");
                }
            }
            let wanted = topics.iter().filter(|(topic, _)| members.values().any(|(of, _)| of.contains(topic)));
            let all: Partitions =
                wanted.flat_map(|(topic, count)| (0..*count).map(|partition| (*topic, partition))).collect();
            prop_assert_eq!(&seen, &all, "{:?}", assignor);
            prop_assert_eq!(shares, assign(assignor, &members, &topics), "the same again");
        }
    }

    #[test]
    fn uniform_is_balanced_as_far_as_subscriptions_allow(topics in topics(), members in members()) {
        let shares = assign(Assignor::Uniform, &members, &topics);
        for (from, giver) in shares.iter().enumerate() {
            for (taker, (subscribed, _)) in shares.iter().zip(members.values()) {
                let could = giver.iter().any(|(topic, _)| subscribed.contains(topic));
                prop_assert!(!could || giver.len() <= taker.len() + 1, "{from} has too much: {shares:?}");
            }
        }
    }

    #[test]
    fn uniform_moves_nothing_again(topics in topics(), members in members()) {
        let shares = assign(Assignor::Uniform, &members, &topics);
        let members = had(members, shares.clone());
        prop_assert_eq!(assign(Assignor::Uniform, &members, &topics), shares);
    }

    #[test]
    fn whoever_joins_gets_its_part_and_nothing_else_moves(topics in topics(), count in 1..9_usize) {
        let before = alike(count, &topics);
        let before = had(before.clone(), assign(Assignor::Uniform, &before, &topics));
        let mut after = before.clone();
        after.insert("z".to_owned(), (topics.keys().copied().collect(), Partitions::new()));
        let shares = assign(Assignor::Uniform, &after, &topics);
        let all: usize = topics.values().map(|partitions| *partitions as usize).sum();
        prop_assert!(spread(&shares) <= 1);
        prop_assert_eq!(moves_between(&before, &after, &shares), all / (count + 1));
    }

    #[test]
    fn whoever_leaves_moves_only_what_it_had(topics in topics(), count in 2..9_usize, gone in 0..9_usize) {
        let before = alike(count, &topics);
        let before = had(before.clone(), assign(Assignor::Uniform, &before, &topics));
        let mut after = before.clone();
        let gone = before.keys().nth(gone % count).unwrap();
        after.remove(gone);
        let shares = assign(Assignor::Uniform, &after, &topics);
        prop_assert!(spread(&shares) <= 1);
        prop_assert_eq!(moves_between(&before, &after, &shares), 0);
    }

    #[test]
    fn range_is_balanced_and_in_order_for_each_topic(topics in topics(), count in 1..9_usize) {
        let shares = assign(Assignor::Range, &alike(count, &topics), &topics);
        for topic in topics.keys() {
            let of_topic = |share: &Partitions| -> Vec<u32> {
                share.iter().filter(|(of, _)| of == topic).map(|(_, partition)| *partition).collect()
            };
            let ranges: Vec<Vec<u32>> = shares.iter().map(of_topic).collect();
            prop_assert!(ranges.concat().is_sorted() && ranges.is_sorted_by_key(|range| usize::MAX - range.len()));
            prop_assert!(ranges[0].len() - ranges[count - 1].len() <= 1);
        }
    }
}

#[test]
fn range_takes_static_members_by_their_instances() {
    let before = Partitions::new();
    let member =
        |member, instance| Subscriber { member, instance, topics: Rc::new([1].into()), before: &before };
    let members = [member("a", None), member("b", Some("y")), member("c", Some("x"))];
    let shares = Assignor::Range.assign(&members, &BTreeMap::from([(1, 4)]));
    assert_eq!(shares, [[(1, 3)].into(), [(1, 2)].into(), Partitions::from([(1, 0), (1, 1)])]);
}

#[test]
fn the_names_are_kafkas() {
    assert!(Assignor::ALL.into_iter().all(|assignor| Assignor::named(assignor.name()) == Some(assignor)));
    assert_eq!((Assignor::named("uniform"), Assignor::named("sticky")), (Some(Assignor::Uniform), None));
}

#[test]
fn a_large_group_is_assigned_in_no_time() {
    let topics: BTreeMap<TopicId, u32> = (0..100).map(|topic| (topic, 100)).collect();
    let mut members = alike(1000, &topics);
    let began = std::time::Instant::now();
    let shares = assign(Assignor::Uniform, &members, &topics);
    members = had(members, shares);
    members.insert("z".to_owned(), (topics.keys().copied().collect(), Partitions::new()));
    assert_eq!(spread(&assign(Assignor::Uniform, &members, &topics)), 1);
    assert!(began.elapsed() < std::time::Duration::from_secs(10), "{:?}", began.elapsed());
}

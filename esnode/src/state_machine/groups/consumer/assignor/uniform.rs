//! `uniform`: sticky and balanced. Each member keeps what it had, as far as it still may; what has no owner goes to whoever
//! has least; then partitions move from those who have most to those who have least, one by one, until no move makes any
//! two members more equal. Where all subscribe to the same topics, no member has two partitions more than another one.

use std::collections::{BTreeMap, BTreeSet};

use super::Subscriber;
use crate::state_machine::TopicId;
use crate::state_machine::groups::consumer::{Partitions, TopicPartition};

/// Topics that the same members subscribe to. Their partitions are as good as each other for all of these.
struct Pool {
    topics: BTreeSet<TopicId>,
    members: Vec<usize>,
}

pub fn assign(members: &[Subscriber<'_>], topics: &BTreeMap<TopicId, u32>) -> Vec<Partitions> {
    let pools = pools(members, topics);
    let mut shares = kept(members, topics);
    let taken: Partitions = shares.iter().flatten().copied().collect();
    for pool in &pools {
        let partitions = pool.topics.iter().flat_map(|topic| {
            let count = topics.get(topic).copied().unwrap_or(0);
            (0..count).map(move |partition| (*topic, partition))
        });
        pool.hand_out(partitions.filter(|partition| !taken.contains(partition)), &mut shares);
    }
    // Each move makes the sum of the squares of all shares smaller, so there is an end.
    while pools.iter().filter(|pool| pool.balance(&mut shares)).count() > 0 {}
    shares
}

/// The pools, those with the fewest members first: the others can make up for what these have.
fn pools(members: &[Subscriber<'_>], topics: &BTreeMap<TopicId, u32>) -> Vec<Pool> {
    // Of members with equal subscriptions, which most groups consist of, only one is looked at for each topic.
    let mut alike: BTreeMap<&BTreeSet<TopicId>, Vec<usize>> = BTreeMap::new();
    for (at, member) in members.iter().enumerate() {
        alike.entry(&*member.topics).or_default().push(at);
    }
    let mut subscribers: BTreeMap<TopicId, Vec<usize>> = BTreeMap::new();
    for (class, subscribed) in alike.keys().enumerate() {
        for topic in subscribed.iter().filter(|topic| topics.contains_key(topic)) {
            subscribers.entry(*topic).or_default().push(class);
        }
    }
    let mut pools: BTreeMap<Vec<usize>, BTreeSet<TopicId>> = BTreeMap::new();
    for (topic, classes) in subscribers {
        pools.entry(classes).or_default().insert(topic);
    }
    let alike: Vec<Vec<usize>> = alike.into_values().collect();
    let pool = |(classes, topics): (Vec<usize>, _)| {
        let members = classes.into_iter().flat_map(|class| alike[class].iter().copied()).collect();
        Pool { topics, members }
    };
    let mut pools: Vec<Pool> = pools.into_iter().map(pool).collect();
    pools.sort_by_key(|pool| pool.members.len());
    pools
}

/// What each member had and may keep.
fn kept(members: &[Subscriber<'_>], topics: &BTreeMap<TopicId, u32>) -> Vec<Partitions> {
    let mut taken = Partitions::new();
    let mut keep = |member: &Subscriber<'_>| {
        let kept = member.before.iter().copied().filter(|(topic, partition)| {
            member.topics.contains(topic)
                && topics.get(topic).is_some_and(|count| partition < count)
                && taken.insert((*topic, *partition))
        });
        kept.collect()
    };
    members.iter().map(&mut keep).collect()
}

impl Pool {
    /// Gives each of these partitions, which are the pool's, to the member that has least.
    fn hand_out(&self, partitions: impl Iterator<Item = TopicPartition>, shares: &mut [Partitions]) {
        let mut loads = self.loads(shares);
        for partition in partitions {
            let Some((_, at)) = loads.pop_first() else { return };
            shares[at].insert(partition);
            loads.insert((shares[at].len(), at));
        }
    }

    /// Moves the pool's partitions from those who have most to those who have least, as long as that makes two members
    /// more equal. Returns whether any was moved.
    fn balance(&self, shares: &mut [Partitions]) -> bool {
        let mut loads = self.loads(shares);
        let is_own = |(topic, _): &&TopicPartition| self.topics.contains(topic);
        let mut movable: BTreeMap<usize, Vec<TopicPartition>> = self
            .members
            .iter()
            .map(|at| (*at, shares[*at].iter().filter(is_own).copied().collect()))
            .collect();
        let mut givers = loads.clone();
        let mut moved = false;
        while let (Some((least, to)), Some((most, from))) = (loads.first().copied(), givers.last().copied()) {
            if most < least + 2 {
                break;
            }
            let Some(partition) = movable.get_mut(&from).and_then(Vec::pop) else {
                givers.remove(&(most, from));
                continue;
            };
            shares[from].remove(&partition);
            shares[to].insert(partition);
            movable.entry(to).or_default().push(partition);
            for ranks in [&mut loads, &mut givers] {
                ranks.remove(&(least, to));
                ranks.remove(&(most, from));
                ranks.extend([(least + 1, to), (most - 1, from)]);
            }
            moved = true;
        }
        moved
    }

    /// Its members by how much they have of all topics.
    fn loads(&self, shares: &[Partitions]) -> BTreeSet<(usize, usize)> {
        self.members.iter().map(|at| (shares[*at].len(), *at)).collect()
    }
}

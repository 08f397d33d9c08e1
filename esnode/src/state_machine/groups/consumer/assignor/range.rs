//! `range`: the partitions of each topic in ranges of the same size, one for each of its members in order. Topics with the
//! same number of partitions and the same members are assigned alike.

use std::collections::BTreeMap;

use super::Subscriber;
use crate::state_machine::TopicId;
use crate::state_machine::groups::consumer::Partitions;

pub fn assign(members: &[Subscriber<'_>], topics: &BTreeMap<TopicId, u32>) -> Vec<Partitions> {
    let mut order: Vec<usize> = (0..members.len()).collect();
    // Static members first: theirs is an order that a restart does not change.
    order.sort_by_key(|at| (members[*at].instance.is_none(), members[*at].instance, members[*at].member));
    let mut shares = vec![Partitions::new(); members.len()];
    for (topic, partitions) in topics {
        let subscribers: Vec<usize> =
            order.iter().copied().filter(|at| members[*at].topics.contains(topic)).collect();
        let Ok(count) = u32::try_from(subscribers.len()) else { continue };
        let mut next = 0;
        for (number, at) in (0..count).zip(subscribers) {
            let size = partitions / count + u32::from(number < partitions % count);
            shares[at].extend((next..next + size).map(|partition| (*topic, partition)));
            next += size;
        }
    }
    shares
}

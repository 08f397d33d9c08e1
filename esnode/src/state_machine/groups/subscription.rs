//! What consumers of the classic protocol say of themselves to whoever assigns, and what that one tells them, as Kafka's
//! clients write it:
//!
//! ```text
//! subscription  version i16 | count i32, then each topic | user data | from version 1 on: the partitions that it has
//! assignment    version i16 | partitions | user data
//! partitions    count i32, then per topic: topic | count i32, then each partition i32
//! ```
//!
//! A topic is an i16 length and its name, user data an i32 length, -1 for none, and as many bytes. What follows in later
//! versions is not needed.

use std::collections::BTreeSet;

use bytes::{Buf, Bytes};

use super::consumer::{FindTopic, Partitions};
use crate::state_machine::MAX_PARTITIONS_IN_ALL;

/// The kind of group whose members say and hear these.
pub const CONSUMER: &str = "consumer";

/// Names of topics, each with numbers of partitions.
type Named = Vec<(String, Vec<u32>)>;

/// The most elements of a list: as many topics and partitions as a cluster can have. A name of no letter takes two bytes
/// here, and many times as much once it is read.
const MAX_ELEMENTS: usize = MAX_PARTITIONS_IN_ALL;

/// What a member says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// Names of the topics that it subscribes to.
    pub topics: BTreeSet<String>,
    /// What it has. Only a member that keeps its partitions while it joins has any.
    owned: Named,
}

impl Subscription {
    /// Reads one; `None` if this is none.
    pub fn read(mut bytes: Bytes) -> Option<Self> {
        let version = get_version(&mut bytes)?;
        let topics = get_all(&mut bytes, get_text)?.into_iter().collect();
        get_user_data(&mut bytes)?;
        // Some clients say version 1 and end here.
        let tells = version >= 1 && bytes.has_remaining();
        let owned = if tells { get_partitions(&mut bytes)? } else { Named::new() };
        Some(Self { topics, owned })
    }

    /// What the member has of these topics.
    pub(super) fn owned(&self, topics: FindTopic<'_>) -> Partitions {
        existing(&self.owned, topics)
    }
}

/// The partitions of these topics that a member was assigned; none by an assignment without a byte. `None` if this is no
/// assignment, or says more than which partitions: what an assignor of one's own means by that is not known here.
pub(super) fn assigned(mut bytes: Bytes, topics: FindTopic<'_>) -> Option<Partitions> {
    if bytes.is_empty() {
        return Some(Partitions::new());
    }
    get_version(&mut bytes)?;
    let named = get_partitions(&mut bytes)?;
    let user_data = get_user_data(&mut bytes)?;
    user_data.is_empty().then(|| existing(&named, topics))
}

fn existing(named: &Named, topics: FindTopic<'_>) -> Partitions {
    let of_topic = |(name, partitions): &(String, Vec<u32>)| {
        let (id, count) = topics(name).unwrap_or_default();
        let existing = partitions.iter().filter(|partition| **partition < count);
        existing.map(|partition| (id, *partition)).collect::<Vec<_>>()
    };
    named.iter().flat_map(of_topic).collect()
}

fn get_version(bytes: &mut Bytes) -> Option<i16> {
    bytes.try_get_i16().ok().filter(|version| *version >= 0)
}

/// Each element takes bytes, so a false count cannot make this long.
fn get_all<T>(bytes: &mut Bytes, get: impl Fn(&mut Bytes) -> Option<T>) -> Option<Vec<T>> {
    let count = usize::try_from(bytes.try_get_i32().ok()?.max(0)).ok()?;
    if count > MAX_ELEMENTS {
        return None;
    }
    (0..count).map(|_| get(bytes)).collect()
}

fn get_text(bytes: &mut Bytes) -> Option<String> {
    let length = usize::try_from(bytes.try_get_i16().ok()?).ok()?;
    let text = (length <= bytes.len()).then(|| bytes.split_to(length))?;
    String::from_utf8(text.into()).ok()
}

fn get_user_data(bytes: &mut Bytes) -> Option<Bytes> {
    let length = usize::try_from(bytes.try_get_i32().ok()?.max(0)).ok()?;
    (length <= bytes.len()).then(|| bytes.split_to(length))
}

fn get_partitions(bytes: &mut Bytes) -> Option<Named> {
    let get_partition = |bytes: &mut Bytes| u32::try_from(bytes.try_get_i32().ok()?).ok();
    get_all(bytes, |bytes| Some((get_text(bytes)?, get_all(bytes, get_partition)?)))
}

#[cfg(test)]
pub(crate) mod tests {
    use bytes::{BufMut, BytesMut};

    use super::*;

    fn put_text(out: &mut BytesMut, text: &str) {
        out.put_i16(text.len().try_into().unwrap());
        out.put_slice(text.as_bytes());
    }

    fn put_partitions(out: &mut BytesMut, topic: &str, partitions: &[u32]) {
        out.put_i32(1);
        put_text(out, topic);
        out.put_i32(partitions.len().try_into().unwrap());
        partitions.iter().for_each(|partition| out.put_u32(*partition));
    }

    /// A subscription to topics by a member that has these partitions of the first one.
    pub fn subscription(topics: &[&str], owned: &[u32]) -> Bytes {
        let mut out = BytesMut::new();
        out.put_i16(3);
        out.put_i32(topics.len().try_into().unwrap());
        topics.iter().for_each(|topic| put_text(&mut out, topic));
        out.put_i32(1);
        out.put_u8(0);
        put_partitions(&mut out, topics[0], owned);
        out.put_i32(-1);
        out.freeze()
    }

    /// An assignment of partitions of one topic, with user data of so many bytes.
    pub fn assignment(topic: &str, partitions: &[u32], user_data: usize) -> Bytes {
        let mut out = BytesMut::new();
        out.put_i16(1);
        put_partitions(&mut out, topic, partitions);
        out.put_i32(user_data.try_into().unwrap());
        out.put_bytes(0, user_data);
        out.freeze()
    }

    fn topics(name: &str) -> Option<(u32, u32)> {
        (name == "a").then_some((7, 3))
    }

    #[test]
    fn subscriptions_are_read_and_nothing_else_is_believed() {
        let said = subscription(&["a", "bc"], &[2, 3]);
        let read = Subscription::read(said.clone()).unwrap();
        assert_eq!(read.topics, ["a".to_owned(), "bc".to_owned()].into());
        assert_eq!(read.owned(&topics), [(7, 2)].into(), "there is no partition 3");
        let (until_owned, until_generation) = (18, said.len() - 4);
        for length in (0..until_generation).filter(|length| *length != until_owned) {
            assert_eq!(Subscription::read(said.slice(..length)), None, "{length}");
        }
        let without = Subscription::read(said.slice(..until_owned)).unwrap();
        assert!(without.owned.is_empty(), "as some clients write it");
        let first = Bytes::from_static(b"\0\0\0\0\0\x01\0\x01a\0\0\0\0");
        assert_eq!(Subscription::read(first).unwrap().topics, ["a".to_owned()].into());
    }

    #[test]
    fn nobody_subscribes_to_more_topics_than_there_can_be() {
        let of = |count| subscription(&vec![""; count], &[]);
        assert!(Subscription::read(of(MAX_ELEMENTS)).is_some());
        assert_eq!(Subscription::read(of(MAX_ELEMENTS + 1)), None);
    }

    #[test]
    fn assignments_are_read_unless_they_say_more_than_partitions() {
        let told = assignment("a", &[0, 2], 0);
        assert_eq!(assigned(told.clone(), &topics), Some([(7, 0), (7, 2)].into()));
        assert_eq!(assigned(assignment("b", &[0], 0), &topics), Some(Partitions::new()), "that one is gone");
        assert_eq!(assigned(assignment("a", &[0], 1), &topics), None);
        assert_eq!(assigned(Bytes::new(), &topics), Some(Partitions::new()));
        for length in 1..told.len() {
            assert_eq!(assigned(told.slice(..length), &topics), None, "{length}");
        }
    }
}

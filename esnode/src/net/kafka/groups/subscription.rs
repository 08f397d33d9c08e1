//! What consumers say of themselves when they join: which topics they subscribe to.

use bytes::{Buf, Bytes};

use crate::state_machine::groups::Group;

/// Whether a member of a group of consumers subscribes to the topic. Who says it in a way that is not Kafka's is taken to
/// subscribe to everything.
pub fn is_subscribed(group: &Group, topic: &str) -> bool {
    if let Some(consumer) = group.consumer() {
        return consumer.is_subscribed(topic);
    }
    if group.protocol_type() != "consumer" {
        return !group.members().is_empty();
    }
    let mut said = group.members().values().flat_map(|member| &member.protocols);
    said.any(|protocol| {
        topics(protocol.metadata.clone()).is_none_or(|topics| topics.iter().any(|each| each == topic))
    })
}

/// A subscription: version i16, count i32, then each topic as an i16 length and its name. What follows is not needed.
fn topics(mut bytes: Bytes) -> Option<Vec<String>> {
    let _version = bytes.try_get_i16().ok()?;
    let count = bytes.try_get_i32().ok()?;
    (0..count).map(|_| get_text(&mut bytes)).collect()
}

fn get_text(bytes: &mut Bytes) -> Option<String> {
    let length = usize::try_from(bytes.try_get_i16().ok()?).ok()?;
    let text = (length <= bytes.len()).then(|| bytes.split_to(length))?;
    String::from_utf8(text.into()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_read_and_nothing_else_is_believed() {
        let said = Bytes::from_static(b"\0\x01\0\0\0\x02\0\x01a\0\x02bc\0\0\0\0");
        assert_eq!(topics(said.clone()), Some(vec!["a".to_owned(), "bc".to_owned()]));
        for length in 0..13 {
            assert_eq!(topics(said.slice(..length)), None, "{length}");
        }
    }
}

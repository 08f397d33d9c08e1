//! Which topics consumers subscribe to.

use crate::state_machine::groups::Group;
use crate::state_machine::groups::subscription::{CONSUMER, Subscription};

/// Whether a member of a group of consumers subscribes to the topic. Who says it in a way that is not Kafka's is taken to
/// subscribe to everything.
pub fn is_subscribed(group: &Group, topic: &str) -> bool {
    if let Some(consumer) = group.consumer() {
        return consumer.is_subscribed(topic);
    }
    if group.protocol_type() != CONSUMER {
        return !group.members().is_empty();
    }
    let mut said = group.members().values().flat_map(|member| &member.protocols);
    said.any(|protocol| {
        Subscription::read(protocol.metadata.clone()).is_none_or(|said| said.topics.contains(topic))
    })
}

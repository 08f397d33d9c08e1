//! Who may talk to whom: the first frames of a connection. Pure.

use serde::{Deserialize, Serialize};
use shared::ids::NodeId;
use shared::version::Range;

use super::Hello;
use crate::version::PROTOCOL;

/// Names the protocol, so that a stray connection is noticed at once.
const MAGIC: &str = "eventstream-peer";

/// The first frame in each direction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Introduction {
    magic: String,
    protocol: Range,
    pub(super) hello: Hello,
}

/// Why two nodes do not talk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{text}")]
pub struct Refused {
    /// For programs.
    pub code: RefusedCode,
    /// For people.
    pub text: String,
}

/// Why two nodes do not talk, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusedCode {
    /// Not a node at all.
    NotAPeer,
    /// No protocol version in common.
    Protocol,
    /// A node that is not configured here.
    UnknownNode,
    /// Another node than was expected at this address.
    WrongNode,
    /// A node of another cluster.
    ForeignCluster,
}

impl Introduction {
    pub(super) fn new(hello: Hello) -> Self {
        Self { magic: MAGIC.to_owned(), protocol: PROTOCOL, hello }
    }
}

/// Checks what the other side says. `expected` is who was dialled; `known` are the configured nodes.
pub(super) fn check(
    own: &Hello,
    other: &Introduction,
    expected: Option<NodeId>,
    known: &[NodeId],
) -> Result<Hello, Refused> {
    let hello = other.hello;
    let refuse = |code, text: String| Err(Refused { code, text });
    if other.magic != MAGIC {
        return refuse(RefusedCode::NotAPeer, "this port is for nodes of the cluster only".to_owned());
    }
    if other.protocol.max < PROTOCOL.min || other.protocol.min > PROTOCOL.max {
        let (theirs, ours) = (other.protocol, PROTOCOL);
        let text = format!(
            "node {} speaks peer protocol {}-{}, node {} speaks {}-{}: upgrade the older one",
            hello.node, theirs.min, theirs.max, own.node, ours.min, ours.max
        );
        return refuse(RefusedCode::Protocol, text);
    }
    if let Some(expected) = expected.filter(|expected| *expected != hello.node) {
        let text =
            format!("node {} answers at the address of node {expected}: check cluster.nodes", hello.node);
        return refuse(RefusedCode::WrongNode, text);
    }
    if !known.contains(&hello.node) {
        let text = format!("node {} does not know node {}: check cluster.nodes", own.node, hello.node);
        return refuse(RefusedCode::UnknownNode, text);
    }
    match (own.cluster, hello.cluster) {
        (Some(ours), Some(theirs)) if ours != theirs => {
            let text = format!(
                "node {} belongs to cluster {ours}, node {} to cluster {theirs}: one of them has a foreign data directory",
                own.node, hello.node
            );
            refuse(RefusedCode::ForeignCluster, text)
        }
        _ => Ok(hello),
    }
}

#[cfg(test)]
mod tests {
    use shared::ids::{ClusterId, StoreId};
    use uuid::Uuid;

    use super::*;

    fn hello(node: NodeId, cluster: Option<u128>) -> Hello {
        let cluster = cluster.map(|id| ClusterId(Uuid::from_u128(id)));
        Hello { node, store: StoreId(Uuid::nil()), cluster, fresh: false, members: 0, your_store: None }
    }

    #[test]
    fn strangers_are_refused_with_the_reason() {
        let own = hello(1, Some(7));
        let code = |other: Introduction, expected| {
            check(&own, &other, expected, &[2, 3]).map_err(|refused| refused.code)
        };
        let good = Introduction::new(hello(2, Some(7)));
        assert_eq!(code(good.clone(), Some(2)), Ok(good.hello));
        assert_eq!(code(good.clone(), Some(3)), Err(RefusedCode::WrongNode));
        assert_eq!(code(Introduction::new(hello(4, Some(7))), None), Err(RefusedCode::UnknownNode));
        assert_eq!(code(Introduction::new(hello(2, Some(8))), None), Err(RefusedCode::ForeignCluster));
        assert!(code(Introduction::new(hello(2, None)), None).is_ok(), "it may yet join");
        let newer = Introduction { protocol: Range { min: 9, max: 9 }, ..good.clone() };
        assert_eq!(code(newer, None), Err(RefusedCode::Protocol));
        assert_eq!(code(Introduction { magic: "http".into(), ..good }, None), Err(RefusedCode::NotAPeer));
    }
}

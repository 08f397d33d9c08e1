//! Decides which nodes may talk to each other: the rules by which a greeting is accepted or refused.
//!
//! Pure: no socket, no clock. Whether a peer may vote is not decided here, but by the node.

use shared::ids::{ClusterId, NodeId};
use shared::spec::authority;
use shared::version::Range;

use super::Hello;
use super::greeting::Greeting;
use super::refused::{RefusalCode, Refused};

/// Whom a side is prepared to hear.
#[derive(Clone, Copy, Debug)]
pub enum Expected {
    /// The node that was dialled.
    Dialled(NodeId),
    /// A member has dialled us.
    Member,
    /// The configuration or a member names whoever has dialled us, and the log does not: it may know of changes that have
    /// not come here yet, if it is of the same cluster.
    Named,
    /// Nobody has heard of the one that has dialled us.
    Stranger,
}

/// Validates `theirs`, as one that speaks `ours`. Returns the protocol version to speak: the
/// highest common one.
pub fn accept(ours: &Hello, protocol: Range, theirs: &Greeting, expected: Expected) -> Result<u16, Refused> {
    let (us, them) = (ours.node, theirs.hello.node);
    let version = negotiate(us, protocol, theirs)?;
    if theirs.to != us {
        return refuse(
            RefusalCode::WrongNode,
            format!(
                "node {them} meant to reach node {}, but this is node {us}: two nodes share an address, or an address in cluster.yaml is wrong",
                theirs.to
            ),
        );
    }
    match expected {
        Expected::Dialled(dialled) if them != dialled => {
            return refuse(
                RefusalCode::WrongNode,
                format!(
                    "node {us} dialled node {dialled}, but node {them} answered: two nodes share an address, or an address in cluster.yaml is wrong"
                ),
            );
        }
        Expected::Stranger | Expected::Named
            if matches!(expected, Expected::Stranger) || !is_vouched(ours, &theirs.hello) =>
        {
            return refuse(
                RefusalCode::UnknownNode,
                format!(
                    "node {them} is no member, as far as node {us} knows: add it to the cluster (POST /cluster/members), or correct its --node-id"
                ),
            );
        }
        _ => {}
    }
    match (ours.cluster, theirs.hello.cluster) {
        (Some(mine), Some(other)) if mine != other => refuse(
            RefusalCode::ForeignCluster,
            format!(
                "node {them} belongs to cluster {other}, node {us} to cluster {mine}: check the addresses in cluster.yaml; a node moves to another cluster only with an empty data directory"
            ),
        ),
        _ => readable(ours, &theirs.hello).map(|()| version),
    }
}

/// Whether each of the two reads what the other one writes: entries and files travel as they are.
fn readable(ours: &Hello, theirs: &Hello) -> Result<(), Refused> {
    let reads = |reader: &Hello, writer: &Hello, code| {
        let (read, written) = (reader.formats.reads, writer.formats.active);
        if read.contains(written) {
            return Ok(());
        }
        let way = if written > read.max { "a later" } else { "an earlier" };
        refuse(
            code,
            format!(
                "node {}'s data is in on-disk format {written}, node {} reads format {read}: give node {} {way} version of esnode",
                writer.node, reader.node, reader.node
            ),
        )
    };
    reads(theirs, ours, RefusalCode::FormatTooOld)?;
    reads(ours, theirs, RefusalCode::FormatTooNew)
}

/// Whether a node that the log does not know may be a member all the same: it is of the cluster that we belong to, or are
/// to join.
fn is_vouched(ours: &Hello, theirs: &Hello) -> bool {
    theirs.cluster.is_some() && ours.cluster.is_none_or(|ours| theirs.cluster == Some(ours))
}

/// What a node of `theirs` hears from one of `ours` that comes with a removed member's data directory.
pub fn removed(node: NodeId, ours: Option<ClusterId>, theirs: Option<ClusterId>) -> Refused {
    let again = "stop it; to have it back, delete its data directory, start it and add it again";
    if theirs.is_some() && ours != theirs {
        let text = format!("the cluster was recovered without node {node}: {again}");
        return Refused { code: RefusalCode::Abandoned, text };
    }
    let text = format!("node {node} was removed from the cluster: {again}");
    Refused { code: RefusalCode::Removed, text }
}

/// What a connection hears that says it is `node`'s: `node` was asked `at` its address and denies it, or, if not `denied`,
/// could not be asked.
pub fn unproven(node: NodeId, at: &(String, u16), denied: bool) -> Refused {
    let at = authority(&at.0, at.1);
    let text = if denied {
        format!(
            "node {node} is at {at}, and says that this connection is not its own: two nodes have the same id, or an address in cluster.yaml is wrong"
        )
    } else {
        format!(
            "node {node} cannot be reached at {at}, so it cannot say that this connection is its own: check its host and cluster_port, and what is between the two"
        )
    };
    Refused { code: RefusalCode::Unproven, text }
}

fn negotiate(us: NodeId, ours: Range, theirs: &Greeting) -> Result<u16, Refused> {
    let (them, other) = (theirs.hello.node, theirs.protocol);
    let speaks = format!(
        "node {them} speaks peer protocol {}..={}, node {us} {}..={}",
        other.min, other.max, ours.min, ours.max
    );
    if other.max < ours.min {
        refuse(RefusalCode::ProtocolTooOld, format!("{speaks}: upgrade node {them}"))
    } else if other.min > ours.max {
        refuse(RefusalCode::ProtocolTooNew, format!("{speaks}: upgrade node {us}"))
    } else {
        Ok(other.max.min(ours.max))
    }
}

fn refuse<T>(code: RefusalCode, text: String) -> Result<T, Refused> {
    Err(Refused { code, text })
}

#[cfg(test)]
mod tests {
    use shared::ids::ClusterId;
    use uuid::Uuid;

    use super::super::Formats;
    use super::super::greeting::tests::{greeting, hello};
    use super::*;

    const ONE: Range = Range { min: 1, max: 1 };

    fn code(result: Result<u16, Refused>) -> RefusalCode {
        result.unwrap_err().code
    }

    #[test]
    fn each_must_read_what_the_other_one_writes() {
        let with = |node, min, max, active| Hello {
            formats: Formats { reads: Range { min, max }, active },
            ..hello(node)
        };
        let verdict = |mine: Hello, theirs: Hello| {
            accept(&mine, ONE, &Greeting { hello: theirs, ..greeting(2, 1) }, Expected::Dialled(2))
        };
        assert_eq!(verdict(with(1, 1, 2, 1), with(2, 1, 1, 1)), Ok(1), "mixed, nothing is raised yet");
        assert_eq!(verdict(with(1, 1, 2, 2), with(2, 1, 2, 1)), Ok(1), "one has not raised it yet");
        let old = verdict(with(1, 1, 2, 2), with(2, 1, 1, 1)).unwrap_err();
        assert_eq!(old.code, RefusalCode::FormatTooOld);
        let text = "node 1's data is in on-disk format 2, node 2 reads format 1: give node 2 a later version of esnode";
        assert_eq!(old.text, text);
        assert_eq!(code(verdict(with(1, 1, 1, 1), with(2, 1, 2, 2))), RefusalCode::FormatTooNew);
        assert_eq!(
            code(verdict(with(1, 2, 2, 2), with(2, 1, 2, 1))),
            RefusalCode::FormatTooNew,
            "too old to read"
        );
    }

    #[test]
    fn the_highest_common_version_is_spoken() {
        let speak = |ours: (u16, u16), theirs: (u16, u16)| {
            let theirs = Greeting { protocol: Range { min: theirs.0, max: theirs.1 }, ..greeting(2, 1) };
            accept(&hello(1), Range { min: ours.0, max: ours.1 }, &theirs, Expected::Dialled(2))
        };
        assert_eq!(speak((1, 3), (2, 5)), Ok(3));
        assert_eq!(speak((2, 5), (1, 3)), Ok(3));
        assert_eq!(code(speak((3, 4), (1, 2))), RefusalCode::ProtocolTooOld);
        assert_eq!(code(speak((1, 2), (3, 4))), RefusalCode::ProtocolTooNew);
    }

    #[test]
    fn only_the_node_that_was_meant_is_accepted() {
        let verdict = |theirs: Greeting, expected: Expected| accept(&hello(1), ONE, &theirs, expected);
        assert_eq!(verdict(greeting(2, 1), Expected::Dialled(2)), Ok(1));
        assert_eq!(verdict(greeting(2, 1), Expected::Member), Ok(1));
        assert_eq!(code(verdict(greeting(2, 4), Expected::Member)), RefusalCode::WrongNode);
        assert_eq!(code(verdict(greeting(3, 1), Expected::Dialled(2))), RefusalCode::WrongNode);
        assert_eq!(code(verdict(greeting(4, 1), Expected::Stranger)), RefusalCode::UnknownNode);
    }

    #[test]
    fn a_node_that_is_only_named_must_be_of_the_same_cluster_and_a_stranger_is_refused() {
        let verdict = |mine: Option<u128>, other: Option<u128>, expected| {
            let id = |id: u128| ClusterId(Uuid::from_u128(id));
            let ours = Hello { cluster: mine.map(id), ..hello(1) };
            let theirs = Hello { cluster: other.map(id), ..hello(4) };
            accept(&ours, ONE, &Greeting { hello: theirs, ..greeting(4, 1) }, expected)
        };
        assert_eq!(verdict(Some(1), Some(1), Expected::Named), Ok(1));
        assert_eq!(verdict(None, Some(1), Expected::Named), Ok(1), "it may be the leader that takes us in");
        for (mine, other) in [(Some(1), Some(2)), (Some(1), None), (None, None)] {
            assert_eq!(code(verdict(mine, other, Expected::Named)), RefusalCode::UnknownNode);
        }
        for (mine, other) in [(Some(1), Some(1)), (None, Some(1)), (None, None)] {
            assert_eq!(code(verdict(mine, other, Expected::Stranger)), RefusalCode::UnknownNode);
        }
    }

    #[test]
    fn clusters_must_be_equal_once_both_have_one() {
        let verdict = |mine: Option<u128>, other: Option<u128>| {
            let id = |id: u128| ClusterId(Uuid::from_u128(id));
            let ours = Hello { cluster: mine.map(id), ..hello(1) };
            let theirs = Hello { cluster: other.map(id), ..hello(2) };
            accept(&ours, ONE, &Greeting { hello: theirs, ..greeting(2, 1) }, Expected::Dialled(2))
        };
        assert_eq!(verdict(None, Some(1)), Ok(1));
        assert_eq!(verdict(Some(1), None), Ok(1));
        assert_eq!(verdict(Some(1), Some(1)), Ok(1));
        assert_eq!(code(verdict(Some(1), Some(2))), RefusalCode::ForeignCluster);
    }
}

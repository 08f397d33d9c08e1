//! Who may talk to whom: the greeting, and the rules by which it is accepted or refused.
//!
//! Pure: no socket, no clock. Whether a peer may vote is the node's business, not decided here.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use shared::ids::{ClusterId, NodeId, StoreId};
use shared::spec::{MAX_NODES, authority};
use shared::version::Range;
use uuid::Uuid;

use super::claims::Token;
use super::config::PeerAddress;
use super::frame::{Encoded, FrameError, Kind};
use super::{Formats, Hello};

/// First bytes of every greeting: whatever does not start with them is no peer.
const MAGIC: u32 = u32::from_le_bytes(*b"ESPR");
/// Largest body of a greeting or a refusal, now and in later versions.
pub const MAX_GREETING: usize = 4 << 10;
/// Longest host name that a greeting carries of another node: nine of them fit.
const MAX_HOST: usize = 255;
/// Longest text kept of a refusal.
const MAX_TEXT: usize = 1 << 10;

const FRESH: u8 = 1;
const CLUSTER: u8 = 2;
const YOUR_STORE: u8 = 4;

/// A [`Hello`] with what the transport needs around it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greeting {
    /// Peer protocol versions that the speaker understands.
    pub protocol: Range,
    /// Whom the speaker believes it is talking to.
    pub to: NodeId,
    /// Drawn when the speaker's transport started: tells one run from the next.
    pub incarnation: u64,
    /// Counts the speaker's Hellos within one run, so that one overtaken on the other connection is known as old.
    pub revision: u64,
    /// What it says of itself.
    pub hello: Hello,
    /// Host and port at which the speaker says that it is reached, for people: nobody is dialled there for that.
    pub at: (String, u16),
    /// From the dialler: what the connection is known by, see [`super::claims`]. Absent from programs of the version
    /// before, which do not know it.
    pub token: Option<Token>,
    /// The members, as far as the speaker knows: whoever dialled it may have been away when they changed.
    pub names: Vec<PeerAddress>,
}

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

/// Why a connection was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Refused {
    /// For programs.
    pub code: RefusalCode,
    /// For people: what does not match, and what to do.
    pub text: String,
}

/// The kinds of refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalCode {
    /// The two belong to different clusters.
    ForeignCluster,
    /// Another node than the one that was meant.
    WrongNode,
    /// The dialler is no member.
    UnknownNode,
    /// The dialler's data directory is that of a member that was removed.
    Removed,
    /// The dialler's cluster went on without it, after a loss of quorum.
    Abandoned,
    /// The refused side speaks only older protocol versions.
    ProtocolTooOld,
    /// The refused side speaks only newer protocol versions.
    ProtocolTooNew,
    /// The refused side cannot read the on-disk format that the other one writes.
    FormatTooOld,
    /// The refused side writes an on-disk format that the other one cannot read.
    FormatTooNew,
    /// The node that the dialler says it is does not say so too, when asked.
    Unproven,
    /// A reason that this version does not know.
    Other(u16),
}

impl RefusalCode {
    fn to_wire(self) -> u16 {
        match self {
            Self::ForeignCluster => 1,
            Self::WrongNode => 2,
            Self::UnknownNode => 3,
            Self::ProtocolTooOld => 4,
            Self::ProtocolTooNew => 5,
            Self::Removed => 6,
            Self::FormatTooOld => 7,
            Self::FormatTooNew => 8,
            Self::Unproven => 9,
            Self::Abandoned => 10,
            Self::Other(code) => code,
        }
    }

    fn from_wire(code: u16) -> Self {
        match code {
            1 => Self::ForeignCluster,
            2 => Self::WrongNode,
            3 => Self::UnknownNode,
            4 => Self::ProtocolTooOld,
            5 => Self::ProtocolTooNew,
            6 => Self::Removed,
            7 => Self::FormatTooOld,
            8 => Self::FormatTooNew,
            9 => Self::Unproven,
            10 => Self::Abandoned,
            code => Self::Other(code),
        }
    }
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

impl Greeting {
    /// As a frame. Later versions may only append to its body.
    pub fn encode(&self) -> Encoded {
        self.encode_as(Kind::Hello)
    }

    /// The same as a frame of another kind.
    pub fn encode_as(&self, kind: Kind) -> Encoded {
        let hello = &self.hello;
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        let mut body = BytesMut::with_capacity(128);
        body.put_u32_le(MAGIC);
        body.put_u16_le(self.protocol.min);
        body.put_u16_le(self.protocol.max);
        for number in [self.to, self.incarnation, self.revision, hello.node] {
            body.put_u64_le(number);
        }
        body.put_u32_le(hello.members);
        body.put_u8(
            flag(hello.fresh, FRESH)
                | flag(hello.cluster.is_some(), CLUSTER)
                | flag(hello.your_store.is_some(), YOUR_STORE),
        );
        body.put_u128_le(hello.store.0.as_u128());
        body.put_u128_le(hello.cluster.map_or(0, |id| id.0.as_u128()));
        body.put_u128_le(hello.your_store.map_or(0, |id| id.0.as_u128()));
        hello.initial_voters.iter().for_each(|voter| body.put_u64_le(*voter));
        put_place(&mut body, &self.at.0, self.at.1);
        let Formats { reads, active } = hello.formats;
        [reads.min, reads.max, active].into_iter().for_each(|version| body.put_u16_le(version));
        if let Some(token) = self.token {
            body.put_u128_le(token);
            let names = self.names.iter().filter(|(_, host, _)| host.len() <= MAX_HOST).take(MAX_NODES);
            body.put_u8(u8::try_from(names.clone().count()).unwrap_or_default());
            for (id, host, port) in names {
                body.put_u64_le(*id);
                put_place(&mut body, host, *port);
            }
        }
        Encoded::new(kind, vec![body.freeze()])
    }

    /// From a frame's body. What a later version appended is ignored.
    pub fn decode(mut body: Bytes) -> Result<Self, FrameError> {
        if body.try_get_u32_le()? != MAGIC {
            return Err(FrameError::Malformed);
        }
        let protocol = Range { min: body.try_get_u16_le()?, max: body.try_get_u16_le()? };
        let (to, incarnation) = (body.try_get_u64_le()?, body.try_get_u64_le()?);
        let (revision, node) = (body.try_get_u64_le()?, body.try_get_u64_le()?);
        let members = body.try_get_u32_le()?;
        let flags = body.try_get_u8()?;
        let store = StoreId(Uuid::from_u128(body.try_get_u128_le()?));
        let cluster = Uuid::from_u128(body.try_get_u128_le()?);
        let your_store = Uuid::from_u128(body.try_get_u128_le()?);
        let mut initial_voters = [0; MAX_NODES];
        for voter in &mut initial_voters {
            *voter = body.try_get_u64_le()?;
        }
        let at = place(&mut body)?;
        let formats = formats(&mut body)?;
        let (token, names) = token_and_names(&mut body)?;
        let hello = Hello {
            formats,
            node,
            store,
            initial_voters,
            cluster: (flags & CLUSTER != 0).then_some(ClusterId(cluster)),
            fresh: flags & FRESH != 0,
            members,
            your_store: (flags & YOUR_STORE != 0).then_some(StoreId(your_store)),
        };
        if protocol.min > protocol.max || formats.reads.min > formats.reads.max || node == 0 {
            return Err(FrameError::Malformed);
        }
        Ok(Self { protocol, to, incarnation, revision, hello, at, token, names })
    }
}

/// Older programs end their greeting before this: they read and write the first format.
fn formats(body: &mut Bytes) -> Result<Formats, FrameError> {
    if body.is_empty() {
        return Ok(Formats::default());
    }
    let reads = Range { min: body.try_get_u16_le()?, max: body.try_get_u16_le()? };
    Ok(Formats { reads, active: body.try_get_u16_le()? })
}

/// Programs of the version before end their greeting before this.
fn token_and_names(body: &mut Bytes) -> Result<(Option<Token>, Vec<PeerAddress>), FrameError> {
    if body.is_empty() {
        return Ok((None, Vec::new()));
    }
    let (token, count) = (body.try_get_u128_le()?, usize::from(body.try_get_u8()?));
    if count > MAX_NODES {
        return Err(FrameError::Malformed);
    }
    let name = |_| {
        let id = body.try_get_u64_le()?;
        place(body).map(|(host, port)| (id, host, port))
    };
    Ok((Some(token), (0..count).map(name).collect::<Result<_, _>>()?))
}

fn put_place(body: &mut BytesMut, host: &str, port: u16) {
    body.put_u16_le(port);
    body.put_u16_le(u16::try_from(host.len()).unwrap_or_default());
    body.put_slice(host.as_bytes());
}

fn place(body: &mut Bytes) -> Result<(String, u16), FrameError> {
    let (port, length) = (body.try_get_u16_le()?, usize::from(body.try_get_u16_le()?));
    if length > body.len() {
        return Err(FrameError::Malformed);
    }
    let host = String::from_utf8(body.split_to(length).into()).map_err(|_| FrameError::Malformed)?;
    Ok((host, port))
}

/// A question about a connection, and its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What the connection is known by.
    pub token: Token,
    /// Whether it is the speaker's own; in a question, false.
    pub own: bool,
}

impl Answer {
    /// As a frame: [`Kind::Ask`] or [`Kind::Own`].
    pub fn encode(self, kind: Kind) -> Encoded {
        let mut body = BytesMut::with_capacity(17);
        body.put_u128_le(self.token);
        body.put_u8(u8::from(self.own));
        Encoded::new(kind, vec![body.freeze()])
    }

    /// From a frame's body. What a later version appended is ignored.
    pub fn decode(mut body: Bytes) -> Result<Self, FrameError> {
        Ok(Self { token: body.try_get_u128_le()?, own: body.try_get_u8()? != 0 })
    }
}

impl Refused {
    /// As a frame.
    pub fn encode(&self) -> Encoded {
        let mut body = BytesMut::with_capacity(2 + self.text.len());
        body.put_u16_le(self.code.to_wire());
        body.put_slice(self.text.as_bytes());
        Encoded::new(Kind::Refused, vec![body.freeze()])
    }

    /// From a frame's body. The text goes into logs: control characters are taken out of it.
    ///
    /// # Errors
    /// [`FrameError::Malformed`].
    pub fn decode(mut body: Bytes) -> Result<Self, FrameError> {
        let code = RefusalCode::from_wire(body.try_get_u16_le()?);
        let text = String::from_utf8_lossy(&body[..body.len().min(MAX_TEXT)]);
        Ok(Self { code, text: text.chars().filter(|c| !c.is_control()).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::super::frame::{FrameReader, write_frames};
    use super::*;

    const ONE: Range = Range { min: 1, max: 1 };

    fn hello(node: NodeId) -> Hello {
        let store = StoreId(Uuid::from_u128(u128::from(node) << 100 | 5));
        Hello {
            node,
            store,
            cluster: None,
            fresh: true,
            members: 9,
            initial_voters: [1, 2, 3, 0, 0, 0, 0, 0, 7],
            your_store: None,
            formats: Formats { reads: Range { min: 1, max: 3 }, active: 2 },
        }
    }

    fn greeting(node: NodeId, to: NodeId) -> Greeting {
        let at = ("host".to_owned(), 9100);
        let names = vec![(1, "a".to_owned(), 1), (2, "b".repeat(MAX_HOST), 2)];
        Greeting {
            protocol: ONE,
            to,
            incarnation: 77,
            revision: 3,
            hello: hello(node),
            at,
            token: Some(9),
            names,
        }
    }

    fn body_of(frame: Encoded) -> Bytes {
        let mut wire = Vec::new();
        write_frames(&mut wire, &[frame]).unwrap();
        let mut reader = FrameReader::new(MAX_GREETING);
        reader.fill(&mut wire.as_slice()).unwrap();
        reader.next_frame().unwrap().unwrap().1
    }

    fn code(result: Result<u16, Refused>) -> RefusalCode {
        result.unwrap_err().code
    }

    #[test]
    fn greetings_and_refusals_travel() {
        let cluster = Some(ClusterId(Uuid::from_u128(11)));
        let your_store = Some(StoreId(Uuid::from_u128(12)));
        for hello in [hello(1), Hello { cluster, your_store, fresh: false, ..hello(1) }] {
            let greeting = Greeting { hello, ..greeting(1, 2) };
            assert_eq!(Greeting::decode(body_of(greeting.encode())).unwrap(), greeting);
        }
        let refused = Refused { code: RefusalCode::ForeignCluster, text: "no\x1b[2J\n".into() };
        let back = Refused::decode(body_of(refused.encode())).unwrap();
        assert_eq!((back.code, back.text.as_str()), (RefusalCode::ForeignCluster, "no[2J"));
    }

    #[test]
    fn a_later_version_may_append_but_nothing_may_be_missing() {
        let body = body_of(greeting(1, 2).encode());
        let longer = Bytes::from([&body[..], b"more"].concat());
        assert_eq!(Greeting::decode(longer).unwrap(), greeting(1, 2));
        let unnamed = Greeting { token: None, names: Vec::new(), ..greeting(1, 2) };
        let before_token = body_of(unnamed.encode()).len();
        let before_formats = before_token - 6;
        for cut in (0..body.len()).filter(|cut| ![before_formats, before_token].contains(cut)) {
            assert!(Greeting::decode(body.slice(..cut)).is_err(), "cut at {cut}");
        }
        assert_eq!(Greeting::decode(body.slice(..before_token)).unwrap(), unnamed);
        let old = Greeting::decode(body.slice(..before_formats)).unwrap().hello;
        assert_eq!(old, Hello { formats: Formats::default(), ..hello(1) }, "a program that does not say");
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

//! The greeting that begins every connection, the refusal that may follow it, and the questions about connections; and
//! their encoding. Whether a greeting is accepted is decided in [`super::handshake`].

use bytes::{Buf, BufMut, Bytes, BytesMut};
use shared::ids::{ClusterId, NodeId, StoreId};
use shared::spec::MAX_NODES;
use shared::version::Range;
use uuid::Uuid;

use super::claims::Token;
use super::config::PeerAddress;
use super::frame::{Encoded, FrameError, Kind};
use super::refused::{RefusalCode, Refused};
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
pub(super) mod tests {
    use super::super::frame::{FrameReader, write_frames};
    use super::*;

    pub fn hello(node: NodeId) -> Hello {
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

    pub fn greeting(node: NodeId, to: NodeId) -> Greeting {
        let at = ("host".to_owned(), 9100);
        let names = vec![(1, "a".to_owned(), 1), (2, "b".repeat(MAX_HOST), 2)];
        Greeting {
            protocol: Range { min: 1, max: 1 },
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
}

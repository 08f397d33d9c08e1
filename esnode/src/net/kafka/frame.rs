//! Frames: cutting requests out of the bytes read, and putting answers together. Knows no API's meaning.

use std::sync::Arc;
use std::time::Instant;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::ApiKey;
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};

use super::memory::{Held, SharedBody};
use super::request_schema::{self, MalformedRequest};

/// Largest request that is served, without its length prefix: the largest batch, and what stands around it.
pub const MAX_FRAME: usize = 17 << 20;
/// Larger ones are read on, thrown away and answered, up to what Kafka takes; beyond it the connection ends.
pub const MAX_OVERSIZED: usize = 100 << 20;

/// The client id that a node uses when it passes a client's request on to the leader. Such a request is never
/// passed on again.
pub const FORWARDED: &str = "esnode.forwarded";

/// Why a connection cannot go on: what follows in the stream is invalid, or has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRequest {
    /// Not a frame length: too large or negative.
    #[error("{0}")]
    Length(String),
    /// Lengths inside do not fit the frame.
    #[error("malformed request (API {key}, version {version}): {why}")]
    MalformedRequest {
        /// The API's number.
        key: i16,
        /// The request's version.
        version: i16,
        /// What is wrong.
        why: MalformedRequest,
    },
    /// The codec rejects it.
    #[error("malformed request ({key:?}, version {version}): {why}")]
    Undecodable {
        /// The API.
        key: ApiKey,
        /// The request's version.
        version: i16,
        /// The codec's words.
        why: String,
    },
    /// An API or a version of it that ApiVersions does not offer.
    #[error("API {key} version {version} is not served")]
    Unsupported {
        /// The API's number.
        key: i16,
        /// The request's version.
        version: i16,
    },
}

/// Where an answer belongs.
#[derive(Clone, Copy, Debug)]
pub struct ReplyTo {
    /// The API.
    pub key: ApiKey,
    /// The version of the answer.
    pub version: i16,
    /// The client's number for the request.
    pub correlation: i32,
    /// When the request was complete.
    pub received: Instant,
}

/// A request whose header has been read.
#[derive(Clone, Debug)]
pub struct Request {
    /// Where its answer belongs.
    pub to: ReplyTo,
    /// Another node passed it on.
    pub forwarded: bool,
    /// The client's name for itself.
    pub client_id: StrBytes,
    /// Everything after the header.
    pub body: Bytes,
}

/// What becomes of a request.
#[derive(Debug)]
pub enum Outcome {
    /// These bytes go back, length prefix and all.
    Send(BytesMut),
    /// The same, where the memory they take is accounted for until they are gone.
    SendHolding(BytesMut, Held),
    /// This, and then the connection ends: the client had better go elsewhere.
    Last(Box<Outcome>),
    /// Nothing goes back (acks=0).
    NoResponse,
    /// The connection ends: the only way to tell of an error where no answer is expected.
    Close,
}

/// The number of bytes of the next frame, once its prefix has arrived.
pub fn next_length(buffer: &[u8]) -> Result<Option<usize>, BadRequest> {
    let Some(prefix) = buffer.first_chunk::<4>() else { return Ok(None) };
    match usize::try_from(i32::from_be_bytes(*prefix)) {
        Ok(length) if length <= MAX_OVERSIZED => Ok(Some(length)),
        _ => Err(BadRequest::Length(match prefix {
            b"GET " | b"POST" | b"HEAD" | b"PUT " | b"DELE" => {
                "an HTTP request on the Kafka port; the admin API has a port of its own (http_port)"
                    .to_owned()
            }
            [0x16, 0x03, ..] => {
                "a TLS handshake on the Kafka port; set the client's security.protocol to plaintext"
                    .to_owned()
            }
            _ => {
                format!(
                    "frame length {} is not between 0 and {MAX_OVERSIZED} bytes",
                    i32::from_be_bytes(*prefix)
                )
            }
        })),
    }
}

/// The API's number, the version and the correlation id that begin every request.
pub fn peek(frame: &[u8]) -> Result<(i16, i16, i32), BadRequest> {
    let Some(mut head) = frame.get(..8) else {
        return Err(BadRequest::Length(format!("a request of {} bytes", frame.len())));
    };
    Ok((head.get_i16(), head.get_i16(), head.get_i32()))
}

impl Request {
    /// Reads the header of a frame (without length prefix) for the API `key`.
    pub fn parse(key: ApiKey, mut frame: Bytes) -> Result<Self, BadRequest> {
        let (number, version, correlation) = peek(&frame)?;
        let malformed = |why| BadRequest::MalformedRequest { key: number, version, why };
        frame.advance(8);
        let client = match frame.split_first_chunk::<2>() {
            Some((length, rest)) => {
                let length = usize::try_from(i16::from_be_bytes(*length)).unwrap_or(0);
                rest.get(..length).ok_or(malformed(MalformedRequest::Truncated))?
            }
            None => return Err(malformed(MalformedRequest::Truncated)),
        };
        let client_id = frame.slice(2..2 + client.len());
        let forwarded = client == FORWARDED.as_bytes();
        frame.advance(2 + client_id.len());
        if key.request_header_version(version) >= 2 {
            let rest = request_schema::skip_tags(&frame).map_err(malformed)?.len();
            frame.advance(frame.len() - rest);
        }
        let to = ReplyTo { key, version, correlation, received: Instant::now() };
        // It is shown to people only.
        let client_id = StrBytes::try_from(client_id).unwrap_or_default();
        Ok(Self { to, forwarded, client_id, body: frame })
    }

    /// Decodes the body; records and strings are slices of it. Only after [`request_schema::check`].
    pub fn decode<T: Decodable>(&self) -> Result<T, BadRequest> {
        T::decode(&mut self.body.clone(), self.to.version).map_err(|error| BadRequest::Undecodable {
            key: self.to.key,
            version: self.to.version,
            why: error.to_string(),
        })
    }

    /// The frame again, as this node sends it to the leader, with length prefix.
    pub fn forward(&self, correlation: i32) -> BytesMut {
        let mut out = BytesMut::with_capacity(self.body.len() + 64);
        out.put_u32(0);
        out.put_i16(self.to.key as i16);
        out.put_i16(self.to.version);
        out.put_i32(correlation);
        out.put_u16(u16::try_from(FORWARDED.len()).unwrap_or(0));
        out.put_slice(FORWARDED.as_bytes());
        if self.to.key.request_header_version(self.to.version) >= 2 {
            out.put_u8(0);
        }
        out.put_slice(&self.body);
        seal(&mut out, 0);
        out
    }
}

impl ReplyTo {
    /// Encodes an answer. An answer that cannot be encoded is a defect here, logged; the connection ends.
    pub fn send<T: Encodable>(&self, body: &T) -> Outcome {
        self.frame(body).map_or(Outcome::Close, Outcome::Send)
    }

    /// The body of an answer, for [`ReplyTo::share`].
    pub fn body<T: Encodable>(&self, body: &T) -> Option<Bytes> {
        let frame = self.frame(body)?.freeze();
        Some(frame.slice(self.open(0).len()..))
    }

    /// An answer with a body that others get too.
    pub fn share(&self, shared: Arc<SharedBody>) -> Outcome {
        let mut head = self.open(0);
        seal(&mut head, shared.body.len());
        Outcome::SendHolding(head, Held::Shared(shared))
    }

    fn frame<T: Encodable>(&self, body: &T) -> Option<BytesMut> {
        let encoded = body.compute_size(self.version).and_then(|size| {
            let mut out = self.open(size);
            body.encode(&mut out, self.version)?;
            seal(&mut out, 0);
            Ok(out)
        });
        let failed = |error: &_| {
            tracing::error!(api = ?self.key, version = self.version, %error, "an answer could not be encoded");
        };
        encoded.inspect_err(failed).ok()
    }

    /// Room for the length prefix, the header, and capacity for a body of `size` bytes.
    fn open(&self, size: usize) -> BytesMut {
        let mut out = BytesMut::with_capacity(size + 16);
        out.put_u32(0);
        out.put_i32(self.correlation);
        if self.key.response_header_version(self.version) >= 1 {
            // No tagged fields.
            out.put_u8(0);
        }
        out
    }

    /// Readdresses an answer (with length prefix) that the leader gave to a forwarded request.
    pub fn relay(&self, mut frame: BytesMut, held: Option<Held>) -> Outcome {
        let Some(correlation) = frame.get_mut(4..8) else { return Outcome::Close };
        correlation.copy_from_slice(&self.correlation.to_be_bytes());
        match held {
            Some(held) => Outcome::SendHolding(frame, held),
            None => Outcome::Send(frame),
        }
    }
}

/// Fills in the length prefix, where `more` bytes come behind the frame.
fn seal(frame: &mut BytesMut, more: usize) {
    let length = u32::try_from(frame.len() - 4 + more).unwrap_or(u32::MAX);
    frame[..4].copy_from_slice(&length.to_be_bytes());
}

//! A node that speaks Kafka's protocol as a test tells it to, for what no real node does when it is asked to.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use anyhow::{Context, Result};
use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::{
    ApiKey, ApiVersionsResponse, RequestHeader, RequestKind, ResponseHeader, ResponseKind,
};
use kafka_protocol::protocol::{Decodable, Encodable};

/// What the node answers; without an answer it hangs up.
type Answers = dyn Fn(RequestKind) -> Option<ResponseKind> + Send + Sync;

/// Starts the node, which runs as long as the test. It offers every version of the APIs in `serves` that the codec
/// knows, and answers ApiVersions by itself. Returns where it listens.
pub fn start(
    serves: &'static [ApiKey],
    answers: impl Fn(RequestKind) -> Option<ResponseKind> + Send + Sync + 'static,
) -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let answers: Arc<Answers> = Arc::new(answers);
    std::thread::spawn(move || {
        for peer in listener.incoming().flatten() {
            let answers = Arc::clone(&answers);
            // It ends with the client's connection.
            std::thread::spawn(move || while answer(&peer, serves, &*answers).is_ok() {});
        }
    });
    Ok(address)
}

/// Reads one request, and answers it.
fn answer(mut peer: &TcpStream, serves: &[ApiKey], answers: &Answers) -> Result<()> {
    let mut length = [0; 4];
    peer.read_exact(&mut length)?;
    let mut frame = vec![0; u32::from_be_bytes(length) as usize];
    peer.read_exact(&mut frame)?;
    let mut frame = Bytes::from(frame);
    let number = frame.get(..2).and_then(|key| key.try_into().ok()).map(i16::from_be_bytes);
    let key = ApiKey::try_from(number.context("a request")?).ok().context("a known request")?;
    let version = frame.get(2..4).and_then(|version| version.try_into().ok()).map(i16::from_be_bytes);
    let version = version.context("a version")?;
    let header = RequestHeader::decode(&mut frame, key.request_header_version(version))?;
    let response = if key == ApiKey::ApiVersions {
        ResponseKind::ApiVersions(offered(serves))
    } else {
        answers(RequestKind::decode(key, &mut frame, version)?).context("no answer")?
    };
    let mut body = BytesMut::new();
    let of = ResponseHeader::default().with_correlation_id(header.correlation_id);
    of.encode(&mut body, key.response_header_version(version))?;
    response.encode(&mut body, version)?;
    peer.write_all(&[&u32::try_from(body.len())?.to_be_bytes(), &body[..]].concat())?;
    Ok(())
}

fn offered(serves: &[ApiKey]) -> ApiVersionsResponse {
    let offered = serves.iter().map(|key| {
        let versions = key.valid_versions();
        ApiVersion::default()
            .with_api_key(*key as i16)
            .with_min_version(versions.min)
            .with_max_version(versions.max)
    });
    ApiVersionsResponse::default().with_api_keys(offered.collect())
}

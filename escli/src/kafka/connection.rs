//! One connection to one node: frames, versions, one request at a time.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, ApiVersionsRequest, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::KafkaError;
use super::dial::{Stream, words};
use super::error::check;

/// Longest response that is read, in bytes: several times what one Fetch asks for.
const MAX_RESPONSE: u32 = 128 << 20;

/// A connection whose node has said what it serves.
pub struct Connection {
    node: String,
    stream: Box<dyn Stream>,
    /// Oldest and newest version that the node serves, by the API's number.
    served: BTreeMap<i16, (i16, i16)>,
    correlation: i32,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("node", &self.node).finish_non_exhaustive()
    }
}

impl Connection {
    /// Asks the node behind `stream` what it serves; `node` is its name in errors.
    ///
    /// # Errors
    /// `NoResponse`, `Malformed`, `Refused`.
    pub async fn open(node: String, stream: Box<dyn Stream>, limit: Duration) -> Result<Self, KafkaError> {
        let mut this = Self { node, stream, served: BTreeMap::new(), correlation: 0 };
        // Version 0 is served by everyone.
        let response = this.exchange(0, &ApiVersionsRequest::default(), limit).await?;
        check(response.error_code, None, || format!("{}: ApiVersions", this.node))?;
        let served = response.api_keys.iter().map(|api| (api.api_key, (api.min_version, api.max_version)));
        this.served = served.collect();
        Ok(this)
    }

    /// Sends a request in the newest of `versions` that the node serves, and waits for its response for at most `limit`.
    ///
    /// # Errors
    /// `Unsupported`, `NoResponse`, `Malformed`. After the last two the connection is of no use any more.
    pub async fn call<R: Request>(
        &mut self,
        versions: RangeInclusive<i16>,
        request: &R,
        limit: Duration,
    ) -> Result<R::Response, KafkaError> {
        let version = newest_common(&versions, self.served.get(&R::KEY));
        let unsupported = || KafkaError::Unsupported { node: self.node.clone(), api: name::<R>() };
        self.exchange(version.ok_or_else(unsupported)?, request, limit).await
    }

    async fn exchange<R: Request>(
        &mut self,
        version: i16,
        request: &R,
        limit: Duration,
    ) -> Result<R::Response, KafkaError> {
        self.correlation += 1;
        let malformed =
            |node: &str, why: String| KafkaError::Malformed { node: node.to_owned(), api: name::<R>(), why };
        let frame = frame(version, self.correlation, request)
            .map_err(|error| malformed(&self.node, format!("it cannot be asked for: {error}")))?;
        let no_response =
            |why: String| KafkaError::NoResponse { node: self.node.clone(), api: name::<R>(), why };
        let mut response = timeout(limit, transmit(&mut self.stream, &frame))
            .await
            .map_err(|_| no_response(format!("nothing within {limit:?}")))?
            .map_err(|error| no_response(words(&error)))?;
        decoded::<R>(version, self.correlation, &mut response).map_err(|why| malformed(&self.node, why))
    }
}

/// Writes a frame and reads the next one.
async fn transmit(stream: &mut Box<dyn Stream>, frame: &[u8]) -> std::io::Result<Bytes> {
    stream.write_all(frame).await?;
    stream.flush().await?;
    let length = stream.read_u32().await?;
    if length > MAX_RESPONSE {
        return Err(std::io::Error::other(format!("a response of {length} bytes")));
    }
    let mut response = Vec::new();
    // Memory is taken as the bytes arrive, not as they are announced.
    let read = stream.take(u64::from(length)).read_to_end(&mut response).await?;
    if read < length as usize {
        return Err(std::io::Error::other("the connection was closed in the middle of a response"));
    }
    Ok(Bytes::from(response))
}

fn frame<R: Request>(version: i16, correlation: i32, request: &R) -> Result<BytesMut, String> {
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_correlation_id(correlation)
        .with_client_id(Some(StrBytes::from_static_str("escli")));
    let mut frame = BytesMut::from(&[0; 4][..]);
    header.encode(&mut frame, R::header_version(version)).map_err(|error| error.to_string())?;
    request.encode(&mut frame, version).map_err(|error| error.to_string())?;
    let length = u32::try_from(frame.len() - 4).map_err(|error| error.to_string())?;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    Ok(frame)
}

fn decoded<R: Request>(version: i16, correlation: i32, response: &mut Bytes) -> Result<R::Response, String> {
    let header = ResponseHeader::decode(response, R::Response::header_version(version))
        .map_err(|error| error.to_string())?;
    if header.correlation_id != correlation {
        return Err("it belongs to another request".to_owned());
    }
    R::Response::decode(response, version).map_err(|error| error.to_string())
}

fn newest_common(own: &RangeInclusive<i16>, served: Option<&(i16, i16)>) -> Option<i16> {
    let (oldest, newest) = served?;
    let version = *own.end().min(newest);
    (version >= *own.start().max(oldest)).then_some(version)
}

/// Kafka's name of a request.
fn name<R: Request>() -> String {
    ApiKey::try_from(R::KEY).map_or_else(|_| format!("request {}", R::KEY), |key| format!("{key:?}"))
}

#[cfg(test)]
pub(super) mod tests {
    use kafka_protocol::messages::api_versions_response::ApiVersion;
    use kafka_protocol::messages::{
        ApiVersionsResponse, ListGroupsRequest, MetadataRequest, MetadataResponse,
    };
    use tokio::io::DuplexStream;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(5);

    #[test]
    fn the_newest_version_that_both_know_is_spoken() {
        let table = [
            (3..=9, Some(&(0, 12)), Some(9)),
            (3..=9, Some(&(0, 5)), Some(5)),
            (3..=9, Some(&(10, 12)), None),
            (3..=9, Some(&(0, 2)), None),
            (3..=9, None, None),
        ];
        for (own, served, version) in table {
            assert_eq!(newest_common(&own, served), version, "{own:?} {served:?}");
        }
    }

    /// A response as it is on the wire.
    pub fn response<R: Request>(correlation: i32, version: i16, body: &R::Response) -> Vec<u8> {
        let mut bytes = BytesMut::from(&[0; 4][..]);
        let header = ResponseHeader::default().with_correlation_id(correlation);
        header.encode(&mut bytes, R::Response::header_version(version)).unwrap();
        body.encode(&mut bytes, version).unwrap();
        let length = u32::try_from(bytes.len() - 4).unwrap();
        bytes[..4].copy_from_slice(&length.to_be_bytes());
        bytes.to_vec()
    }

    fn serves_metadata() -> Vec<u8> {
        let metadata = ApiVersion::default().with_api_key(3).with_min_version(0).with_max_version(12);
        response::<ApiVersionsRequest>(1, 0, &ApiVersionsResponse::default().with_api_keys(vec![metadata]))
    }

    /// A node that gives these responses, one for each request, and then hangs up.
    pub async fn node(responses: Vec<Vec<u8>>) -> Result<Connection, KafkaError> {
        let (ours, mut theirs): (DuplexStream, DuplexStream) = tokio::io::duplex(1 << 16);
        tokio::spawn(async move {
            for response in responses {
                let length = theirs.read_u32().await.unwrap();
                theirs.read_exact(&mut vec![0; length as usize]).await.unwrap();
                theirs.write_all(&response).await.unwrap();
            }
        });
        Connection::open("n1".to_owned(), Box::new(ours), LIMIT).await
    }

    #[tokio::test]
    async fn a_request_gets_its_response_and_what_is_not_served_is_not_sent() {
        let body = MetadataResponse::default().with_controller_id(7.into());
        let mut connection =
            node(vec![serves_metadata(), response::<MetadataRequest>(2, 12, &body)]).await.unwrap();
        let unsupported = connection.call(4..=5, &ListGroupsRequest::default(), LIMIT).await.unwrap_err();
        assert_eq!(unsupported.to_string(), "n1 does not serve ListGroups in a version that escli knows");
        let answer = connection.call(10..=13, &MetadataRequest::default(), LIMIT).await.unwrap();
        assert_eq!(answer.controller_id.0, 7);
    }

    #[tokio::test]
    async fn a_node_that_hangs_up_or_answers_something_else_is_told_apart() {
        let mut silent = node(vec![serves_metadata()]).await.unwrap();
        let error = silent.call(10..=12, &MetadataRequest::default(), LIMIT).await.unwrap_err();
        assert!(matches!(error, KafkaError::NoResponse { .. }) && error.is_ambiguous(), "{error}");
        let other = response::<MetadataRequest>(9, 12, &MetadataResponse::default());
        let mut confused = node(vec![serves_metadata(), other]).await.unwrap();
        let error = confused.call(10..=12, &MetadataRequest::default(), LIMIT).await.unwrap_err();
        assert!(error.to_string().ends_with("it belongs to another request"), "{error}");
        let huge = (MAX_RESPONSE + 1).to_be_bytes().to_vec();
        let error = node(vec![huge]).await.unwrap_err();
        assert!(error.to_string().contains("a response of"), "{error}");
    }
}

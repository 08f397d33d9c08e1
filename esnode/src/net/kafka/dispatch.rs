//! From frames to handlers: which frames are served, and by which API.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use kafka_protocol::messages::ApiKey;

use super::answer::Answer;
use super::apis::{self, Api};
use super::connection::Service;
use super::frame::{self, BadRequest, MAX_FRAME, ReplyTo, Request};
use super::oversized;
use super::session::Session;
use super::versions;

/// A frame that may be served.
pub enum Admitted {
    /// A request that a handler takes.
    Serve(&'static Api, Request),
    /// A version of ApiVersions that is newer than ours.
    NewerApiVersions(ReplyTo),
}

impl Service for Arc<Session> {
    type Request = Admitted;

    fn admit(&self, frame: Bytes) -> Result<(Admitted, usize), BadRequest> {
        let (key, version, correlation) = frame::peek(&frame)?;
        self.shared.metrics.request(key);
        let api = apis::find(key).ok_or(BadRequest::Unsupported { key, version })?;
        if api.serves(version) {
            let request = Request::parse(api.key, frame)?;
            let besides = api.check(&request)?;
            return Ok((Admitted::Serve(api, request), besides));
        }
        if api.key == ApiKey::ApiVersions {
            let to = ReplyTo { key: api.key, version, correlation, received: Instant::now() };
            return Ok((Admitted::NewerApiVersions(to), 0));
        }
        Err(BadRequest::Unsupported { key, version })
    }

    fn oversized(&self, head: Bytes) -> Result<(ReplyTo, Answer), BadRequest> {
        let (key, version, _) = frame::peek(&head)?;
        let api = apis::find(key).filter(|api| api.serves(version));
        let api = api.ok_or(BadRequest::Unsupported { key, version })?;
        self.shared.metrics.request(key);
        let request = Request::parse(api.key, head)?;
        let why = || BadRequest::Length(format!("a request ({:?}) of more than {MAX_FRAME} bytes", api.key));
        let outcome = oversized::refuse(&request).ok_or_else(why)?;
        Ok((request.to, Answer::Now(outcome)))
    }

    async fn begin(&self, request: Admitted) -> Result<(ReplyTo, Answer), BadRequest> {
        let (api, request) = match request {
            Admitted::Serve(api, request) => (api, request),
            Admitted::NewerApiVersions(to) => {
                return Ok((to, Answer::Now(versions::unsupported(to, apis::offered()))));
            }
        };
        let mut answer = api.begin(self, &request)?;
        while let Answer::First(next) = answer {
            answer = next.await;
        }
        Ok((request.to, answer))
    }
}

//! ApiVersions: what this node serves, read off the table.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::api_versions_response::{ApiVersion, ApiVersionsResponse};

use super::apis::{APIS, Answer};
use super::errors;
use super::frame::{BadRequest, Outcome, ReplyTo, Request};
use super::session::Session;

/// Serves ApiVersions.
pub fn handle(_session: &Arc<Session>, request: &Request) -> Result<Answer, BadRequest> {
    Ok(Answer::Now(request.to.send(&table(errors::NONE))))
}

/// The answer to a version of ApiVersions that is newer than ours: in version 0, which every client reads.
pub fn unsupported(to: ReplyTo) -> Outcome {
    ReplyTo { version: 0, ..to }.send(&table(ResponseError::UnsupportedVersion.code()))
}

/// The whole table. No tagged fields, which librdkafka 2.0 cannot read here.
pub fn table(error: i16) -> ApiVersionsResponse {
    let keys = APIS
        .iter()
        .map(|api| {
            ApiVersion::default()
                .with_api_key(api.key as i16)
                .with_min_version(api.offered_from)
                .with_max_version(api.to)
        })
        .collect();
    ApiVersionsResponse::default().with_error_code(error).with_api_keys(keys)
}

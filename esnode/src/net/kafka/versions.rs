//! ApiVersions: the versions that this node offers of each API.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::ApiKey;
use kafka_protocol::messages::api_versions_response::{ApiVersion, ApiVersionsResponse};

use super::errors;
use super::frame::{Outcome, ReplyTo};

/// The answer to a version of ApiVersions that is understood: the oldest and the newest version of each API.
pub fn supported(to: ReplyTo, offered: impl Iterator<Item = (ApiKey, i16, i16)>) -> Outcome {
    to.send(&table(errors::NONE, offered))
}

/// The answer to a version of ApiVersions that is newer than ours: in version 0, which every client reads.
pub fn unsupported(to: ReplyTo, offered: impl Iterator<Item = (ApiKey, i16, i16)>) -> Outcome {
    ReplyTo { version: 0, ..to }.send(&table(ResponseError::UnsupportedVersion.code(), offered))
}

/// The whole table. No tagged fields, which librdkafka 2.0 cannot read here.
pub fn table(error: i16, offered: impl Iterator<Item = (ApiKey, i16, i16)>) -> ApiVersionsResponse {
    let keys = offered
        .map(|(key, oldest, newest)| {
            ApiVersion::default().with_api_key(key as i16).with_min_version(oldest).with_max_version(newest)
        })
        .collect();
    ApiVersionsResponse::default().with_error_code(error).with_api_keys(keys)
}

//! ListPartitionReassignments: there are none, for every node holds every partition.

use std::sync::Arc;

use kafka_protocol::messages::{ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse};

use super::answer::Answer;
use super::frame::{BadRequest, Request};
use super::session::Session;

/// Serves ListPartitionReassignments.
pub fn list(_session: &Arc<Session>, request: &Request) -> Result<Answer, BadRequest> {
    let _: ListPartitionReassignmentsRequest = request.decode()?;
    Ok(Answer::Now(request.to.send(&none())))
}

fn none() -> ListPartitionReassignmentsResponse {
    ListPartitionReassignmentsResponse::default().with_error_message(None)
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::ApiKey;

    use super::*;
    use crate::net::kafka::tests::encodes;

    #[test]
    fn every_version_can_be_sent() {
        encodes(ApiKey::ListPartitionReassignments, |_| none());
    }
}

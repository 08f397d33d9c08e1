//! What the refusals of groups are called in the Kafka protocol.

use kafka_protocol::ResponseError;

use crate::state_machine::groups::GroupError;

/// The code of a refusal.
pub fn code(error: GroupError) -> ResponseError {
    match error {
        GroupError::UnknownMember => ResponseError::UnknownMemberId,
        GroupError::IllegalGeneration => ResponseError::IllegalGeneration,
        GroupError::FencedInstance => ResponseError::FencedInstanceId,
        GroupError::InconsistentProtocol => ResponseError::InconsistentGroupProtocol,
        GroupError::FencedEpoch => ResponseError::FencedMemberEpoch,
        GroupError::StaleEpoch => ResponseError::StaleMemberEpoch,
        GroupError::UnreleasedInstance => ResponseError::UnreleasedInstanceId,
        GroupError::RebalanceInProgress => ResponseError::RebalanceInProgress,
        GroupError::NonEmpty => ResponseError::NonEmptyGroup,
        GroupError::NotFound => ResponseError::GroupIdNotFound,
        GroupError::NoRoom => ResponseError::GroupMaxSizeReached,
    }
}

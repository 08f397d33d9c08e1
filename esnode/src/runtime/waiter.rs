//! Those who wait for the response to a request, with their part of the limit for proposals in flight.

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::consensus::Status;
use crate::replica::{ChangeError, FormatError, ProposeError, Response, TransferError};
use crate::state_machine::command::Reply;

use shared::ids::NodeId;

/// Who waits for the response to a request.
#[derive(Debug)]
pub enum Waiter {
    /// Waits for the replies to a proposal; holds its part of the limit.
    Proposal(oneshot::Sender<Result<Vec<Reply>, ProposeError>>, Budget),
    /// Waits for a read barrier.
    ReadBarrier(oneshot::Sender<Result<(), ProposeError>>),
    /// Waits for the status of consensus.
    Status(oneshot::Sender<Option<Status>>),
    /// Waits for the new leader and its term.
    Transfer(oneshot::Sender<Result<(NodeId, u64), TransferError>>),
    /// Waits for a change of the members.
    Change(oneshot::Sender<Result<(), ChangeError>>),
    /// Waits for the format that the cluster was raised to.
    Format(oneshot::Sender<Result<u16, FormatError>>),
}

impl Waiter {
    /// Sends the response. If nobody waits any more, it is dropped.
    pub(super) fn respond(self, response: Response) {
        match (self, response) {
            (Self::Proposal(waiter, _budget), Response::Proposed(outcome)) => drop(waiter.send(outcome)),
            (Self::ReadBarrier(waiter), Response::ReadBarrier(outcome)) => drop(waiter.send(outcome)),
            (Self::Status(waiter), Response::Status(status)) => drop(waiter.send(status)),
            (Self::Transfer(waiter), Response::LeaderTransferred(outcome)) => drop(waiter.send(outcome)),
            (Self::Change(waiter), Response::MembersChanged(outcome)) => drop(waiter.send(outcome)),
            (Self::Format(waiter), Response::RaisableFormat(outcome)) => drop(waiter.send(outcome)),
            (waiter, response) => {
                debug_assert!(false, "{waiter:?} gets {response:?}");
                tracing::error!("a defect of esnode: a request got the response to another one");
            }
        }
    }
}

/// A part of the limit of bytes in flight, returned when dropped.
#[derive(Debug)]
pub struct Budget(Option<OwnedSemaphorePermit>);

impl Budget {
    /// Returns the part that this permit stands for; an empty one without a permit.
    pub fn new(permit: Option<OwnedSemaphorePermit>) -> Self {
        Self(permit)
    }

    /// Splits off `bytes`; everything if there is less.
    #[must_use]
    pub fn split(&mut self, bytes: usize) -> Self {
        let Some(permit) = &mut self.0 else { return Self(None) };
        Self(permit.split(bytes.min(permit.num_permits())))
    }
}

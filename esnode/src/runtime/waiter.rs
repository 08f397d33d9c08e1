//! Those who wait for the response to a request, and their share of what may be in flight.

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::consensus::Status;
use crate::replica::{ChangeError, FormatError, ProposeError, Response, TransferError};
use crate::state_machine::command::Reply;

use shared::ids::NodeId;

/// Who waits for the response to a request.
#[derive(Debug)]
pub enum Waiter {
    /// For the replies to a proposal; holds its share of what may be in flight.
    Proposal(oneshot::Sender<Result<Vec<Reply>, ProposeError>>, Budget),
    /// For a read barrier.
    ReadBarrier(oneshot::Sender<Result<(), ProposeError>>),
    /// For what consensus knows.
    Status(oneshot::Sender<Option<Status>>),
    /// For the new leader and its term.
    Transfer(oneshot::Sender<Result<(NodeId, u64), TransferError>>),
    /// For a change of the members.
    Change(oneshot::Sender<Result<(), ChangeError>>),
    /// For the format to raise the cluster to.
    Format(oneshot::Sender<Result<u16, FormatError>>),
}

impl Waiter {
    /// Gives it the response to its request. If whoever asked is gone, nobody is left to tell.
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

/// A share of the bytes that may be in flight; given back when dropped.
#[derive(Debug)]
pub struct Budget(Option<OwnedSemaphorePermit>);

impl Budget {
    /// The share that this permit stands for; a share of nothing without one.
    pub fn new(permit: Option<OwnedSemaphorePermit>) -> Self {
        Self(permit)
    }

    /// Parts with `bytes` of it; with all of it if there is less.
    #[must_use]
    pub fn split(&mut self, bytes: usize) -> Self {
        let Some(permit) = &mut self.0 else { return Self(None) };
        Self(permit.split(bytes.min(permit.num_permits())))
    }
}

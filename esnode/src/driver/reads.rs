//! Read barriers: asked for, proven by a majority, then held until the state machine has caught up.

use std::collections::BTreeMap;

use tokio::sync::oneshot;

use super::input::ReplyTo;
use crate::node::handle::{Budget, ProposeError};
use crate::state_machine::command::{Refusal, Reply};

/// Who waits.
enum Waiter {
    /// Gets to know that the barrier holds.
    Barrier(oneshot::Sender<Result<(), ProposeError>>),
    /// Gets to know that its batch is refused: a node that no longer leads must not say so.
    Refusal(ReplyTo, Refusal, Budget),
}

impl Waiter {
    /// Whoever asked may be gone; then nobody is left to tell.
    fn tell(self, outcome: Result<(), ProposeError>) {
        match self {
            Self::Barrier(waiter) => drop(waiter.send(outcome)),
            Self::Refusal(waiter, refusal, _budget) => {
                drop(waiter.send(outcome.map(|()| vec![Reply::Refused(refusal)])));
            }
        }
    }
}

/// Every barrier not yet answered.
#[derive(Default)]
pub(super) struct Reads {
    asked: Vec<Waiter>,
    proving: BTreeMap<u64, (u64, Vec<Waiter>)>,
    proven: BTreeMap<u64, Vec<Waiter>>,
    last_context: u64,
}

impl Reads {
    pub(super) fn ask(&mut self, waiter: oneshot::Sender<Result<(), ProposeError>>) {
        self.asked.push(Waiter::Barrier(waiter));
    }

    /// Refuses a batch, once it is proven that this node leads.
    pub(super) fn refuse(&mut self, reply: ReplyTo, refusal: Refusal, budget: Budget) {
        self.asked.push(Waiter::Refusal(reply, refusal, budget));
    }

    /// A context for those who asked since the last one; `None` when nobody did.
    pub(super) fn next_context(&mut self, tick: u64) -> Option<u64> {
        if self.asked.is_empty() {
            return None;
        }
        self.last_context += 1;
        self.proving.insert(self.last_context, (tick, std::mem::take(&mut self.asked)));
        Some(self.last_context)
    }

    /// A proof is awaited, and may have to be asked for again.
    pub(super) fn unproven(&self) -> bool {
        !self.proving.is_empty()
    }

    /// Leadership at `index` is proven for `context`, and so for those who asked before it.
    pub(super) fn proven(&mut self, context: u64, index: u64) {
        let later = self.proving.split_off(&(context + 1));
        let done = std::mem::replace(&mut self.proving, later);
        self.proven.entry(index).or_default().extend(done.into_values().flat_map(|(_, waiters)| waiters));
    }

    /// Everything up to `index` is applied.
    pub(super) fn applied(&mut self, index: u64) {
        while let Some(first) = self.proven.first_entry().filter(|first| *first.key() <= index) {
            for waiter in first.remove() {
                waiter.tell(Ok(()));
            }
        }
    }

    /// Puts back those whose proof did not come within `patience` ticks: its heartbeat may be lost.
    pub(super) fn retry_overdue(&mut self, tick: u64, patience: u64) {
        let overdue = self.proving.extract_if(.., |_, (asked, _)| *asked + patience <= tick);
        self.asked.extend(overdue.flat_map(|(_, (_, waiters))| waiters));
    }

    pub(super) fn lost_leadership(&mut self, leader: Option<u64>) {
        let Self { asked, proving, proven, .. } = std::mem::take(self);
        let waiting = proving.into_values().map(|(_, waiters)| waiters).chain(proven.into_values());
        for waiter in asked.into_iter().chain(waiting.flatten()) {
            waiter.tell(Err(ProposeError::NotLeader(leader)));
        }
    }
}

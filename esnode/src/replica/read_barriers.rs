//! Read barriers: asked for, proven by a majority, then held until the state machine has caught up.

use std::collections::BTreeMap;

use super::mistake::{Mistake, makes};
use super::response::{ProposeError, Response, Responses};
use crate::state_machine::command::{Refusal, Reply};

/// What becomes of a waiter once its barrier holds.
enum Purpose {
    /// It learns that the barrier holds.
    Read,
    /// It learns that its batch is refused: a node that no longer leads must not say so.
    Refusal(Refusal),
}

impl Purpose {
    fn response(self, outcome: Result<(), ProposeError>) -> Response {
        match self {
            Self::Read => Response::ReadBarrier(outcome),
            Self::Refusal(refusal) => Response::Proposed(outcome.map(|()| vec![Reply::Refused(refusal)])),
        }
    }
}

type Waiting<W> = Vec<(W, Purpose)>;

/// Every barrier not yet answered.
pub(super) struct ReadBarriers<W> {
    asked: Waiting<W>,
    /// By context: the tick at which the proof was asked for, and who waits for it.
    proving: BTreeMap<u64, (u64, Waiting<W>)>,
    /// By the index that must be applied first.
    proven: BTreeMap<u64, Waiting<W>>,
    last_context: u64,
}

impl<W> Default for ReadBarriers<W> {
    fn default() -> Self {
        Self { asked: Vec::new(), proving: BTreeMap::new(), proven: BTreeMap::new(), last_context: 0 }
    }
}

impl<W> ReadBarriers<W> {
    pub(super) fn ask(&mut self, waiter: W) {
        self.asked.push((waiter, Purpose::Read));
    }

    /// Refuses a batch, once it is proven that this node leads.
    pub(super) fn refuse(&mut self, waiter: W, refusal: Refusal) {
        self.asked.push((waiter, Purpose::Refusal(refusal)));
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

    /// Whether a proof is awaited, which may have to be asked for again.
    pub(super) fn any_unproven(&self) -> bool {
        !self.proving.is_empty()
    }

    /// Leadership at `index` is proven for `context`, and so for those who asked before it.
    pub(super) fn proven(&mut self, context: u64, index: u64) {
        let index = if makes(Mistake::ReadBeforeApply) { 0 } else { index };
        let later = self.proving.split_off(&(context + 1));
        let done = std::mem::replace(&mut self.proving, later);
        self.proven.entry(index).or_default().extend(done.into_values().flat_map(|(_, waiting)| waiting));
    }

    /// Everything up to `index` is applied.
    pub(super) fn applied(&mut self, index: u64, responses: &mut Responses<W>) {
        while let Some(first) = self.proven.first_entry().filter(|first| *first.key() <= index) {
            responses.extend(answered(first.remove(), Ok(())));
        }
    }

    /// Puts back those whose proof did not come within `timeout` ticks: its heartbeat may be lost.
    pub(super) fn retry_overdue(&mut self, tick: u64, timeout: u64) {
        let overdue = self.proving.extract_if(.., |_, (asked, _)| *asked + timeout <= tick);
        self.asked.extend(overdue.flat_map(|(_, (_, waiting))| waiting));
    }

    /// Answers everybody that this node does not lead; `leader` may.
    pub(super) fn lost_leadership(&mut self, leader: Option<u64>, responses: &mut Responses<W>) {
        let proving = std::mem::take(&mut self.proving).into_values().map(|(_, waiting)| waiting);
        let proven = std::mem::take(&mut self.proven).into_values();
        let waiting = [std::mem::take(&mut self.asked)].into_iter().chain(proving).chain(proven);
        let outcome = Err(ProposeError::NotLeader(leader));
        responses.extend(waiting.flat_map(|waiting| answered(waiting, outcome)));
    }
}

fn answered<W>(
    waiting: Waiting<W>,
    outcome: Result<(), ProposeError>,
) -> impl Iterator<Item = (W, Response)> {
    waiting.into_iter().map(move |(waiter, purpose)| (waiter, purpose.response(outcome)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOLDS: Response = Response::ReadBarrier(Ok(()));

    #[test]
    fn a_barrier_holds_when_it_is_proven_and_its_index_is_applied() {
        let (mut barriers, mut responses) = (ReadBarriers::default(), Vec::new());
        barriers.ask('a');
        let first = barriers.next_context(1).unwrap();
        barriers.ask('b');
        let second = barriers.next_context(1).unwrap();
        assert_eq!(barriers.next_context(1), None, "nobody has asked since");
        barriers.applied(9, &mut responses);
        assert_eq!(responses, [], "nothing is proven");
        barriers.proven(first, 7);
        barriers.proven(second, 8);
        barriers.applied(7, &mut responses);
        assert_eq!(responses, [('a', HOLDS)]);
        barriers.applied(8, &mut responses);
        assert_eq!(responses, [('a', HOLDS), ('b', HOLDS)]);
    }

    #[test]
    fn a_proof_that_does_not_come_is_asked_for_again_and_a_lost_leadership_answers_all() {
        let (mut barriers, mut responses) = (ReadBarriers::default(), Vec::new());
        barriers.ask('a');
        barriers.refuse('b', Refusal::UnknownTopic);
        barriers.next_context(1);
        barriers.retry_overdue(5, 5);
        assert!(barriers.any_unproven());
        barriers.retry_overdue(6, 5);
        assert!(!barriers.any_unproven() && barriers.next_context(6).is_some());
        barriers.lost_leadership(Some(3), &mut responses);
        let lost = ProposeError::NotLeader(Some(3));
        assert_eq!(
            responses,
            [('a', Response::ReadBarrier(Err(lost))), ('b', Response::Proposed(Err(lost)))],
            "a node that no longer leads refuses nobody's batch"
        );
    }
}

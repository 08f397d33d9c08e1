//! Proposals on their way through the log: gathered into entries, then matched with what was committed.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::{Bytes, BytesMut};

use super::input::{Claim, Proposal};
use super::mistake::{Mistake, makes};
use super::read_barriers::ReadBarriers;
use super::response::{ProposeError, Response, Responses};
use super::sequences::{Prospect, Sequences};
use crate::consensus::Proposed;
use crate::entry::MAX_PAYLOAD;
use crate::state_machine::StateMachine;
use crate::state_machine::command::Reply;

/// Largest amount of work, as [`Command::work`] counts it, of the proposals that share an entry. The thread that applies
/// an entry does nothing else meanwhile: an append to a partition that was not in use takes it up to 3 us, after a
/// snapshot.
///
/// [`Command::work`]: crate::state_machine::command::Command::work
pub const MAX_WORK: usize = 256;

/// The proposals that share one entry, in order.
pub(super) struct Packed<W> {
    pub(super) payload: Bytes,
    parts: Vec<Part<W>>,
}

struct Part<W> {
    commands: usize,
    claim: Option<Claim>,
    waiter: W,
}

/// An entry that was proposed and is not applied yet.
struct Pending<W> {
    index: u64,
    term: u64,
    payload: Bytes,
    parts: Vec<Part<W>>,
}

/// Everything proposed here and not yet answered.
pub(super) struct Proposals<W> {
    gathered: VecDeque<(Proposal, W)>,
    pending: VecDeque<Pending<W>>,
    sequences: Sequences<W>,
}

/// Divides `parts`, in order, into ranges of as much work as an entry may hold; a part with more than that is alone.
pub fn portions<T>(parts: &[T], work: impl Fn(&T) -> usize) -> Vec<Range<usize>> {
    let (mut portions, mut from, mut sum) = (Vec::new(), 0, 0);
    for (at, part) in parts.iter().enumerate() {
        let work = work(part);
        if at > from && sum + work > MAX_WORK {
            portions.push(from..at);
            (from, sum) = (at, 0);
        }
        sum += work;
    }
    portions.push(from..parts.len());
    portions
}

impl<W> Default for Proposals<W> {
    fn default() -> Self {
        Self { gathered: VecDeque::new(), pending: VecDeque::new(), sequences: Sequences::default() }
    }
}

impl<W> Proposals<W> {
    pub(super) fn gather(&mut self, proposal: Proposal, waiter: W) {
        self.gathered.push_back((proposal, waiter));
    }

    pub(super) fn any_gathered(&self) -> bool {
        !self.gathered.is_empty()
    }

    /// Takes the oldest of what was gathered, as much as fits into one entry.
    pub(super) fn take_gathered(&mut self) -> Vec<(Proposal, W)> {
        let (mut bytes, mut work) = (0, 0);
        let fits = |(proposal, _): &&(Proposal, W)| {
            bytes += proposal.payload.len();
            work += proposal.work;
            bytes <= MAX_PAYLOAD && work <= MAX_WORK
        };
        let count = self.gathered.iter().take_while(fits).count().max(1);
        self.gathered.drain(..count.min(self.gathered.len())).collect()
    }

    /// Answers what was taken and needs no entry: what was appended before, and, once `barriers` have proven that this
    /// node leads, what is to be refused. A leader that is not `serving` yet cannot tell. Returns the others.
    pub(super) fn sort_out(
        &mut self,
        taken: Vec<(Proposal, W)>,
        state: &StateMachine,
        serving: bool,
        barriers: &mut ReadBarriers<W>,
        responses: &mut Responses<W>,
    ) -> Vec<(Proposal, W)> {
        if taken.iter().all(|(proposal, _)| proposal.claim.is_none()) {
            return taken;
        }
        let mut others = Vec::with_capacity(taken.len());
        for (proposal, waiter) in taken {
            let Some(claim) = proposal.claim else {
                others.push((proposal, waiter));
                continue;
            };
            if !serving {
                responses.push((waiter, Response::Proposed(Err(ProposeError::NotLeader(None)))));
                continue;
            }
            match self.sequences.prospect(state, &claim) {
                Prospect::Appends => others.push((proposal, waiter)),
                Prospect::Again => self.sequences.wait(claim, waiter),
                Prospect::Known(reply) => responses.push((waiter, Response::Proposed(Ok(vec![reply])))),
                Prospect::Refused(refusal) => barriers.refuse(waiter, refusal),
            }
        }
        others
    }

    /// What was packed stands in the log there.
    pub(super) fn proposed(&mut self, at: Proposed, packed: Packed<W>) {
        let Proposed { term, first: index } = at;
        self.pending.push_back(Pending { index, term, payload: packed.payload, parts: packed.parts });
    }

    /// The entry at `index` of `term` was applied with these replies: answers whoever waits for it. An entry of
    /// another term at a pending index has taken its place.
    pub(super) fn applied(
        &mut self,
        index: u64,
        term: u64,
        replies: Vec<Reply>,
        responses: &mut Responses<W>,
    ) {
        while let Some(pending) = self.pending.pop_front_if(|pending| pending.index <= index) {
            let same_term = pending.term == term || makes(Mistake::AckByIndex);
            if pending.index == index && same_term {
                self.answer(pending.parts, replies, responses);
                return;
            }
            refuse(pending.parts, ProposeError::NotLeader(None), responses);
        }
    }

    /// Whether something is in the log that is not answered yet.
    pub(super) fn any_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// The mistake of answering before the commit: with what the replies would be if nothing went wrong from here on.
    pub(super) fn answer_early(
        &mut self,
        next: &mut StateMachine,
        index: u64,
        term: u64,
        responses: &mut Responses<W>,
    ) {
        for pending in std::mem::take(&mut self.pending) {
            let replies = next.apply(index, term, &pending.payload).replies;
            self.answer(pending.parts, replies, responses);
        }
    }

    /// This node no longer leads: what is in the log may or may not happen.
    pub(super) fn lost_leadership(&mut self, responses: &mut Responses<W>) {
        if makes(Mistake::AckByIndex) {
            return;
        }
        self.sequences.clear(responses);
        for pending in self.pending.drain(..) {
            refuse(pending.parts, ProposeError::Unknown, responses);
        }
    }

    /// This node leads in a new term: all that it knows of its producers is what is applied when it serves.
    pub(super) fn new_term(&mut self, responses: &mut Responses<W>) {
        self.sequences.clear(responses);
    }

    /// Consensus has not taken what was packed last.
    pub(super) fn dropped(&mut self, packed: Packed<W>, responses: &mut Responses<W>) {
        self.sequences.take_back(packed.parts.iter().filter_map(|part| part.claim.as_ref()), responses);
        refuse(packed.parts, ProposeError::Busy, responses);
    }

    fn answer(&mut self, parts: Vec<Part<W>>, replies: Vec<Reply>, responses: &mut Responses<W>) {
        let mut replies = replies.into_iter();
        for part in parts {
            let replies: Vec<Reply> = replies.by_ref().take(part.commands).collect();
            if let (Some(claim), [reply]) = (&part.claim, replies.as_slice()) {
                self.sequences.applied(claim, reply, responses);
            }
            responses.push((part.waiter, Response::Proposed(Ok(replies))));
        }
    }

    pub(super) fn refuse_gathered(&mut self, error: ProposeError, responses: &mut Responses<W>) {
        let gathered = self.gathered.drain(..);
        responses.extend(gathered.map(|(_, waiter)| (waiter, Response::Proposed(Err(error)))));
    }
}

/// Makes one entry of these proposals, if there are any. A lone one is not copied.
pub(super) fn pack<W>(proposals: Vec<(Proposal, W)>) -> Option<Packed<W>> {
    let payload = match proposals.as_slice() {
        [] => return None,
        [(one, _)] => one.payload.clone(),
        many => {
            let bytes = many.iter().map(|(proposal, _)| proposal.payload.len()).sum();
            let mut payload = BytesMut::with_capacity(bytes);
            many.iter().for_each(|(proposal, _)| payload.extend_from_slice(&proposal.payload));
            payload.freeze()
        }
    };
    let part = |(Proposal { commands, claim, .. }, waiter)| Part { commands, claim, waiter };
    Some(Packed { payload, parts: proposals.into_iter().map(part).collect() })
}

fn refuse<W>(parts: Vec<Part<W>>, error: ProposeError, responses: &mut Responses<W>) {
    responses.extend(parts.into_iter().map(|part| (part.waiter, Response::Proposed(Err(error)))));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proposal(bytes: usize, work: usize) -> Proposal {
        Proposal { payload: vec![0; bytes].into(), commands: 1, work, claim: None }
    }

    #[test]
    fn an_entry_holds_so_many_bytes_and_so_much_work_and_at_least_one_proposal() {
        let mut proposals = Proposals::default();
        let sizes = [
            (1, MAX_WORK - 1),
            (1, 1),
            (1, 1),
            (MAX_PAYLOAD, 1),
            (1, 1),
            (9, 5000),
            (1, 0),
            (2 * MAX_PAYLOAD, 0),
        ];
        for ((bytes, work), number) in sizes.into_iter().zip(0..) {
            proposals.gather(proposal(bytes, work), number);
        }
        let mut entries = Vec::new();
        while proposals.any_gathered() {
            entries.push(proposals.take_gathered().into_iter().map(|(_, number)| number).collect::<Vec<_>>());
        }
        assert_eq!(entries, [vec![0, 1], vec![2], vec![3], vec![4], vec![5], vec![6], vec![7]]);
    }

    #[test]
    fn what_is_too_much_work_is_divided_in_order() {
        let divided = |work: &[usize]| portions(work, |work| *work);
        assert_eq!(divided(&[MAX_WORK - 24, 24, 1, 3000, 0, 1]), [0..2, 2..3, 3..4, 4..6]);
        assert!(divided(&[]).into_iter().all(|range| range.is_empty()));
    }
}

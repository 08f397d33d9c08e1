//! Proposals on their way through the log: gathered into entries, then matched with what was committed.

use std::collections::VecDeque;

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
    gathered: Vec<(Proposal, W)>,
    pending: VecDeque<Pending<W>>,
    sequences: Sequences<W>,
}

impl<W> Default for Proposals<W> {
    fn default() -> Self {
        Self { gathered: Vec::new(), pending: VecDeque::new(), sequences: Sequences::default() }
    }
}

impl<W> Proposals<W> {
    pub(super) fn gather(&mut self, proposal: Proposal, waiter: W) {
        self.gathered.push((proposal, waiter));
    }

    pub(super) fn any_gathered(&self) -> bool {
        !self.gathered.is_empty()
    }

    /// Answers what was gathered and needs no entry: what was appended before, and, once `barriers` have proven that
    /// this node leads, what is to be refused. A leader that is not `serving` yet cannot tell.
    pub(super) fn sort_out(
        &mut self,
        state: &StateMachine,
        serving: bool,
        barriers: &mut ReadBarriers<W>,
        responses: &mut Responses<W>,
    ) {
        if self.gathered.iter().all(|(proposal, _)| proposal.claim.is_none()) {
            return;
        }
        for (proposal, waiter) in std::mem::take(&mut self.gathered) {
            let Some(claim) = proposal.claim else {
                self.gathered.push((proposal, waiter));
                continue;
            };
            if !serving {
                responses.push((waiter, Response::Proposed(Err(ProposeError::NotLeader(None)))));
                continue;
            }
            match self.sequences.prospect(state, &claim) {
                Prospect::Appends => self.gathered.push((proposal, waiter)),
                Prospect::Again => self.sequences.wait(claim, waiter),
                Prospect::Known(reply) => responses.push((waiter, Response::Proposed(Ok(vec![reply])))),
                Prospect::Refused(refusal) => barriers.refuse(waiter, refusal),
            }
        }
    }

    /// Packs what was gathered into as few entries as the payload limit allows. A lone proposal is not copied.
    pub(super) fn pack(&mut self) -> Vec<Packed<W>> {
        let mut packed = Vec::new();
        let mut open = Vec::new();
        let mut bytes = 0;
        for (proposal, waiter) in self.gathered.drain(..) {
            if bytes + proposal.payload.len() > MAX_PAYLOAD {
                packed.extend(join(&mut open, bytes));
                bytes = 0;
            }
            bytes += proposal.payload.len();
            open.push((proposal, waiter));
        }
        packed.extend(join(&mut open, bytes));
        packed
    }

    /// The packed entries stand in the log from `at` on.
    pub(super) fn proposed(&mut self, at: Proposed, packed: Vec<Packed<W>>) {
        let Proposed { term, first } = at;
        self.pending.extend((first..).zip(packed).map(|(index, packed)| Pending {
            index,
            term,
            payload: packed.payload,
            parts: packed.parts,
        }));
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
    pub(super) fn dropped(&mut self, packed: Vec<Packed<W>>, responses: &mut Responses<W>) {
        let parts: Vec<Part<W>> = packed.into_iter().flat_map(|packed| packed.parts).collect();
        self.sequences.take_back(parts.iter().filter_map(|part| part.claim.as_ref()), responses);
        refuse(parts, ProposeError::Busy, responses);
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

fn join<W>(open: &mut Vec<(Proposal, W)>, bytes: usize) -> Option<Packed<W>> {
    let payload = match open.as_slice() {
        [] => return None,
        [(one, _)] => one.payload.clone(),
        many => {
            let mut payload = BytesMut::with_capacity(bytes);
            many.iter().for_each(|(proposal, _)| payload.extend_from_slice(&proposal.payload));
            payload.freeze()
        }
    };
    let part = |(Proposal { commands, claim, .. }, waiter)| Part { commands, claim, waiter };
    let parts = open.drain(..).map(part).collect();
    Some(Packed { payload, parts })
}

fn refuse<W>(parts: Vec<Part<W>>, error: ProposeError, responses: &mut Responses<W>) {
    responses.extend(parts.into_iter().map(|part| (part.waiter, Response::Proposed(Err(error)))));
}

//! Proposals on their way through the log: gathered into entries, matched with what was committed.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::input::{Claim, Proposal, ReplyTo};
use super::reads::Reads;
use super::sequences::{Prospect, Sequences};
use crate::consensus::Proposed;
use crate::entry::MAX_PAYLOAD;
use crate::node::handle::{Budget, ProposeError};
use crate::state_machine::StateMachine;
use crate::state_machine::command::Reply;

/// The proposals that share one entry, in order.
pub(super) struct Packed {
    pub(super) payload: Bytes,
    parts: Vec<Part>,
}

struct Part {
    commands: usize,
    claim: Option<Claim>,
    reply: ReplyTo,
    _budget: Budget,
}

struct Pending {
    index: u64,
    term: u64,
    parts: Vec<Part>,
}

/// Everything proposed here and not yet answered.
#[derive(Default)]
pub(super) struct Proposals {
    gathered: Vec<Proposal>,
    pending: VecDeque<Pending>,
    sequences: Sequences,
}

impl Proposals {
    pub(super) fn gather(&mut self, proposal: Proposal) {
        self.gathered.push(proposal);
    }

    pub(super) fn any_gathered(&self) -> bool {
        !self.gathered.is_empty()
    }

    /// Answers what was gathered and needs no entry: what was appended before, and what would be refused, once `reads`
    /// have proven that this node leads. One that does not serve yet, `serving`, cannot tell.
    pub(super) fn judge(&mut self, stream: &StateMachine, serving: bool, reads: &mut Reads) {
        if self.gathered.iter().all(|proposal| proposal.claim.is_none()) {
            return;
        }
        for proposal in std::mem::take(&mut self.gathered) {
            let prospect = match &proposal.claim {
                None => Prospect::Appends,
                Some(claim) if serving => self.sequences.judge(stream, claim),
                Some(_) => {
                    let _ = proposal.reply.send(Err(ProposeError::NotLeader(None)));
                    continue;
                }
            };
            match (prospect, proposal.claim) {
                (Prospect::Known(reply), _) => drop(proposal.reply.send(Ok(vec![reply]))),
                (Prospect::Refused(why), _) => reads.refuse(proposal.reply, why, proposal.budget),
                (Prospect::Again, Some(claim)) => self.sequences.wait(claim, proposal.reply, proposal.budget),
                (Prospect::Appends | Prospect::Again, _) => self.gathered.push(proposal),
            }
        }
    }

    /// What was gathered, packed into as few entries as the payload limit allows. A lone proposal is not copied.
    pub(super) fn pack(&mut self) -> Vec<Packed> {
        let mut packed = Vec::new();
        let mut open: Vec<Proposal> = Vec::new();
        let mut bytes = 0;
        for proposal in self.gathered.drain(..) {
            if bytes + proposal.payload.len() > MAX_PAYLOAD {
                packed.extend(join(&mut open, bytes));
                bytes = 0;
            }
            bytes += proposal.payload.len();
            open.push(proposal);
        }
        packed.extend(join(&mut open, bytes));
        packed
    }

    /// The packed entries stand in the log from `at` on.
    pub(super) fn proposed(&mut self, at: Proposed, packed: Vec<Packed>) {
        let Proposed { term, first } = at;
        self.pending.extend((first..).zip(packed).map(|(index, packed)| Pending {
            index,
            term,
            parts: packed.parts,
        }));
    }

    /// The entry at `index` of `term` was applied with these replies: answers whoever waits for it. An entry of
    /// another term at a pending index has taken its place.
    pub(super) fn applied(&mut self, index: u64, term: u64, replies: Vec<Reply>) {
        while let Some(pending) = self.pending.pop_front_if(|pending| pending.index <= index) {
            if (pending.index, pending.term) == (index, term) {
                self.answer(pending.parts, replies);
                return;
            }
            refuse(pending.parts, ProposeError::NotLeader(None));
        }
    }

    /// Whether something is in the log that is not answered yet.
    pub(super) fn any_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// This node no longer leads: what is in the log may or may not happen.
    pub(super) fn lost_leadership(&mut self) {
        self.sequences.lost_leadership();
        for pending in self.pending.drain(..) {
            refuse(pending.parts, ProposeError::Unknown);
        }
    }

    /// This node leads in a new term: what it knows of its producers is what is applied when it serves.
    pub(super) fn new_term(&mut self) {
        self.sequences.lost_leadership();
    }

    /// Consensus has not taken what was packed last.
    pub(super) fn dropped(&mut self, packed: Vec<Packed>) {
        let parts: Vec<Part> = packed.into_iter().flat_map(|packed| packed.parts).collect();
        self.sequences.take_back(parts.iter().filter_map(|part| part.claim.as_ref()));
        refuse(parts, ProposeError::Busy);
    }

    fn answer(&mut self, parts: Vec<Part>, replies: Vec<Reply>) {
        let mut replies = replies.into_iter();
        for part in parts {
            let replies: Vec<Reply> = replies.by_ref().take(part.commands).collect();
            if let (Some(claim), [reply]) = (&part.claim, replies.as_slice()) {
                self.sequences.applied(claim, reply);
            }
            let _ = part.reply.send(Ok(replies));
        }
    }

    pub(super) fn refuse_gathered(&mut self, error: ProposeError) {
        for proposal in self.gathered.drain(..) {
            // Whoever asked may be gone; then nobody is left to tell.
            let _ = proposal.reply.send(Err(error));
        }
    }
}

fn join(open: &mut Vec<Proposal>, bytes: usize) -> Option<Packed> {
    let payload = match open.as_slice() {
        [] => return None,
        [one] => one.payload.clone(),
        many => {
            let mut payload = BytesMut::with_capacity(bytes);
            many.iter().for_each(|proposal| payload.extend_from_slice(&proposal.payload));
            payload.freeze()
        }
    };
    let parts = open
        .drain(..)
        .map(|Proposal { commands, claim, reply, budget, .. }| Part {
            commands,
            claim,
            reply,
            _budget: budget,
        })
        .collect();
    Some(Packed { payload, parts })
}

fn refuse(parts: Vec<Part>, error: ProposeError) {
    for part in parts {
        let _ = part.reply.send(Err(error));
    }
}

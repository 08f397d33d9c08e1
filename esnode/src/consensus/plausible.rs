//! Which messages of other nodes Raft is given, and which cannot be true.
//!
//! raft-rs takes every field at its word: it panics on a commit index beyond its log, keeps a term of 2^64 - 1 for ever,
//! and takes entries that leave a gap. What no node that follows Raft's rules can have sent is refused before.

use shared::ids::NodeId;
use shared::spec::MAX_NODES;

use super::change;
use super::message::{ConfState, Message, MessageType, SnapshotMetadata};
use crate::entry::{Entry, EntryKind, LARGEST_PAYLOAD};

/// Largest term and index there can be: nothing that counts from 1 reaches it, and nothing added to it overflows.
pub const MAX_NUMBER: u64 = 1 << 62;
/// Terms by which a message may be ahead of this node: a month of elections without a pause, and still 2^38 messages
/// until the last term.
const MAX_TERM_STEP: u64 = 1 << 24;

/// What a node knows that validates a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) id: NodeId,
    pub(super) term: u64,
    pub(super) leads: bool,
    pub(super) last_index: u64,
    /// Index and term of the last entry known to be committed.
    pub(super) committed: (u64, u64),
}

/// Why a message cannot be true.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Implausible(&'static str);

/// `message` as Raft may be given it at `place`.
pub(super) fn plausible(mut message: Message, place: &Place) -> Result<Message, Implausible> {
    header(&message, place)?;
    match message.kind {
        MessageType::Append => append(&message, place)?,
        MessageType::Snapshot => snapshot(&message, place)?,
        MessageType::RequestVote | MessageType::RequestPreVote => {
            let last = (message.index, message.log_term);
            ensure(
                message.commit <= last.0 && message.commit_term <= last.1,
                "it committed what it does not have",
            )?;
        }
        MessageType::AppendResponse => {
            let ours = place.leads && message.term == place.term && !message.reject;
            ensure(!ours || message.index <= place.last_index, "it has entries that this leader never sent")?;
        }
        // The leader is there all the same, and whoever lost entries it was thought to have must not stop for that.
        MessageType::Heartbeat if message.commit > place.last_index => message.commit = 0,
        MessageType::Heartbeat
        | MessageType::HeartbeatResponse
        | MessageType::RequestVoteResponse
        | MessageType::RequestPreVoteResponse
        | MessageType::TimeoutNow => {}
    }
    Ok(message)
}

fn ensure(holds: bool, otherwise: &'static str) -> Result<(), Implausible> {
    if holds { Ok(()) } else { Err(Implausible(otherwise)) }
}

/// What holds for every kind.
fn header(message: &Message, place: &Place) -> Result<(), Implausible> {
    let Message { term, log_term, index, commit, commit_term, reject_hint, .. } = *message;
    let numbers = [term, log_term, index, commit, commit_term, reject_hint];
    ensure(numbers.iter().all(|number| *number <= MAX_NUMBER), "a term or an index beyond all counting")?;
    ensure(message.from != 0 && message.from != place.id, "it is from nobody, or from this node")?;
    ensure(term > 0, "it has no term")?;
    ensure(term <= place.term.saturating_add(MAX_TERM_STEP), "its term is too far ahead")?;
    ensure(log_term <= term, "its log is ahead of its term")?;
    let kind = message.kind;
    ensure(message.entries.is_empty() || kind == MessageType::Append, "entries where none belong")?;
    ensure(message.snapshot.is_none() || kind == MessageType::Snapshot, "a snapshot where none belongs")
}

fn append(message: &Message, place: &Place) -> Result<(), Implausible> {
    let Message { term, log_term, index, .. } = *message;
    // Beyond its log's end Raft takes the term for 0, and would find that it matches.
    ensure((index == 0) == (log_term == 0), "entries behind one that cannot be")?;
    let (committed, commit_term) = place.committed;
    let stale = term < place.term || index < committed;
    ensure(stale || log_term >= commit_term, "its log is behind what is committed")?;
    let mut before = (index, log_term);
    for entry in &message.entries {
        ensure(entry.index == before.0 + 1, "entries out of order")?;
        ensure((before.1.max(1)..=term).contains(&entry.term), "an entry's term out of order")?;
        ensure(entry.data.len() <= LARGEST_PAYLOAD, "an entry that is too large")?;
        ensure(is_known(entry), "an entry that changes the members in an unknown way")?;
        before = (entry.index, entry.term);
    }
    Ok(())
}

fn is_known(entry: &Entry) -> bool {
    entry.kind == EntryKind::Normal || change::parse(entry).is_some()
}

fn snapshot(message: &Message, place: &Place) -> Result<(), Implausible> {
    let Some(SnapshotMetadata { index, term, conf_state }) = &message.snapshot else {
        return Err(Implausible("a snapshot of nothing"));
    };
    let (index, term) = (*index, *term);
    ensure((1..=MAX_NUMBER).contains(&index), "a snapshot of nothing")?;
    ensure((1..=message.term).contains(&term), "a snapshot's term out of order")?;
    let (committed, commit_term) = place.committed;
    ensure(index != committed || term == commit_term, "a snapshot of another history")?;
    ensure(are_members(conf_state), "a snapshot with members that cannot be")
}

/// Whether Raft can restore these members: it panics on those that it cannot, and here nobody is ever between two sets.
fn are_members(members: &ConfState) -> bool {
    let ConfState { voters, learners, voters_outgoing, learners_next, auto_leave } = members;
    let mut all = [&voters[..], &learners[..]].concat();
    all.sort_unstable();
    let distinct = all.windows(2).all(|pair| pair[0] != pair[1]);
    let whole = voters_outgoing.is_empty() && learners_next.is_empty() && !auto_leave;
    whole && distinct && !voters.is_empty() && !all.contains(&0) && all.len() <= MAX_NODES
}

#[cfg(test)]
mod tests;

//! Decides which messages of other nodes are given to Raft, and which cannot be true.
//!
//! raft-rs believes every field: it panics on a commit index beyond its log, keeps a term of 2^64 - 1 for ever, and
//! accepts entries that leave a gap. So a message that no correct node can have sent is refused before it gets there.

use shared::ids::NodeId;
use shared::spec::MAX_NODES;

use super::change;
use super::message::{ConfState, Message, MessageType, SnapshotMetadata};
use crate::entry::{Entry, EntryKind, LARGEST_PAYLOAD};

/// Upper bound of terms and indexes. Nothing that counts from 1 reaches it, and sums with it do not overflow.
pub const MAX_NUMBER: u64 = 1 << 62;
/// Largest number of terms by which a message may be ahead of this node: as many as a month of continuous elections
/// takes. At this rate it takes 2^38 messages to reach the largest term.
const MAX_TERM_STEP: u64 = 1 << 24;

/// What this node knows that a message must agree with.
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

/// Returns `message` in the form in which Raft may get it; an error if it contradicts `place`.
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
        // The leader is alive in any case, and a node that has lost entries must not ignore its heartbeats for that.
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

/// Checks what holds for every type of message.
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
    // For an index beyond its log, Raft takes the term to be 0, so a term of 0 would seem to match.
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

/// Whether Raft can restore these members. It panics on some sets, and on joint configurations, which no node here
/// uses.
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

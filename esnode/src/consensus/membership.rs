//! Rules for changes of the members: one at a time, and only if the remaining voters have a healthy quorum.

use std::collections::BTreeMap;

use shared::ids::NodeId;

use super::status::Status;
use super::timing::Timing;
use super::view::{Durable, ReadFailed};
use crate::entry::EntryKind;

/// A learner this many entries behind, or fewer, keeps up.
const MAX_LAG: u64 = 100;
/// Largest payload that is read at once when the log is searched, in bytes.
const READ_BYTES: u64 = 4 << 20;

/// When each member last responded to this leader.
#[derive(Clone, Debug)]
pub struct LastContact {
    last: BTreeMap<NodeId, u64>,
    silent: u64,
    /// When this leader's term began, if it leads.
    began: Option<u64>,
}

impl LastContact {
    /// No member has responded yet.
    pub fn new(timing: &Timing) -> Self {
        Self { last: BTreeMap::new(), silent: timing.silent(), began: None }
    }

    /// Notes that `id` has responded to this leader at `tick`.
    pub fn note(&mut self, id: NodeId, tick: u64) {
        self.last.insert(id, tick);
    }

    /// Returns whether `id` has responded recently, as of `tick`.
    pub fn is_active(&self, id: NodeId, tick: u64) -> bool {
        self.last.get(&id).is_some_and(|last| last + self.silent >= tick)
    }

    /// Returns whether this leader's term has begun so recently, as of `tick`, that members which respond may not have
    /// done so yet.
    pub fn is_incomplete(&self, tick: u64) -> bool {
        self.began.is_some_and(|began| began + self.silent >= tick)
    }

    /// Forgets everything, because this leader's term begins at `tick`.
    pub fn new_term(&mut self, tick: u64) {
        self.last.clear();
        self.began = Some(tick);
    }
}

/// Too few of the voters after a change have responded recently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the change would leave {healthy} of {voters} voters reachable; {needed} are required")]
pub struct NoQuorum {
    /// Number of voters after the change.
    pub voters: usize,
    /// How many of them have responded recently; the leader counts.
    pub healthy: usize,
    /// How many make a majority.
    pub needed: usize,
}

/// Checks whether the leader `own` would have a healthy quorum with `voters`, as of `tick`.
///
/// # Errors
/// [`NoQuorum`] if it would not.
pub fn may_have(own: NodeId, voters: &[NodeId], heard: &LastContact, tick: u64) -> Result<(), NoQuorum> {
    let healthy = voters.iter().filter(|id| **id == own || heard.is_active(**id, tick)).count();
    let needed = voters.len() / 2 + 1;
    if healthy < needed {
        return Err(NoQuorum { voters: voters.len(), healthy, needed });
    }
    Ok(())
}

/// Returns how many entries `learner` lacks, and whether these are few enough for it to become a voter.
pub fn lag(status: &Status, learner: NodeId) -> (u64, bool) {
    let matched = status.peers.iter().find(|peer| peer.id == learner).map_or(0, |peer| peer.matched);
    let lag = status.last_index.saturating_sub(matched);
    (lag, lag <= MAX_LAG)
}

/// Returns the highest index, at least `from`, that the log itself proves to be committed: all membership changes but
/// the last one, since a leader proposes a change only after it has applied the one before. The commit index on disk
/// may be lower. A node that then counted votes among older members could be elected beside another leader.
pub(super) fn proven_commit<D: Durable>(durable: &D, from: u64) -> Result<u64, ReadFailed> {
    let (mut newest, mut proven) = (0, 0);
    let (mut next, end) = (from + 1, durable.last_index() + 1);
    while next < end {
        let entries = durable.entries(next, end, READ_BYTES)?;
        for change in entries.iter().filter(|entry| entry.kind != EntryKind::Normal) {
            proven = std::mem::replace(&mut newest, change.index);
        }
        let Some(last) = entries.last() else { break };
        next = last.index + 1;
    }
    Ok(proven)
}

/// Finds the learner that has kept up for long enough to become a voter.
#[derive(Clone, Debug)]
pub struct Promotion {
    /// The learners that keep up, and the tick since when they do.
    since: BTreeMap<NodeId, u64>,
    steady: u64,
}

impl Promotion {
    /// No learner has kept up yet.
    pub fn new(timing: &Timing) -> Self {
        Self { since: BTreeMap::new(), steady: timing.steady() }
    }

    /// Checks `candidates` among the learners at `tick`, and returns the first that has kept up for long enough, if it
    /// may become a voter now.
    pub fn ready(
        &mut self,
        own: NodeId,
        status: &Status,
        candidates: &[NodeId],
        heard: &LastContact,
        tick: u64,
    ) -> Option<NodeId> {
        let keeps_up = |id: &NodeId| heard.is_active(*id, tick) && lag(status, *id).1;
        self.since.retain(|id, _| candidates.contains(id) && keeps_up(id));
        for id in candidates.iter().filter(|id| keeps_up(id)) {
            self.since.entry(*id).or_insert(tick);
        }
        if status.pending_change {
            return None;
        }
        let steady = self.since.iter().find(|(_, since)| **since + self.steady <= tick).map(|(id, _)| *id)?;
        let voters: Vec<_> = status.voters.iter().copied().chain([steady]).collect();
        may_have(own, &voters, heard, tick).is_ok().then_some(steady)
    }

    /// Forgets everything, because a new term begins.
    pub fn new_term(&mut self) {
        self.since.clear();
    }
}

#[cfg(test)]
mod tests {
    use shared::spec::RaftTiming;

    use super::super::status::Peer;
    use super::*;

    const SILENT_TICKS: u64 = 30;
    const STEADY_TICKS: u64 = 50;

    fn timing() -> Timing {
        Timing::from_spec(&RaftTiming::default())
    }

    /// Node 1 leads 2 and 3; node 4 is a learner at `matched`.
    fn status(matched: u64) -> Status {
        let peer = |id, matched| Peer { id, matched };
        Status {
            last_index: 1000,
            voters: vec![1, 2, 3],
            learners: vec![4],
            peers: vec![peer(2, 1000), peer(3, 1000), peer(4, matched)],
            ..Status::default()
        }
    }

    fn heard(ids: &[NodeId], tick: u64) -> LastContact {
        let mut heard = LastContact::new(&timing());
        ids.iter().for_each(|id| heard.note(*id, tick));
        heard
    }

    /// Runs the policy over `ticks`, at each of which those of `answering` answer; the first promotion.
    fn run(
        (promotion, heard): (&mut Promotion, &mut LastContact),
        status: &Status,
        answering: &[NodeId],
        mut ticks: std::ops::RangeInclusive<u64>,
    ) -> Option<(NodeId, u64)> {
        ticks.find_map(|tick| {
            answering.iter().for_each(|id| heard.note(*id, tick));
            promotion.ready(1, status, &[4], heard, tick).map(|id| (id, tick))
        })
    }

    fn fresh() -> (Promotion, LastContact) {
        (Promotion::new(&timing()), LastContact::new(&timing()))
    }

    #[test]
    fn the_rest_must_have_a_healthy_quorum() {
        let heard = heard(&[2], 100);
        assert_eq!(may_have(1, &[1, 2], &heard, 100 + SILENT_TICKS), Ok(()), "the silent one may go");
        let lonely = Err(NoQuorum { voters: 2, healthy: 1, needed: 2 });
        assert_eq!(may_have(1, &[1, 3], &heard, 100), lonely, "the one that answers may not");
        assert_eq!(may_have(1, &[1, 2], &heard, 101 + SILENT_TICKS), lonely, "it was long ago");
    }

    #[test]
    fn a_learner_votes_after_it_has_kept_up_for_a_while() {
        let (mut promotion, mut heard) = fresh();
        let promoted = run((&mut promotion, &mut heard), &status(1000 - MAX_LAG), &[2, 3, 4], 10..=500);
        assert_eq!(promoted, Some((4, 10 + STEADY_TICKS)));
        let (mut promotion, mut heard) = fresh();
        assert_eq!(run((&mut promotion, &mut heard), &status(999 - MAX_LAG), &[2, 3, 4], 10..=500), None);
    }

    #[test]
    fn a_lapse_begins_the_wait_anew() {
        for (lapse, answering, ticks) in
            [(999 - MAX_LAG, [2, 3, 4].as_slice(), 1), (1000, [2, 3].as_slice(), SILENT_TICKS + 1)]
        {
            let (mut promotion, mut heard) = fresh();
            let mut parts = (&mut promotion, &mut heard);
            assert_eq!(run((parts.0, parts.1), &status(1000), &[2, 3, 4], 0..=19), None);
            assert_eq!(run((parts.0, parts.1), &status(lapse), answering, 20..=19 + ticks), None);
            let promoted = run((&mut parts.0, &mut parts.1), &status(1000), &[2, 3, 4], 20 + ticks..=500);
            assert_eq!(promoted, Some((4, 20 + ticks + STEADY_TICKS)));
        }
    }

    #[test]
    fn a_promotion_waits_for_a_quorum_and_for_its_turn() {
        let (mut promotion, mut heard) = fresh();
        let mut go = |status: &Status, answering: &[NodeId], ticks| {
            run((&mut promotion, &mut heard), status, answering, ticks)
        };
        assert_eq!(go(&status(1000), &[4], 0..=300), None, "two of four are no majority");
        let pending = Status { pending_change: true, ..status(1000) };
        assert_eq!(go(&pending, &[2, 4], 301..=600), None);
        assert_eq!(go(&status(1000), &[2, 4], 601..=601), Some((4, 601)));
    }
}

//! Handing leadership over, and telling whoever asked how it ended.

use shared::ids::NodeId;
use tokio::sync::oneshot;

use crate::consensus::{Role, Status};
use crate::handle::TransferError;

type Asker = oneshot::Sender<Result<(NodeId, u64), TransferError>>;

/// A hand-over under way.
pub(super) struct Transfer {
    from_term: u64,
    deadline: u64,
    asker: Option<Asker>,
}

/// Chooses who takes over: the wanted voter, or the most caught-up one that answers.
pub(super) fn target(
    status: &Status,
    own: NodeId,
    wanted: Option<NodeId>,
    answers: impl Fn(NodeId) -> bool,
) -> Result<NodeId, TransferError> {
    if status.role != Role::Leader {
        return Err(TransferError::NotLeader(status.leader));
    }
    let bad = |id, reason: &str| Err(TransferError::BadTarget(id, reason.to_owned()));
    let voters = status.peers.iter().filter(|peer| status.voters.contains(&peer.id));
    match wanted {
        Some(id) if id == own => Ok(own),
        Some(id) if !status.voters.contains(&id) => bad(id, "it is not a voter"),
        Some(id) if !answers(id) => bad(id, "it does not answer the leader"),
        Some(id) => Ok(id),
        None => voters
            .filter(|peer| answers(peer.id))
            .max_by_key(|peer| peer.matched)
            .map_or_else(|| bad(own, "no other voter answers the leader"), |peer| Ok(peer.id)),
    }
}

impl Transfer {
    pub(super) fn begin(from_term: u64, deadline: u64, asker: Option<Asker>) -> Self {
        Self { from_term, deadline, asker }
    }

    /// Ends it when another node leads, when time is up, or when Raft has given it up (`under_way` is false) and this
    /// node leads still; returns whether it has ended.
    pub(super) fn finish(
        &mut self,
        own: NodeId,
        now: (Option<NodeId>, u64),
        tick: u64,
        under_way: bool,
    ) -> bool {
        let outcome = match now {
            (Some(leader), term) if leader != own && term > self.from_term => Ok((leader, term)),
            (Some(leader), _) if leader == own && !under_way => Err(TransferError::TimedOut),
            _ if tick >= self.deadline => Err(TransferError::TimedOut),
            _ => return false,
        };
        if let Some(asker) = self.asker.take() {
            let _ = asker.send(outcome);
        }
        true
    }
}

//! PURE: decides from a node's status whether it is ready.

use shared::api::{ClusterStatus, Health, Membership};

/// Largest number of entries that may be committed but not applied; the monitoring calls a node slow from the same
/// number on.
const MAX_APPLY_LAG: u64 = 100;

/// Returns whether the node is ready: a member that knows the leader, and has applied nearly all committed entries.
pub fn ready(status: &ClusterStatus) -> Health {
    let mut reasons = Vec::new();
    if status.state.is_none() || status.membership == Membership::None {
        reasons
            .push("not a member: it waits for enough of its peers to found a cluster, or to be added".into());
    } else if status.leader.is_none() {
        reasons.push("no leader is known: an election is under way, or a majority cannot be reached".into());
    }
    let lag = status.commit_index.saturating_sub(status.applied_index);
    if lag > MAX_APPLY_LAG {
        reasons.push(format!("{lag} committed entries are not applied yet: it is catching up"));
    }
    reasons.extend(status.disk.iter().map(|problem| format!("disk: {}", problem.describe())));
    if status.refuses_events {
        reasons.push("events are refused: too many disks are almost full".into());
    }
    let ok = reasons.is_empty();
    if !status.wal_sync {
        reasons.push("wal_sync is off: acknowledged events are written, not fsynced".into());
    }
    Health { ok, reasons }
}

#[cfg(test)]
mod tests {
    use super::super::tests::status;
    use super::*;
    use shared::api::DiskProblem;

    #[test]
    fn a_follower_that_keeps_up_is_ready() {
        assert_eq!(ready(&status()), Health { ok: true, reasons: Vec::new() });
        let behind = ClusterStatus { commit_index: 142, applied_index: 42, ..status() };
        assert!(ready(&behind).ok);
    }

    #[test]
    fn each_shortcoming_is_named() {
        for (status, word) in [
            (ClusterStatus { leader: None, ..status() }, "no leader"),
            (ClusterStatus { state: None, ..status() }, "not a member"),
            (ClusterStatus { membership: Membership::None, leader: None, ..status() }, "not a member"),
            (ClusterStatus { commit_index: 143, applied_index: 42, ..status() }, "101 committed"),
            (ClusterStatus { disk: Some(DiskProblem::Full), ..status() }, "disk: full"),
            (ClusterStatus { refuses_events: true, ..status() }, "refused"),
        ] {
            let health = ready(&status);
            assert!(
                !health.ok && health.reasons.len() == 1 && health.reasons[0].contains(word),
                "{health:?}"
            );
        }
        let health = ready(&ClusterStatus { wal_sync: false, ..status() });
        assert!(health.ok && health.reasons[0].contains("wal_sync"));
    }
}

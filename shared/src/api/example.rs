//! Example messages of the admin API. Tests change the fields that matter to them.

use uuid::Uuid;

use super::{ClusterStatus, ConsumerGroup, ConsumerGroups, Membership, PeerStatus, RaftRole};
use crate::ids::ClusterId;

/// The status of a healthy leader, node 1, with one follower.
pub fn status() -> ClusterStatus {
    ClusterStatus {
        node_id: 1,
        state: Some(RaftRole::Leader),
        term: 1,
        commit_index: 42,
        peers: vec![PeerStatus {
            id: 2,
            state: Some(RaftRole::Follower),
            match_index: Some(42),
            host: "10.0.0.2".to_owned(),
            cluster_port: 9100,
            client_port: 9000,
            http_port: 8080,
            advertised_host: None,
            membership: Membership::Voter,
            connected: true,
            last_contact_ms: Some(31),
            lag: Some(0),
        }],
        cluster_name: "orders".to_owned(),
        cluster_id: Some(ClusterId(Uuid::from_u128(7))),
        leader: Some(1),
        membership: Membership::Voter,
        applied_index: 42,
        last_index: 43,
        version: "1.4.2".to_owned(),
        config_hash: "00ff".to_owned(),
        settings_hash: "ff00".to_owned(),
        started_at: "2026-01-02T03:04:05Z".to_owned(),
        wal_sync: true,
        pending_change: false,
        catch_up: None,
        disk: None,
        refuses_events: false,
        protocol: None,
        format: None,
        active_format: None,
        last_term: None,
    }
}

/// A group that lags behind and one that does not, of five.
pub fn groups() -> ConsumerGroups {
    let group = |name: &str, state: &str, members, lag, max_lag| {
        let (name, state) = (name.to_owned(), state.to_owned());
        ConsumerGroup { name, state, members, lag, max_lag }
    };
    ConsumerGroups {
        total: 5,
        left_off: 3,
        groups: vec![group("billing", "Empty", 0, 12, 7), group("audit", "Stable", 2, 0, 0)],
    }
}

//! PURE: the values from `GET /metrics` that the documented alerts need.

/// The values of one node at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// `raft_cluster_size`: voters.
    pub cluster_size: u64,
    /// `raft_peers_connected`.
    pub peers_connected: u64,
    /// `raft_replication_lag`, in entries.
    pub lag: u64,
    /// `raft_elections_total`, since the process was started.
    pub elections: u64,
    /// `raft_commit_index`.
    pub commit: u64,
    /// `eventstream_log_last_index`.
    pub last: u64,
    /// `raft_leader`: the id of the leader; `None` if the node knows none.
    pub leader: Option<u64>,
    /// Whether this node is the leader.
    pub leads: bool,
    /// `eventstream_events_refused`; false for an older node, which does not report it.
    pub refuses: bool,
}

impl Figures {
    /// Parses the text of `/metrics`.
    ///
    /// # Errors
    /// The first value that is missing: then the text is not esnode's, or the node's raft thread hangs.
    pub fn parse(text: &str) -> Result<Self, String> {
        let find = |name: &str| {
            let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            let value = value.and_then(|value| value.trim().parse::<u64>().ok());
            value.ok_or_else(|| format!("metric {name} is missing"))
        };
        Ok(Self {
            cluster_size: find("raft_cluster_size")?,
            peers_connected: find("raft_peers_connected")?,
            lag: find("raft_replication_lag")?,
            elections: find("raft_elections_total")?,
            commit: find("raft_commit_index")?,
            last: find("eventstream_log_last_index")?,
            leader: Some(find("raft_leader")?).filter(|leader| *leader > 0),
            leads: find("raft_state{state=\"leader\"}")? == 1,
            refuses: find("eventstream_events_refused").is_ok_and(|refuses| refuses == 1),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# HELP raft_term Current term\n# TYPE raft_term gauge\nraft_term 3\nraft_commit_index 42\n\
        raft_leader 0\nraft_state{state=\"follower\"} 0\nraft_state{state=\"leader\"} 1\nraft_peers_connected 2\n\
        raft_replication_lag 7\nraft_elections_total 1\nraft_cluster_size 3\neventstream_log_last_index 43\n\
        eventstream_events_refused 1\n";

    #[test]
    fn figures_are_found_by_their_names() {
        let figures = Figures::parse(TEXT).unwrap();
        let expected = Figures {
            cluster_size: 3,
            peers_connected: 2,
            lag: 7,
            elections: 1,
            commit: 42,
            last: 43,
            leader: None,
            leads: true,
            refuses: true,
        };
        assert_eq!(figures, expected);
        let error = Figures::parse(&TEXT.replace("raft_replication_lag", "another")).unwrap_err();
        assert_eq!(error, "metric raft_replication_lag is missing");
        let older = Figures::parse(&TEXT.replace("eventstream_events_refused", "another")).unwrap();
        assert!(!older.refuses);
    }
}

//! The limit of open files. Client connections must leave enough of them for the log and the other nodes: a node that
//! cannot open its next segment takes that for a failed disk, and stops.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Number of files that are reserved for segments, for the other nodes and for the process itself.
const RESERVE: u64 = 512;
/// Number of listeners for clients, which share the rest.
const LISTENERS: u64 = 2;

/// Returns how many connections each listener for clients may hold: `wanted`, if the limit allows that. Raises the
/// limit as far as possible.
pub fn connections(wanted: u32) -> usize {
    let limit = raise();
    let most = share(limit, wanted);
    if most < wanted {
        tracing::warn!(
            max_connections = wanted,
            allowed = most,
            "the process may open {} files only, so it takes fewer connections: raise the limit (LimitNOFILE= in \
             systemd, ulimit -n), or lower network.max_connections",
            limit.unwrap_or(u64::MAX)
        );
    }
    most as usize
}

fn share(limit: Option<u64>, wanted: u32) -> u32 {
    let most = limit.map_or(u64::MAX, |limit| limit.saturating_sub(RESERVE) / LISTENERS);
    // A few connections must be possible, so that operators can see what is wrong.
    u32::try_from(most).unwrap_or(u32::MAX).max(8).min(wanted)
}

/// Raises the limit of open files as far as the system allows. Returns it; `None` if there is none.
fn raise() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => maximum,
        Err(_) => current,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_and_the_peers_keep_their_files() {
        assert_eq!(share(None, 1000), 1000);
        assert_eq!(share(Some(1 << 20), 1000), 1000);
        assert_eq!(share(Some(1024), 1000), 256);
        assert_eq!(share(Some(100), 1000), 8);
    }
}

//! Retention: the leader checks now and then which events are due to be deleted, and proposes to delete them.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};

use crate::node::handle::Handle;
use crate::replica::MAX_WORK;
use crate::runtime::read_clocks;
use crate::state_machine::clock::CLOCK_FORMAT;
use crate::state_machine::retention::{Retention, due};

/// Time between two checks; events may be kept longer by as much.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// Time between two checks while there is no space for events.
const FULL_DISK_INTERVAL: Duration = Duration::from_secs(1);

/// Checks until `stop` turns true.
pub async fn run(node: Handle, mut stop: watch::Receiver<bool>) {
    let topics = node.file().cluster.topics;
    let default = Retention { ms: topics.retention_ms, bytes: topics.retention_bytes };
    let leadership = node.leadership();
    let mut interval = interval(CHECK_INTERVAL);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        if node.log().stats().refuses_events.load(Relaxed) {
            // Producers wait for the space that is freed.
            interval.reset_after(FULL_DISK_INTERVAL);
        }
        tokio::select! {
            _ = interval.tick() => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
        if !leadership.borrow().serving {
            continue;
        }
        node.time().believe_if_steady();
        let state_machine = node.frozen_state();
        let ticks = state_machine.clock().latest().is_some();
        if !ticks && state_machine.format() >= CLOCK_FORMAT {
            // It is about to begin.
            continue;
        }
        let now = if ticks { node.time().now() } else { read_clocks().wall };
        // Of many partitions it takes long enough for clients to notice, here.
        let Ok(trims) = spawn_blocking(move || due(&state_machine, default, now)).await else { continue };
        for trims in trims.chunks(MAX_WORK) {
            // The next leader tries again.
            if let Err(error) = node.propose(trims).await {
                tracing::debug!(%error, "retention has to wait");
                break;
            }
        }
    }
}

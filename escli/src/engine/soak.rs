//! The last gate for an upgraded node: it must serve without a break for a while.

use std::time::{Duration, Instant};

use shared::api::ClusterStatus;
use shared::ids::NodeId;

use super::Engine;
use super::error::{Awaited, StepError};
use super::ports::{Cluster, Hosts};
use super::step::Poll;
use crate::plan::agreement::{self, Agreement};

/// What must not change while the node is watched.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Steady {
    process: String,
    agreement: Agreement,
}

impl<H: Hosts, C: Cluster> Engine<'_, H, C> {
    /// Watches the node. A change of leader starts the time anew; a change of its process or version is a failure.
    pub(super) async fn soak(
        &self,
        id: NodeId,
        nodes: &[NodeId],
        version: Option<&str>,
        time: Duration,
    ) -> Result<String, StepError> {
        let seen: std::cell::RefCell<Option<(Steady, Instant)>> = std::cell::RefCell::default();
        let first: std::cell::OnceCell<String> = std::cell::OnceCell::new();
        self.wait(Awaited::Steady(id, time), time + self.limits.leader, async || {
            let verdict = |statuses: &[ClusterStatus]| {
                let now = steady(id, statuses, self.voters)?;
                let mut seen = seen.borrow_mut();
                let since = match &*seen {
                    Some((before, since)) if *before == now => *since,
                    _ => Instant::now(),
                };
                let agreement = now.agreement;
                _ = first.set(now.process.clone());
                *seen = Some((now, since));
                if since.elapsed() >= time {
                    Ok(agreement)
                } else {
                    Err(format!("for {:.1?} so far", since.elapsed()))
                }
            };
            let look = self.evaluate(nodes, &[id], verdict).await;
            match self.cluster.status(id).await {
                Ok(status) if version.is_some_and(|version| status.version != version) => {
                    let wanted = version.unwrap_or_default().to_owned();
                    Poll::Never(StepError::WrongVersion { node: id, runs: status.version, wanted })
                }
                Ok(status) if first.get().is_some_and(|first| *first != status.started_at) => {
                    Poll::Never(StepError::Restarted { node: id })
                }
                _ => look,
            }
        })
        .await
    }
}

/// Checks that the node follows or is the leader, and has applied everything that the leader has committed.
fn steady(id: NodeId, statuses: &[ClusterStatus], configured: usize) -> Result<Steady, String> {
    let voters = agreement::voters(statuses, configured);
    let agreement = agreement::keeps_up(id, statuses, voters)?;
    let own = statuses.iter().find(|status| status.node_id == id).ok_or("it does not answer")?;
    Ok(Steady { process: own.started_at.clone(), agreement })
}

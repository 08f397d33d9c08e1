//! The leases of an operation: they keep operators at other machines away from the hosts.

use std::cell::RefCell;
use std::collections::BTreeMap;

use futures_util::stream::{self, StreamExt};
use shared::ids::NodeId;

use super::target::Target;
use crate::engine::lock::Holder;
use crate::engine::ports::LeaseLost;
use crate::failure::{Exit, Failure};
use crate::hosts::remote::Lease;
use crate::plan::facts::{Facts, NodeFacts};
use crate::plan::{Plan, Step};

/// The leases that an operation holds, and the hosts of which it got none.
#[derive(Debug, Default)]
pub struct Leases {
    held: RefCell<Vec<Lease>>,
    failed: BTreeMap<NodeId, Failure>,
}

impl Leases {
    /// Takes the leases of all nodes' hosts. A local cluster has none, since the lock on its cluster.yaml is enough.
    ///
    /// # Errors
    /// [`Exit::Locked`] if another operation holds one of them.
    pub async fn take(target: &Target, holder: &Holder, concurrency: usize) -> Result<Self, Failure> {
        let mut leases = Self::default();
        let Some(hosts) = target.hosts.remote() else { return Ok(leases) };
        let ids = target.spec.cluster.nodes.iter().map(|node| node.id);
        let takes = ids.map(|id| async move { (id, hosts.lease(id, holder).await) });
        let taken: Vec<_> = stream::iter(takes).buffer_unordered(concurrency).collect().await;
        for (id, lease) in taken {
            match lease.map_err(Failure::from) {
                Ok(lease) => leases.held.get_mut().push(lease),
                Err(taken) if taken.kind == Exit::Locked => return Err(taken),
                Err(failure) => _ = leases.failed.insert(id, failure),
            }
        }
        Ok(leases)
    }

    /// Returns the first lease that was lost. No step may be started after that.
    pub fn lost(&self) -> Option<LeaseLost> {
        self.held.borrow_mut().iter_mut().find_map(Lease::lost)
    }

    /// Checks that the operation holds the lease of every host that the plan works on. Adds a notice to the plan about
    /// hosts that could not be reached.
    ///
    /// # Errors
    /// Why there is no lease of a host in the plan.
    pub fn suffice(&self, plan: &mut Plan, facts: &Facts) -> Result<(), Failure> {
        if plan.stages.is_empty() {
            return Ok(());
        }
        for (id, failure) in &self.failed {
            let is_seen = facts.nodes.get(id).and_then(NodeFacts::host).is_some();
            let changes = |step: &Step| step.node == Some(*id) && step.action.changes();
            let rescue = plan.stages.iter().flat_map(|stage| &stage.rescue);
            if is_seen && plan.steps().chain(rescue).any(changes) {
                let message = format!("{}; no changes were made", failure.message);
                return Err(Failure { kind: Exit::Refused, message, ..failure.clone() });
            }
            plan.notes
                .push(format!("node {id}'s host is not reserved for this operation: {}", failure.message));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Action;
    use crate::plan::facts::HostInspection;
    use crate::plan::tests::{remote_facts, remote_spec};

    #[test]
    fn a_host_without_a_lease_is_not_worked_on_and_one_that_is_off_is_named() {
        let mut facts = remote_facts(&remote_spec(3));
        let failed = |id| [(id, Failure::new(Exit::Unreachable, "no route"))].into();
        let leases = |id| Leases { failed: failed(id), ..Leases::default() };
        let mut plan = Plan::new("up", "lab");
        leases(3).suffice(&mut plan, &facts).unwrap();
        assert!(plan.notes.is_empty(), "nothing is done");
        plan.one("directories", Step::on(3, Action::EnsureDirs, "missing"));
        let refused = leases(3).suffice(&mut plan, &facts).unwrap_err();
        assert_eq!(
            (refused.kind, refused.message.as_str()),
            (Exit::Refused, "no route; no changes were made")
        );
        leases(2).suffice(&mut plan, &facts).unwrap();
        let reason = "no route".to_owned();
        facts.nodes.get_mut(&3).unwrap().host =
            HostInspection::Unreachable { reason, details: Vec::new(), hints: Vec::new() };
        leases(3).suffice(&mut plan, &facts).unwrap();
        let note = |id| format!("node {id}'s host is not reserved for this operation: no route");
        assert_eq!(plan.notes, [note(2), note(3)]);
    }
}

//! The request of an operation as data. The journal stores it, and a resumed operation plans it again from new facts.

use serde::{Deserialize, Serialize};
use shared::ids::ClusterId;
use shared::spec::{ClusterFile, Node};

use super::desired::DesiredFiles;
use super::down::{DownOptions, StopOptions, down, stop};
use super::facts::Facts;
use super::fix::fix;
use super::identity::{self, Intent};
use super::members::{AddOptions, RemoveOptions, ReplaceOptions, add, remove, replace};
use super::provision::Remote;
use super::recover::{RecoverOptions, recover};
use super::restore::{RestoreOptions, restore};
use super::rolling::{RollOptions, reload, restart};
use super::transfer::{TransferOptions, transfer};
use super::up::{UpOptions, up};
use super::upgrade::{UpgradeOptions, upgrade};
use super::{Plan, Refusal};

/// An operation with its options.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case")]
pub enum Request {
    /// `up` and `start`.
    Up(Box<UpOptions>),
    /// `stop`.
    Stop(StopOptions),
    /// `down`.
    Down(DownOptions),
    /// `restart`.
    Restart(RollOptions),
    /// `reload`.
    Reload(RollOptions),
    /// `transfer-leader`.
    TransferLeader(TransferOptions),
    /// `check --fix`.
    Fix(Box<Remote>),
    /// `upgrade`.
    Upgrade(Box<UpgradeOptions>),
    /// `add-node`.
    AddNode(Box<AddOptions>),
    /// `remove-node`.
    RemoveNode(Box<RemoveOptions>),
    /// `replace-node`.
    ReplaceNode(Box<ReplaceOptions>),
    /// `restore`.
    Restore(Box<RestoreOptions>),
    /// `recover`.
    Recover(Box<RecoverOptions>),
}

impl Request {
    /// Plans the operation, after it was checked that every host belongs to what cluster.yaml says. This is the only
    /// way to a planner.
    ///
    /// # Errors
    /// A host that belongs to another cluster or node; those of the planner.
    pub fn plan(&self, spec: &ClusterFile, wanted: &DesiredFiles, facts: &Facts) -> Result<Plan, Refusal> {
        identity::refuse(spec, facts, &self.intent())?;
        match self {
            Self::Up(options) => up(spec, wanted, facts, options),
            Self::Stop(options) => stop(spec, facts, options),
            Self::Down(options) => down(spec, facts, options),
            Self::Restart(options) => restart(spec, facts, options),
            Self::Reload(options) => reload(spec, wanted, facts, options),
            Self::TransferLeader(options) => transfer(spec, facts, options),
            Self::Fix(remote) => Ok(fix(spec, remote, facts)),
            Self::Upgrade(options) => upgrade(spec, facts, options),
            Self::AddNode(options) => add(spec, wanted, facts, options),
            Self::RemoveNode(options) => remove(spec, wanted, facts, options),
            Self::ReplaceNode(options) => replace(spec, wanted, facts, options),
            Self::Restore(options) => restore(spec, wanted, facts, options),
            Self::Recover(options) => recover(spec, wanted, facts, options),
        }
    }

    /// Returns the options of the node that joins, if one does.
    pub fn joining(&self) -> Option<&AddOptions> {
        match self {
            Self::AddNode(options) => Some(options),
            Self::ReplaceNode(options) => Some(&options.add),
            _ => None,
        }
    }

    /// Returns the nodes that leave.
    pub fn leaving(&self) -> Vec<Node> {
        match self {
            Self::RemoveNode(options) => vec![options.member.clone()],
            Self::ReplaceNode(options) => vec![options.remove.member.clone()],
            Self::Recover(options) => options.others.clone(),
            _ => Vec::new(),
        }
    }

    /// Returns the id of the new cluster that the operation starts from another one's log.
    pub fn new_cluster(&self) -> Option<ClusterId> {
        match self {
            Self::Recover(options) => Some(options.cluster),
            Self::Restore(options) => Some(options.cluster),
            _ => None,
        }
    }

    fn intent(&self) -> Intent {
        Intent {
            new_cluster: self.new_cluster(),
            leaving: self.leaving().iter().map(|node| node.id).collect(),
            by_hosts: matches!(self, Self::Stop(_) | Self::Down(_)),
            bootstraps: matches!(self, Self::Up(_)),
        }
    }

    /// Returns whether it writes the cluster.yaml of a new cluster, whatever existed there before.
    pub fn is_new(&self) -> bool {
        match self {
            Self::Up(options) => options.new_file.is_some(),
            Self::Restore(options) => options.up.new_file.is_some(),
            _ => false,
        }
    }

    /// Returns whether nothing is left of the cluster afterwards.
    pub fn purges(&self) -> bool {
        matches!(self, Self::Down(options) if options.purge)
    }

    /// Returns the number of voters after the operation, if the operation itself determines it.
    pub fn voters(&self) -> Option<usize> {
        matches!(self, Self::Recover(_)).then_some(1)
    }

    /// Returns whether it starts nodes on hosts that may not reach the others.
    pub fn needs_peers(&self) -> bool {
        matches!(self, Self::Up(options) if options.operation == "up")
            || matches!(self, Self::Restore(_))
            || self.joining().is_some()
    }

    /// Returns whether it depends on how far each node's log reaches.
    pub fn compares_logs(&self) -> bool {
        matches!(self, Self::Recover(options) if !options.agreed)
    }

    /// Records what only the first inspection can tell.
    pub fn record_baseline(&mut self, facts: &Facts) {
        match self {
            Self::Restart(options) | Self::Reload(options) => options.record_baseline(facts),
            Self::AddNode(options) => options.record_baseline(facts),
            Self::Restore(options) => options.record_baseline(facts),
            Self::Upgrade(options) => options.record_baseline(facts),
            Self::ReplaceNode(options) => options.add.record_baseline(facts),
            _ => {}
        }
    }

    /// Notes that the operator has agreed to what the plan asks.
    pub fn agreed(&mut self) {
        match self {
            Self::Stop(options) => options.allow_downtime = true,
            Self::Restart(options) | Self::Reload(options) => options.allow_downtime = true,
            Self::Upgrade(options) => options.roll.allow_downtime = true,
            Self::RemoveNode(options) => options.agreed = true,
            Self::ReplaceNode(options) => options.remove.agreed = true,
            Self::Recover(options) => options.agreed = true,
            Self::Up(_)
            | Self::Down(_)
            | Self::TransferLeader(_)
            | Self::AddNode(_)
            | Self::Restore(_)
            | Self::Fix(_) => {}
        }
    }

    /// Returns whether the same command would start from the beginning, so that only `history resume` continues it.
    pub fn needs_resume(&self) -> bool {
        let again = matches!(
            self,
            Self::Up(_) | Self::Stop(_) | Self::Down(_) | Self::TransferLeader(_) | Self::Fix(_)
        );
        !again
    }
}

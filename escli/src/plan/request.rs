//! What an operation was asked for, as data: a journal keeps it, and who resumes the operation plans it again from what
//! is seen then.

use serde::{Deserialize, Serialize};
use shared::spec::ClusterFile;

use super::down::{DownOptions, StopOptions, down, stop};
use super::facts::Facts;
use super::fix::fix;
use super::provision::Remote;
use super::rolling::{RollOptions, reload, restart};
use super::transfer::{TransferOptions, transfer};
use super::up::{Options, up};
use super::wanted::Wanted;
use super::{Plan, Refusal};

/// One operation with its arguments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case")]
pub enum Request {
    /// `up` and `start`.
    Up(Box<Options>),
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
}

impl Request {
    /// Plans it.
    ///
    /// # Errors
    /// Those of its planner.
    pub fn plan(&self, spec: &ClusterFile, wanted: &Wanted, facts: &Facts) -> Result<Plan, Refusal> {
        match self {
            Self::Up(options) => up(spec, wanted, facts, options),
            Self::Stop(options) => stop(spec, facts, options),
            Self::Down(options) => down(spec, facts, options),
            Self::Restart(options) => restart(spec, facts, options),
            Self::Reload(options) => reload(spec, wanted, facts, options),
            Self::TransferLeader(options) => transfer(spec, facts, options),
            Self::Fix(remote) => Ok(fix(spec, remote, facts)),
        }
    }

    /// Keeps what only the first look can tell.
    pub fn witness(&mut self, facts: &Facts) {
        if let Self::Restart(options) | Self::Reload(options) = self {
            options.witness(facts);
        }
    }

    /// The operator has agreed to the downtime that the plan asked about.
    pub fn agreed(&mut self) {
        match self {
            Self::Stop(options) => options.allow_downtime = true,
            Self::Restart(options) | Self::Reload(options) => options.allow_downtime = true,
            Self::Up(_) | Self::Down(_) | Self::TransferLeader(_) | Self::Fix(_) => {}
        }
    }

    /// The same command would begin anew; only resuming it goes on from where it stopped.
    pub fn needs_resume(&self) -> bool {
        matches!(self, Self::Restart(_) | Self::Reload(_))
    }
}

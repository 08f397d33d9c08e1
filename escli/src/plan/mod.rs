//! PURE: turns facts into a plan, which does not change any more. Every decision of an operation is made here, so that
//! what `--dry-run` shows is what runs. Depends on `shared` alone: no file, socket, clock or terminal.

use serde::{Deserialize, Serialize};
use shared::ids::NodeId;

pub mod action;
pub mod agreement;
pub mod claims;
pub mod desired;
pub mod diff;
pub mod down;
pub mod facts;
pub mod fix;
pub mod identity;
pub mod layout;
mod listed;
pub mod member_set;
pub mod members;
pub mod preflight;
pub mod program;
pub mod provision;
pub mod quorum;
pub mod recover;
pub mod request;
pub mod restore;
pub mod rolling;
pub mod transfer;
pub mod unit;
pub mod up;
pub mod upgrade;

pub use action::Action;

/// What an operation will do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The subcommand, e.g. `up`.
    pub operation: String,
    /// The cluster's name.
    pub cluster: String,
    /// Run one after the other.
    pub stages: Vec<Stage>,
    /// What the operator should know that no step says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// What the operator must agree to before the plan runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub question: Option<Question>,
}

/// Steps that may run at the same time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage {
    /// The stage in a few words, e.g. `start n1`.
    pub title: String,
    /// The steps, in any order.
    pub steps: Vec<Step>,
    /// Steps to run, in this order, if one of `steps` fails, so that nothing is left half done.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rescue: Vec<Step>,
}

/// One action, which is performed, verified and journalled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Id for people and scripts, unique in the plan, e.g. `n1.start` or `cluster.leader`.
    pub id: String,
    /// The node that it changes or checks; `None` if it is about the whole cluster.
    pub node: Option<NodeId>,
    /// The action.
    pub action: Action,
    /// Why it is in the plan, e.g. `not running`.
    pub why: String,
}

/// A question that the operator must answer before a plan runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Question {
    /// Yes or no, because the operation cannot simply be undone. Without a terminal, `--yes` is needed.
    Confirm {
        /// What will happen; the view adds the question.
        text: String,
    },
    /// Yes or no, because the cluster will accept no writes. Without a terminal, `--allow-downtime` is needed.
    Downtime {
        /// What it costs; the view adds the question.
        text: String,
    },
    /// A word must be typed, because the operation cannot be undone. Without a terminal, `--yes --confirm NAME` is
    /// needed.
    TypeName {
        /// What it costs; the view asks for the word.
        text: String,
        /// The word: the cluster's name.
        word: String,
    },
}

/// Why an operation is not begun. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// What is refused, in one sentence without a full stop.
    pub message: String,
    /// The reasons, one by one.
    pub reasons: Vec<String>,
    /// What to do instead; the commands in it can be pasted.
    pub hints: Vec<String>,
    /// A first port with which all ports of a new local cluster are free, if ports are a reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub free_base_port: Option<u16>,
}

impl Refusal {
    /// A refusal without reasons or hints.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), reasons: Vec::new(), hints: Vec::new(), free_base_port: None }
    }

    /// Adds a reason.
    #[must_use]
    pub fn because(mut self, reason: impl Into<String>) -> Self {
        self.reasons.push(reason.into());
        self
    }

    /// Adds something to do instead.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }
}

impl Plan {
    /// A plan without stages.
    pub fn new(operation: &str, cluster: &str) -> Self {
        Self {
            operation: operation.to_owned(),
            cluster: cluster.to_owned(),
            stages: Vec::new(),
            notes: Vec::new(),
            question: None,
        }
    }

    /// Appends a stage, unless it has no steps.
    pub fn stage(&mut self, title: impl Into<String>, steps: Vec<Step>) {
        self.guarded(title, steps, Vec::new());
    }

    /// Appends a stage of one step.
    pub fn one(&mut self, title: impl Into<String>, step: Step) {
        self.stage(title, vec![step]);
    }

    /// Appends a stage with the steps to run if it fails.
    pub fn guarded(&mut self, title: impl Into<String>, steps: Vec<Step>, rescue: Vec<Step>) {
        if !steps.is_empty() {
            self.stages.push(Stage { title: title.into(), steps, rescue });
        }
    }

    /// Every step, in order.
    pub fn steps(&self) -> impl Iterator<Item = &Step> {
        self.stages.iter().flat_map(|stage| &stage.steps)
    }

    /// Number of steps that change something when they run.
    pub fn changes(&self) -> usize {
        self.steps().filter(|step| step.action.changes()).count()
    }
}

impl Step {
    /// A step about one node; its id is `n<node>.<verb>`.
    pub fn on(node: NodeId, action: Action, why: impl Into<String>) -> Self {
        Self { id: format!("n{node}.{}", action.verb()), node: Some(node), action, why: why.into() }
    }

    /// A step that undoes something on a node; its id is `n<node>.undo-<verb>`.
    pub fn undo(node: NodeId, action: Action, why: impl Into<String>) -> Self {
        Self { id: format!("n{node}.undo-{}", action.verb()), ..Self::on(node, action, why) }
    }

    /// A step about the whole cluster; its id is `cluster.<verb>`.
    pub fn cluster(action: Action, why: impl Into<String>) -> Self {
        Self { id: format!("cluster.{}", action.verb()), node: None, action, why: why.into() }
    }
}

#[cfg(test)]
pub(crate) mod tests;

//! The assignors: which member of a group is to get which partitions.
//!
//! Every replica computes the assignment by itself, from the log alone. So what an assignor makes of the same members and
//! topics is part of the on-disk format: another outcome needs a new format.

mod range;
#[cfg(test)]
mod tests;
mod uniform;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use serde::{Deserialize, Serialize};

use super::Partitions;
use crate::state_machine::TopicId;

/// An assignor. The names are Kafka's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Assignor {
    /// As evenly as the subscriptions allow, and with as few partitions moved as that takes.
    #[default]
    Uniform,
    /// For each topic by itself, in the order of its members.
    Range,
}

/// A member, as the assignors see it.
#[derive(Clone, Debug)]
pub struct Subscriber<'a> {
    /// Its id.
    pub member: &'a str,
    /// `group.instance.id` of a static member.
    pub instance: Option<&'a str>,
    /// The topics that it subscribes to, of those that there are.
    pub topics: Rc<BTreeSet<TopicId>>,
    /// What it was to get until now.
    pub before: &'a Partitions,
}

impl Assignor {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Uniform, Self::Range];

    /// As Kafka writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Range => "range",
        }
    }

    /// The assignor of this name, if there is one.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|assignor| assignor.name() == name)
    }

    /// What each of the members, which are ordered by their ids, is to get of `topics`, given with their numbers of
    /// partitions. Each partition of a topic that anyone subscribes to gets one owner.
    pub fn assign(self, members: &[Subscriber<'_>], topics: &BTreeMap<TopicId, u32>) -> Vec<Partitions> {
        match self {
            Self::Uniform => uniform::assign(members, topics),
            Self::Range => range::assign(members, topics),
        }
    }
}

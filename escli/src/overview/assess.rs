//! PURE: decides whether the cluster is healthy. A verdict always has reasons.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use shared::api::{ClusterStatus, DiskProblem, Membership, RaftRole};
use shared::ids::{ClusterId, NodeId};

use super::context::{ConfigState, Context};
use crate::plan::agreement::LAG_LIMIT;
use crate::plan::facts::ApiAnswer;
use crate::plan::quorum::quorum;

/// The health of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Verdict {
    /// Every voter follows one leader and keeps up with it.
    Healthy,
    /// The cluster accepts writes, but something is wrong.
    Degraded,
    /// As far as can be seen from here, the cluster accepts no writes.
    Unavailable,
    /// No node answers, so nothing is known.
    Unknown,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Healthy => "HEALTHY",
            Self::Degraded => "DEGRADED",
            Self::Unavailable => "UNAVAILABLE",
            Self::Unknown => "UNKNOWN",
        })
    }
}

/// A verdict with its reasons.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assessment {
    /// The verdict.
    pub verdict: Verdict,
    /// The reasons for it; never empty.
    pub reasons: Vec<String>,
    /// What the operator should know although it does not affect the verdict.
    pub notices: Vec<String>,
}

/// Returns the verdict on what was observed.
pub fn assess(context: &Context<'_>) -> Assessment {
    let voters = context.voters();
    let up = voters.iter().filter(|id| context.follows(**id)).count();
    let needed = quorum(voters.len());
    let mut reasons: Vec<String> = Vec::new();
    let answering = context.facts.statuses().count();
    let verdict = if answering == 0 {
        Verdict::Unknown
    } else if let Some(reason) = no_majority(context, &voters, up).or_else(|| no_writes(context, &voters)) {
        reasons.push(reason);
        Verdict::Unavailable
    } else {
        Verdict::Degraded
    };
    reasons.extend(silent_leader(context));
    reasons.extend(rivals(context));
    reasons.extend(disks(context));
    reasons.extend(context.spec.cluster.nodes.iter().filter_map(|node| trouble(context, node.id)));
    if verdict == Verdict::Degraded && reasons.is_empty() {
        return Assessment {
            verdict: Verdict::Healthy,
            reasons: vec![all_well(context, voters.len())],
            notices: notices(context),
        };
    }
    if verdict == Verdict::Degraded && up == needed && up < voters.len() {
        reasons.push(format!("{up} of {} voters are up: one more failure stops writes", voters.len()));
    }
    Assessment { verdict, reasons, notices: notices(context) }
}

fn all_well(context: &Context<'_>, voters: usize) -> String {
    let (leader, term) = (context.leader.unwrap_or_default(), context.term.unwrap_or_default());
    format!(
        "{voters} of {voters} voters follow n{leader} in term {term}, none is more than {LAG_LIMIT} entries behind"
    )
}

/// Returns why the cluster accepts no writes for lack of a leader or a majority; `None` if it has both.
fn no_majority(context: &Context<'_>, voters: &[NodeId], up: usize) -> Option<String> {
    let (count, needed) = (voters.len(), quorum(voters.len()));
    let Some(leader) = context.leader else {
        let here = voters.iter().filter(|id| is_silent(context, **id).is_none()).count();
        let why = if here < needed {
            format!("{needed} are required")
        } else {
            "an election is under way".to_owned()
        };
        return Some(format!("no leader: {here} of {count} voters answer, {why}"));
    };
    // If the leader itself does not answer, its followers cannot be counted. It does lead, or the others would not name
    // it.
    context.head?;
    (up < needed)
        .then(|| format!("n{leader} leads, but only {up} of {count} voters follow it; {needed} are required"))
}

/// Returns why a cluster with a leader and a majority accepts no events; `None` if it accepts them.
fn no_writes(context: &Context<'_>, voters: &[NodeId]) -> Option<String> {
    if context.head.is_some_and(|head| head.refuses_events) {
        return Some("the leader refuses events: too many disks are almost full".to_owned());
    }
    // A node whose disk blocks writes still follows, but acknowledges nothing.
    let stuck = |id: &&NodeId| context.disk(**id).is_some_and(DiskProblem::blocks_writes);
    let following: Vec<_> = voters.iter().filter(|id| context.follows(**id)).collect();
    let (count, needed) = (voters.len(), quorum(voters.len()));
    let writing = following.iter().filter(|id| !stuck(id)).count();
    (writing < needed && writing < following.len())
        .then(|| format!("{writing} of {count} voters can write to their disk; {needed} are required"))
}

/// Returns the problems of disks. One that several nodes have is reported once.
fn disks(context: &Context<'_>) -> Vec<String> {
    let mut found: BTreeMap<DiskProblem, Vec<NodeId>> = BTreeMap::new();
    for node in &context.spec.cluster.nodes {
        if let Some(problem) = context.disk(node.id) {
            found.entry(problem).or_default().push(node.id);
        }
    }
    let line = |(problem, ids): (&DiskProblem, &Vec<NodeId>)| match problem.advice() {
        Some(advice) => format!("disk {problem} on {}: {advice}", names(ids)),
        None => format!("disk of {}: {problem}", names(ids)),
    };
    found.iter().map(line).collect()
}

/// Returns a problem if the others name a leader that does not answer: it died a moment ago, or cannot be reached from
/// here.
fn silent_leader(context: &Context<'_>) -> Option<String> {
    let leader = context.leader.filter(|_| context.head.is_none())?;
    Some(format!(
        "n{leader} is the leader according to others, but does not answer: if it is down, an election follows"
    ))
}

/// Returns the other nodes that claim to lead. A leader that was cut off does so until it notices.
fn rivals(context: &Context<'_>) -> Vec<String> {
    let Some(head) = context.head else { return Vec::new() };
    let others = context.facts.statuses().map(|(_, status)| status);
    let others = others.filter(|s| s.state == Some(RaftRole::Leader) && s.node_id != head.node_id);
    let line = |other: &ClusterStatus| {
        let (id, leader) = (other.node_id, head.node_id);
        format!("n{id} says it leads in term {}, n{leader} in term {}", other.term, head.term)
    };
    others.map(line).collect()
}

fn is_silent<'a>(context: &Context<'a>, id: NodeId) -> Option<&'a str> {
    match context.facts.nodes.get(&id).map(|node| &node.api) {
        Some(ApiAnswer::Status(_)) => None,
        Some(ApiAnswer::Silent { reason, .. }) => Some(reason),
        None => Some("not asked"),
    }
}

/// Returns the most serious problem of one node.
fn trouble(context: &Context<'_>, id: NodeId) -> Option<String> {
    let peer = context.seen_by_head(id);
    if let Some(reason) = is_silent(context, id) {
        let heard = peer.is_some_and(|peer| peer.connected);
        let heard = if heard { "; the leader is connected to it" } else { "" };
        return Some(format!("n{id} does not answer: {reason}{heard}"));
    }
    let status = context.facts.nodes.get(&id)?.status()?;
    if !context.members.contains_key(&id) {
        return None;
    }
    let known = |own: &ClusterId| context.facts.remembered.contains(own);
    let identity =
        context.facts.remembered.first().copied().or_else(|| context.head.and_then(|head| head.cluster_id));
    if let (Some(own), Some(head)) = (status.cluster_id, identity.or_else(|| first_identity(context)))
        && own != head
        && !known(&own)
    {
        return Some(format!("n{id} belongs to another cluster: {own}, not {head}"));
    }
    if status.state.is_none() {
        return Some(format!("n{id} is waiting to join"));
    }
    if let (Some(leader), false) = (context.leader, context.follows(id)) {
        let term = context.term.unwrap_or_default();
        let own = status.leader.map_or_else(|| "no leader".to_owned(), |own| format!("leader n{own}"));
        return Some(format!("n{id} follows {own} in term {}, not n{leader} in term {term}", status.term));
    }
    let peer = peer?;
    if !peer.connected {
        return Some(format!("n{} has no connection to n{id}", context.leader.unwrap_or_default()));
    }
    let lag = peer.lag.filter(|lag| *lag > LAG_LIMIT)?;
    Some(format!("n{id} is {lag} entries behind the leader"))
}

/// Returns the cluster id of the first node that answers, for comparison with the others.
fn first_identity(context: &Context<'_>) -> Option<ClusterId> {
    context.facts.statuses().find_map(|(_, status)| status.cluster_id)
}

fn notices(context: &Context<'_>) -> Vec<String> {
    let statuses = || context.facts.statuses().map(|(_, status)| status);
    let mut found = Vec::new();
    let mut versions: BTreeMap<&str, Vec<NodeId>> = BTreeMap::new();
    for status in statuses() {
        versions.entry(&status.version).or_default().push(status.node_id);
    }
    if versions.len() > 1 {
        let each = versions.iter().map(|(version, ids)| format!("v{version} on {}", names(ids)));
        found.push(format!("more than one version is running: {}", each.collect::<Vec<_>>().join(", ")));
    }
    let restart =
        statuses().filter(|status| context.config_state(status) == Some(ConfigState::RestartNeeded));
    let restart: Vec<_> = restart.map(|status| status.node_id).collect();
    if !restart.is_empty() {
        found.push(format!(
            "restart needed: cluster.yaml differs from the configuration that {} runs with",
            names(&restart)
        ));
    }
    let unsynced: Vec<_> =
        statuses().filter(|status| !status.wal_sync).map(|status| status.node_id).collect();
    if !unsynced.is_empty() {
        let ids = names(&unsynced);
        found.push(format!(
            "wal_sync is off on {ids}: events acknowledged there are written, but not fsynced"
        ));
    }
    let outside = context.spec.cluster.nodes.iter().map(|node| node.id);
    let outside: Vec<_> = outside.filter(|id| !context.members.contains_key(id)).collect();
    if !outside.is_empty() {
        found.push(format!("in cluster.yaml and not a member: {}", names(&outside)));
    }
    let strangers: Vec<_> =
        context.members.keys().copied().filter(|id| context.spec.node(*id).is_none()).collect();
    if !strangers.is_empty() {
        found.push(format!("a member and not in cluster.yaml: {}", names(&strangers)));
    }
    if context.members.values().any(|role| *role == Membership::Learner)
        || statuses().any(|s| s.pending_change)
    {
        found.push("a membership change is in progress".to_owned());
    }
    found
}

fn names(ids: &[NodeId]) -> String {
    ids.iter().map(|id| format!("n{id}")).collect::<Vec<_>>().join(", ")
}

//! Plans `recover`: the quorum is lost for good, and one remaining node starts a new cluster. This is the only
//! operation of escli that can lose acknowledged events.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use shared::api::ClusterStatus;
use shared::ids::{ClusterId, NodeId};
use shared::spec::{ClusterFile, Node, Service};

use super::desired::DesiredFiles;
use super::facts::{Facts, HostFacts, Log, LogEnd, NodeFacts};
use super::quorum::quorum;
use super::{Action, Plan, Question, Refusal, Step, agreement, identity};

/// The options of `recover`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoverOptions {
    /// The node that starts the new cluster.
    pub survivor: NodeId,
    /// All other nodes; none of them is part of the new cluster.
    pub others: Vec<Node>,
    /// Those of `others` that are lost for good, as the operator says.
    pub lost: Vec<NodeId>,
    /// Identity of the new cluster, drawn when the operation began.
    pub cluster: ClusterId,
    /// Path of the program for the survivor; `None` if none was found.
    pub binary: Option<PathBuf>,
    /// How remote nodes are kept running; `None` for a local cluster.
    pub service: Option<Service>,
    /// The cluster.yaml to remove the others from; `None` if they are not there any more, or the file cannot be
    /// written.
    pub file: Option<PathBuf>,
    /// The operator has agreed already, before the operation was interrupted.
    #[serde(default)]
    pub agreed: bool,
}

/// Plans `recover`.
///
/// # Errors
/// Refuses if there is a majority, or could be one; and if another node's log reaches further.
pub(super) fn recover(
    spec: &ClusterFile,
    wanted: &DesiredFiles,
    facts: &Facts,
    options: &RecoverOptions,
) -> Result<Plan, Refusal> {
    let id = options.survivor;
    let case = Case { spec, facts, options };
    let host = case.host()?;
    let status = facts.nodes.get(&id).and_then(NodeFacts::status);
    let carries_on = status.is_some_and(|status| status.cluster_id == Some(options.cluster));
    let mut plan = Plan::new("recover", &spec.cluster.name);
    if !carries_on {
        // Once the survivor belongs to another cluster, the votes of other nodes do not matter.
        if !options.agreed {
            case.is_lost()?;
            case.holds_most()?;
            plan.question = Some(case.question(status));
        }
        case.retire_others(&mut plan);
        if !host.is_stopped() {
            let stop = Step::on(id, Action::StopNode { force: false }, "its log is about to be changed");
            plan.one(format!("stop n{id}"), stop);
        }
        let binary = case.program(host)?;
        let recover = Action::Recover { binary: binary.clone(), cluster: options.cluster, members: vec![id] };
        let why = format!("{} of {} nodes are lost", options.lost.len(), spec.cluster.nodes.len());
        plan.one(format!("start a new cluster from the log of n{id}"), Step::on(id, recover, why));
        if let Some(hash) = wanted.hash(id) {
            let write = Action::WriteConfig { hash: hash.to_owned() };
            plan.one(format!("configure n{id}"), Step::on(id, write, "it is the only member"));
        }
        plan.one(format!("start n{id}"), Step::on(id, Action::StartNode { binary }, "was stopped"));
        plan.one(format!("wait until n{id} answers"), Step::on(id, Action::AwaitLive, "just started"));
        let leader = Step::cluster(Action::AwaitLeader { nodes: vec![id] }, "it is the only node");
        plan.one("wait for a leader", leader);
    }
    if let Some(path) = &options.file {
        let write = Action::WriteClusterFile { path: path.clone() };
        plan.one("describe", Step::cluster(write, "the other nodes are removed"));
    }
    if !plan.stages.is_empty() {
        plan.one("verify", Step::cluster(Action::VerifyCluster { nodes: vec![id] }, "nodes were started"));
    }
    case.advise(&mut plan);
    Ok(plan)
}

/// The cluster that has lost its quorum.
struct Case<'a> {
    spec: &'a ClusterFile,
    facts: &'a Facts,
    options: &'a RecoverOptions,
}

impl Case<'_> {
    fn refusal(&self) -> Refusal {
        let name = &self.spec.cluster.name;
        Refusal::new(format!(
            "{name} cannot be recovered from node {}; no changes were made",
            self.options.survivor
        ))
    }

    fn host(&self) -> Result<&HostFacts, Refusal> {
        let id = self.options.survivor;
        let host = self.facts.nodes.get(&id).and_then(NodeFacts::host);
        match host {
            None => Err(self
                .refusal()
                .because(format!("node {id}'s host cannot be inspected"))
                .hint("escli check")),
            Some(host) if host.data_empty => Err(self
                .refusal()
                .because(format!("node {id} has no data to recover from"))
                .hint("choose a node with data, with --survivor")),
            Some(host) => Ok(host),
        }
    }

    fn program(&self, host: &HostFacts) -> Result<PathBuf, Refusal> {
        host.installed.clone().or_else(|| self.options.binary.clone()).ok_or_else(|| {
            self.refusal()
                .because("esnode was not found")
                .hint("specify it with --binary PATH, or set $ESNODE")
        })
    }

    /// Checks that there is no majority, and cannot be one again.
    fn is_lost(&self) -> Result<(), Refusal> {
        let statuses: Vec<ClusterStatus> = self.facts.statuses().map(|(_, status)| status.clone()).collect();
        let voters = agreement::voters(&statuses, self.spec.cluster.nodes.len());
        if let Ok(now) = agreement::leader(&statuses, voters) {
            return Err(self
                .refusal()
                .because(format!("the cluster has a majority: {now}"))
                .hint("remove single nodes:      escli remove-node ID")
                .hint("or replace them:          escli replace-node OLD NEW"));
        }
        let mut refusal = self.refusal();
        for node in &self.options.others {
            let id = node.id;
            let seen = self.facts.nodes.get(&id);
            let runs = seen.is_some_and(|seen| seen.pid().is_some() || seen.status().is_some());
            match (self.options.lost.contains(&id), seen.and_then(NodeFacts::host)) {
                (true, _) if runs => {
                    refusal = refusal.because(format!("node {id} is running, so it is not lost"));
                }
                (false, None) => {
                    refusal = refusal.because(format!(
                        "node {id}'s host ({}) cannot be inspected: make it reachable, or list the node in --lost",
                        node.host
                    ));
                }
                _ => {}
            }
        }
        let (members, lost) = (self.spec.cluster.nodes.len(), self.options.lost.len());
        if members - lost >= quorum(members) {
            refusal = refusal.because(format!(
                "{lost} of {members} nodes are said to be lost: the other {} are a majority",
                members - lost
            ));
        }
        if refusal.reasons.is_empty() {
            return Ok(());
        }
        let all: Vec<String> = self.options.others.iter().map(|node| node.id.to_string()).collect();
        Err(refusal
            .hint("start nodes that can be started:      escli start")
            .hint("see what is wrong:                    escli health")
            .hint(format!("list permanently lost nodes:          --lost {}", all.join(","))))
    }

    /// Checks that no other remaining node has a log that reaches further (Raft paper, 5.4.1).
    fn holds_most(&self) -> Result<(), Refusal> {
        let id = self.options.survivor;
        if let Some(Log::Damaged { reason }) = self.facts.logs.get(&id) {
            return Err(self
                .refusal()
                .because(format!("node {id}'s log is damaged: {reason}"))
                .hint(format!("escli verify {id}"))
                .hint("choose another node, with --survivor"));
        }
        let Some(own) = self.facts.log_end(id) else { return Ok(()) };
        let others =
            self.options.others.iter().filter_map(|node| Some((self.facts.log_end(node.id)?, node.id)));
        let Some((LogEnd { term, index }, other)) = others.max().filter(|(theirs, _)| *theirs > own) else {
            return Ok(());
        };
        let more = match index.checked_sub(own.index).filter(|more| *more > 0) {
            Some(more) => format!("; {more} more entries"),
            None => "; the extra entries of the other were written by a leader of an earlier term".to_owned(),
        };
        Err(self
            .refusal()
            .because(format!(
                "node {other} has a longer log: it ends at entry {index} of term {term}, that of node {id} at {} of {}{more}",
                own.index, own.term
            ))
            .hint(format!("recover from that one:                        {}", self.again(other)))
            .hint(format!("to give up the log of node {other}, move its data directory away first")))
    }

    /// Returns the same command with another survivor.
    fn again(&self, survivor: NodeId) -> String {
        let kept = self.options.lost.iter().copied().filter(|id| *id != survivor);
        let given_up = self.options.lost.contains(&survivor).then_some(self.options.survivor);
        let lost: Vec<String> = kept.chain(given_up).map(|id| id.to_string()).collect();
        format!("escli recover --survivor {survivor} --lost {}", lost.join(","))
    }

    /// Returns where each log ends, as far as it is known, for the question to the operator.
    fn ends(&self) -> String {
        let end = |id: NodeId| match (self.facts.log_end(id), self.facts.logs.get(&id)) {
            (Some(LogEnd { term, index }), _) => {
                Some(format!("n{id}'s log ends at entry {index} of term {term}"))
            }
            (None, Some(Log::Damaged { reason })) => Some(format!("n{id}'s log is damaged ({reason})")),
            (None, Some(Log::Unread { reason })) => Some(format!("n{id}'s log could not be read ({reason})")),
            (None, _) => None,
        };
        let others = self.options.others.iter().filter_map(|node| end(node.id));
        others.map(|end| format!(". {end}")).collect()
    }

    fn question(&self, status: Option<&ClusterStatus>) -> Question {
        let RecoverOptions { survivor: id, others, .. } = self.options;
        let name = identity::named(self.spec, self.facts);
        let gone: Vec<String> = others.iter().map(|node| format!("n{} ({})", node.id, node.host)).collect();
        let holds = status.map_or_else(
            || match (self.facts.log_end(*id), self.facts.logs.get(id)) {
                (Some(end), _) => format!("n{id}'s log ends at entry {} of term {}", end.index, end.term),
                (None, Some(Log::Unread { reason })) => {
                    format!("where n{id}'s log ends is not known ({reason})")
                }
                (None, _) => format!("where n{id}'s log ends is not known"),
            },
            |status| {
                format!(
                    "n{id}'s log ends at entry {}, of which {} are known to be committed",
                    status.last_index, status.commit_index
                )
            },
        );
        let text = format!(
            "{name} becomes a new cluster of n{id} alone. {holds}{ends}. EVENTS THAT THE OTHER NODES ACKNOWLEDGED BEYOND THAT ARE \
             LOST. Abandoned: {}. None of them may ever serve again with its data: clients would write to two clusters",
            gone.join(", "),
            ends = self.ends()
        );
        Question::TypeName { text, word: format!("recover-{name}-from-{id}") }
    }

    /// Adds steps for the other nodes that can be reached: none of them may start by itself again.
    fn retire_others(&self, plan: &mut Plan) {
        let mut stops = Vec::new();
        let mut disables = Vec::new();
        for node in &self.options.others {
            let Some(host) = self.facts.nodes.get(&node.id).and_then(NodeFacts::host) else { continue };
            if !host.is_stopped() {
                stops.push(Step::on(node.id, Action::StopNode { force: true }, "it is abandoned"));
            }
            let enabled = host.machine.as_ref().is_some_and(|machine| machine.enabled);
            if self.options.service == Some(Service::Systemd) && enabled {
                disables.push(Step::on(node.id, Action::DisableUnit, "it is abandoned"));
            }
        }
        plan.stage("stop the other nodes", stops);
        plan.stage("disable the other nodes", disables);
    }

    fn advise(&self, plan: &mut Plan) {
        for node in &self.options.others {
            let id = node.id;
            if self.facts.nodes.get(&id).and_then(NodeFacts::host).is_none() {
                plan.notes.push(format!(
                    "n{id} cannot be reached: make sure that it never starts again with its data; it stops if it meets n{}",
                    self.options.survivor
                ));
            }
        }
        plan.notes.push(
            "the new cluster has one node: add others, on machines without old data:  escli add-node ID --host HOST"
                .to_owned(),
        );
    }
}

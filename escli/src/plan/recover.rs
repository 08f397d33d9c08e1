//! `recover`: the quorum is lost for good, and one node that is left carries on as a cluster of its own. The only operation
//! that can lose what was acknowledged; nothing else in this program ever does.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use shared::api::ClusterStatus;
use shared::ids::{ClusterId, NodeId};
use shared::spec::{ClusterFile, Node, Service};

use super::desired::DesiredFiles;
use super::facts::{Facts, HostFacts, Log, LogEnd, NodeFacts};
use super::quorum::quorum;
use super::{Action, Plan, Question, Refusal, Step, agreement, identity};

/// What `recover` is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoverOptions {
    /// The node that carries on.
    pub survivor: NodeId,
    /// Every other node: none of them is part of what comes.
    pub others: Vec<Node>,
    /// Those of them that are lost for good, by the operator's account.
    pub lost: Vec<NodeId>,
    /// Identity of the cluster to come, drawn when the operation was begun.
    pub cluster: ClusterId,
    /// The survivor's program; `None` when none was found.
    pub binary: Option<PathBuf>,
    /// What keeps nodes on hosts of their own running; `None` for processes of this machine.
    pub service: Option<Service>,
    /// The cluster.yaml that still names the others; `None` when it does not, or cannot be written.
    pub file: Option<PathBuf>,
    /// The operator has agreed already, before the operation was interrupted.
    #[serde(default)]
    pub agreed: bool,
}

/// Plans it.
///
/// # Errors
/// Refuses while there is a majority, or could be one; and where another node holds more.
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
        // Once the survivor was made another cluster, nobody else's votes matter.
        if !options.agreed {
            case.is_lost()?;
            case.holds_most()?;
            plan.question = Some(case.question(status));
        }
        case.retire_others(&mut plan);
        if !host.is_stopped() {
            let stop = Step::on(id, Action::StopNode { force: false }, "its log is to be worked on");
            plan.one(format!("stop n{id}"), stop);
        }
        let binary = case.program(host)?;
        let rebuild = Action::Recover { binary: binary.clone(), cluster: options.cluster, members: vec![id] };
        let why = format!("{} of {} nodes are lost", options.lost.len(), spec.cluster.nodes.len());
        plan.one(format!("make n{id} a cluster of its own"), Step::on(id, rebuild, why));
        if let Some(hash) = wanted.hash(id) {
            let write = Action::WriteConfig { hash: hash.to_owned() };
            plan.one(format!("configure n{id}"), Step::on(id, write, "it is alone"));
        }
        plan.one(format!("start n{id}"), Step::on(id, Action::StartNode { binary }, "was stopped"));
        plan.one(format!("see n{id} answer"), Step::on(id, Action::AwaitLive, "just started"));
        let leader = Step::cluster(Action::AwaitLeader { nodes: vec![id] }, "it is all there is");
        plan.one("see it lead", leader);
    }
    if let Some(path) = &options.file {
        let write = Action::WriteClusterFile { path: path.clone() };
        plan.one("describe", Step::cluster(write, "the others are gone"));
    }
    if !plan.stages.is_empty() {
        plan.one("verify", Step::cluster(Action::VerifyCluster { nodes: vec![id] }, "the end"));
    }
    case.advise(&mut plan);
    Ok(plan)
}

/// What is seen of a cluster that is to be given up but for one node.
struct Case<'a> {
    spec: &'a ClusterFile,
    facts: &'a Facts,
    options: &'a RecoverOptions,
}

impl Case<'_> {
    fn refusal(&self) -> Refusal {
        let name = &self.spec.cluster.name;
        Refusal::new(format!(
            "{name} is not recovered from node {}; nothing was changed",
            self.options.survivor
        ))
    }

    fn host(&self) -> Result<&HostFacts, Refusal> {
        let id = self.options.survivor;
        let host = self.facts.nodes.get(&id).and_then(NodeFacts::host);
        match host {
            None => Err(self
                .refusal()
                .because(format!("node {id}'s host cannot be looked at"))
                .hint("escli check")),
            Some(host) if host.data_empty => Err(self
                .refusal()
                .because(format!("node {id} has no data: there is nothing to carry on with"))
                .hint("name a node that has, with --survivor")),
            Some(host) => Ok(host),
        }
    }

    fn program(&self, host: &HostFacts) -> Result<PathBuf, Refusal> {
        host.installed.clone().or_else(|| self.options.binary.clone()).ok_or_else(|| {
            self.refusal()
                .because("no esnode was found")
                .hint("name the node's program with --binary PATH, or set $ESNODE")
        })
    }

    /// There is no majority, and there cannot be one again.
    fn is_lost(&self) -> Result<(), Refusal> {
        let statuses: Vec<ClusterStatus> = self.facts.statuses().map(|(_, status)| status.clone()).collect();
        let voters = agreement::voters(&statuses, self.spec.cluster.nodes.len());
        if let Ok(now) = agreement::leader(&statuses, voters) {
            return Err(self
                .refusal()
                .because(format!("the cluster has a majority: {now}"))
                .hint("take single nodes out:    escli remove-node ID")
                .hint("put others in their place: escli replace-node OLD NEW"));
        }
        let mut refusal = self.refusal();
        for node in &self.options.others {
            let id = node.id;
            let seen = self.facts.nodes.get(&id);
            let runs = seen.is_some_and(|seen| seen.pid().is_some() || seen.status().is_some());
            match (self.options.lost.contains(&id), seen.and_then(NodeFacts::host)) {
                (true, _) if runs => refusal = refusal.because(format!("node {id} runs: it is not lost")),
                (false, None) => {
                    refusal = refusal.because(format!(
                        "node {id}'s host ({}) cannot be looked at: get it back, or say that it is lost for good",
                        node.host
                    ));
                }
                _ => {}
            }
        }
        let (members, lost) = (self.spec.cluster.nodes.len(), self.options.lost.len());
        if members - lost >= quorum(members) {
            refusal = refusal.because(format!(
                "of {members} nodes {lost} are said to be lost: the other {} are a majority",
                members - lost
            ));
        }
        if refusal.reasons.is_empty() {
            return Ok(());
        }
        let all: Vec<String> = self.options.others.iter().map(|node| node.id.to_string()).collect();
        Err(refusal
            .hint("bring back what can be brought back:  escli start")
            .hint("see what is wrong:                    escli health")
            .hint(format!("if nodes are lost for good, say which: --lost {}", all.join(","))))
    }

    /// No node that is left has a log that reaches further (Raft paper, 5.4.1).
    fn holds_most(&self) -> Result<(), Refusal> {
        let id = self.options.survivor;
        if let Some(Log::Damaged { reason }) = self.facts.logs.get(&id) {
            return Err(self
                .refusal()
                .because(format!("node {id}'s log is damaged: {reason}"))
                .hint(format!("escli verify {id}"))
                .hint("name another node, with --survivor"));
        }
        let Some(own) = self.facts.log_end(id) else { return Ok(()) };
        let others =
            self.options.others.iter().filter_map(|node| Some((self.facts.log_end(node.id)?, node.id)));
        let Some((LogEnd { term, index }, other)) = others.max().filter(|(theirs, _)| *theirs > own) else {
            return Ok(());
        };
        let more = match index.checked_sub(own.index).filter(|more| *more > 0) {
            Some(more) => format!("; {more} entries more"),
            None => "; what the other has beyond that was written by a leader of an earlier term".to_owned(),
        };
        Err(self
            .refusal()
            .because(format!(
                "node {other} holds more: its log ends at entry {index} of term {term}, node {id}'s at {} of {}{more}",
                own.index, own.term
            ))
            .hint(format!("carry on with that one:                       {}", self.again(other)))
            .hint(format!("if what node {other} has is not to be had, take its data directory away first")))
    }

    /// The same with another survivor.
    fn again(&self, survivor: NodeId) -> String {
        let kept = self.options.lost.iter().copied().filter(|id| *id != survivor);
        let given_up = self.options.lost.contains(&survivor).then_some(self.options.survivor);
        let lost: Vec<String> = kept.chain(given_up).map(|id| id.to_string()).collect();
        format!("escli recover --survivor {survivor} --lost {}", lost.join(","))
    }

    /// How far each log reaches that nothing is known of otherwise.
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
                    format!("how far n{id}'s log reaches is not known ({reason})")
                }
                (None, _) => format!("how far n{id}'s log reaches is not known"),
            },
            |status| {
                format!(
                    "n{id}'s log ends at entry {}, of which {} are known to be committed",
                    status.last_index, status.commit_index
                )
            },
        );
        let text = format!(
            "{name} goes on as a new cluster of n{id} alone. {holds}{ends}. WHAT THE OTHERS ACKNOWLEDGED BEYOND THAT IS LOST, \
             for producers that were told it was safe. Given up: {}. None of them may ever serve again with what it has: \
             clients would write to two clusters",
            gone.join(", "),
            ends = self.ends()
        );
        Question::TypeName { text, word: format!("recover-{name}-from-{id}") }
    }

    /// Whatever of the others can be reached does not come back on its own.
    fn retire_others(&self, plan: &mut Plan) {
        let mut stops = Vec::new();
        let mut disables = Vec::new();
        for node in &self.options.others {
            let Some(host) = self.facts.nodes.get(&node.id).and_then(NodeFacts::host) else { continue };
            if !host.is_stopped() {
                stops.push(Step::on(node.id, Action::StopNode { force: true }, "it is given up"));
            }
            let enabled = host.machine.as_ref().is_some_and(|machine| machine.enabled);
            if self.options.service == Some(Service::Systemd) && enabled {
                disables.push(Step::on(node.id, Action::DisableUnit, "it is given up"));
            }
        }
        plan.stage("stop the others", stops);
        plan.stage("retire the others", disables);
    }

    fn advise(&self, plan: &mut Plan) {
        for node in &self.options.others {
            let id = node.id;
            if self.facts.nodes.get(&id).and_then(NodeFacts::host).is_none() {
                plan.notes.push(format!(
                    "n{id} cannot be reached: see that it never starts again with its data; one that meets n{} ends by itself",
                    self.options.survivor
                ));
            }
        }
        plan.notes.push(
            "afterwards one node holds everything: take others in, on machines without old data:  escli add-node ID --host HOST"
                .to_owned(),
        );
    }
}

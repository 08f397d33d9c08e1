//! Checks that hosts, data directories and admin ports belong to the cluster and node that cluster.yaml says. Every
//! operation passes this check before it is planned, because a cluster.yaml that names another cluster's hosts must not
//! be believed.

use shared::ids::{ClusterId, NodeId};
use shared::spec::{ClusterFile, Node};

use super::Refusal;
use super::claims::{Claims, Deployed};
use super::facts::{ApiAnswer, Facts, HostFacts, NodeFacts};

/// A host that does not belong to the node that cluster.yaml says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// The node in cluster.yaml.
    pub node: NodeId,
    /// What the host belongs to instead, and what shows it.
    pub text: String,
    /// What to do, for each thing that the operator may have intended.
    pub hints: Vec<String>,
}

/// How an operation changes identities; by default it keeps them.
#[derive(Clone, Debug, Default)]
pub struct Intent {
    /// The id of the new cluster that it starts, if any.
    pub new_cluster: Option<ClusterId>,
    /// The nodes that it removes.
    pub leaving: Vec<NodeId>,
    /// It stops nodes, and relies on what their hosts say: it does not matter if other nodes use their ports meanwhile.
    pub by_hosts: bool,
    /// It starts nodes, which bootstrap a cluster if none of them has data.
    pub bootstraps: bool,
}

/// Refuses the operation if a host belongs to another cluster or node.
///
/// # Errors
/// Says for each such host what it belongs to.
pub fn refuse(spec: &ClusterFile, facts: &Facts, intent: &Intent) -> Result<(), Refusal> {
    let found = mismatches(spec, facts, intent);
    let mut refusal =
        Refusal::new("cluster.yaml does not match the hosts that it names; no changes were made");
    for Mismatch { text, hints, .. } in found {
        refusal = refusal.because(text);
        for hint in hints {
            if !refusal.hints.contains(&hint) {
                refusal = refusal.hint(hint);
            }
        }
    }
    if !refusal.reasons.is_empty() {
        return Err(refusal);
    }
    if intent.bootstraps { refuse_second_bootstrap(spec, facts) } else { Ok(()) }
}

/// Refuses to bootstrap a cluster a second time: if it existed and no host has its data, the disks were lost.
fn refuse_second_bootstrap(spec: &ClusterFile, facts: &Facts) -> Result<(), Refusal> {
    let Some(id) = facts.remembered.first() else { return Ok(()) };
    let bare = |host: &HostFacts| host.data_empty && !host.runs();
    let nodes = spec.cluster.nodes.iter().map(|node| facts.nodes.get(&node.id).and_then(NodeFacts::host));
    if !nodes.clone().all(|host| host.is_some_and(bare)) {
        return Ok(());
    }
    let mut refusal = Refusal::new(format!(
        "{} existed before and would be bootstrapped again; no changes were made",
        spec.cluster.name
    ))
    .because(format!("it was brought up from here as cluster {id}, and no host has any data"));
    for (node, host) in spec.cluster.nodes.iter().zip(nodes.flatten()) {
        refusal = refusal.because(format!("{} is empty on {}", host.claims.data, node.host));
    }
    Err(refusal
        .hint("check that the disks are mounted, and try again")
        .hint("restore from a backup:           escli restore BACKUP")
        .hint("to start with an empty cluster:  escli down --purge-data, then escli up"))
}

/// Returns every host that is not what cluster.yaml says, each with its most serious difference only.
pub fn mismatches(spec: &ClusterFile, facts: &Facts, intent: &Intent) -> Vec<Mismatch> {
    let meant = facts.remembered.first().copied().or_else(|| majority_cluster(facts, intent.new_cluster));
    let seen = spec.cluster.nodes.iter().filter_map(|node| Some((node, facts.nodes.get(&node.id)?)));
    let inspected = seen.filter_map(|(node, seen)| {
        let one = Inspected { name: &spec.cluster.name, node, seen };
        let found =
            one.by_file().or_else(|| one.by_answer().filter(|_| !intent.by_hosts)).or_else(|| one.by_store());
        let found = found.or_else(|| one.elsewhere());
        found.or_else(|| one.by_cluster(meant?, &facts.remembered, intent))
    });
    let mut found: Vec<_> = inspected.collect();
    for mismatch in found.iter_mut().filter(|mismatch| intent.leaving.contains(&mismatch.node)) {
        // The address of a machine that is gone may now be another machine's.
        mismatch.hints.push(format!(
            "if node {} is gone and its address belongs to another machine now:  write an unused address (192.0.2.1) into \
             cluster.yaml, and try again",
            mismatch.node
        ));
    }
    found
}

/// Returns the name of the cluster whose data is at stake, as hosts and nodes report it; its id if they report no name,
/// and the name in cluster.yaml if they report nothing.
pub fn named(spec: &ClusterFile, facts: &Facts) -> String {
    let claims = || facts.nodes.values().filter_map(NodeFacts::host).map(|host| &host.claims);
    let by_file = claims().find_map(|claims| claims.file.as_ref()?.cluster.clone());
    let by_answer = || facts.statuses().next().map(|(_, status)| status.cluster_name.clone());
    let by_store = || claims().find_map(|claims| claims.store?.cluster).map(|id| id.to_string());
    by_file.or_else(by_answer).or_else(by_store).unwrap_or_else(|| spec.cluster.name.clone())
}

/// Returns the cluster id that most nodes and data directories report, except `new_cluster`, which is being started.
pub fn majority_cluster(facts: &Facts, new_cluster: Option<ClusterId>) -> Option<ClusterId> {
    let said = || facts.nodes.values().filter_map(cluster_of).filter(|id| Some(*id) != new_cluster);
    let votes = |wanted: ClusterId| said().filter(|id| *id == wanted).count();
    // If two ids are reported equally often, the first one counts: either way the other nodes are reported.
    said().rev().max_by_key(|id| votes(*id))
}

/// Returns the cluster that a node belongs to, according to its data directory or its own answer.
pub fn cluster_of(node: &NodeFacts) -> Option<ClusterId> {
    let by_store = node.host().and_then(|host| host.claims.store?.cluster);
    by_store.or_else(|| node.status()?.cluster_id)
}

/// One node of cluster.yaml, with what was found on its host.
struct Inspected<'a> {
    name: &'a str,
    node: &'a Node,
    seen: &'a NodeFacts,
}

impl Inspected<'_> {
    fn claims(&self) -> Option<&Claims> {
        self.seen.host().map(|host| &host.claims)
    }

    /// Returns the host, or the node's directory if all nodes share this machine.
    fn place(&self) -> &str {
        self.claims().and_then(|claims| claims.place.as_deref()).unwrap_or(&self.node.host)
    }

    fn mismatch(&self, text: String, hints: &[String]) -> Option<Mismatch> {
        Some(Mismatch { node: self.node.id, text, hints: hints.to_vec() })
    }

    /// Compares the configuration file of the last deployment.
    fn by_file(&self) -> Option<Mismatch> {
        let Deployed { path, cluster, node, .. } = self.claims()?.file.as_ref()?;
        let (place, name) = (self.place(), self.name);
        let by = format!("by {path} there");
        if let Some(other) = cluster.as_ref().filter(|other| *other != name) {
            let node = node.map_or_else(|| "a node".to_owned(), |id| format!("node {id}"));
            let renamed = format!(
                "to rename {other} to {name}:  stop it and change the name in {path} on every host first"
            );
            let hints = [&self.others(other)[..], &[renamed]].concat();
            return self.mismatch(format!("{place} is {node} of {other}, not of {name} ({by})"), &hints);
        }
        let other = node.filter(|other| *other != self.node.id)?;
        self.mismatch(
            format!("{place} is node {other} of {name}, not node {} ({by})", self.node.id),
            &self.swapped(other),
        )
    }

    /// Compares the node that answers on the admin port.
    fn by_answer(&self) -> Option<Mismatch> {
        let ApiAnswer::Silent { stranger: Some(stranger), .. } = &self.seen.api else { return None };
        let (says, name) = (stranger.describe(), self.name);
        let at = self.at();
        if stranger.cluster != name {
            return self.mismatch(format!("{at} {says}, not of {name}"), &self.others(&stranger.cluster));
        }
        self.mismatch(format!("{at} {says}, not as node {}", self.node.id), &self.swapped(stranger.node))
    }

    /// Compares the identity in the data directory.
    fn by_store(&self) -> Option<Mismatch> {
        let Claims { data, store, .. } = self.claims()?;
        let other = store.map(|store| store.node).filter(|other| *other != self.node.id)?;
        let text = format!(
            "{data} on {} holds the data of node {other}, not of node {}",
            self.place(),
            self.node.id
        );
        self.mismatch(text, &self.swapped(other))
    }

    /// Checks whether the host has data in another directory.
    fn elsewhere(&self) -> Option<Mismatch> {
        let Claims { data, file, .. } = self.claims()?;
        let Deployed { path, elsewhere, .. } = file.as_ref()?;
        let old = elsewhere.as_ref()?;
        let hints = [
            format!("keep the directory:             storage.data_dir: {old} in cluster.yaml"),
            format!(
                "to move the data:               escli stop, move {old} to {data} on every host, change cluster.yaml, escli up"
            ),
            "to start with an empty cluster: keep the directory, escli down --purge-data, change cluster.yaml, escli up".to_owned(),
        ];
        self.mismatch(
            format!("{} has its data in {old}, not in {data} (by {path} there)", self.place()),
            &hints,
        )
    }

    /// Compares the cluster ids in the data directory and in the answer on the admin port with `meant`.
    fn by_cluster(&self, meant: ClusterId, remembered: &[ClusterId], intent: &Intent) -> Option<Mismatch> {
        let ours =
            |own: &ClusterId| *own == meant || Some(*own) == intent.new_cluster || remembered.contains(own);
        let wrong = |own: &ClusterId| !ours(own);
        let name = self.name;
        let others = remembered.is_empty();
        let why = if others { "as are the other nodes" } else { "as it was brought up from here" };
        let own = "use the cluster.yaml that it belongs to, with -c".to_owned();
        let interrupted = "if an operation was interrupted:  escli history".to_owned();
        let stored = self.claims().and_then(|claims| Some((&claims.data, claims.store?.cluster?)));
        if let Some((data, other)) = stored.filter(|(_, other)| wrong(other)) {
            let host = &self.node.host;
            let unneeded =
                format!("if its data is not needed:         stop the node, and delete {data} on {host}");
            let text = format!("{} belongs to cluster {other}; {name} is {meant}, {why}", self.place());
            return self.mismatch(text, &[own, interrupted, unneeded]);
        }
        let other = self.seen.status()?.cluster_id.filter(wrong).filter(|_| !intent.by_hosts)?;
        let text = format!("{} answers for cluster {other}; {name} is {meant}, {why}", self.at());
        self.mismatch(
            text,
            &[own, interrupted, "or stop the process that answers there and holds the ports".to_owned()],
        )
    }

    /// Returns the address of the admin port.
    fn at(&self) -> String {
        format!("{}:{}", self.node.host, self.node.http_port)
    }

    /// Returns hints for a host of another cluster.
    fn others(&self, other: &str) -> [String; 2] {
        [
            format!("to work on {other}:  use its own cluster.yaml, with -c"),
            format!(
                "to give its hosts to {}:  first run escli down --purge-data with the cluster.yaml of {other}",
                self.name
            ),
        ]
    }

    /// Returns hints for a host of another node of the same cluster.
    fn swapped(&self, other: NodeId) -> [String; 2] {
        [
            format!("restore the id:  node {other} is the one at {} in cluster.yaml", self.node.host),
            format!("to turn the machine into another node:  first run escli remove-node {other} --purge"),
        ]
    }
}

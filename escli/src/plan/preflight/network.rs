//! PURE: checks of the ports that a node needs: whether they are free, and who can reach them.

use shared::ids::NodeId;
use shared::spec::{ClusterFile, authority};

use super::{Host, Level};
use crate::plan::facts::{AdminRoute, Facts, Reachability};

pub(super) fn ports(host: &mut Host<'_>) {
    for taken in host.facts.taken.clone() {
        let holder = taken.holder.as_deref().unwrap_or("another process");
        let text = format!("port {} ({}) is held by {holder}", taken.port, taken.key);
        let hint = "stop that process, or change the port in cluster.yaml".to_owned();
        host.say("ports", Level::Failure, text, Some(hint));
    }
    if host.facts.taken.is_empty() {
        host.ok("ports", if host.facts.runs() { "held by the node" } else { "free" });
    }
}

pub(super) fn peers(host: &mut Host<'_>, spec: &ClusterFile, facts: &Facts) {
    let Some(links) = facts.peer_reachability.get(&host.node) else { return };
    let address = |id: &NodeId| {
        spec.node(*id)
            .map_or_else(String::new, |node| format!(" {}", authority(&node.host, node.cluster_port)))
    };
    let nameless: Vec<&str> = links
        .iter()
        .filter(|(_, reach)| **reach == Reachability::Unresolved)
        .filter_map(|(id, _)| spec.node(*id).map(|node| node.host.as_str()))
        .collect();
    if !nameless.is_empty() {
        let text = format!("this host cannot resolve {}", nameless.join(", "));
        let hint =
            "make the names resolvable on every host (DNS, /etc/hosts), or write addresses into cluster.yaml";
        return host.say("peers", Level::Failure, text, Some(hint.to_owned()));
    }
    let blocked: Vec<String> = links
        .iter()
        .filter(|(_, reach)| **reach == Reachability::Silent)
        .map(|(id, _)| format!("node {id}{}", address(id)))
        .collect();
    if !blocked.is_empty() {
        let text = format!("no answer from {}", blocked.join(", "));
        let hint = "allow the nodes to reach each other's cluster_port: firewall, routes".to_owned();
        // A host that no other host reaches is down, which must not prevent work on the others.
        let alive = |id: &NodeId| facts.nodes.get(id).is_some_and(|node| node.host().is_some());
        let silent = |reach: &Reachability| *reach == Reachability::Silent;
        let cut_off = links.iter().any(|(id, reach)| silent(reach) && alive(id));
        let level = if cut_off { Level::Failure } else { Level::Warning };
        return host.say("peers", level, text, Some(hint));
    }
    if links.values().any(|reach| *reach == Reachability::Unknown) {
        let text = "not tested: there is no bash on that machine";
        return host.say("peers", Level::Warning, text, None);
    }
    host.ok("peers", "reaches all other nodes");
}

/// Checks the way from here to the admin port, which every operation needs to verify its steps.
pub(super) fn admin(host: &mut Host<'_>, spec: &ClusterFile, facts: &Facts) {
    let (Some(way), Some(node)) = (facts.admin_routes.get(&host.node), spec.node(host.node)) else { return };
    let (name, port) = (&node.host, node.http_port);
    let is_silent = facts.nodes.get(&host.node).is_some_and(|node| node.status().is_none());
    match way {
        AdminRoute::Direct if host.facts.runs() && is_silent => {
            let text = format!("the node runs, but {name}:{port} accepts no connections from here");
            let hint =
                format!("if a firewall rejects them, open http_port {port} for this machine; see escli logs");
            host.say("admin", Level::Warning, text, Some(hint));
        }
        AdminRoute::Direct => host.ok("admin", format!("http_port {port} is reachable from here")),
        AdminRoute::Tunnelled { why } if why.is_empty() => {
            host.ok("admin", format!("http_port {port}, through SSH"));
        }
        AdminRoute::Tunnelled { why } => {
            host.ok("admin", format!("http_port {port}, through SSH: {why} from here"));
        }
        AdminRoute::Closed { why } => {
            let text = format!("http_port {port} of {name} cannot be reached from here: {why}");
            let hint = format!(
                "open port {port} for this machine, or allow sshd there to forward (AllowTcpForwarding yes); set a jump host in deploy.ssh.jump"
            );
            host.say("admin", Level::Failure, text, Some(hint));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::*;
    use super::*;
    use crate::plan::tests::{remote_facts, remote_spec};

    #[test]
    fn a_host_that_is_not_there_and_a_path_that_is_cut_are_findings() {
        let spec = remote_spec(3);
        let mut facts = remote_facts(&spec);
        let layout = HostLayout::of(&spec).unwrap();
        facts.peer_reachability.insert(1, [(2, Reachability::Silent), (3, Reachability::Open)].into());
        facts.peer_reachability.insert(2, [(1, Reachability::Open), (3, Reachability::Silent)].into());
        let gone = HostInspection::Unreachable {
            reason: "no route".to_owned(),
            details: Vec::new(),
            hints: Vec::new(),
        };
        facts.nodes.get_mut(&3).unwrap().host = gone;
        let found = preflight(&spec, &layout, None, &facts, &[1, 2, 3]);
        let bad: Vec<_> = found.iter().filter(|finding| finding.level == Level::Failure).collect();
        let texts: Vec<_> =
            bad.iter().map(|finding| (finding.node, finding.check, finding.text.as_str())).collect();
        assert_eq!(texts, [(1, "peers", "no answer from node 2 10.0.0.2:9100"), (3, "reach", "no route")]);
        let warned = |finding: &&Finding| finding.level == Level::Warning && finding.check == "peers";
        assert_eq!(found.iter().find(warned).map(|finding| finding.node), Some(2), "nobody reaches the dead");
    }

    #[test]
    fn the_admin_port_is_tried_from_here_and_names_from_every_host() {
        let spec = remote_spec(3);
        let layout = HostLayout::of(&spec).unwrap();
        let facts = |way: AdminRoute, reach: Reachability| {
            let mut facts = remote_facts(&spec);
            facts.admin_routes = [(1, way)].into();
            facts.peer_reachability = [(1, [(2, reach)].into())].into();
            facts
        };
        let find = |facts: &Facts, check: &str| {
            let found = preflight(&spec, &layout, None, facts, &[1]);
            found.into_iter().find(|finding| finding.check == check).unwrap()
        };
        let why = "no address".to_owned();
        for (way, level, text) in [
            (AdminRoute::Direct, Level::Ok, "http_port 8080 is reachable from here"),
            (AdminRoute::Tunnelled { why: String::new() }, Level::Ok, "http_port 8080, through SSH"),
            (
                AdminRoute::Tunnelled { why: why.clone() },
                Level::Ok,
                "http_port 8080, through SSH: no address from here",
            ),
            (
                AdminRoute::Closed { why },
                Level::Failure,
                "http_port 8080 of 10.0.0.1 cannot be reached from here: no address",
            ),
        ] {
            let found = find(&facts(way, Reachability::Open), "admin");
            assert_eq!((found.level, found.text.as_str()), (level, text));
        }
        let mut refused = facts(AdminRoute::Direct, Reachability::Open);
        let HostInspection::Seen(host) = &mut refused.nodes.get_mut(&1).unwrap().host else { panic!() };
        host.process = crate::plan::facts::Process::Running { pid: 7 };
        let found = find(&refused, "admin");
        assert!(
            found.level == Level::Warning && found.text.contains("accepts no connections from here"),
            "{found:?}"
        );
        let found = find(&facts(AdminRoute::Direct, Reachability::Unresolved), "peers");
        assert_eq!(found.level, Level::Failure);
        assert_eq!(found.text, "this host cannot resolve 10.0.0.2");
    }
}

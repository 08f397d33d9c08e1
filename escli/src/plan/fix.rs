//! PURE: plans `check --fix`: the steps that repair what the checks have found, as far as escli can.

use std::collections::BTreeSet;

use shared::spec::ClusterFile;

use super::facts::Facts;
use super::preflight::{Finding, Level, preflight};
use super::provision::Remote;
use super::{Action, Plan, Step};

/// Checks without which no step on the host can succeed.
const NEEDED: [&str; 3] = ["reach", "root", "writable"];

/// Plans the repairs. A host on which no step can succeed is left out; its findings say why.
pub(super) fn fix(spec: &ClusterFile, remote: &Remote, facts: &Facts) -> Plan {
    let nodes: Vec<_> = spec.cluster.nodes.iter().map(|node| node.id).collect();
    let findings = preflight(spec, &remote.layout, remote.program.as_ref(), facts, &nodes);
    let fails = |finding: &&Finding| finding.level == Level::Failure;
    let needed = findings.iter().filter(fails).filter(|finding| NEEDED.contains(&finding.check));
    let hopeless: BTreeSet<_> = needed.map(|finding| finding.node).collect();
    let fixes = findings.iter().filter(|finding| !hopeless.contains(&finding.node));
    let fixes: Vec<_> = fixes.filter_map(|finding| Some((finding, finding.fix.as_ref()?))).collect();
    let steps = |wanted: fn(&Action) -> bool| {
        let chosen = fixes.iter().filter(|(_, action)| wanted(action));
        chosen.map(|(finding, action)| Step::on(finding.node, (*action).clone(), &finding.text)).collect()
    };
    let mut plan = Plan::new("check", &spec.cluster.name);
    plan.stage("users", steps(|action| matches!(action, Action::EnsureUser { .. })));
    plan.stage("directories", steps(|action| matches!(action, Action::EnsureDirs)));
    plan.stage("leftovers", steps(|action| matches!(action, Action::RemoveLeftovers)));
    plan
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::facts::{HostFacts, HostInspection};
    use crate::plan::layout::HostLayout;
    use crate::plan::tests::{remote_facts, remote_spec};

    fn ids(change: impl Fn(&mut HostFacts)) -> Vec<String> {
        let spec = remote_spec(3);
        let mut facts = remote_facts(&spec);
        for (id, node) in &mut facts.nodes {
            let HostInspection::Seen(host) = &mut node.host else { continue };
            host.dirs = true;
            let machine = host.machine.as_mut().unwrap();
            machine.user = true;
            machine.owner = Some("eventstream 700".to_owned());
            if *id == 2 {
                change(host);
            }
        }
        let remote = Remote { layout: HostLayout::of(&spec).unwrap(), program: None, named: false };
        fix(&spec, &remote, &facts).steps().map(|step| step.id.clone()).collect()
    }

    #[test]
    fn only_what_is_wrong_is_put_right_and_the_user_comes_before_what_it_owns() {
        assert!(ids(|_| {}).is_empty());
        let bare = ids(|host| {
            host.dirs = false;
            let machine = host.machine.as_mut().unwrap();
            (machine.user, machine.owner) = (false, None);
        });
        assert_eq!(bare, ["n2.user", "n2.dirs"]);
        let left = |host: &mut HostFacts| {
            host.machine.as_mut().unwrap().leftovers = vec!["/opt/eventstream/current.escli-new".to_owned()];
        };
        assert_eq!(ids(left), ["n2.leftovers"]);
    }

    #[test]
    fn a_host_on_which_nothing_can_be_done_is_left_alone() {
        let locked = ids(|host| {
            host.dirs = false;
            host.machine.as_mut().unwrap().no_root = Some("a password is required".to_owned());
        });
        assert!(locked.is_empty(), "{locked:?}");
    }
}

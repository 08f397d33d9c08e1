//! PURE: checks whether nodes can run on their hosts, from what an inspection has found there, before anything is
//! changed.

use serde::Serialize;
use shared::ids::NodeId;
use shared::spec::{ClusterFile, Privilege, Service};

use super::Action;
use super::facts::{Facts, HostFacts, HostInspection, Machine};
use super::identity::{self, Intent, Mismatch};
use super::layout::HostLayout;
use super::program::Program;

mod network;

/// Free space that a new node needs, in MiB: two segments, a snapshot, and some to spare.
const DATA_MIB: u64 = 512;
/// Largest difference between a host's clock and this machine's that gets no warning, in seconds. With more, logs are
/// hard to compare, and retention is early or late.
const SKEW_S: i64 = 5;

/// How bad a finding is, from good to bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Nothing is wrong.
    Ok,
    /// The node will run, but the operator should know.
    Warning,
    /// The node cannot run like this.
    Failure,
}

/// What one check found on one host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The node whose host was checked.
    pub node: NodeId,
    /// Name of the check, e.g. `disk`.
    pub check: &'static str,
    /// How bad it is.
    pub level: Level,
    /// What was found, in one line.
    pub text: String,
    /// Further lines, e.g. what the host answered.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<String>,
    /// What the operator can do about it; `None` if nothing needs to be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// What `check --fix` does about it; `None` if it can do nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<Action>,
}

/// One host, with the findings about it so far.
struct Host<'a> {
    node: NodeId,
    facts: &'a HostFacts,
    machine: &'a Machine,
    found: Vec<Finding>,
}

impl Host<'_> {
    fn say(&mut self, check: &'static str, level: Level, text: impl Into<String>, hint: Option<String>) {
        let (node, text) = (self.node, text.into());
        self.found.push(Finding { node, check, level, text, details: Vec::new(), hint, fix: None });
    }

    fn fixable(&mut self, check: &'static str, level: Level, text: impl Into<String>, fix: Action) {
        // `up` creates by itself what does not exist yet. The operator only has something to do about a problem.
        let hint = (level > Level::Ok).then(|| "escli check --fix".to_owned());
        self.say(check, level, text, hint);
        if let Some(finding) = self.found.last_mut() {
            finding.fix = Some(fix);
        }
    }

    fn ok(&mut self, check: &'static str, text: impl Into<String>) {
        self.say(check, Level::Ok, text, None);
    }
}

/// Returns the findings on the hosts of `targets`, in the order of `targets` and, for each host, of the checks below.
pub fn preflight(
    spec: &ClusterFile,
    layout: &HostLayout,
    program: Option<&Program>,
    facts: &Facts,
    targets: &[NodeId],
) -> Vec<Finding> {
    let mut all = Vec::new();
    let strangers = identity::mismatches(spec, facts, &Intent::default());
    for id in targets {
        let (node, check) = (*id, "reach");
        let failed = |text: &str, details: &[String], hints: &[String]| Finding {
            node,
            check,
            level: Level::Failure,
            text: text.to_owned(),
            details: details.to_vec(),
            hint: Some(hints.join("; ")).filter(|hint| !hint.is_empty()),
            fix: None,
        };
        match facts.nodes.get(id).map(|node| &node.host) {
            Some(HostInspection::Seen(host)) => {
                let Some(machine) = &host.machine else { continue };
                let mut host = Host { node, facts: host, machine, found: Vec::new() };
                host.ok("reach", format!("logged in; {}", machine.arch));
                root(&mut host, layout);
                writable(&mut host, layout);
                service(&mut host, layout);
                program_runs(&mut host, program);
                disk(&mut host, layout, program);
                user(&mut host, layout);
                dirs(&mut host, layout);
                leftovers(&mut host);
                data(&mut host);
                whose(&mut host, spec, facts, &strangers);
                network::ports(&mut host);
                clock(&mut host);
                network::peers(&mut host, spec, facts);
                network::admin(&mut host, spec, facts);
                all.append(&mut host.found);
            }
            Some(HostInspection::Unreachable { reason, details, hints }) => {
                all.push(failed(reason, details, hints));
            }
            Some(HostInspection::NotAsked) | None => all.push(failed("was not asked", &[], &[])),
        }
    }
    all
}

fn root(host: &mut Host<'_>, layout: &HostLayout) {
    match (&host.machine.no_root, layout.privilege) {
        (_, Privilege::None) => host.ok("root", "not needed"),
        (None, Privilege::Sudo) => host.ok("root", "root, or sudo without a password"),
        (Some(why), Privilege::Sudo) => host.say(
            "root",
            Level::Failure,
            why.clone(),
            Some("allow the user to run sudo without a password, log in as root (deploy.ssh.user), or set deploy.privilege: none".to_owned()),
        ),
    }
}

/// Without root, the login user has to create all directories itself.
fn writable(host: &mut Host<'_>, layout: &HostLayout) {
    if layout.privilege != Privilege::None {
        return;
    }
    let mut closed = host.machine.closed.clone();
    closed.dedup();
    if closed.is_empty() {
        return host.ok("writable", format!("{} and {}", layout.install, layout.data));
    }
    let text = format!(
        "the login user may not write to {}, where {} and {} are to be created",
        closed.join(" and "),
        layout.install,
        layout.data
    );
    let hint =
        "use directories of that user: deploy.install_dir and cluster.storage.data_dir in cluster.yaml";
    host.say("writable", Level::Failure, text, Some(hint.to_owned()));
}

fn user(host: &mut Host<'_>, layout: &HostLayout) {
    let Some(user) = &layout.user else { return };
    if host.machine.user {
        return host.ok("user", user.clone());
    }
    let missing = format!("user {user} does not exist yet");
    host.fixable("user", Level::Ok, missing, Action::EnsureUser { user: user.clone() });
}

fn dirs(host: &mut Host<'_>, layout: &HostLayout) {
    if host.facts.dirs {
        return host.ok("dirs", "present, with the right owner and mode");
    }
    let (level, text) = match host.machine.owner.as_deref().and_then(|owner| owner.split_once(' ')) {
        None => (Level::Ok, "not created yet".to_owned()),
        Some((owner, mode)) if wrong(owner, mode, layout) => {
            let whose = layout.user.as_deref().unwrap_or("the login user");
            (
                Level::Warning,
                format!("{} belongs to {owner} with mode {mode}, not to {whose} with mode 700", layout.data),
            )
        }
        Some(_) => (Level::Ok, format!("parts of {} are not created yet", layout.install)),
    };
    host.fixable("dirs", level, text, Action::EnsureDirs);
}

fn wrong(owner: &str, mode: &str, layout: &HostLayout) -> bool {
    mode != "700" || layout.user.as_ref().is_some_and(|user| user != owner)
}

fn leftovers(host: &mut Host<'_>) {
    let left = &host.machine.leftovers;
    if left.is_empty() {
        return;
    }
    let text = format!("a failed upload left {}", left.join(", "));
    host.fixable("leftovers", Level::Warning, text, Action::RemoveLeftovers);
}

fn service(host: &mut Host<'_>, layout: &HostLayout) {
    match (layout.service, host.machine.systemd) {
        (Service::Process, _) => host.ok("service", "a process with a pid file"),
        (Service::Systemd, true) if layout.is_user_unit() => user_service(host),
        (Service::Systemd, true) => host.ok("service", "systemd"),
        (Service::Systemd, false) => host.say(
            "service",
            Level::Failure,
            "the machine does not run systemd",
            Some("set deploy.service: process".to_owned()),
        ),
    }
}

/// A user's systemd ends with the user's last login unless lingering is on, and ends the node with it.
fn user_service(host: &mut Host<'_>) {
    let login = host.machine.login.clone().unwrap_or_else(|| "the login user".to_owned());
    let by_root = format!("as root there:  loginctl enable-linger {login}");
    match (host.machine.manager, host.machine.lingers) {
        (_, true) => host.ok("service", format!("the systemd of {login}")),
        (true, false) => {
            let text = format!(
                "lingering is off for {login}: the node would stop with the last login, and would not start at boot"
            );
            let hint = format!("escli up tries to enable it; where that is not allowed, {by_root}");
            host.say("service", Level::Warning, text, Some(hint));
        }
        (false, false) => {
            let text = format!("{login} has no systemd instance there");
            let hint = format!("{by_root}; or set deploy.service: process");
            host.say("service", Level::Failure, text, Some(hint));
        }
    }
}

fn program_runs(host: &mut Host<'_>, program: Option<&Program>) {
    let Some(program) = program else { return };
    match program.cannot_run_on(host.machine) {
        None => host.ok("binary", format!("esnode {}", program.release)),
        Some(why) => {
            let hint = format!("build esnode for {}, and pass it with --binary PATH", host.machine.arch);
            host.say("binary", Level::Failure, why, Some(hint));
        }
    }
}

fn disk(host: &mut Host<'_>, layout: &HostLayout, program: Option<&Program>) {
    let needs = program.map_or(0, |program| 2 * program.mib);
    let places = [
        (layout.install.as_str(), host.machine.free_install_mib, needs),
        (layout.data.as_str(), host.machine.free_data_mib, DATA_MIB),
    ];
    for (place, free, needed) in places {
        if free < needed {
            let text = format!("{free} MiB free for {place}; at least {needed} MiB are required");
            host.say(
                "disk",
                Level::Failure,
                text,
                Some("free space there, or use another directory".to_owned()),
            );
            return;
        }
    }
    let free = host.machine.free_data_mib / 1024;
    host.ok("disk", format!("{free} GiB free for {}", layout.data));
}

fn data(host: &mut Host<'_>) {
    let strange = host.facts.config_hash.is_none() && !host.facts.data_empty;
    if strange {
        let text = "the data directory is not empty, but there is no cluster.yaml beside the program";
        let hint = "if the data is of this cluster, continue; otherwise move it away";
        host.say("data", Level::Warning, text, Some(hint.to_owned()));
    } else {
        host.ok("data", if host.facts.data_empty { "empty" } else { "data of a node" });
    }
}

/// Checks that the host does not belong to another cluster, or to another node of this one.
fn whose(host: &mut Host<'_>, spec: &ClusterFile, facts: &Facts, strangers: &[Mismatch]) {
    if let Some(Mismatch { text, hints, .. }) = strangers.iter().find(|mismatch| mismatch.node == host.node) {
        return host.say("identity", Level::Failure, text.clone(), Some(hints.join("; ")));
    }
    let known = facts.nodes.get(&host.node).and_then(identity::cluster_of);
    let text = match (known, &host.facts.claims.file) {
        (Some(cluster), _) => format!("node {} of {}, cluster {cluster}", host.node, spec.cluster.name),
        (None, Some(_)) => format!("node {} of {}", host.node, spec.cluster.name),
        (None, None) => "not deployed yet".to_owned(),
    };
    host.ok("identity", text);
}

fn clock(host: &mut Host<'_>) {
    let skew = host.machine.skew_s;
    if skew.abs() <= SKEW_S {
        return host.ok("clock", "in sync");
    }
    let which = if skew > 0 { "ahead of" } else { "behind" };
    let text = format!("{} s {which} the clock of this machine", skew.abs());
    host.say("clock", Level::Warning, text, Some("timedatectl set-ntp true".to_owned()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::spec::Deploy;

    use crate::plan::facts::TakenPort;
    use crate::plan::tests::{remote_facts, remote_spec};

    fn find(change: impl Fn(&mut HostFacts)) -> Vec<(&'static str, Level)> {
        let spec = remote_spec(3);
        let mut facts = remote_facts(&spec);
        if let Some(HostInspection::Seen(host)) = facts.nodes.get_mut(&2).map(|node| &mut node.host) {
            change(host);
        }
        let program = Program { arch: Some("x86_64".to_owned()), mib: 15, ..Program::default() };
        let layout = HostLayout::of(&spec).unwrap();
        let found = preflight(&spec, &layout, Some(&program), &facts, &[1, 2, 3]);
        assert!(found.iter().filter(|finding| finding.node != 2).all(|finding| finding.level == Level::Ok));
        let bad = found.iter().filter(|finding| finding.level != Level::Ok);
        bad.map(|finding| (finding.check, finding.level)).collect()
    }

    fn machine(change: impl Fn(&mut Machine)) -> Vec<(&'static str, Level)> {
        find(|host| change(host.machine.as_mut().unwrap()))
    }

    #[test]
    fn a_good_host_has_nothing_against_it() {
        assert_eq!(find(|_| {}), []);
    }

    #[test]
    fn each_problem_is_found() {
        assert_eq!(
            machine(|m| m.no_root = Some("a password is required".into())),
            [("root", Level::Failure)]
        );
        assert_eq!(machine(|m| m.systemd = false), [("service", Level::Failure)]);
        assert_eq!(machine(|m| m.arch = "aarch64".into()), [("binary", Level::Failure)]);
        assert_eq!(machine(|m| m.free_data_mib = 3), [("disk", Level::Failure)]);
        assert_eq!(machine(|m| m.free_install_mib = 20), [("disk", Level::Failure)]);
        assert_eq!(machine(|m| m.skew_s = -60), [("clock", Level::Warning)]);
        assert_eq!(find(|host| host.data_empty = false), [("data", Level::Warning)]);
        let owner = Some("root 755".to_owned());
        assert_eq!(machine(|m| m.owner.clone_from(&owner)), [("dirs", Level::Warning)]);
        let left = vec!["/opt/eventstream/current.escli-new".to_owned()];
        assert_eq!(machine(|m| m.leftovers.clone_from(&left)), [("leftovers", Level::Warning)]);
        let taken = TakenPort { port: 9000, key: "client_port".to_owned(), holder: None };
        assert_eq!(find(|host| host.taken = vec![taken.clone()]), [("ports", Level::Failure)]);
    }

    #[test]
    fn without_root_the_user_must_be_let_in_where_files_go() {
        let mut spec = remote_spec(3);
        let mut facts = remote_facts(&spec);
        for node in facts.nodes.values_mut() {
            let HostInspection::Seen(host) = &mut node.host else { continue };
            host.machine.as_mut().unwrap().closed = vec!["/opt".to_owned(), "/opt".to_owned()];
        }
        let failures = |spec: &ClusterFile| {
            let found = preflight(spec, &HostLayout::of(spec).unwrap(), None, &facts, &[1]);
            let failed = found.into_iter().filter(|finding| finding.level == Level::Failure);
            failed.map(|finding| (finding.check, finding.text)).collect::<Vec<_>>()
        };
        assert!(failures(&spec).is_empty(), "root may write anywhere");
        let service = Service::Process;
        spec.deploy = Some(Deploy { privilege: Privilege::None, service, ..Deploy::default() });
        let found = failures(&spec);
        assert!(found[0].0 == "writable" && found[0].1.contains("may not write to /opt, where"), "{found:?}");
    }

    #[test]
    fn a_systemd_that_ends_with_the_login_is_warned_of() {
        let mut spec = remote_spec(3);
        spec.deploy = Some(Deploy { privilege: Privilege::None, ..Deploy::default() });
        let found = |manager: bool, lingers: bool| {
            let mut facts = remote_facts(&spec);
            let HostInspection::Seen(host) = &mut facts.nodes.get_mut(&1).unwrap().host else { panic!() };
            let machine = host.machine.as_mut().unwrap();
            (machine.manager, machine.lingers, machine.login) = (manager, lingers, Some("ada".to_owned()));
            let found = preflight(&spec, &HostLayout::of(&spec).unwrap(), None, &facts, &[1]);
            found.into_iter().find(|finding| finding.check == "service").unwrap()
        };
        assert_eq!(found(true, true).level, Level::Ok);
        let off = found(true, false);
        assert_eq!(off.level, Level::Warning);
        assert!(off.hint.unwrap().ends_with("as root there:  loginctl enable-linger ada"));
        assert_eq!(found(false, false).level, Level::Failure);
    }
}

//! PURE: parses the output of [`super::scripts::inspect`].

use shared::spec::Node;

use super::claims;
use super::scripts::CONFIG_MARK;
use super::service::standing;
use crate::plan::desired;
use crate::plan::facts::{HostFacts, Machine, TakenPort};

/// Returns the facts about the host and `node`. `now` is this machine's time, in seconds since 1970.
pub fn facts(said: &str, node: &Node, now: i64) -> HostFacts {
    let mark = format!("{CONFIG_MARK}\n");
    let (said, config) = said.split_once(&mark).unwrap_or((said, ""));
    let all = |key: &str| {
        let key = format!("{key} ");
        said.lines().filter_map(move |line| line.strip_prefix(&key).map(str::trim)).collect::<Vec<_>>()
    };
    let one = |key: &str| all(key).first().filter(|value| !value.is_empty()).map(|value| (*value).to_owned());
    let number = |key: &str| one(key).and_then(|text| text.parse::<i64>().ok());
    let pid = number("pid").and_then(|pid| u32::try_from(pid).ok());
    let machine = Machine {
        arch: one("arch").unwrap_or_default(),
        libc: one("libc"),
        systemd: one("systemd").is_some(),
        no_root: one("no_root"),
        user: one("user").is_some(),
        owner: one("owner"),
        login: one("login"),
        manager: one("manager").is_some(),
        lingers: one("lingers").is_some(),
        closed: all("closed").into_iter().map(str::to_owned).collect(),
        leftovers: all("leftover").into_iter().map(str::to_owned).collect(),
        unit: one("unit"),
        enabled: one("enabled").is_some(),
        program: one("program"),
        free_data_mib: number("free_data").and_then(|free| u64::try_from(free).ok()).unwrap_or_default(),
        free_install_mib: number("free_install")
            .and_then(|free| u64::try_from(free).ok())
            .unwrap_or_default(),
        skew_s: number("time").map_or(0, |theirs| theirs - now),
    };
    HostFacts {
        process: standing(&format!(
            "{} {}",
            one("state").unwrap_or_default(),
            one("pid").unwrap_or_default()
        )),
        config_hash: desired::hash_of(config),
        dirs: one("dirs").is_some(),
        data_empty: one("data").is_none(),
        claims: claims::read(said),
        taken: if pid.is_some() { Vec::new() } else { taken(node, &all("tcp"), &all("ss")) },
        current: one("current"),
        installed: None,
        exe: one("exe"),
        machine: Some(machine),
    }
}

/// Returns the ports of `node` on which something already listens, on any address, since the node listens on all.
fn taken(node: &Node, tcp: &[&str], ss: &[&str]) -> Vec<TakenPort> {
    let wanted = [
        ("client_port", node.client_port),
        ("cluster_port", node.cluster_port),
        ("http_port", node.http_port),
    ];
    let listens = |port: u16| tcp.iter().filter_map(|line| listening_port(line)).any(|found| found == port);
    let wanted = wanted.into_iter().filter(|(_, port)| listens(*port));
    wanted.map(|(key, port)| TakenPort { port, key: key.to_owned(), holder: holder(port, ss) }).collect()
}

/// Returns the port of a listening socket, from a line of /proc/net/tcp (proc_pid_net(5)).
fn listening_port(line: &str) -> Option<u16> {
    const LISTENING: &str = "0A";
    let mut fields = line.split_whitespace();
    let local = fields.nth(1)?;
    let state = fields.nth(1)?;
    let (_, port) = local.rsplit_once(':')?;
    (state == LISTENING).then(|| u16::from_str_radix(port, 16).ok()).flatten()
}

/// Returns the process that holds a port, e.g. `python3 (pid 4711)`, from the lines of `ss -Hltnp`.
fn holder(port: u16, ss: &[&str]) -> Option<String> {
    let end = format!(":{port}");
    let line =
        ss.iter().find(|line| line.split_whitespace().nth(3).is_some_and(|local| local.ends_with(&end)))?;
    let name = line.split('"').nth(1)?;
    let pid: String = line.split("pid=").nth(1)?.chars().take_while(char::is_ascii_digit).collect();
    Some(format!("{name} (pid {pid})"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::facts::Process;
    use crate::plan::tests::remote_spec;

    #[test]
    fn a_bare_host_is_understood() {
        let spec = remote_spec(3);
        let said = "state stopped\ntime 1010\narch x86_64\nlibc glibc 2.36\nsystemd yes\nunit \ncurrent \nprogram \nfree_data 812\n\
                    free_install 900\n--- cluster.yaml\n";
        let facts = facts(said, &spec.cluster.nodes[0], 1000);
        let machine = facts.machine.unwrap();
        assert_eq!((machine.arch.as_str(), machine.libc.as_deref()), ("x86_64", Some("glibc 2.36")));
        assert_eq!((machine.skew_s, machine.free_data_mib), (10, 812));
        assert!(machine.systemd && !machine.user && facts.current.is_none() && machine.no_root.is_none());
        assert_eq!((facts.process, facts.config_hash, facts.data_empty), (Process::Stopped, None, true));
    }

    #[test]
    fn a_taken_port_has_its_holder() {
        let spec = remote_spec(3);
        let said = "tcp    0: 00000000:2328 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 111 1\n\
                    tcp    1: 0100007F:238C 0100007F:9000 01 00000000:00000000 00:00000000 00000000 0 0 222 1\n\
                    ss LISTEN 0 5 0.0.0.0:9000 0.0.0.0:* users:((\"python3\",pid=4711,fd=3))\n--- cluster.yaml\n";
        let facts = facts(said, &spec.cluster.nodes[0], 0);
        let holder = Some("python3 (pid 4711)".to_owned());
        assert_eq!(facts.taken, [TakenPort { port: 9000, key: "client_port".to_owned(), holder }]);
    }

    #[test]
    fn a_node_that_runs_is_seen_with_its_file() {
        let spec = remote_spec(3);
        let text = spec.for_node(2).unwrap().to_yaml();
        let facts = facts(
            &format!("state running\npid 77\ndata yes\n--- cluster.yaml\n{text}"),
            &spec.cluster.nodes[1],
            0,
        );
        assert_eq!(facts.process, Process::Running { pid: 77 });
        assert_eq!(facts.config_hash, Some(spec.config_hash()));
        assert!(!facts.data_empty);
    }
}

//! Real processes: a shell script stands in for the node, because only its start, its end and its name matter here.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::*;
use crate::admin_client::AdminClient;
use crate::engine::observe::observe;

const OBEDIENT: &str = "trap 'echo bye; exit 0' TERM; echo hello; while :; do sleep 0.02; done";
const STUBBORN: &str = "trap '' TERM; while :; do sleep 0.02; done";

struct Bench {
    folder: tempfile::TempDir,
    spec: ClusterFile,
    hosts: LocalHosts,
}

/// Kills what a failed test leaves behind.
impl Drop for Bench {
    fn drop(&mut self) {
        for id in self.spec.cluster.nodes.iter().map(|node| node.id) {
            if let Some(pid) = self.hosts.pid(id) {
                let _ = signal(pid, Signal::KILL);
            }
        }
    }
}

impl Bench {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut spec = template::local_spec("local", 2, None);
        // A loopback address of this process's own: no other test can take its ports.
        let [_, high, middle, low] = std::process::id().to_be_bytes();
        for node in &mut spec.cluster.nodes {
            node.host = format!("127.{}.{middle}.{low}", 100 + high % 100);
        }
        let hosts = LocalHosts::new(Layout::new(&folder.path().join("d")), &spec, &spec);
        for id in [1, 2] {
            hosts.ensure_dirs(id).await.unwrap();
            hosts.write_config(id).await.unwrap();
        }
        Self { folder, spec, hosts }
    }

    fn program(&self, script: &str) -> PathBuf {
        let path = self.folder.path().join("esnode");
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        path
    }

    async fn started(&self, id: NodeId, script: &str) -> u32 {
        let pid = self.hosts.start(id, &self.program(script)).await.unwrap();
        assert_eq!(self.hosts.pid(id), Some(pid));
        pid
    }
}

#[tokio::test]
async fn a_node_is_started_in_a_group_of_its_own_seen_and_stopped() {
    let bench = Bench::new().await;
    let pid = bench.started(1, OBEDIENT).await;
    assert!(bench.hosts.wipe(1).await.is_err(), "a running node keeps its data");
    let group = rustix::process::getpgid(Pid::from_raw(i32::try_from(pid).unwrap())).unwrap();
    assert_eq!(group.as_raw_nonzero().get(), i32::try_from(pid).unwrap(), "Ctrl-C here must not reach it");
    assert!(!bench.hosts.process(2).await.unwrap().runs(), "the other node is another process");
    while bench.hosts.log_tail(1, 20).await.unwrap().is_empty() {
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    bench.hosts.stop(1, false, Duration::from_secs(10)).await.unwrap();
    assert!(!bench.hosts.process(1).await.unwrap().runs());
    assert_eq!(bench.hosts.log_tail(1, 20).await.unwrap(), ["hello", "bye"]);
    assert!(!bench.hosts.layout().pid(1).exists());
}

#[tokio::test]
async fn a_lost_or_foreign_pid_file_does_not_hide_a_running_node() {
    let bench = Bench::new().await;
    let pid = bench.started(1, OBEDIENT).await;
    fs::write(bench.hosts.layout().pid(1), "1\n").unwrap();
    assert_eq!(bench.hosts.pid(1), Some(pid));
    fs::remove_file(bench.hosts.layout().pid(1)).unwrap();
    assert_eq!(bench.hosts.pid(1), Some(pid));
}

#[tokio::test]
async fn a_node_that_ignores_sigterm_is_killed_only_when_that_was_said() {
    let bench = Bench::new().await;
    let pid = bench.started(1, STUBBORN).await;
    tokio::time::sleep(Duration::from_millis(100)).await; // the trap must be set
    let error = bench.hosts.stop(1, false, Duration::from_millis(100)).await.unwrap_err();
    assert_eq!(error.to_string(), format!("node 1 (pid {pid}) did not stop within 100ms"));
    assert!(bench.hosts.process(1).await.unwrap().runs());
    bench.hosts.stop(1, true, Duration::from_millis(50)).await.unwrap();
    assert!(!bench.hosts.process(1).await.unwrap().runs());
}

#[tokio::test]
async fn observing_tells_a_taken_port_its_holder_and_another_base() {
    let bench = Bench::new().await;
    let node = &bench.spec.cluster.nodes[1];
    let _squatter = TcpListener::bind((node.host.as_str(), node.cluster_port)).unwrap();
    let client = AdminClient::new(&bench.spec, Duration::from_secs(1)).unwrap();
    let facts = observe(&bench.spec, &bench.hosts, &client, 10, false).await;
    assert!(facts.nodes[&1].host().unwrap().taken.is_empty());
    let taken = &facts.nodes[&2].host().unwrap().taken;
    assert_eq!((taken.len(), taken[0].port, taken[0].key.as_str()), (1, node.cluster_port, "cluster_port"));
    assert!(taken[0].holder.as_ref().unwrap().contains(&format!("pid {}", std::process::id())));
    assert!(free_base_port(2).is_some());
}

#[tokio::test]
async fn what_lies_on_disk_is_compared_by_meaning_and_data_is_private() {
    let bench = Bench::new().await;
    let wanted = bench.hosts.wanted().hash(1).map(str::to_owned);
    let path = bench.hosts.layout().config(1);
    assert_eq!(bench.hosts.inspect(1).await.unwrap().config_hash, wanted);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("# a comment\n{text}")).unwrap();
    assert_eq!(bench.hosts.inspect(1).await.unwrap().config_hash, wanted);
    fs::write(&path, "nonsense").unwrap();
    assert_eq!(bench.hosts.inspect(1).await.unwrap().config_hash, None);
    let mode = fs::metadata(bench.hosts.layout().data(1)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    bench.hosts.wipe(1).await.unwrap();
    assert!(!bench.hosts.inspect(1).await.unwrap().dirs);
    assert!(bench.hosts.inspect(2).await.unwrap().dirs);
}

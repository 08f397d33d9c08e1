//! Renders `GET /metrics`: the ten documented metrics of the cluster, and those of the node itself.
//!
//! Everything is collected when it is asked for, and each number is counted in one place only.

use std::fmt::Write;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use kafka_protocol::messages::ApiKey;
use shared::api::{ConsumerGroup, ConsumerGroups};
use shared::spec::ClusterFile;
use tokio::time::timeout;

use crate::consensus::{Role, Status};
use crate::net::kafka::metrics::KafkaMetrics;
use crate::node::handle::Handle;
use crate::process::histogram::{BOUNDS, Histogram};

/// Time limit for an answer of the raft thread, which usually takes microseconds. After it the thread is taken to be
/// stuck.
const STATUS_TIMEOUT: Duration = Duration::from_secs(2);

/// Kinds of a metric, as Prometheus names them.
#[derive(Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// Text in Prometheus's format that is being written.
#[derive(Default)]
struct Text(String);

/// Returns all metrics of this node as Prometheus text (exposition format 0.0.4).
pub async fn render(node: &Handle, kafka: &KafkaMetrics) -> String {
    // If the raft thread is stuck, its metrics are left out; the others are still useful.
    let raft = timeout(STATUS_TIMEOUT, node.raft_status()).await.ok().map(Option::unwrap_or_default);
    let mut text = Text::default();
    if let Some(raft) = raft {
        text.raft(node, &raft);
    }
    text.steps(node);
    text.log(node);
    text.peers(node);
    text.kafka(kafka);
    if let Some(groups) = node.groups().await {
        text.groups(&groups);
    }
    text.process();
    text.0
}

/// Returns by how many entries the slowest member, or this node, is behind.
fn lag(raft: &Status) -> u64 {
    match raft.role {
        Role::Leader => {
            raft.peers.iter().map(|peer| raft.last_index.saturating_sub(peer.matched)).max().unwrap_or(0)
        }
        _ => raft.commit.saturating_sub(raft.applied),
    }
}

fn state(role: Role) -> &'static str {
    match role {
        Role::Follower => "follower",
        Role::PreCandidate | Role::Candidate => "candidate",
        Role::Leader => "leader",
    }
}

impl Text {
    fn family(&mut self, name: &str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn value(&mut self, name: &str, labels: &str, value: impl std::fmt::Display) {
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }

    fn single(&mut self, name: &str, kind: Kind, help: &str, value: impl std::fmt::Display) {
        self.family(name, kind, help);
        self.value(name, "", value);
    }

    fn raft(&mut self, node: &Handle, raft: &Status) {
        let connected = node.peer_stats().values().filter(|peer| peer.inbound && peer.outbound).count();
        let leader = raft.leader.unwrap_or(0);
        self.single("raft_term", Kind::Gauge, "Current term", raft.term);
        self.single("raft_commit_index", Kind::Gauge, "Last committed log index", raft.commit);
        self.single("raft_apply_index", Kind::Gauge, "Last applied log index", raft.applied);
        self.single("raft_leader", Kind::Gauge, "Current leader's node id; 0 when unknown", leader);
        self.family("raft_state", Kind::Gauge, "1 for what this node is: follower, candidate or leader");
        for name in ["follower", "candidate", "leader"] {
            self.value("raft_state", &format!("{{state=\"{name}\"}}"), u8::from(state(raft.role) == name));
        }
        self.single("raft_peers_connected", Kind::Gauge, "Peers connected in both directions", connected);
        let help = "Entries behind: on the leader its slowest follower, on a follower itself";
        self.single("raft_replication_lag", Kind::Gauge, help, lag(raft));
        self.single("raft_elections_total", Kind::Counter, "Elections begun by this node", raft.elections);
        let help = "AppendEntries messages sent";
        self.single("raft_append_entries_sent", Kind::Counter, help, raft.appends_sent);
        let help = "Votes granted to this node in its latest election, its own included";
        self.single("raft_votes_received", Kind::Gauge, help, raft.votes);
        self.single("raft_cluster_size", Kind::Gauge, "Voters", voters(node.file(), raft));
    }

    fn steps(&mut self, node: &Handle) {
        let steps = node.steps();
        let name = "eventstream_raft_step_seconds";
        self.family(
            name,
            Kind::Histogram,
            "Duration of the raft thread's steps, which everything else waits for",
        );
        self.histogram(name, "", &steps.steps);
        let longest = steps.take_longest();
        let help = "The longest of these steps since these metrics were last asked for";
        self.single("eventstream_raft_step_max_seconds", Kind::Gauge, help, longest.time.as_secs_f64());
        let help = "The same by processor time: without waiting for locks or for the processor";
        self.single("eventstream_raft_step_max_cpu_seconds", Kind::Gauge, help, longest.cpu.as_secs_f64());
    }

    fn log(&mut self, node: &Handle) {
        let stats = node.log().stats();
        let gauges = [
            ("eventstream_log_bytes", "Bytes of log in the segments", stats.log_bytes.load(Relaxed)),
            (
                "eventstream_catch_up_bytes",
                "Bytes to get from another node before this one has what was retained",
                stats.incoming_bytes.load(Relaxed),
            ),
            (
                "eventstream_disk_low",
                "1 while there is little room on the disk",
                u64::from(stats.low_room.load(Relaxed)),
            ),
            (
                "eventstream_events_refused",
                "1 while this node, as leader, takes no events because too many disks are almost full",
                u64::from(stats.refuses_events.load(Relaxed)),
            ),
            ("eventstream_disk_free_bytes", "Bytes free on the disk", stats.free_bytes.load(Relaxed)),
            ("eventstream_log_segments", "Segment files", stats.segments.load(Relaxed)),
            ("eventstream_packs", "Packs, which hold older events", node.log().packs().all().len() as u64),
            ("eventstream_pack_bytes", "Bytes of all packs", node.log().packs().bytes()),
            ("eventstream_log_last_index", "Highest durable log index", node.log().last_index()),
        ];
        for (name, help, value) in gauges {
            self.single(name, Kind::Gauge, help, value);
        }
        let written = stats.bytes_written.load(Relaxed);
        self.single(
            "eventstream_log_written_bytes_total",
            Kind::Counter,
            "Bytes written to the log",
            written,
        );
        let name = "eventstream_log_sync_seconds";
        self.family(name, Kind::Histogram, "Duration of the log's syncs");
        self.histogram(name, "", &stats.syncs);
    }

    fn peers(&mut self, node: &Handle) {
        let stats = node.peer_stats();
        type Figure = fn(&crate::net::peer::PeerStats) -> u64;
        let families: [(&str, &str, Figure); 4] = [
            ("eventstream_peer_sent_bytes_total", "Bytes sent to the peer", |peer| peer.bytes_sent),
            ("eventstream_peer_received_bytes_total", "Bytes received from the peer", |peer| {
                peer.bytes_received
            }),
            ("eventstream_peer_dropped_messages_total", "Messages to the peer that were dropped", |peer| {
                peer.messages_dropped
            }),
            (
                "eventstream_peer_reconnects_total",
                "Times that the connection to the peer came up again",
                |peer| peer.reconnects,
            ),
        ];
        for (name, help, figure) in families {
            self.family(name, Kind::Counter, help);
            for (id, peer) in &stats {
                self.value(name, &format!("{{peer=\"{id}\"}}"), figure(peer));
            }
        }
    }

    fn kafka(&mut self, kafka: &KafkaMetrics) {
        let open = kafka.connections.load(Relaxed);
        self.single("eventstream_kafka_connections", Kind::Gauge, "Open client connections", open);
        let counters = [
            (
                "eventstream_kafka_connections_refused_total",
                "Connections over the limit",
                &kafka.connections_refused,
            ),
            (
                "eventstream_kafka_bad_requests_total",
                "Connections ended for what they sent",
                &kafka.bad_requests,
            ),
            (
                "eventstream_kafka_produce_bytes_total",
                "Bytes of record batches received",
                &kafka.produce_bytes,
            ),
            ("eventstream_kafka_fetch_bytes_total", "Bytes of record batches sent", &kafka.fetch_bytes),
        ];
        for (name, help, counter) in counters {
            self.single(name, Kind::Counter, help, counter.load(Relaxed));
        }
        let name = "eventstream_kafka_requests_total";
        self.family(name, Kind::Counter, "Requests by API");
        for (key, count) in (0..).zip(&kafka.requests).filter(|(_, count)| count.load(Relaxed) > 0) {
            self.value(name, &format!("{{api=\"{}\"}}", api_name(key)), count.load(Relaxed));
        }
        let latencies = [
            ("Produce", &kafka.produce_latency),
            ("Fetch", &kafka.fetch_latency),
            ("other", &kafka.other_latency),
        ];
        let name = "eventstream_kafka_request_seconds";
        self.family(name, Kind::Histogram, "From the last byte of a request to its answer");
        for (api, latency) in latencies {
            self.histogram(name, &format!("api=\"{api}\""), latency);
        }
    }

    /// What only the leader tells. Only the groups with the most lag have series of their own, so that no client can
    /// make any number of them.
    fn groups(&mut self, groups: &ConsumerGroups) {
        self.single("eventstream_groups", Kind::Gauge, "Consumer groups", groups.total);
        let help = "Consumer groups without series of their own: those with the least lag";
        self.single("eventstream_groups_left_off", Kind::Gauge, help, groups.left_off);
        type Figure = fn(&ConsumerGroup) -> u64;
        let families: [(&str, &str, Figure); 3] = [
            (
                "eventstream_group_lag",
                "Offsets that the group has not committed yet, where it has committed any",
                |group| group.lag,
            ),
            (
                "eventstream_group_lag_max",
                "The same, of the one partition in which the group is furthest behind",
                |group| group.max_lag,
            ),
            ("eventstream_group_members", "Members of the group", |group| group.members),
        ];
        for (name, help, figure) in families {
            self.family(name, Kind::Gauge, help);
            for group in &groups.groups {
                self.value(name, &format!("{{group=\"{}\"}}", label(&group.name)), figure(group));
            }
        }
    }

    fn process(&mut self) {
        let Ok(stat) = std::fs::read_to_string("/proc/self/stat") else { return };
        // proc(5): times in ticks of 10 ms, memory in pages.
        let fields: Vec<u64> = stat
            .rsplit(')')
            .next()
            .map(|rest| rest.split_whitespace().skip(1).map(|field| field.parse().unwrap_or(0)).collect())
            .unwrap_or_default();
        let [user, system, resident] = [10, 11, 20].map(|at: usize| fields.get(at).copied().unwrap_or(0));
        let cpu = (user + system) as f64 / 100.0;
        self.single("process_cpu_seconds_total", Kind::Counter, "User and system time", cpu);
        let help = "Resident memory in bytes";
        self.single(
            "process_resident_memory_bytes",
            Kind::Gauge,
            help,
            resident * rustix::param::page_size() as u64,
        );
        let open = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
        self.single("process_open_fds", Kind::Gauge, "Open file descriptors", open);
    }

    fn histogram(&mut self, name: &str, labels: &str, histogram: &Histogram) {
        let comma = if labels.is_empty() { "" } else { "," };
        let braced = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
        let mut total = 0;
        let bounds = BOUNDS.iter().map(|bound| bound.as_secs_f64().to_string()).chain(["+Inf".to_owned()]);
        for (bound, count) in bounds.zip(histogram.counts()) {
            total += count;
            self.value(&format!("{name}_bucket"), &format!("{{{labels}{comma}le=\"{bound}\"}}"), total);
        }
        self.value(&format!("{name}_sum"), &braced, histogram.sum().as_secs_f64());
        self.value(&format!("{name}_count"), &braced, total);
    }
}

/// Returns the text as it stands between the quotes of a label.
fn label(text: &str) -> String {
    text.replace('\\', r"\\").replace('"', r#"\""#).replace('\n', r"\n")
}

/// Returns the API's name in Kafka's protocol; its number if the codec does not know it.
fn api_name(key: i16) -> String {
    ApiKey::try_from(key).map_or_else(|()| key.to_string(), |api| format!("{api:?}"))
}

fn voters(file: &ClusterFile, raft: &Status) -> usize {
    if raft.voters.is_empty() { file.cluster.nodes.len() } else { raft.voters.len() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apis_are_called_by_their_names() {
        assert_eq!([0, 1, 3, 18].map(api_name), ["Produce", "Fetch", "Metadata", "ApiVersions"]);
        assert_eq!(api_name(1000), "1000");
    }

    #[test]
    fn a_group_may_be_called_anything() {
        let group = |name: &str, state: &str, lag| {
            let (name, state) = (name.to_owned(), state.to_owned());
            ConsumerGroup { name, state, members: 2, lag, max_lag: 7 }
        };
        let groups = vec![group("a\"} 1\nraft_term\\", "Stable", 9), group("größe", "Empty", 0)];
        let mut text = Text::default();
        text.groups(&ConsumerGroups { total: 12, left_off: 10, groups });
        let values: Vec<_> = text.0.lines().filter(|line| !line.starts_with('#')).collect();
        let expected = [
            "eventstream_groups 12",
            "eventstream_groups_left_off 10",
            r#"eventstream_group_lag{group="a\"} 1\nraft_term\\"} 9"#,
            r#"eventstream_group_lag{group="größe"} 0"#,
            r#"eventstream_group_lag_max{group="a\"} 1\nraft_term\\"} 7"#,
            r#"eventstream_group_lag_max{group="größe"} 7"#,
            r#"eventstream_group_members{group="a\"} 1\nraft_term\\"} 2"#,
            r#"eventstream_group_members{group="größe"} 2"#,
        ];
        assert_eq!(values, expected);
    }
}

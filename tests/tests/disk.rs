//! Disks that fail, are slow, hang, or are full: nothing is believed that is not on disk, nothing acknowledged is lost, and
//! what is wrong is said.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use kafka_protocol::messages::{DeleteTopicsRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use shared::api::Health;
use shared::ids::NodeId;
use tests::client::Client;
use tests::cluster::{Cluster, binary};
use tests::ledger;
use tests::strace::Fault;

const LIMIT: Duration = Duration::from_secs(2);
/// Small enough that there are several soon, and checkpoints between them.
const SMALL: &str = "    snapshot_interval: 50\n    segment_mb: 4\n";
const EVENT: usize = 256 << 10;

/// Three nodes with topic `t`; and the leader.
fn started(mut cluster: Cluster) -> Result<(Cluster, NodeId)> {
    cluster.launch_all()?;
    let leader = cluster.wait_ready()?;
    let code = Client::connect(cluster.kafka(leader), LIMIT)?.create_topic("t", 1)?;
    ensure!(code == 0, "no topic: error code {code}");
    Ok((cluster, leader))
}

fn three() -> Result<(Cluster, NodeId)> {
    started(Cluster::prepare(3, SMALL, &binary("esnode"))?)
}

fn produce(cluster: &Cluster, node: NodeId, value: &[u8]) -> Result<i64> {
    let outcome = Client::connect(cluster.kafka(node), LIMIT)?.produce("t", 0, value)?;
    outcome.map_err(|code| anyhow::anyhow!("error code {code}"))
}

/// Writes one event wherever the leader is by then.
fn produce_somewhere(cluster: &Cluster, value: &[u8]) -> Result<i64> {
    cluster.wait("an acknowledged write", |cluster| produce(cluster, cluster.leader()?, value).ok())
}

/// What the node's readiness says of its disk.
fn disk(cluster: &Cluster, id: NodeId) -> Option<String> {
    let (_, body) = cluster.get(id, "/health/ready").ok()?;
    let health: Health = serde_json::from_str(&body).ok()?;
    health.reasons.into_iter().find(|reason| reason.starts_with("disk: ") && !health.ok)
}

/// Every event of `wanted` is there, in order; the nodes stop well and hold the same.
fn end_alike(mut cluster: Cluster, wanted: &[Vec<u8>]) -> Result<()> {
    let leader = cluster.wait_ready()?;
    let events = Client::connect(cluster.kafka(leader), LIMIT)?.read_all("t", 0)?;
    let mut read = events.iter().map(|event| &event.value[..]);
    // What was not acknowledged may be there too.
    ensure!(wanted.iter().all(|value| read.any(|read| read == value)), "an acknowledged event is missing");
    let floor = cluster.status(leader)?.commit_index;
    for id in cluster.ids() {
        ensure!(cluster.stop(id)?, "node {id} did not end well: {}", cluster.log(id));
    }
    ledger::same_logs(&cluster, floor)
}

#[test]
fn a_write_or_sync_that_fails_ends_the_node_with_the_reason() -> Result<()> {
    let (mut cluster, _) = three()?;
    let mut written = Vec::new();
    for calls in ["fdatasync", "pwrite64,pwritev,pwritev2", "fsync"] {
        let victim = cluster.wait_ready()?;
        let fault = Fault::inject(cluster.os_pid(victim), calls, "error=EIO")?;
        let deadline = Instant::now() + Duration::from_secs(20);
        // A checkpoint and a new segment come along with enough events.
        while cluster.get(victim, "/health/live").is_ok() {
            let value = format!("{calls} {}", written.len()).into_bytes();
            if produce(&cluster, victim, &[&value[..], &[b'x'; EVENT]].concat()).is_ok() {
                written.push([&value[..], &[b'x'; EVENT]].concat());
            }
            ensure!(Instant::now() < deadline, "node {victim} lives on although {calls} fails");
        }
        let ended = cluster.reap(victim)?;
        drop(fault);
        let log = cluster.log(victim);
        let said = log.lines().rev().find(|line| line.contains("ERROR")).context("no reason")?;
        ensure!(!ended.success(), "it ended with 0");
        let names = said.contains("n1/data") || said.contains("n2/data") || said.contains("n3/data");
        ensure!(said.contains("the disk failed") && said.contains("os error 5") && names, "{said}");
        written.push(format!("without node {victim}").into_bytes());
        produce_somewhere(&cluster, &written[written.len() - 1])?;
        cluster.launch(victim)?;
    }
    end_alike(cluster, &written)
}

/// Every kind of sync is slow, also the several in a row that the end of a segment takes.
#[test]
fn a_slow_disk_is_no_dead_leader() -> Result<()> {
    let (cluster, leader) = three()?;
    let term = cluster.status(leader)?.term;
    let fault = Fault::inject(cluster.os_pid(leader), "fdatasync,fsync", "delay_exit=400000")?;
    let (began, mut written) = (Instant::now(), Vec::new());
    let segments = count(&cluster, leader, "seg")?;
    let mut client = Client::connect(cluster.kafka(leader), Duration::from_secs(10))?;
    while began.elapsed() < Duration::from_secs(10) {
        written.push([format!("slow {}", written.len()).as_bytes(), &[b'x'; 900 << 10]].concat());
        let outcome = client.produce("t", 0, &written[written.len() - 1])?;
        outcome.map_err(|code| anyhow::anyhow!("error code {code}"))?;
    }
    ensure!(cluster.status(leader)?.term == term, "an election:\n{}", cluster.log(leader));
    ensure!(!cluster.log(leader).contains("hands over"), "{}", cluster.log(leader));
    let segments = count(&cluster, leader, "seg")? - segments;
    ensure!(segments > 0, "no segment ended");
    println!("{} events, {segments} new segments at 400 ms a sync, and no election", written.len());
    drop(fault);
    end_alike(cluster, &written)
}

/// Files of the log of this kind.
fn count(cluster: &Cluster, id: NodeId, extension: &str) -> Result<usize> {
    let files = std::fs::read_dir(cluster.data_dir(id).join("log"))?;
    Ok(files.flatten().filter(|file| file.path().extension().is_some_and(|ext| ext == extension)).count())
}

#[test]
fn a_leader_whose_disk_hangs_gives_way() -> Result<()> {
    let (cluster, leader) = three()?;
    let fault = Fault::inject(cluster.os_pid(leader), "fdatasync", "delay_enter=60000000")?;
    let began = Instant::now();
    let _unanswered = produce(&cluster, leader, b"nobody knows");
    let next = cluster.wait("another leader", |cluster| cluster.leader().filter(|id| *id != leader))?;
    let written = vec![b"by another".to_vec()];
    produce_somewhere(&cluster, &written[0])?;
    let gap = began.elapsed();
    println!("node {next} leads {gap:.2?} after the disk began to hang");
    ensure!(gap < Duration::from_secs(5), "{gap:?}");
    let said = cluster.wait("it to say what is wrong", |cluster| disk(cluster, leader))?;
    ensure!(said.contains("a write has not finished for"), "{said}");
    drop(fault);
    cluster.wait("it to be well again", |cluster| {
        (cluster.get(leader, "/health/ready").ok()?.0 == 200).then_some(())
    })?;
    end_alike(cluster, &written)
}

/// Writes until the disks of `full` are.
fn fill(cluster: &Cluster, full: &[NodeId], written: &mut Vec<Vec<u8>>) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(30);
    while full.iter().any(|id| disk(cluster, *id).is_none_or(|said| !said.contains("full"))) {
        ensure!(Instant::now() < deadline, "{full:?} are not full, or do not say so");
        let value = [format!("{} ", written.len()).as_bytes(), &[b'x'; EVENT]].concat();
        if cluster.leader().is_some_and(|leader| produce(cluster, leader, &value).is_ok()) {
            written.push(value);
        }
    }
    Ok(())
}

/// Nodes with little room, full; then they get more.
fn fill_and_make_room(few: impl Fn(NodeId, &[NodeId]) -> Vec<NodeId>, goes_on: bool) -> Result<()> {
    let mut cluster = Cluster::prepare(3, SMALL, &binary("esnode"))?;
    let all = cluster.ids();
    cluster.limit_room(&all, 400)?;
    let (cluster, leader) = started(cluster)?;
    let full = few(leader, &all);
    full.iter().try_for_each(|id| cluster.give_room(*id, 24))?;
    let mut written = Vec::new();
    fill(&cluster, &full, &mut written)?;
    if goes_on {
        written.push(b"with a full disk somewhere".to_vec());
        produce_somewhere(&cluster, &written[written.len() - 1])?;
    }
    for id in &full {
        cluster.wait("its log to say so", |cluster| {
            cluster.log(*id).contains("the disk is almost full").then_some(())
        })?;
        cluster.give_room(*id, 400)?;
    }
    written.push(b"with room".to_vec());
    produce_somewhere(&cluster, &written[written.len() - 1])?;
    cluster.wait("all to be well", |cluster| {
        all.iter()
            .all(|id| cluster.get(*id, "/health/ready").is_ok_and(|(code, _)| code == 200))
            .then_some(())
    })?;
    end_alike(cluster, &written)
}

/// Nobody else can: the file is open for the node's standard error.
#[test]
fn a_large_log_of_the_node_goes_on_in_a_new_file() -> Result<()> {
    let mut cluster = Cluster::prepare(1, "", &binary("esnode"))?;
    let log = cluster.data_dir(1).parent().context("a parent")?.join("log");
    let large = std::fs::File::create(&log)?;
    large.set_len(32 << 20)?;
    cluster.launch_all()?;
    cluster.wait_ready()?;
    cluster.wait("a new file", |cluster| cluster.log(1).contains("the log goes on here").then_some(()))?;
    let old = std::fs::metadata(log.with_added_extension("1"))?.len();
    ensure!(old >= 32 << 20, "{old} bytes are in the old file");
    Ok(())
}

#[test]
fn a_follower_with_a_full_disk_waits_for_room() -> Result<()> {
    fill_and_make_room(|leader, all| all.iter().copied().find(|id| *id != leader).into_iter().collect(), true)
}

#[test]
fn a_leader_with_a_full_disk_gives_way_and_waits_for_room() -> Result<()> {
    fill_and_make_room(|leader, _| vec![leader], true)
}

#[test]
fn a_cluster_without_room_acknowledges_nothing_and_goes_on_with_room() -> Result<()> {
    fill_and_make_room(|_, all| all.to_vec(), false)
}

/// What is dead leaves full disks by itself once it is deleted, and events are taken again.
fn delete_on_full_disks(few: impl Fn(NodeId, &[NodeId]) -> Vec<NodeId>) -> Result<()> {
    // Too few entries for a checkpoint on their account.
    let mut cluster = Cluster::prepare(3, "    segment_mb: 4\n", &binary("esnode"))?;
    let all = cluster.ids();
    cluster.limit_room(&all, 400)?;
    let (mut cluster, leader) = started(cluster)?;
    let full = few(leader, &all);
    full.iter().try_for_each(|id| cluster.give_room(*id, 40))?;
    fill(&cluster, &full, &mut Vec::new())?;
    let code = cluster.wait("events to be refused", |cluster| {
        Client::connect(cluster.kafka(cluster.leader()?), LIMIT).ok()?.produce("t", 0, b"no room").ok()?.err()
    })?;
    ensure!(RETRIABLE.contains(&code), "error code {code}");
    let began = Instant::now();
    let any = cluster.leader().map_or(1, |leader| leader % 3 + 1);
    let names = vec![TopicName(StrBytes::from_static_str("t"))];
    let request = DeleteTopicsRequest::default().with_topic_names(names).with_timeout_ms(5000);
    let answer = Client::connect(cluster.kafka(any), Duration::from_secs(10))?
        .call::<DeleteTopicsRequest>(4, &request)?;
    ensure!(answer.responses[0].error_code == 0, "{answer:?}");
    cluster.wait("events to be taken again", |cluster| {
        let mut client = Client::connect(cluster.kafka(cluster.leader()?), LIMIT).ok()?;
        let known = matches!(client.create_topic("t", 1).ok()?, 0 | 36);
        (known && client.produce("t", 0, b"with room").ok()?.is_ok()).then_some(())
    })?;
    let took = began.elapsed();
    println!("{full:?} were full: events are taken {took:.2?} after a DeleteTopics");
    ensure!(took < Duration::from_secs(10), "{took:?}");
    // Their logs no longer begin at the beginning, so only that they end well is looked at.
    for id in all {
        ensure!(cluster.stop(id)?, "node {id} did not end well: {}", cluster.log(id));
    }
    Ok(())
}

#[test]
fn a_full_cluster_serves_again_after_a_topic_was_deleted() -> Result<()> {
    delete_on_full_disks(|_, all| all.to_vec())
}

#[test]
fn two_full_disks_of_three_refuse_events_and_deleting_frees_them() -> Result<()> {
    delete_on_full_disks(|leader, all| all.iter().copied().filter(|id| *id != leader).collect())
}

/// Codes after which Kafka clients try again: no leader is known, it is another, it took too long, its disk is full.
const RETRIABLE: [i16; 4] = [5, 6, 7, 56];

#[test]
fn a_full_cluster_refuses_so_that_clients_try_again_and_ends_well() -> Result<()> {
    let mut cluster = Cluster::prepare(3, SMALL, &binary("esnode"))?;
    let all = cluster.ids();
    cluster.limit_room(&all, 24)?;
    let (mut cluster, _) = started(cluster)?;
    let mut written = Vec::new();
    fill(&cluster, &all, &mut written)?;
    // From two seconds on the disk counts as hanging.
    std::thread::sleep(Duration::from_millis(2500));
    for id in &all {
        let code = Client::connect(cluster.kafka(*id), LIMIT)?.produce("t", 0, b"no room")?;
        ensure!(code.is_err_and(|code| RETRIABLE.contains(&code)), "node {id} answers {code:?}");
        let (code, body) = cluster.get(*id, "/health/ready")?;
        ensure!(code == 503 && body.contains("full"), "node {id} calls itself {code}: {body}");
    }
    let config = cluster.config(1);
    let escli = |command: &str| Command::new(binary("escli")).arg("-c").arg(&config).arg(command).output();
    let (health, alerts) = (escli("health")?, escli("alerts")?);
    let said = String::from_utf8_lossy(&health.stdout);
    // Not all need have come to the end of a segment.
    let told = said.contains("UNAVAILABLE") && said.contains("full on n");
    ensure!(health.status.code() == Some(10) && told, "{said}");
    let said = String::from_utf8_lossy(&alerts.stdout);
    ensure!(!alerts.status.success() && said.contains("write failure"), "{said}");
    for id in &all {
        let began = Instant::now();
        ensure!(cluster.stop(*id)?, "node {id} did not end well: {}", cluster.log(*id));
        ensure!(began.elapsed() < Duration::from_secs(5), "node {id} took {:?} to end", began.elapsed());
    }
    // It starts without room too, and goes on with it.
    cluster.launch_all()?;
    all.iter().try_for_each(|id| cluster.give_room(*id, 400))?;
    written.push(b"with room".to_vec());
    produce_somewhere(&cluster, &written[written.len() - 1])?;
    end_alike(cluster, &written)
}

/// The start trusts what a summary says of a sealed segment; the scrub behind it reads the segment.
#[test]
fn the_scrub_of_a_running_node_finds_a_flipped_bit() -> Result<()> {
    let (mut cluster, leader) = three()?;
    let written: Vec<_> =
        (0..80).map(|number| [format!("{number} ").as_bytes(), &[b'x'; EVENT]].concat()).collect();
    for value in &written {
        produce(&cluster, leader, value)?;
    }
    cluster.wait_ready()?;
    let victim = leader % 3 + 1;
    // Behind a checkpoint the start reads nothing of the segment.
    cluster.wait("a checkpoint", |cluster| {
        let kinds = files(cluster, victim).ok()?;
        kinds.keys().any(|kind| kind.starts_with("checkpoints/") && !kind.ends_with("tmp")).then_some(())
    })?;
    ensure!(cluster.stop(victim)?, "{}", cluster.log(victim));
    let sealed = files(&cluster, victim)?.remove("log/seg").context("no segments")?.swap_remove(0);
    let good = std::fs::read(&sealed)?;
    let mut bad = good.clone();
    // In the middle of an event.
    bad[1 << 20] ^= 4;
    std::fs::write(&sealed, bad)?;
    let name = sealed.file_name().unwrap_or_default().to_string_lossy().into_owned();
    for said in ["the disk failed", "the log is damaged"] {
        let before = cluster.log(victim).len();
        cluster.launch(victim)?;
        ensure!(!cluster.reap(victim)?.success(), "it ended with 0");
        let log = cluster.log(victim).split_off(before);
        ensure!(log.contains(said) && log.contains(&format!("{name}, byte ")), "{log}");
        // The first time the node ran; the second time it refused to.
        ensure!(log.contains(" starts") == (said == "the disk failed"), "{log}");
    }
    std::fs::write(&sealed, good)?;
    cluster.launch(victim)?;
    end_alike(cluster, &written)
}

/// All files that the node has, by kind: the folder, and how the name ends.
fn files(cluster: &Cluster, id: NodeId) -> Result<std::collections::BTreeMap<String, Vec<PathBuf>>> {
    let mut kinds = std::collections::BTreeMap::<String, Vec<PathBuf>>::new();
    let data = cluster.data_dir(id);
    for folder in ["", "log", "checkpoints"] {
        for file in std::fs::read_dir(data.join(folder))? {
            let path = file?.path();
            // Nothing stands in these.
            let counts = path
                .file_name()
                .is_some_and(|name| name != "lock" && name != "next.tmp" && name != "reserve");
            if path.is_file() && counts {
                let ending = path.extension().unwrap_or_default().to_string_lossy();
                let ending = if ending.is_empty() { "identity" } else { &ending };
                kinds.entry(format!("{folder}/{ending}")).or_default().push(path);
            }
        }
    }
    kinds.values_mut().for_each(|files| files.sort());
    Ok(kinds)
}

/// Turns one bit of what was written; the zeroes at the end of a segment stand for nothing.
fn flip(file: &Path, random: &mut fastrand::Rng) -> Result<(Vec<u8>, usize)> {
    let good = std::fs::read(file)?;
    let used = good.iter().rposition(|byte| *byte != 0).context("an empty file")? + 1;
    let at = random.usize(..used);
    let mut bad = good.clone();
    bad[at] ^= 1 << random.u8(..8);
    std::fs::write(file, bad)?;
    Ok((good, at))
}

/// Whether the node has exited by itself.
fn has_ended(cluster: &Cluster, id: NodeId) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", cluster.os_pid(id))).unwrap_or_default();
    stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('Z'))
}

/// Lets the node lead and reads everything through it; `None` if it ends instead.
fn read_through(cluster: &Cluster, id: NodeId) -> Result<Option<Vec<Vec<u8>>>> {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !has_ended(cluster, id) {
        ensure!(Instant::now() < deadline, "it neither serves nor ends: {}", cluster.log(id));
        let _ = cluster.post(id, "/cluster/leader/transfer", &format!("{{\"to\": {id}}}"));
        let read = Client::connect(cluster.kafka(id), LIMIT).and_then(|mut client| client.read_all("t", 0));
        if let Ok(events) = read {
            return Ok(Some(events.into_iter().map(|event| event.value.to_vec()).collect()));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(None)
}

/// One bit in any file of a node: either the node is well and serves what was written, or it refuses to start, or stops,
/// and names the file.
#[test]
fn a_flipped_bit_in_any_file_is_never_served() -> Result<()> {
    let seed = std::env::var("FLIP_SEED").ok().and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..1_000_000));
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut cluster, leader) = three()?;
    let written: Vec<_> =
        (0..60).map(|number| [format!("{number} ").as_bytes(), &[b'x'; EVENT]].concat()).collect();
    for value in &written {
        produce(&cluster, leader, value)?;
    }
    cluster.wait_ready()?;
    let victim = leader % 3 + 1;
    let (mut refused, mut well) = (0, 0);
    let kinds: Vec<_> = files(&cluster, victim)?.into_keys().collect();
    for kind in kinds.iter().flat_map(|kind| [kind; 3]) {
        let _ = cluster.is_running(victim) && cluster.stop(victim)?;
        let Some(file) = files(&cluster, victim)?
            .remove(kind)
            .map(|mut files| files.swap_remove(random.usize(..files.len())))
        else {
            continue;
        };
        let (good, at) = flip(&file, &mut random)?;
        let before = cluster.log(victim).len();
        cluster.launch(victim)?;
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let what = format!("FLIP_SEED={seed}, {kind} {name} at {at}");
        match read_through(&cluster, victim)? {
            Some(read) => {
                ensure!(read == written, "{what}: something else was served");
                well += 1;
            }
            None => {
                let log = cluster.log(victim).split_off(before);
                ensure!(!cluster.reap(victim)?.success() && log.contains(&name), "{what}: {log}");
                std::fs::write(&file, good)?;
                cluster.launch(victim)?;
                refused += 1;
            }
        }
        cluster.wait_ready().context(what)?;
    }
    println!("{} kinds of files: {refused} times refused, {well} times well", kinds.len());
    ensure!(refused > 0 && well > 0);
    end_alike(cluster, &written)
}

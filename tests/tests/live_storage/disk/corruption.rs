//! Flipped bits in the files of a node.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use shared::ids::NodeId;
use tests::client::Client;
use tests::cluster::Cluster;

use super::{EVENT, LIMIT, check_and_stop, produce, three};

/// A start trusts the footer of a sealed segment; the scrub afterwards reads the segment.
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
    // With a snapshot behind it, the start does not read the segment.
    cluster.wait("a snapshot", |cluster| {
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
    check_and_stop(cluster, &written)
}

/// Returns all files of the node by kind: folder and extension.
fn files(cluster: &Cluster, id: NodeId) -> Result<std::collections::BTreeMap<String, Vec<PathBuf>>> {
    let mut kinds = std::collections::BTreeMap::<String, Vec<PathBuf>>::new();
    let data = cluster.data_dir(id);
    for folder in ["", "log", "checkpoints"] {
        for file in std::fs::read_dir(data.join(folder))? {
            let path = file?.path();
            // These hold no data.
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

/// Flips one bit of what was written; the zeroes at the end of a segment are unused.
fn flip(file: &Path, random: &mut fastrand::Rng) -> Result<(Vec<u8>, usize)> {
    let good = std::fs::read(file)?;
    let used = good.iter().rposition(|byte| *byte != 0).context("an empty file")? + 1;
    let at = random.usize(..used);
    let mut bad = good.clone();
    bad[at] ^= 1 << random.u8(..8);
    std::fs::write(file, bad)?;
    Ok((good, at))
}

/// Returns whether the node has exited by itself.
fn has_ended(cluster: &Cluster, id: NodeId) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", cluster.os_pid(id))).unwrap_or_default();
    stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('Z'))
}

/// Makes the node lead and reads everything from it. Returns `None` if it exits instead.
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

/// Flips one bit in any file of a node. Either the node serves what was written, or it refuses to start or
/// stops, and names the file.
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
                ensure!(read == written, "{what}: different events were served");
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
    check_and_stop(cluster, &written)
}

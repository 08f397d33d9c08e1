//! Versions with different on-disk formats: they run side by side in the old one, until an operator raises
//! it, after which there is no way back.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use esnode::process::version::FORMAT;
use serde_json::Value;
use shared::api::{ClusterStatus, Membership};
use shared::ids::NodeId;
use tests::cli::{CliRunner, path, text};
use tests::client::Client;
use tests::cluster::Cluster;
use tests::http;
use tests::load::Load;
use tests::load::history::LoadHistory;
use tests::programs::{binary, stamped};
use tests::strace::Fault;

/// The on-disk format of this version, and that of the next one.
const OURS: u16 = FORMAT.max;
const NEXT: u16 = OURS + 1;
/// Within this time every node learns of a raised format.
const RAISED: Duration = Duration::from_secs(5);
/// Limit of a write while the format is raised: no more than an election that is split once.
const ELECTION: Duration = Duration::from_millis(600);

fn next() -> PathBuf {
    stamped("0.1.2-next")
}

/// Returns the status of every node that responds.
fn statuses(cli: &CliRunner) -> Vec<ClusterStatus> {
    let ports = (0..3).map(|index| cli.base + 200 + index);
    let ask = |port| http::call(&format!("127.0.0.1:{port}"), "GET", "/cluster/status", "").ok();
    ports.filter_map(ask).filter_map(|(_, body)| serde_json::from_str(&body).ok()).collect()
}

fn active(cli: &CliRunner) -> Vec<Option<u16>> {
    statuses(cli).iter().map(|status| status.active_format).collect()
}

fn data_dir(cli: &CliRunner, id: NodeId) -> PathBuf {
    cli.cluster().join(format!("n{id}/data"))
}

/// Returns the format in the identity file.
fn written(dir: &Path) -> Result<u64> {
    let text = std::fs::read_to_string(dir.join("identity"))?;
    let json: Value = serde_json::from_str(text.lines().next().context("a line")?)?;
    json["format"].as_u64().context("a format")
}

/// Returns every file with its content.
fn content(dir: &Path) -> Result<BTreeMap<PathBuf, Vec<u8>>> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(content(&path)?);
        } else {
            files.insert(path.clone(), std::fs::read(&path)?);
        }
    }
    Ok(files)
}

/// Starts `program` as node `id` and waits for its end. Returns exit code and output.
fn ends(program: &Path, id: NodeId, config: &Path) -> Result<(Option<i32>, String)> {
    let mut command = Command::new(program);
    command.arg(format!("--node-id={id}")).arg(format!("--config={}", path(config)));
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let end = Instant::now() + Duration::from_secs(10);
    while child.try_wait()?.is_none() {
        if Instant::now() > end {
            child.kill()?;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let output = child.wait_with_output()?;
    Ok((output.status.code(), text(&output.stdout) + &text(&output.stderr)))
}

fn upgrade<'a>(to: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
    [&["upgrade", "--binary", path(to), "--soak", "100ms"], more].concat()
}

fn wait(what: &str, limit: Duration, done: impl Fn() -> bool) -> Result<()> {
    let end = Instant::now() + limit;
    while !done() {
        ensure!(Instant::now() < end, "timed out after {limit:?} waiting for {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

#[test]
fn a_raised_format_ends_the_way_back() -> Result<()> {
    let cli = CliRunner::with_cluster(3)?;
    let addresses: Vec<_> = (1..=3).map(|id| cli.kafka(id)).collect();
    let mut client = Client::connect(cli.kafka(cli.leader()?), Duration::from_secs(2))?;
    ensure!(client.create_topic("t", 1)? == 0);
    ensure!(active(&cli) == [Some(OURS); 3], "a new cluster begins in the newest: {:?}", statuses(&cli));
    let load = Load::on(&addresses, "t", 1);

    // Two of three nodes are upgraded: the format cannot be raised.
    let (old, new) = (binary("esnode"), next());
    let (code, report) = cli.json(&upgrade(&new, &["--pause-after", "2", "--keep-way-back"]))?;
    ensure!(code == 0, "{report:#}");
    let newest = statuses(&cli).iter().filter(|status| status.format.is_some_and(|f| f.max == NEXT)).count();
    ensure!(newest == 2, "{newest} nodes read format {NEXT}");
    let admin = format!("127.0.0.1:{}", cli.base + 200);
    let (code, body) = http::call(&admin, "POST", "/cluster/format", &format!("{{\"to\": {NEXT}}}"))?;
    ensure!(code == 409 && body.contains(&format!("reads on-disk formats up to {OURS}")), "{code} {body}");
    ensure!(
        http::call(&admin, "POST", "/cluster/format", "")?.0 == 200,
        "the newest that all read is no news"
    );
    ensure!(active(&cli) == [Some(OURS); 3], "{:?}", statuses(&cli));

    // All are upgraded, with --keep-way-back.
    let (code, report) = cli.json(&["upgrade", "resume"])?;
    ensure!(code == 0 && report.to_string().contains("a downgrade stays possible"), "{report:#}");
    ensure!(active(&cli) == [Some(OURS); 3], "{:?}", statuses(&cli));
    let (code, plan) = cli.json(&upgrade(&old, &["--allow-downgrade", "--dry-run"]))?;
    ensure!(code == 0, "{plan:#}");

    // The same upgrade again only raises the format.
    let (code, report) = cli.json(&upgrade(&new, &[]))?;
    ensure!(code == 0 && report["changed"] == 1, "{report:#}");
    ensure!(active(&cli) == [Some(NEXT); 3], "{:?}", statuses(&cli));
    let dirs: Vec<_> = (1..=3).map(|id| data_dir(&cli, id)).collect();
    wait("it to be written down", Duration::from_secs(5), || {
        dirs.iter().all(|dir| written(dir).is_ok_and(|format| format == u64::from(NEXT)))
    })?;
    let mut history = LoadHistory::default();
    load.finish(&mut history)?;
    println!("{} writes, {} reads of the log end", history.counts().0, history.counts().1);
    let leader = cli.kafka(cli.leader()?);
    history.check(Client::connect(leader, Duration::from_secs(2))?.read_all("t", 0)?)?;

    // The command line refuses a downgrade, also with --allow-downgrade.
    let back = upgrade(&old, &["--allow-downgrade"]);
    let (code, report) = cli.json(&back)?;
    let why = &*format!("data is in on-disk format {NEXT}");
    ensure!(code == 3 && report["error"].to_string().contains(why), "{code} {report:#}");
    ensure!(text(&cli.escli(&back)?.stderr).contains(why));
    ensure!(statuses(&cli).iter().all(|status| status.version == "0.1.2"), "{:?}", statuses(&cli));

    // The older program refuses to start, before it writes anything.
    ensure!(cli.escli(&["stop", "3"])?.status.success());
    let before = content(&dirs[2])?;
    let (code, said) = ends(&old, 3, &cli.cluster().join("n3/cluster.yaml"))?;
    ensure!(code.is_some_and(|code| code != 0), "{code:?} {said}");
    ensure!(
        said.contains(&format!(
            "on-disk format {NEXT}; this program, esnode 0.1.0, reads format 1 to {OURS}"
        )),
        "{said}"
    );
    ensure!(said.contains("or a later one"), "{said}");
    ensure!(content(&dirs[2])? == before, "something was written");
    ensure!(cli.escli(&["start", "3"])?.status.success());
    wait("node 3", Duration::from_secs(20), || active(&cli) == [Some(NEXT); 3])
}

fn active_format(cluster: &Cluster, id: NodeId) -> Option<u16> {
    cluster.status(id).ok()?.active_format
}

/// Raises the format under one producer that waits for each response, so that no later write can free one
/// that is stuck. Returns the longest wait.
fn raise_under_one_producer(sync_delay_us: Option<u32>) -> Result<Duration> {
    let mut cluster = Cluster::prepare(3, "", &next())?;
    cluster.launch(1)?;
    cluster.launch(2)?;
    cluster.use_program(&binary("esnode"));
    cluster.launch(3)?;
    cluster.wait_ready()?;
    ensure!(cluster.stop(3)?);
    cluster.use_program(&next());
    cluster.launch(3)?;
    let leader = cluster.wait_ready()?;
    ensure!(
        active_format(&cluster, leader) == Some(OURS),
        "it began in the newest format that all initial members read"
    );
    let mut client = Client::connect(cluster.kafka(leader), Duration::from_secs(10))?;
    ensure!(client.create_topic("t", 1)? == 0);
    let how = sync_delay_us.map(|us| format!("delay_exit={us}"));
    let pids = cluster.ids().into_iter().map(|id| cluster.os_pid(id));
    let faults =
        how.map(|how| pids.map(|pid| Fault::inject(pid, "fdatasync", &how)).collect::<Result<Vec<_>>>());
    let _faults = faults.transpose()?;
    let (mut longest, mut after) = (Duration::ZERO, 0);
    let mut write = || -> Result<()> {
        let began = Instant::now();
        client.produce("t", 0, b"event")?.map_err(|code| anyhow::anyhow!("error code {code}"))?;
        longest = longest.max(began.elapsed());
        Ok(())
    };
    (0..20).try_for_each(|_| write())?;
    std::thread::scope(|scope| -> Result<()> {
        let raised = scope.spawn(|| cluster.post(leader, "/cluster/format", ""));
        while after < 20 {
            write()?;
            after += u32::from(raised.is_finished());
        }
        let (code, body) = raised.join().expect("a thread that only asks")?;
        ensure!(code == 200 && body.contains(&format!("\"active_format\": {NEXT}")), "{code} {body}");
        Ok(())
    })?;
    Ok(longest)
}

/// Runs `FORMAT_ROUNDS` new clusters, each with and without slow syncs.
#[test]
fn no_write_waits_for_a_raised_format() -> Result<()> {
    let rounds = std::env::var("FORMAT_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(2);
    for round in 0..rounds {
        // With a sync of 20 ms the raised format waits behind the write of its entry.
        for delay in [None, Some(20_000)] {
            let longest = raise_under_one_producer(delay)?;
            println!("round {round}, syncs delayed by {delay:?} us: the longest write took {longest:?}");
            ensure!(longest < ELECTION, "a write waited for {longest:?}");
        }
    }
    Ok(())
}

#[test]
fn a_node_that_cannot_read_the_active_format_does_not_join() -> Result<()> {
    let mut cluster = Cluster::start_with(1, "", &next())?;
    cluster.wait_ready()?;
    wait("the next format", RAISED, || active_format(&cluster, 1) == Some(NEXT))?;
    let id = cluster.grow()?;
    cluster.use_program(&binary("esnode"));
    cluster.launch(id)?;
    let (code, body) = cluster.post(1, "/cluster/members", &cluster.join_request(id))?;
    ensure!(code == 200, "{body}");
    let why = &*format!(
        "data is in on-disk format {NEXT}, node 2 reads format 1 to {OURS}: give node 2 a later version of esnode"
    );
    cluster.wait("both to log the reason", |cluster| {
        [1, id].iter().all(|id| cluster.log(*id).contains(why)).then_some(())
    })?;
    std::thread::sleep(Duration::from_secs(3));
    let seen = cluster.status(1)?.peers;
    ensure!(seen.len() == 1 && seen[0].membership == Membership::Learner && !seen[0].connected, "{seen:?}");
    ensure!(written(&cluster.data_dir(id))? == 1, "it accepted something");

    // With the newer program it joins, in the active format.
    ensure!(cluster.stop(id)?);
    cluster.use_program(&next());
    cluster.launch(id)?;
    cluster.wait("it to vote", |cluster| {
        cluster.status(1).ok()?.peers.iter().any(|peer| peer.membership == Membership::Voter).then_some(())
    })?;
    ensure!(written(&cluster.data_dir(id))? == u64::from(NEXT) && active_format(&cluster, id) == Some(NEXT));
    Ok(())
}

//! escli is killed (SIGKILL) at every step of an operation, and the operation is resumed: it ends, nothing is
//! done twice, and the cluster is healthy.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::cli::{CliRunner, ids, path, text};
use tests::programs::{binary, stamped};

/// Limit of one operation.
const LIMIT: Duration = Duration::from_secs(60);

/// Returns all journals of the local cluster.
fn journals(cli: &CliRunner) -> BTreeSet<PathBuf> {
    let folder = cli.dir.path().join("state/eventstream/local");
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.filter(|path| path.extension().is_some_and(|extension| extension == "jsonl")).collect()
}

/// Returns the complete records of a journal.
fn lines(journal: &Path) -> Vec<Value> {
    let text = fs::read_to_string(journal).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn says(journal: &Path, record: &str, step: &str) -> bool {
    lines(journal).iter().any(|line| line["record"] == record && line["step"] == step)
}

/// Runs escli and kills it as soon as its journal has this record. Returns the journal, or `None` if the
/// operation had ended before.
fn killed(cli: &CliRunner, args: &[&str], record: &str, step: &str) -> Result<Option<PathBuf>> {
    let before = journals(cli);
    let mut child = cli.command(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let end = Instant::now() + LIMIT;
    let journal = loop {
        let new = journals(cli).difference(&before).next().cloned();
        if let Some(journal) = new.filter(|journal| says(journal, record, step)) {
            break journal;
        }
        if let Some(status) = child.try_wait()? {
            let new: Vec<Value> =
                journals(cli).difference(&before).flat_map(|journal| lines(journal)).collect();
            ensure!(status.success(), "{args:?} failed before {record} {step}: {status}\n{new:#?}");
            return Ok(None);
        }
        ensure!(Instant::now() < end, "{args:?} never came to {record} {step}");
        std::thread::sleep(Duration::from_micros(300));
    };
    child.kill()?;
    child.wait()?;
    let over = lines(&journal).iter().any(|line| line["record"] == "ended");
    Ok((!over).then_some(journal))
}

/// Resumes an operation and checks that it ends, that no node is restarted twice, and that the history shows
/// it. Returns the step ids.
fn resume(cli: &CliRunner, journal: &Path) -> Result<Vec<String>> {
    let id = journal.file_stem().and_then(|name| name.to_str()).context("a name")?;
    let (_, history) = cli.json(&["history"])?;
    let row = |history: &Value| {
        let rows = history["operations"].as_array().cloned().unwrap_or_default();
        rows.into_iter().find(|row| row["id"] == id).with_context(|| format!("{id} in {history:#}"))
    };
    ensure!(row(&history)?["state"] == "unfinished", "{history:#}");
    let (code, report) = cli.json(&["history", "resume"])?;
    ensure!(code == 0, "{report:#}\n{:#?}", lines(journal));
    let again = ids(&report);
    for done in again.iter().filter_map(|step| step.strip_suffix(".stop")) {
        let proved = says(journal, "succeeded", &format!("{done}.caught-up"));
        ensure!(!proved, "{done} was restarted twice: {again:?}");
    }
    let (_, history) = cli.json(&["history"])?;
    let state = row(&history)?["state"].clone();
    ensure!(state == "resumed" || state == "ended", "{history:#}");
    let watch = cli.escli(&["watch", "--until", "healthy", "--timeout", "20s", "-o", "json"])?;
    ensure!(watch.status.code() == Some(0), "{}", text(&watch.stdout));
    Ok(again)
}

/// Returns the nodes' processes as the system knows them: escli may have been killed before it wrote a pid
/// file.
fn pids(cli: &CliRunner) -> Result<Vec<String>> {
    let own = |id: u64| {
        let config = format!("--config={}", cli.cluster().join(format!("n{id}/cluster.yaml")).display());
        let runs = |entry: &fs::DirEntry| {
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            line.split(|byte| *byte == 0).any(|word| word == config.as_bytes())
        };
        let found =
            fs::read_dir("/proc")?.flatten().find(runs).with_context(|| format!("n{id} does not run"))?;
        Ok(found.file_name().to_string_lossy().into_owned())
    };
    (1..=3).map(own).collect()
}

/// The records of a step at which escli is killed.
const RECORDS: [&str; 2] = ["started", "succeeded"];

/// Returns the step ids in the order of the plan. The leader, whose node comes last, changes from run to run.
fn planned(cli: &CliRunner, args: &[&str]) -> Result<Vec<String>> {
    let (_, plan) = cli.json(&[args, &["--dry-run"]].concat())?;
    Ok(ids(&plan))
}

#[test]
fn up_resumes_from_every_step() -> Result<()> {
    let cli = CliRunner::new()?;
    let (dir, base) = (cli.cluster(), cli.base.to_string());
    let args = ["up", "--local", "--dir", path(&dir), "--base-port", &base];
    let steps = planned(&cli, &args)?;
    ensure!(steps.len() > 8, "{steps:?}");
    let mut resumed = 0;
    for step in &steps {
        for record in RECORDS {
            if let Some(journal) = killed(&cli, &args, record, step)? {
                resume(&cli, &journal).with_context(|| format!("killed at {record} {step}"))?;
                resumed += 1;
            }
            let file = dir.join("cluster.yaml");
            let down =
                cli.escli(&["-c", path(&file), "down", "--purge-data", "--yes", "--confirm", "local"])?;
            ensure!(down.status.code() == Some(0), "{}", text(&down.stderr));
        }
    }
    ensure!(resumed >= 2 * steps.len() - 4, "only {resumed} of {} were killed in time", 2 * steps.len());
    Ok(())
}

#[test]
fn a_restart_resumes_from_every_step() -> Result<()> {
    let cli = CliRunner::with_cluster(3)?;
    rolling(&cli, "restart", || Ok(()))
}

#[test]
fn a_reload_resumes_from_every_step() -> Result<()> {
    let cli = CliRunner::with_cluster(3)?;
    let file = cli.cluster().join("cluster.yaml");
    let plain = fs::read_to_string(&file)?;
    let turn = std::cell::Cell::new(0);
    rolling(&cli, "reload", || {
        turn.set(turn.get() + 1);
        let setting = format!("  raft:\n    heartbeat_interval: {}\ndeploy:", 40 + turn.get() % 2);
        Ok(fs::write(&file, plain.replacen("deploy:", &setting, 1))?)
    })?;
    let (_, status) = cli.json(&["status"])?;
    ensure!(!status.to_string().contains("restart_needed"), "{status:#}");
    Ok(())
}

/// Kills and resumes the operation at every step of its plan. `prepare` gives it something to do.
fn rolling(cli: &CliRunner, operation: &str, prepare: impl Fn() -> Result<()>) -> Result<()> {
    prepare()?;
    let count = planned(cli, &[operation])?.len();
    ensure!(count > 15, "{count} steps");
    let mut resumed = 0;
    for at in 0..count {
        for record in RECORDS {
            prepare()?;
            let steps = planned(cli, &[operation])?;
            let step = steps.get(at).with_context(|| format!("step {at} of {steps:?}"))?;
            let before = pids(cli)?;
            if let Some(journal) = killed(cli, &[operation], record, step)? {
                resume(cli, &journal).with_context(|| format!("killed at {record} {step}"))?;
                resumed += 1;
            }
            let after = pids(cli)?;
            let all = before.iter().zip(&after).all(|(before, after)| before != after);
            ensure!(all, "killed at {record} {step}: {before:?} {after:?}");
        }
    }
    ensure!(resumed >= 2 * count - 4, "only {resumed} of {} were killed in time", 2 * count);
    Ok(())
}

/// Kills and resumes two operations, each of which reverts the other, at every step of their plans. After
/// each the voters must be as given, and `promised` must hold.
fn there_and_back(
    cli: &CliRunner,
    operations: [(&[&str], &[u64]); 2],
    promised: impl Fn(&[&str]) -> Result<()>,
) -> Result<()> {
    let counts = operations.map(|(args, _)| args);
    let (mut killed_at, mut resumed) = (0, 0);
    let mut at = 0;
    loop {
        let mut left = false;
        for record in RECORDS {
            for (args, voters) in operations {
                let steps = planned(cli, args)?;
                let journal = match steps.get(at) {
                    Some(step) => killed(cli, args, record, step)?,
                    None => {
                        let output = cli.escli(args)?;
                        ensure!(output.status.success(), "{}", text(&output.stderr));
                        None
                    }
                };
                left |= steps.len() > at;
                killed_at += usize::from(steps.len() > at);
                let moment = format!("{} killed at {record} {:?}", args.join(" "), steps.get(at));
                if let Some(journal) = journal {
                    resume(cli, &journal).with_context(|| moment.clone())?;
                    resumed += 1;
                }
                let (code, status) = cli.json(&["status"])?;
                let nodes = status["nodes"].as_array().context("nodes")?;
                let votes =
                    nodes.iter().filter(|node| node["role"] == "leader" || node["role"] == "follower");
                let votes: Vec<_> = votes.filter_map(|node| node["id"].as_u64()).collect();
                ensure!(code == 0 && votes == voters && nodes.len() == voters.len(), "{moment}: {status:#}");
                ensure!(cli.json(&["diff"])?.0 == 0, "{moment}: something differs");
                promised(args).context(moment)?;
            }
        }
        if !left {
            break;
        }
        at += 1;
    }
    // The number of steps depends on which node leads. Some have nothing to do, and end before escli is
    // killed.
    let enough = 4 * resumed >= 3 * killed_at;
    ensure!(at > 8 && enough, "{counts:?}: only {resumed} of {killed_at} were killed in time");
    Ok(())
}

#[test]
fn adding_and_removing_a_node_resumes_from_every_step() -> Result<()> {
    let cli = CliRunner::with_cluster(3)?;
    let leave = ["remove-node", "4", "--purge", "--yes", "--confirm", "local"];
    there_and_back(&cli, [(&["add-node", "4"], &[1, 2, 3, 4]), (&leave, &[1, 2, 3])], |_| Ok(()))
}

#[test]
fn replacing_a_node_resumes_from_every_step() -> Result<()> {
    let cli = CliRunner::with_cluster(3)?;
    let purge = ["--purge", "--yes", "--confirm", "local"];
    let there = [&["replace-node", "3", "4"], &purge[..]].concat();
    let back = [&["replace-node", "4", "3"], &purge[..]].concat();
    there_and_back(&cli, [(&there, &[1, 2, 4]), (&back, &[1, 2, 3])], |_| Ok(()))
}

#[test]
fn an_upgrade_resumes_from_every_step() -> Result<()> {
    let cli = CliRunner::with_cluster(3)?;
    let (new, old) = (stamped("0.1.1"), binary("esnode"));
    let args = |to| ["upgrade", "--soak", "20ms", "--allow-downgrade", "--binary", path(to)];
    // Only the first upgrade saves the running program.
    let first = args(&new);
    let steps = planned(&cli, &first)?;
    let journal = killed(&cli, &first, "started", &steps[4])?.context("killed in time")?;
    resume(&cli, &journal)?;
    let (back, there) = (args(&old), args(&new));
    there_and_back(&cli, [(&back, &[1, 2, 3]), (&there, &[1, 2, 3])], |args| {
        let wanted = if args == back { "0.1.0" } else { "0.1.1" };
        let (_, status) = cli.json(&["upgrade", "status"])?;
        let nodes = status["nodes"].as_array().context("nodes")?;
        ensure!(
            nodes.iter().all(|node| node["version"] == wanted && node["next"] == node["release"]),
            "{status:#}"
        );
        Ok(())
    })
}

/// Kills the nodes and deletes their data.
fn lose(cli: &CliRunner, nodes: &[u64]) -> Result<()> {
    let pids = pids(cli)?;
    for id in nodes {
        let pid: i32 = pids[usize::try_from(*id)? - 1].parse()?;
        let pid = rustix::process::Pid::from_raw(pid).context("a process id")?;
        rustix::process::kill_process(pid, rustix::process::Signal::KILL)?;
        let data = cli.cluster().join(format!("n{id}/data"));
        let end = Instant::now() + LIMIT;
        while fs::remove_dir_all(&data).is_err() && data.exists() {
            ensure!(Instant::now() < end, "{} stays", data.display());
        }
    }
    Ok(())
}

#[test]
fn a_recovery_resumes_from_every_step() -> Result<()> {
    let cli = CliRunner::new()?;
    let args = ["recover", "--survivor", "2", "--lost", "1,3", "--yes", "--confirm", "recover-local-from-2"];
    let (mut at, mut resumed) = (0, 0);
    loop {
        let mut left = false;
        for record in RECORDS {
            ensure!(cli.up()?.0 == 0);
            lose(&cli, &[1, 3])?;
            let steps = planned(&cli, &args)?;
            ensure!(steps.len() > 6, "{steps:?}");
            if let Some(step) = steps.get(at) {
                left = true;
                if let Some(journal) = killed(&cli, &args, record, step)? {
                    resume(&cli, &journal).with_context(|| format!("killed at {record} {step}"))?;
                    resumed += 1;
                }
                let (code, status) = cli.json(&["status"])?;
                let nodes = status["nodes"].as_array().context("nodes")?;
                ensure!(code == 0 && nodes.len() == 1 && nodes[0]["role"] == "leader", "{step}: {status:#}");
                ensure!(cli.json(&["diff"])?.0 == 0, "{step}: something differs");
            }
            let purge = ["--purge-data", "--yes", "--confirm", "local"];
            ensure!(cli.json(&[&["down"], &purge[..]].concat())?.0 == 0);
            let _ = fs::remove_dir_all(cli.cluster());
        }
        if !left {
            break;
        }
        at += 1;
    }
    ensure!(resumed > at, "{at} steps, only {resumed} were killed in time");
    Ok(())
}

#[test]
fn a_restore_resumes_from_every_step() -> Result<()> {
    let cli = CliRunner::with_cluster(3)?;
    let tar = cli.dir.path().join("all.tar");
    ensure!(cli.json(&["backup", path(&tar)])?.0 == 0);
    let purge = || cli.json(&["down", "--purge-data", "--yes", "--confirm", "local"]);
    ensure!(purge()?.0 == 0);
    let (dir, base) = (cli.cluster(), cli.base.to_string());
    let args = ["restore", path(&tar), "--local", "--dir", path(&dir), "--base-port", &base];
    let steps = planned(&cli, &args)?;
    ensure!(steps.iter().filter(|step| step.ends_with(".rebuild")).count() == 3, "{steps:?}");
    let mut resumed = 0;
    for step in &steps {
        for record in RECORDS {
            if let Some(journal) = killed(&cli, &args, record, step)? {
                resume(&cli, &journal).with_context(|| format!("killed at {record} {step}"))?;
                resumed += 1;
            }
            ensure!(purge()?.0 == 0);
        }
    }
    ensure!(resumed + 6 >= 2 * steps.len(), "only {resumed} of {} were killed in time", 2 * steps.len());
    Ok(())
}

#[test]
fn finished_and_aborted_operations_are_not_resumed() -> Result<()> {
    let cli = CliRunner::new()?;
    ensure!(cli.escli(&["history", "resume"])?.status.code() == Some(2), "nothing was done yet");
    ensure!(cli.up()?.0 == 0);
    let over = cli.escli(&["history", "resume"])?;
    ensure!(over.status.code() == Some(3) && text(&over.stderr).contains("is over: succeeded"));
    let journal = killed(&cli, &["restart"], "started", "cluster.verify")?;
    let journal = match journal {
        Some(journal) => journal,
        None => killed(&cli, &["restart"], "succeeded", "n2.stop")?.context("killed in time")?,
    };
    let id = journal.file_stem().and_then(|name| name.to_str()).context("a name")?;
    let shown = cli.escli(&["history", "show"])?;
    ensure!(text(&shown.stdout).contains("unfinished"), "{}", text(&shown.stdout));
    ensure!(cli.escli(&["history", "abort", id])?.status.code() == Some(0));
    ensure!(cli.escli(&["history", "resume", id])?.status.code() == Some(3));
    ensure!(cli.escli(&["history", "abort", id])?.status.code() == Some(3));
    let list = text(&cli.escli(&["history"])?.stdout);
    ensure!(list.lines().any(|line| line.contains(id) && line.ends_with("aborted")), "{list}");
    Ok(())
}

//! escli is killed (SIGKILL) at every step of an operation, as its journal tells them, and the operation is resumed: it
//! ends, nothing is done twice, and the cluster is well.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::cluster::{binary, stamped};
use tests::place::{Place, ids, path, text};

/// An operation that takes longer is stuck.
const LIMIT: Duration = Duration::from_secs(60);

/// Journals of the place.
fn journals(place: &Place) -> BTreeSet<PathBuf> {
    let folder = place.dir.path().join("state/eventstream/local");
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.filter(|path| path.extension().is_some_and(|extension| extension == "jsonl")).collect()
}

/// Its whole lines.
fn lines(journal: &Path) -> Vec<Value> {
    let text = fs::read_to_string(journal).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn says(journal: &Path, record: &str, step: &str) -> bool {
    lines(journal).iter().any(|line| line["record"] == record && line["step"] == step)
}

/// Runs escli and kills it as soon as its journal says so. The journal, unless it had come to its end before.
fn killed(place: &Place, args: &[&str], record: &str, step: &str) -> Result<Option<PathBuf>> {
    let before = journals(place);
    let mut child = place.command(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let end = Instant::now() + LIMIT;
    let journal = loop {
        let new = journals(place).difference(&before).next().cloned();
        if let Some(journal) = new.filter(|journal| says(journal, record, step)) {
            break journal;
        }
        if let Some(status) = child.try_wait()? {
            let new: Vec<Value> =
                journals(place).difference(&before).flat_map(|journal| lines(journal)).collect();
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

/// Goes on, and sees that it comes to its end, that nothing is done twice, and that the history tells it.
fn resume(place: &Place, journal: &Path) -> Result<Vec<String>> {
    let id = journal.file_stem().and_then(|name| name.to_str()).context("a name")?;
    let (_, history) = place.json(&["history"])?;
    let row = |history: &Value| {
        let rows = history["operations"].as_array().cloned().unwrap_or_default();
        rows.into_iter().find(|row| row["id"] == id).with_context(|| format!("{id} in {history:#}"))
    };
    ensure!(row(&history)?["state"] == "unfinished", "{history:#}");
    let (code, report) = place.json(&["history", "resume"])?;
    ensure!(code == 0, "{report:#}\n{:#?}", lines(journal));
    let again = ids(&report);
    for done in again.iter().filter_map(|step| step.strip_suffix(".stop")) {
        let proved = says(journal, "succeeded", &format!("{done}.caught-up"));
        ensure!(!proved, "{done} was restarted twice: {again:?}");
    }
    let (_, history) = place.json(&["history"])?;
    let state = row(&history)?["state"].clone();
    ensure!(state == "resumed" || state == "ended", "{history:#}");
    let watch = place.escli(&["watch", "--until", "healthy", "--timeout", "20s", "-o", "json"])?;
    ensure!(watch.status.code() == Some(0), "{}", text(&watch.stdout));
    Ok(again)
}

/// The nodes' processes as the system knows them: escli may have been killed before it wrote a pid file.
fn pids(place: &Place) -> Result<Vec<String>> {
    let own = |id: u64| {
        let config = format!("--config={}", place.cluster().join(format!("n{id}/cluster.yaml")).display());
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

/// The ends of a step at which escli is killed.
const RECORDS: [&str; 2] = ["started", "succeeded"];

/// Steps by their place in the plan: which node leads, and so comes last, changes from one run to the next.
fn planned(place: &Place, args: &[&str]) -> Result<Vec<String>> {
    let (_, plan) = place.json(&[args, &["--dry-run"]].concat())?;
    Ok(ids(&plan))
}

#[test]
fn up_goes_on_wherever_it_was_killed() -> Result<()> {
    let place = Place::new()?;
    let (dir, base) = (place.cluster(), place.base.to_string());
    let args = ["up", "--local", "--dir", path(&dir), "--base-port", &base];
    let steps = planned(&place, &args)?;
    ensure!(steps.len() > 8, "{steps:?}");
    let mut resumed = 0;
    for step in &steps {
        for record in RECORDS {
            if let Some(journal) = killed(&place, &args, record, step)? {
                resume(&place, &journal).with_context(|| format!("killed at {record} {step}"))?;
                resumed += 1;
            }
            let file = dir.join("cluster.yaml");
            let down =
                place.escli(&["-c", path(&file), "down", "--purge-data", "--yes", "--confirm", "local"])?;
            ensure!(down.status.code() == Some(0), "{}", text(&down.stderr));
        }
    }
    ensure!(resumed >= 2 * steps.len() - 4, "only {resumed} of {} were killed in time", 2 * steps.len());
    Ok(())
}

#[test]
fn a_restart_goes_on_wherever_it_was_killed() -> Result<()> {
    let place = Place::new()?;
    ensure!(place.up()?.0 == 0);
    rolling(&place, "restart", || Ok(()))
}

#[test]
fn a_reload_goes_on_wherever_it_was_killed() -> Result<()> {
    let place = Place::new()?;
    ensure!(place.up()?.0 == 0);
    let file = place.cluster().join("cluster.yaml");
    let plain = fs::read_to_string(&file)?;
    let turn = std::cell::Cell::new(0);
    rolling(&place, "reload", || {
        turn.set(turn.get() + 1);
        let setting = format!("  raft:\n    heartbeat_interval: {}\ndeploy:", 40 + turn.get() % 2);
        Ok(fs::write(&file, plain.replacen("deploy:", &setting, 1))?)
    })?;
    let (_, status) = place.json(&["status"])?;
    ensure!(!status.to_string().contains("restart_needed"), "{status:#}");
    Ok(())
}

/// Kills the operation at every step of its plan; `prepare` gives it something to do.
fn rolling(place: &Place, operation: &str, prepare: impl Fn() -> Result<()>) -> Result<()> {
    prepare()?;
    let count = planned(place, &[operation])?.len();
    ensure!(count > 15, "{count} steps");
    let mut resumed = 0;
    for at in 0..count {
        for record in RECORDS {
            prepare()?;
            let steps = planned(place, &[operation])?;
            let step = steps.get(at).with_context(|| format!("step {at} of {steps:?}"))?;
            let before = pids(place)?;
            if let Some(journal) = killed(place, &[operation], record, step)? {
                resume(place, &journal).with_context(|| format!("killed at {record} {step}"))?;
                resumed += 1;
            }
            let after = pids(place)?;
            let all = before.iter().zip(&after).all(|(before, after)| before != after);
            ensure!(all, "killed at {record} {step}: {before:?} {after:?}");
        }
    }
    ensure!(resumed >= 2 * count - 4, "only {resumed} of {} were killed in time", 2 * count);
    Ok(())
}

/// Kills two operations, each of which takes the other one back, at every step of their plans. After each the voters are
/// as it promised.
fn there_and_back(
    place: &Place,
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
                let steps = planned(place, args)?;
                let journal = match steps.get(at) {
                    Some(step) => killed(place, args, record, step)?,
                    None => {
                        let output = place.escli(args)?;
                        ensure!(output.status.success(), "{}", text(&output.stderr));
                        None
                    }
                };
                left |= steps.len() > at;
                killed_at += usize::from(steps.len() > at);
                let moment = format!("{} killed at {record} {:?}", args.join(" "), steps.get(at));
                if let Some(journal) = journal {
                    resume(place, &journal).with_context(|| moment.clone())?;
                    resumed += 1;
                }
                let (code, status) = place.json(&["status"])?;
                let nodes = status["nodes"].as_array().context("nodes")?;
                let votes =
                    nodes.iter().filter(|node| node["role"] == "leader" || node["role"] == "follower");
                let votes: Vec<_> = votes.filter_map(|node| node["id"].as_u64()).collect();
                ensure!(code == 0 && votes == voters && nodes.len() == voters.len(), "{moment}: {status:#}");
                ensure!(place.json(&["diff"])?.0 == 0, "{moment}: something differs");
                promised(args).context(moment)?;
            }
        }
        if !left {
            break;
        }
        at += 1;
    }
    // How many steps each of the two has depends on who leads; some have nothing to do, and no moment to be killed in.
    let enough = 4 * resumed >= 3 * killed_at;
    ensure!(at > 8 && enough, "{counts:?}: only {resumed} of {killed_at} were killed in time");
    Ok(())
}

#[test]
fn a_node_that_joins_or_leaves_does_so_wherever_escli_was_killed() -> Result<()> {
    let place = Place::new()?;
    ensure!(place.up()?.0 == 0);
    let leave = ["remove-node", "4", "--purge", "--yes", "--confirm", "local"];
    there_and_back(&place, [(&["add-node", "4"], &[1, 2, 3, 4]), (&leave, &[1, 2, 3])], |_| Ok(()))
}

#[test]
fn a_node_is_replaced_wherever_escli_was_killed() -> Result<()> {
    let place = Place::new()?;
    ensure!(place.up()?.0 == 0);
    let purge = ["--purge", "--yes", "--confirm", "local"];
    let there = [&["replace-node", "3", "4"], &purge[..]].concat();
    let back = [&["replace-node", "4", "3"], &purge[..]].concat();
    there_and_back(&place, [(&there, &[1, 2, 4]), (&back, &[1, 2, 3])], |_| Ok(()))
}

#[test]
fn an_upgrade_goes_on_wherever_escli_was_killed() -> Result<()> {
    let place = Place::new()?;
    ensure!(place.up()?.0 == 0);
    let (new, old) = (stamped("0.1.1"), binary("esnode"));
    let args = |to| ["upgrade", "--soak", "20ms", "--allow-downgrade", "--binary", path(to)];
    // The first one keeps what runs, which later ones need not.
    let first = args(&new);
    let steps = planned(&place, &first)?;
    let journal = killed(&place, &first, "started", &steps[4])?.context("killed in time")?;
    resume(&place, &journal)?;
    let (back, there) = (args(&old), args(&new));
    there_and_back(&place, [(&back, &[1, 2, 3]), (&there, &[1, 2, 3])], |args| {
        let wanted = if args == back { "0.1.0" } else { "0.1.1" };
        let (_, status) = place.json(&["upgrade", "status"])?;
        let nodes = status["nodes"].as_array().context("nodes")?;
        ensure!(
            nodes.iter().all(|node| node["version"] == wanted && node["next"] == node["release"]),
            "{status:#}"
        );
        Ok(())
    })
}

/// The nodes' processes are killed and their disks are gone.
fn lose(place: &Place, nodes: &[u64]) -> Result<()> {
    let pids = pids(place)?;
    for id in nodes {
        let pid: i32 = pids[usize::try_from(*id)? - 1].parse()?;
        let pid = rustix::process::Pid::from_raw(pid).context("a process id")?;
        rustix::process::kill_process(pid, rustix::process::Signal::KILL)?;
        let data = place.cluster().join(format!("n{id}/data"));
        let end = Instant::now() + LIMIT;
        while fs::remove_dir_all(&data).is_err() && data.exists() {
            ensure!(Instant::now() < end, "{} stays", data.display());
        }
    }
    Ok(())
}

#[test]
fn a_recovery_goes_on_wherever_escli_was_killed() -> Result<()> {
    let place = Place::new()?;
    let args = ["recover", "--survivor", "2", "--lost", "1,3", "--yes", "--confirm", "recover-local-from-2"];
    let (mut at, mut resumed) = (0, 0);
    loop {
        let mut left = false;
        for record in RECORDS {
            ensure!(place.up()?.0 == 0);
            lose(&place, &[1, 3])?;
            let steps = planned(&place, &args)?;
            ensure!(steps.len() > 6, "{steps:?}");
            if let Some(step) = steps.get(at) {
                left = true;
                if let Some(journal) = killed(&place, &args, record, step)? {
                    resume(&place, &journal).with_context(|| format!("killed at {record} {step}"))?;
                    resumed += 1;
                }
                let (code, status) = place.json(&["status"])?;
                let nodes = status["nodes"].as_array().context("nodes")?;
                ensure!(code == 0 && nodes.len() == 1 && nodes[0]["role"] == "leader", "{step}: {status:#}");
                ensure!(place.json(&["diff"])?.0 == 0, "{step}: something differs");
            }
            let purge = ["--purge-data", "--yes", "--confirm", "local"];
            ensure!(place.json(&[&["down"], &purge[..]].concat())?.0 == 0);
            let _ = fs::remove_dir_all(place.cluster());
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
fn a_restore_goes_on_wherever_escli_was_killed() -> Result<()> {
    let place = Place::new()?;
    ensure!(place.up()?.0 == 0);
    let tar = place.dir.path().join("all.tar");
    ensure!(place.json(&["backup", path(&tar)])?.0 == 0);
    let purge = || place.json(&["down", "--purge-data", "--yes", "--confirm", "local"]);
    ensure!(purge()?.0 == 0);
    let (dir, base) = (place.cluster(), place.base.to_string());
    let args = ["restore", path(&tar), "--local", "--dir", path(&dir), "--base-port", &base];
    let steps = planned(&place, &args)?;
    ensure!(steps.iter().filter(|step| step.ends_with(".recover")).count() == 3, "{steps:?}");
    let mut resumed = 0;
    for step in &steps {
        for record in RECORDS {
            if let Some(journal) = killed(&place, &args, record, step)? {
                resume(&place, &journal).with_context(|| format!("killed at {record} {step}"))?;
                resumed += 1;
            }
            ensure!(purge()?.0 == 0);
        }
    }
    ensure!(resumed + 6 >= 2 * steps.len(), "only {resumed} of {} were killed in time", 2 * steps.len());
    Ok(())
}

#[test]
fn what_is_over_is_not_resumed_and_what_is_aborted_neither() -> Result<()> {
    let place = Place::new()?;
    ensure!(place.escli(&["history", "resume"])?.status.code() == Some(2), "nothing was done yet");
    ensure!(place.up()?.0 == 0);
    let over = place.escli(&["history", "resume"])?;
    ensure!(over.status.code() == Some(3) && text(&over.stderr).contains("has ended: succeeded"));
    let journal = killed(&place, &["restart"], "started", "cluster.verify")?;
    let journal = match journal {
        Some(journal) => journal,
        None => killed(&place, &["restart"], "succeeded", "n2.stop")?.context("killed in time")?,
    };
    let id = journal.file_stem().and_then(|name| name.to_str()).context("a name")?;
    let shown = place.escli(&["history", "show"])?;
    ensure!(text(&shown.stdout).contains("unfinished"), "{}", text(&shown.stdout));
    ensure!(place.escli(&["history", "abort", id])?.status.code() == Some(0));
    ensure!(place.escli(&["history", "resume", id])?.status.code() == Some(3));
    ensure!(place.escli(&["history", "abort", id])?.status.code() == Some(3));
    let list = text(&place.escli(&["history"])?.stdout);
    ensure!(list.lines().any(|line| line.contains(id) && line.ends_with("aborted")), "{list}");
    Ok(())
}

//! `escli` over SSH to a host of one node: output of the login, lost pid files, and operations that lose
//! their lease.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::cli::{escli, ids, json, text};
use tests::sshd::SshLab;

/// A host with an SSH server, and a cluster.yaml of one node on it.
struct Host {
    lab: SshLab,
}

impl Host {
    /// Adds `sshd` to the server's configuration.
    fn new(sshd: &str) -> Result<Self> {
        let mut lab = SshLab::empty()?;
        lab.key("id_ed25519", "")?;
        let at = lab.server(sshd)?;
        let address = lab.at(at).address;
        let path = |name: &str| lab.path(name).display().to_string();
        let (host, port) = (address.ip(), address.port());
        let yaml = format!(
            "cluster:\n  name: desk\n  nodes:\n    - {{ id: 1, host: {host}, bind: {host} }}\n  storage:\n    data_dir: {}\n\
             deploy:\n  privilege: none\n  service: process\n  install_dir: {}\n  ssh:\n    user: {}\n    port: {port}\n    \
             identity_file: {}\n    known_hosts: {}\n",
            path("data"),
            path("es"),
            lab.user(),
            path("id_ed25519"),
            path("known_hosts"),
        );
        fs::write(lab.path("cluster.yaml"), yaml)?;
        Ok(Self { lab })
    }

    /// Sets what the shell reads at login.
    fn reads_first(&self, bashrc: &str) -> Result<()> {
        Ok(fs::write(self.lab.path(".bashrc"), bashrc)?)
    }

    fn command(&self, args: &[&str]) -> Command {
        escli(&self.lab.path(""), args)
    }

    fn escli(&self, args: &[&str]) -> Result<Output> {
        Ok(self.command(args).output()?)
    }

    fn json(&self, args: &[&str]) -> Result<(i32, Value)> {
        json(&self.lab.path(""), args)
    }

    /// Checks that this succeeds. Returns how many steps changed something.
    fn changes(&self, args: &[&str]) -> Result<u64> {
        let (code, report) = self.json(args)?;
        ensure!(code == 0 && report["outcome"] == "succeeded", "{args:?}: {report:#}");
        report["changed"].as_u64().context("a number")
    }

    /// Returns the findings of `check` that are not ok.
    fn problems(&self) -> Result<Vec<(String, String)>> {
        let (_, document) = self.json(&["check"])?;
        let findings = document["findings"].as_array().context("findings")?.iter();
        let problems = findings.filter(|finding| finding["level"] != "ok");
        Ok(problems.map(|finding| (finding["check"].to_string(), finding.to_string())).collect())
    }

    /// Returns the processes of this host whose command line contains `part`.
    fn running(&self, part: &str) -> Vec<u32> {
        let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let runs = |pid: &u32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line = text(&line).replace('\0', " ");
            line.contains(part) && line.contains(&self.lab.path("").display().to_string())
        };
        pids.filter(runs).collect()
    }

    fn node(&self) -> Vec<u32> {
        self.running("--node-id=1 --config=")
            .into_iter()
            .filter(|pid| fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe.ends_with("esnode")))
            .collect()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        for pid in self.node() {
            kill(pid);
        }
    }
}

fn kill(pid: u32) {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    // It may just have ended.
    _ = pid.map(|pid| rustix::process::kill_process(pid, rustix::process::Signal::KILL));
}

/// Brings the cluster up, inspects it, stops it and removes it.
fn whole_life(host: &Host) -> Result<()> {
    let problems = host.problems()?;
    ensure!(problems.is_empty(), "{problems:?}");
    ensure!(host.changes(&["up"])? > 3);
    ensure!(host.changes(&["up"])? == 0, "a second up changed something");
    ensure!(host.node().len() == 1);
    let diff = host.escli(&["diff"])?;
    ensure!(diff.status.code() == Some(0), "{}{}", text(&diff.stdout), text(&diff.stderr));
    let logs = text(&host.escli(&["logs", "-n", "50"])?.stdout);
    ensure!(logs.contains("n1 | ") && !logs.contains("WELCOME"), "{logs}");
    ensure!(host.changes(&["stop", "--yes"])? == 1 && host.node().is_empty(), "it was stopped");
    ensure!(host.changes(&["down", "--purge-data", "--yes", "--confirm", "desk"])? > 0);
    ensure!(!host.lab.path("data").exists());
    Ok(())
}

#[test]
fn output_of_a_login_is_not_taken_for_output_of_a_script() -> Result<()> {
    let host = Host::new("")?;
    host.reads_first("echo WELCOME; echo 'pid 4711'; echo 'running 4711'; printf open; echo WELCOME >&2\n")?;
    whole_life(&host)?;
    // The next server has the same address.
    drop(host);
    // Output around every command, and another exit status.
    let host = Host::new(
        "ForceCommand echo WELCOME; eval \"$SSH_ORIGINAL_COMMAND\"; printf 'WELCOME back'; exit 9",
    )?;
    whole_life(&host)
}

#[test]
fn a_login_that_runs_no_commands_is_reported() -> Result<()> {
    let host = Host::new("")?;
    for bashrc in ["echo go away; exit 1\n", "exit 0\n", "exec cat\n"] {
        host.reads_first(bashrc)?;
        let problems = host.problems()?;
        ensure!(problems.len() == 1 && problems[0].0.contains("reach"), "{bashrc}: {problems:?}");
        ensure!(
            problems[0].1.contains("does not run commands") && problems[0].1.contains("~/.bashrc"),
            "{problems:?}"
        );
        let (code, report) = host.json(&["up"])?;
        ensure!(code == 3 && report["changed"] == 0, "{bashrc}: {report:#}");
    }
    // The next server has the same address.
    drop(host);
    let forced = Host::new("ForceCommand echo only backups here")?;
    let problems = forced.problems()?;
    ensure!(
        problems[0].1.contains("it printed: only backups here") && problems[0].1.contains("ForceCommand"),
        "{problems:?}"
    );
    Ok(())
}

#[test]
fn a_node_without_its_pid_file_is_found_and_stopped() -> Result<()> {
    let host = Host::new("")?;
    host.changes(&["up"])?;
    let pid = host.lab.path("es/run/pid");
    for content in [None, Some("1\n"), Some("1 /etc/passwd *\n")] {
        match content {
            None => fs::remove_file(&pid)?,
            Some(content) => fs::write(&pid, content)?,
        }
        ensure!(host.changes(&["start"])? == 0, "it runs: {content:?}");
        ensure!(host.changes(&["stop", "--yes"])? == 1 && host.node().is_empty(), "{content:?}");
        ensure!(host.changes(&["start"])? == 1 && host.node().len() == 1);
    }
    Ok(())
}

/// Waits until the operation has started a step.
fn begins(host: &Host, child: &mut Child) -> Result<()> {
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(20) {
        let folder = fs::read_dir(host.lab.path("state/eventstream/desk")).into_iter().flatten().flatten();
        let mut journals = folder
            .map(|entry| entry.path())
            .filter(|path: &PathBuf| path.extension().is_some_and(|end| end == "jsonl"));
        if journals
            .any(|path| fs::read_to_string(path).is_ok_and(|text| text.contains("\"record\":\"started\"")))
        {
            return Ok(());
        }
        ensure!(child.try_wait()?.is_none(), "it has ended");
        std::thread::sleep(Duration::from_millis(2));
    }
    anyhow::bail!("no step for 20 s")
}

#[test]
fn an_operation_that_has_lost_its_lease_begins_nothing_else() -> Result<()> {
    let host = Host::new("")?;
    // Every script is slow, so that the test can act meanwhile.
    host.reads_first("sleep 0.2\n")?;
    let mut first = host.command(&["up", "-o", "json"]).stdout(Stdio::piped()).spawn()?;
    begins(&host, &mut first)?;
    // Another operator's escli, which does not see the lock on this machine.
    let second = host
        .command(&["stop", "--yes", "-o", "json"])
        .env("XDG_STATE_HOME", host.lab.path("other"))
        .output()?;
    ensure!(second.status.code() == Some(6), "{}", text(&second.stdout));
    ensure!(text(&second.stdout).contains("up by ") || text(&second.stderr).contains("up by "), "who has it");
    let holders = host.running("eventstream-operation.lock");
    ensure!(!holders.is_empty(), "nobody holds the lease");
    holders.into_iter().for_each(kill);
    let output = first.wait_with_output()?;
    let report: Value = serde_json::from_slice(&output.stdout)?;
    ensure!(output.status.code() == Some(4) && report["outcome"] == "partial", "{report:#}");
    ensure!(
        report["error"]["message"].to_string().contains("the lease of node 1's host is lost"),
        "{report:#}"
    );
    let steps = report["steps"].as_array().context("steps")?;
    ensure!(steps.iter().any(|step| step["outcome"] == "not_run"), "{report:#}");
    ensure!(ids(&report).iter().any(|id| id == "n1.start") && host.node().is_empty(), "it was started");
    // The host can be leased again at once.
    ensure!(host.changes(&["up"])? > 0);
    // A lease ends soon after its escli.
    let ended = Instant::now();
    while !host.running("eventstream-operation.lock").is_empty() {
        ensure!(ended.elapsed() < Duration::from_secs(5), "the lease is still held");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

//! An operator of the lab's hosts, with a cluster.yaml and a state directory of their own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::Value;
use shared::ids::NodeId;
use tempfile::TempDir;

use super::text;
use crate::lab::Lab;

/// One operator, and the hosts that their cluster.yaml names.
pub struct CliSession<'a> {
    lab: &'a Lab,
    dir: TempDir,
}

impl<'a> CliSession<'a> {
    /// Logs in to every host as `user`; `deploy` is added to that section of cluster.yaml.
    pub fn new(lab: &'a Lab, user: &str, deploy: &str) -> Result<Self> {
        Self::of(lab, &lab.ids(), user, deploy)
    }

    /// The same with some of the hosts only.
    pub fn of(lab: &'a Lab, ids: &[NodeId], user: &str, deploy: &str) -> Result<Self> {
        let this = Self { lab, dir: tempfile::tempdir()? };
        let known_hosts = this.dir.path().join("known_hosts");
        std::fs::copy(lab.known_hosts()?, &known_hosts)?;
        let nodes: String =
            ids.iter().map(|id| format!("    - {{ id: {id}, host: {} }}\n", lab.address(*id))).collect();
        let text = format!(
            "cluster:\n  name: lab\n  nodes:\n{nodes}deploy:\n{deploy}  ssh:\n    user: {user}\n    \
             identity_file: {}\n    known_hosts: {}\n",
            lab.key()?.display(),
            known_hosts.display()
        );
        std::fs::write(this.dir.path().join("cluster.yaml"), text)?;
        Ok(this)
    }

    /// The working directory, with `cluster.yaml` in it.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Replaces the first `from` in cluster.yaml.
    pub fn edit(&self, from: &str, to: &str) -> Result<()> {
        let path = self.dir().join("cluster.yaml");
        let yaml = std::fs::read_to_string(&path)?;
        ensure!(yaml.contains(from), "no {from:?} in {yaml}");
        Ok(std::fs::write(path, yaml.replacen(from, to, 1))?)
    }

    /// escli, not yet started.
    pub fn command(&self, args: &[&str]) -> Command {
        super::escli(self.dir(), args)
    }

    /// Runs escli to its end.
    pub fn escli(&self, args: &[&str]) -> Result<Output> {
        Ok(self.command(args).output()?)
    }

    /// Runs escli with `-o json`. Returns the exit code and the document that it printed.
    pub fn json(&self, args: &[&str]) -> Result<(i32, Value)> {
        super::json(self.dir(), args)
    }

    /// Brings the cluster up. Returns the report.
    pub fn up(&self) -> Result<Value> {
        let (code, report) = self.json(&["up"])?;
        ensure!(code == 0 && report["outcome"] == "succeeded", "{report:#}");
        self.check_healthy()?;
        Ok(report)
    }

    /// Checks that the cluster is healthy now.
    pub fn check_healthy(&self) -> Result<()> {
        let (code, status) = self.json(&["status"])?;
        ensure!(code == 0 && status["health"] == "HEALTHY", "{status:#}");
        Ok(())
    }

    /// Waits until the cluster is healthy, for at most 20 seconds.
    pub fn wait_healthy(&self) -> Result<()> {
        let output =
            self.escli(&["watch", "--until", "healthy", "--interval", "100ms", "--timeout", "20s"])?;
        ensure!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
        Ok(())
    }

    /// Checks that this is refused with exit code 3. Returns its reasons and hints.
    pub fn refused(&self, args: &[&str]) -> Result<String> {
        let (code, report) = self.json(args)?;
        ensure!(code == 3 && report["changed"] == 0, "{report:#}");
        Ok(report["error"].to_string())
    }

    /// Checks that every host is as bare as it was.
    pub fn check_bare(&self) -> Result<()> {
        for id in self.lab.ids() {
            let found = self.lab.exec(id, &["sh", "-c", "ls -d /opt/eventstream /var/lib/eventstream 2>/dev/null; id -un eventstream 2>/dev/null; true"])?;
            ensure!(found.is_empty(), "on host {id}: {found}");
        }
        Ok(())
    }

    /// The journals of all operations.
    pub fn journals(&self) -> Result<Vec<PathBuf>> {
        let dir = self.dir().join("state/eventstream/lab");
        let Ok(entries) = std::fs::read_dir(dir) else { return Ok(Vec::new()) };
        let paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
        Ok(paths.into_iter().filter(|path| path.extension().is_some_and(|end| end == "jsonl")).collect())
    }

    /// Waits until `reached` holds for the numbers of changing steps of the newest operation that have
    /// started and ended. Returns false when escli ended first.
    pub fn wait_for_step(&self, child: &mut Child, reached: impl Fn(usize, usize) -> bool) -> Result<bool> {
        let before = self.journals()?;
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(30) {
            for path in self.journals()?.into_iter().filter(|path| !before.contains(path)) {
                let journal = std::fs::read_to_string(path).unwrap_or_default();
                let of = |kind: &str| {
                    let lines =
                        journal.lines().filter(|line| line.contains(&format!("\"record\":\"{kind}\"")));
                    lines.filter(|line| !line.contains("cluster.")).count()
                };
                if reached(of("started"), of("succeeded")) {
                    return Ok(true);
                }
            }
            if child.try_wait()?.is_some() {
                return Ok(false);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        anyhow::bail!("no step for 30 s")
    }
}

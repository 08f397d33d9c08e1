//! An operator at a desk of their own, with a cluster.yaml of the lab's hosts and a state directory: runs escli.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use shared::ids::NodeId;
use tempfile::TempDir;

use crate::lab::Lab;
use crate::programs::binary;

/// An operator with a cluster.yaml of the lab's hosts.
pub struct Operator<'a> {
    lab: &'a Lab,
    dir: TempDir,
}

impl<'a> Operator<'a> {
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

    /// Their working directory, with `cluster.yaml` in it.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Changes their cluster.yaml.
    pub fn edit(&self, from: &str, to: &str) -> Result<()> {
        let path = self.dir().join("cluster.yaml");
        let yaml = std::fs::read_to_string(&path)?;
        ensure!(yaml.contains(from), "no {from:?} in {yaml}");
        Ok(std::fs::write(path, yaml.replacen(from, to, 1))?)
    }

    /// escli, ready to be started.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(binary("escli"));
        let state = self.dir.path().join("state");
        command.args(args).current_dir(self.dir.path());
        command.env("XDG_STATE_HOME", &state).env("XDG_DATA_HOME", &state).env("HOME", self.dir.path());
        command.env("ESNODE", binary("esnode")).env_remove("ESCLI_CONFIG").env_remove("SSH_AUTH_SOCK");
        command
    }

    /// Runs escli to its end, without a terminal.
    pub fn escli(&self, args: &[&str]) -> Result<Output> {
        Ok(self.command(args).stdin(Stdio::null()).output()?)
    }

    /// Runs with `-o json`; the exit code and the one document.
    pub fn json(&self, args: &[&str]) -> Result<(i32, Value)> {
        let output = self.escli(&[args, &["-o", "json"]].concat())?;
        let code = output.status.code().context("an exit code")?;
        let document = serde_json::from_slice(&output.stdout).with_context(|| {
            format!("{args:?} printed {:?}, {:?}", text(&output.stdout), text(&output.stderr))
        })?;
        Ok((code, document))
    }

    /// Brings the cluster up, and says what changed.
    pub fn up(&self) -> Result<Value> {
        let (code, report) = self.json(&["up"])?;
        ensure!(code == 0 && report["outcome"] == "succeeded", "{report:#}");
        self.healthy()?;
        Ok(report)
    }

    /// All is well now.
    pub fn healthy(&self) -> Result<()> {
        let (code, status) = self.json(&["status"])?;
        ensure!(code == 0 && status["health"] == "HEALTHY", "{status:#}");
        Ok(())
    }

    /// All is well within 20 seconds.
    pub fn until_healthy(&self) -> Result<()> {
        let output =
            self.escli(&["watch", "--until", "healthy", "--interval", "100ms", "--timeout", "20s"])?;
        ensure!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
        Ok(())
    }

    /// Refused with exit code 3; all its reasons and hints.
    pub fn refused(&self, args: &[&str]) -> Result<String> {
        let (code, report) = self.json(args)?;
        ensure!(code == 3 && report["changed"] == 0, "{report:#}");
        Ok(report["error"].to_string())
    }

    /// Every host is as bare as it was.
    pub fn nothing_changed(&self) -> Result<()> {
        for id in self.lab.ids() {
            let found = self.lab.exec(id, &["sh", "-c", "ls -d /opt/eventstream /var/lib/eventstream 2>/dev/null; id -un eventstream 2>/dev/null; true"])?;
            ensure!(found.is_empty(), "on host {id}: {found}");
        }
        Ok(())
    }

    /// The journals of all their operations.
    pub fn journals(&self) -> Result<Vec<PathBuf>> {
        let dir = self.dir.path().join("state/eventstream/lab");
        let Ok(entries) = std::fs::read_dir(dir) else { return Ok(Vec::new()) };
        let paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
        Ok(paths.into_iter().filter(|path| path.extension().is_some_and(|end| end == "jsonl")).collect())
    }

    /// Waits until so many changing steps of the newest operation have started and ended. `false` when escli ended first.
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

/// Bytes as text.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

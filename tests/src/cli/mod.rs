//! Runs escli as an operator does, in a folder of its own and apart from the settings of whoever runs the
//! tests.

mod session;

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use shared::ids::NodeId;
use tempfile::TempDir;

pub use session::CliSession;

use crate::programs::binary;

/// Returns escli, ready to run in `dir`, which is its home and keeps its state. It installs this build's
/// esnode.
pub fn escli(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(binary("escli"));
    let state = dir.join("state");
    command.args(args).current_dir(dir).stdin(Stdio::null());
    command.env("HOME", dir).env("XDG_STATE_HOME", &state).env("XDG_DATA_HOME", &state);
    command.env("ESNODE", binary("esnode")).env_remove("ESCLI_CONFIG").env_remove("SSH_AUTH_SOCK");
    command
}

/// Runs escli with `-o json`. Returns the exit code and the document that it printed.
pub fn json(dir: &Path, args: &[&str]) -> Result<(i32, Value)> {
    let output = escli(dir, &[args, &["-o", "json"]].concat()).output()?;
    let code = output.status.code().context("an exit code")?;
    let document = serde_json::from_slice(&output.stdout).with_context(|| {
        format!("{args:?} printed {:?}, {:?}", text(&output.stdout), text(&output.stderr))
    })?;
    Ok((code, document))
}

/// escli in a folder of its own, and a range of ports for one local cluster, which is taken down on drop.
pub struct CliRunner {
    /// The folder; everything that escli leaves behind is in here.
    pub dir: TempDir,
    /// First port of the range.
    pub base: u16,
}

impl CliRunner {
    /// An empty folder and a free range of ports.
    pub fn new() -> Result<Self> {
        // Suites run in processes of their own; each takes a range by its process id, below the ephemeral
        // ports.
        let first = u16::try_from(std::process::id() % 40)? * 400;
        let free = |base: &u16| (0..300).all(|port| TcpListener::bind(("127.0.0.1", base + port)).is_ok());
        let base = (0..40).map(|turn| 10_000 + (first + turn * 400) % 16_000).find(free);
        Ok(Self { dir: tempfile::tempdir()?, base: base.context("no free ports")? })
    }

    /// The folder of the local cluster.
    pub fn cluster(&self) -> PathBuf {
        self.dir.path().join("cluster")
    }

    /// Runs escli to its end.
    pub fn escli(&self, args: &[&str]) -> Result<Output> {
        Ok(self.command(args).output()?)
    }

    /// escli in this folder, not yet started.
    pub fn command(&self, args: &[&str]) -> Command {
        escli(self.dir.path(), args)
    }

    /// Runs escli with `-o json`. Returns the exit code and the document that it printed.
    pub fn json(&self, args: &[&str]) -> Result<(i32, Value)> {
        json(self.dir.path(), args)
    }

    /// Brings up three nodes.
    pub fn up(&self) -> Result<(i32, Value)> {
        let (dir, base) = (self.cluster(), self.base.to_string());
        self.json(&["up", "--local", "--dir", path(&dir), "--base-port", &base])
    }

    /// Brings up `nodes` nodes, which must succeed.
    pub fn with_cluster(nodes: usize) -> Result<Self> {
        let this = Self::new()?;
        let (dir, base, count) = (this.cluster(), this.base.to_string(), nodes.to_string());
        let args = ["up", "--local", "--dir", path(&dir), "--base-port", &base, "--nodes", &count];
        let (code, report) = this.json(&args)?;
        ensure!(code == 0, "{report:#}");
        Ok(this)
    }

    /// The address of a node's Kafka port, as `up` assigns it.
    pub fn kafka(&self, id: NodeId) -> SocketAddr {
        let offset = u16::try_from(id - 1).expect("node ids are small");
        SocketAddr::from(([127, 0, 0, 1], self.base + offset))
    }

    /// The document of `escli status`.
    pub fn status(&self) -> Result<Value> {
        Ok(self.json(&["status"])?.1)
    }

    /// The node that leads, according to `escli status`.
    pub fn leader(&self) -> Result<NodeId> {
        let status = self.status()?;
        status["leader"].as_u64().with_context(|| format!("no leader: {status:#}"))
    }

    /// What the pid file of a node says.
    pub fn pid(&self, id: NodeId) -> Result<String> {
        let file = self.cluster().join(format!("n{id}/pid"));
        Ok(std::fs::read_to_string(file)?.trim().to_owned())
    }

    /// What the pid files of these nodes say.
    pub fn pids(&self, ids: impl IntoIterator<Item = NodeId>) -> Result<Vec<String>> {
        ids.into_iter().map(|id| self.pid(id)).collect()
    }

    /// Sends a signal to a node.
    pub fn signal(&self, id: NodeId, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(self.pid(id)?.parse()?).context("a process id")?;
        Ok(kill_process(pid, signal)?)
    }
}

impl Drop for CliRunner {
    fn drop(&mut self) {
        let _ = self.escli(&["down", "--yes"]);
    }
}

/// A path as an argument.
pub fn path(path: &Path) -> &str {
    path.to_str().unwrap_or_default()
}

/// Output as text.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Returns the step ids of a plan or a report, in order.
pub fn ids(document: &Value) -> Vec<String> {
    let steps = |value: &Value| value["steps"].as_array().cloned();
    let all = steps(document).or_else(|| {
        let stages = document["stages"].as_array()?;
        Some(stages.iter().filter_map(steps).flatten().collect())
    });
    all.unwrap_or_default().iter().filter_map(|step| Some(step["id"].as_str()?.to_owned())).collect()
}

/// Writes an executable shell script.
pub fn script(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, format!("#!/bin/sh\n{text}\n"))?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    Ok(std::fs::set_permissions(path, mode)?)
}

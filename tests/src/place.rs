//! A place of its own for one local cluster that escli runs: folder, state, and a range of ports that nobody else uses.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result};
use serde_json::Value;
use tempfile::TempDir;

use crate::programs::binary;

/// One local cluster; taken down when this is dropped.
pub struct Place {
    /// Everything it leaves behind is in here.
    pub dir: TempDir,
    /// First of its ports.
    pub base: u16,
}

impl Place {
    /// A free range of ports and an empty folder.
    ///
    /// # Errors
    /// When there are none.
    pub fn new() -> Result<Self> {
        // Suites run in processes of their own; each takes a range by its process id, below the ephemeral ports.
        let base = 10_000 + u16::try_from(std::process::id() % 40)? * 400;
        let free = |base: &u16| (0..300).all(|port| TcpListener::bind(("127.0.0.1", base + port)).is_ok());
        let base = (0..40).map(|turn| 10_000 + (base - 10_000 + turn * 400) % 16_000).find(free);
        Ok(Self { dir: tempfile::tempdir()?, base: base.context("no free ports")? })
    }

    /// Where the cluster lives.
    pub fn cluster(&self) -> PathBuf {
        self.dir.path().join("cluster")
    }

    /// Runs escli to its end.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn escli(&self, args: &[&str]) -> Result<Output> {
        Ok(self.command(args).output()?)
    }

    /// escli in this place, not yet run.
    pub fn command(&self, args: &[&str]) -> Command {
        let state = self.dir.path().join("state");
        let mut command = Command::new(binary("escli"));
        command
            .args(args)
            .env("XDG_STATE_HOME", &state)
            .env("XDG_DATA_HOME", &state)
            .env_remove("ESCLI_CONFIG")
            .env("ESNODE", binary("esnode"))
            .current_dir(self.dir.path());
        command
    }

    /// Runs with `-o json`; the exit code and the one document.
    ///
    /// # Errors
    /// When it prints none.
    pub fn json(&self, args: &[&str]) -> Result<(i32, Value)> {
        let output = self.escli(&[args, &["-o", "json"]].concat())?;
        let code = output.status.code().context("an exit code")?;
        let document = serde_json::from_slice(&output.stdout).with_context(|| {
            format!("{args:?} printed {:?}, {:?}", text(&output.stdout), text(&output.stderr))
        })?;
        Ok((code, document))
    }

    /// Brings three nodes up.
    ///
    /// # Errors
    /// As [`Self::json`].
    pub fn up(&self) -> Result<(i32, Value)> {
        let dir = self.cluster();
        let base = self.base.to_string();
        self.json(&["up", "--local", "--dir", path(&dir), "--base-port", &base])
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = self.escli(&["down", "--yes"]);
    }
}

/// As an argument.
pub fn path(path: &Path) -> &str {
    path.to_str().unwrap_or_default()
}

/// For messages.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Step ids in order, wherever the document keeps them.
pub fn ids(document: &Value) -> Vec<String> {
    let steps = |value: &Value| value["steps"].as_array().cloned();
    let all = steps(document).or_else(|| {
        let stages = document["stages"].as_array()?;
        Some(stages.iter().filter_map(steps).flatten().collect())
    });
    all.unwrap_or_default().iter().filter_map(|step| Some(step["id"].as_str()?.to_owned())).collect()
}

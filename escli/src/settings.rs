//! How escli was called: its options and its environment. Nothing below this knows of clap.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::hosts::ssh::Passphrases;
use crate::output::{ColorChoice, Format};

/// What the process was given besides its arguments; tests make their own.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// `$ESCLI_CONFIG`.
    pub config: Option<PathBuf>,
    /// `$ESNODE`.
    pub esnode: Option<PathBuf>,
    /// `$PATH`.
    pub path: Option<std::ffi::OsString>,
    /// The running program.
    pub executable: Option<PathBuf>,
    /// Where to keep journals: `$XDG_STATE_HOME/eventstream`.
    pub state_dir: PathBuf,
    /// Where to keep the default local cluster: `$XDG_DATA_HOME/eventstream`.
    pub data_dir: PathBuf,
    /// The working directory.
    pub working_dir: PathBuf,
    /// The operator's home, which `~/` stands for.
    pub home: PathBuf,
    /// `NO_COLOR` is set.
    pub no_color: bool,
    /// Standard input and standard error are terminals, so questions can be asked.
    pub can_ask: bool,
    /// Standard output is a terminal that knows colours and can be drawn on.
    pub stdout_is_terminal: bool,
    /// Standard error is one.
    pub stderr_is_terminal: bool,
    /// Who runs it, e.g. `ada@host`.
    pub who: String,
}

/// Everything a command needs to know about how it was called.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `-c`.
    pub config: Option<PathBuf>,
    /// `-o`.
    pub output: Format,
    /// `--color`.
    pub color: ColorChoice,
    /// `-q`.
    pub quiet: bool,
    /// Number of `-v`.
    pub verbose: u8,
    /// `--timeout`: for the whole operation.
    pub timeout: Duration,
    /// `--host-timeout`: for one command on a host, or one answer of a node.
    pub host_timeout: Duration,
    /// `--concurrency`.
    pub concurrency: usize,
    /// `--yes`.
    pub yes: bool,
    /// `--dry-run`.
    pub dry_run: bool,
    /// What the process was given besides its arguments.
    pub env: Environment,
    /// Asks the operator for the passphrases of key files.
    pub passphrases: Arc<Passphrases>,
}

impl Environment {
    /// A path of this machine, whose `~/` is the operator's home: no shell expands it behind `=` and in files.
    pub fn expanded(&self, path: &Path) -> PathBuf {
        path.strip_prefix("~").map_or_else(|_| path.to_path_buf(), |rest| self.home.join(rest))
    }

    /// Where it leads from the working directory.
    pub fn path(&self, path: &Path) -> PathBuf {
        self.working_dir.join(self.expanded(path))
    }

    /// Returns the cluster.yaml of the local cluster when `--dir` names no other place.
    pub fn default_local(&self) -> PathBuf {
        self.data_dir.join("local").join("cluster.yaml")
    }

    /// Returns the file that remembers the last `up --local`. The dot keeps it apart from every cluster's name.
    pub fn last_local_file(&self) -> PathBuf {
        self.state_dir.join("local.path")
    }

    /// Returns the cluster.yaml of the local cluster last brought up.
    pub fn last_local(&self) -> Option<PathBuf> {
        let path = std::fs::read_to_string(self.last_local_file()).ok()?;
        Some(PathBuf::from(path.trim_end_matches('\n')))
    }

    /// Returns the environment of this process.
    pub fn of_process() -> Self {
        use std::io::IsTerminal;
        let var = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let home = var("HOME").map_or_else(|| PathBuf::from("/"), PathBuf::from);
        let base = |name: &str, fallback: &str| {
            // The XDG rules: a relative path is not a path.
            let chosen = var(name).map(PathBuf::from).filter(|path| path.is_absolute());
            chosen.unwrap_or_else(|| home.join(fallback)).join("eventstream")
        };
        let user = var("USER").map_or_else(
            || rustix::process::getuid().as_raw().to_string(),
            |user| user.to_string_lossy().into_owned(),
        );
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let stderr_is_terminal = std::io::stderr().is_terminal();
        // What a terminal that only prints cannot do, it shows instead.
        let draws = var("TERM").is_none_or(|kind| kind != "dumb");
        Self {
            config: var("ESCLI_CONFIG").map(PathBuf::from),
            esnode: var("ESNODE").map(PathBuf::from),
            path: var("PATH"),
            executable: std::env::current_exe().ok(),
            state_dir: base("XDG_STATE_HOME", ".local/state"),
            data_dir: base("XDG_DATA_HOME", ".local/share"),
            working_dir: std::env::current_dir().unwrap_or_else(|_| PathBuf::from(".")),
            home,
            no_color: var("NO_COLOR").is_some(),
            can_ask: std::io::stdin().is_terminal() && stderr_is_terminal,
            stdout_is_terminal: std::io::stdout().is_terminal() && draws,
            stderr_is_terminal: stderr_is_terminal && draws,
            who: format!("{user}@{}", host.trim()),
        }
    }
}

//! How escli was called: its options and its environment. The modules that use this know nothing of clap.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::hosts::ssh::Passphrases;
use crate::output::{ColorChoice, Format};

/// The environment of the process. Tests create their own.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// `$ESCLI_CONFIG`.
    pub config: Option<PathBuf>,
    /// `$ESNODE`.
    pub esnode: Option<PathBuf>,
    /// `$PATH`.
    pub path: Option<std::ffi::OsString>,
    /// Path of the running program.
    pub executable: Option<PathBuf>,
    /// The state directory for journals: `$XDG_STATE_HOME/eventstream`.
    pub state_dir: PathBuf,
    /// The directory of the default local cluster: `$XDG_DATA_HOME/eventstream`.
    pub data_dir: PathBuf,
    /// The working directory.
    pub working_dir: PathBuf,
    /// The operator's home directory, which `~/` stands for.
    pub home: PathBuf,
    /// `NO_COLOR` is set.
    pub no_color: bool,
    /// Standard input and standard error are terminals, so questions can be asked.
    pub can_ask: bool,
    /// Standard output is a terminal that supports colours and cursor movement.
    pub stdout_is_terminal: bool,
    /// Standard error is such a terminal.
    pub stderr_is_terminal: bool,
    /// User and machine, e.g. `ada@host`.
    pub who: String,
}

/// The options of the command line, and the environment.
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
    /// The environment of the process.
    pub env: Environment,
    /// Asks the operator for the passphrases of key files.
    pub passphrases: Arc<Passphrases>,
}

impl Environment {
    /// Returns a path with `~/` replaced by the operator's home directory. No shell does so behind `=` and in files.
    pub fn expanded(&self, path: &Path) -> PathBuf {
        path.strip_prefix("~").map_or_else(|_| path.to_path_buf(), |rest| self.home.join(rest))
    }

    /// Returns a path as seen from the working directory.
    pub fn path(&self, path: &Path) -> PathBuf {
        self.working_dir.join(self.expanded(path))
    }

    /// Returns the path of the default local cluster's cluster.yaml.
    pub fn default_local(&self) -> PathBuf {
        self.data_dir.join("local").join("cluster.yaml")
    }

    /// Returns the path of the file that remembers the last `up --local`. Its name begins with a dot, which no
    /// cluster's name does.
    pub fn last_local_file(&self) -> PathBuf {
        self.state_dir.join("local.path")
    }

    /// Returns the path of the cluster.yaml of the local cluster last brought up.
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
            // By the XDG specification, relative paths in these variables are ignored.
            let chosen = var(name).map(PathBuf::from).filter(|path| path.is_absolute());
            chosen.unwrap_or_else(|| home.join(fallback)).join("eventstream")
        };
        let user = var("USER").map_or_else(
            || rustix::process::getuid().as_raw().to_string(),
            |user| user.to_string_lossy().into_owned(),
        );
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let stderr_is_terminal = std::io::stderr().is_terminal();
        // A terminal of type `dumb` would show control sequences instead of obeying them.
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

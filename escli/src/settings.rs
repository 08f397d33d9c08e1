//! Arguments, environment and file -> [`Settings`]. clap stops here.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use shared::spec::{self, ClusterFile, Reader, SpecErrors};

use crate::cli::{ColorChoice, Global, Output};
use crate::exit::Failure;

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
    pub output: Output,
    /// `--color`.
    pub color: ColorChoice,
    /// `-q`.
    pub quiet: bool,
    /// Number of `-v`.
    pub verbose: u8,
    /// `--timeout`: for the whole operation.
    pub timeout: Duration,
    /// `--ssh-timeout`: for one host, or one answer of a node.
    pub host_timeout: Duration,
    /// `--concurrency`.
    pub concurrency: usize,
    /// `--yes`.
    pub yes: bool,
    /// `--dry-run`.
    pub dry_run: bool,
    /// The rest of the world.
    pub env: Environment,
}

/// A cluster.yaml that was found and read.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What it says.
    pub spec: ClusterFile,
    /// Its text.
    pub text: String,
    /// Where it came from.
    pub source: Source,
}

/// Where a cluster.yaml comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A file.
    File(PathBuf),
    /// Standard input.
    Stdin,
}

impl Source {
    /// For messages: the path, or `<stdin>`.
    pub fn name(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Stdin => "<stdin>".to_owned(),
        }
    }
}

impl Environment {
    /// A path of this machine, whose `~/` is the operator's home: no shell expands it behind `=` and in files.
    fn expanded(&self, path: &Path) -> PathBuf {
        path.strip_prefix("~").map_or_else(|_| path.to_path_buf(), |rest| self.home.join(rest))
    }

    /// Where it leads from the working directory.
    pub fn path(&self, path: &Path) -> PathBuf {
        self.working_dir.join(self.expanded(path))
    }

    /// As this process finds it.
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

impl Settings {
    /// Joins arguments and environment.
    pub fn new(global: &Global, env: Environment) -> Self {
        Self {
            config: global.config.as_deref().map(|path| env.expanded(path)),
            output: global.output,
            color: global.color,
            quiet: global.quiet,
            verbose: global.verbose,
            timeout: global.timeout,
            host_timeout: global.ssh_timeout,
            concurrency: usize::from(global.concurrency),
            yes: global.yes,
            dry_run: global.dry_run,
            env,
        }
    }

    /// Where cluster.yaml is: `-c`, `$ESCLI_CONFIG`, `./cluster.yaml`, the local cluster last brought up.
    ///
    /// # Errors
    /// When there is none of them.
    pub fn find(&self) -> Result<Source, Failure> {
        if let Some(path) = &self.config {
            return Ok(if path == Path::new("-") { Source::Stdin } else { Source::File(path.clone()) });
        }
        if let Some(path) = &self.env.config {
            return Ok(Source::File(self.env.expanded(path)));
        }
        let candidates =
            [Some(self.env.working_dir.join("cluster.yaml")), self.last_local(), Some(self.default_local())];
        candidates.into_iter().flatten().find(|path| path.is_file()).map(Source::File).ok_or_else(|| {
            Failure::usage("there is no cluster.yaml here, and no local cluster")
                .hint("name the file:                 escli -c path/to/cluster.yaml ...")
                .hint("or bring up a local cluster:   escli up --local")
        })
    }

    /// Finds, reads and checks cluster.yaml.
    ///
    /// # Errors
    /// Usage, when there is none, it cannot be read or it makes no sense.
    pub fn load(&self) -> Result<Loaded, Failure> {
        let source = self.find()?;
        let text = text(&source)?;
        let spec = parse(&source, &text)?;
        Ok(Loaded { spec, text, source })
    }

    /// The cluster.yaml of the local cluster when `--dir` names no other place.
    pub fn default_local(&self) -> PathBuf {
        self.env.data_dir.join("local").join("cluster.yaml")
    }

    /// Where the last `up --local` is remembered. The dot keeps it apart from every cluster's name.
    pub fn last_local_file(&self) -> PathBuf {
        self.env.state_dir.join("local.path")
    }

    /// The cluster.yaml of the local cluster last brought up.
    pub fn last_local(&self) -> Option<PathBuf> {
        let path = std::fs::read_to_string(self.last_local_file()).ok()?;
        Some(PathBuf::from(path.trim_end_matches('\n')))
    }
}

/// Reads a cluster.yaml; of one that is too large no more than shows it.
///
/// # Errors
/// Usage, when it cannot be read.
pub fn read(source: &Source) -> Result<Vec<u8>, Failure> {
    let limit = spec::MAX_BYTES as u64 + 1;
    let mut bytes = Vec::new();
    let read = match source {
        Source::File(path) => File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes)),
        Source::Stdin => std::io::stdin().take(limit).read_to_end(&mut bytes),
    };
    read.map_err(|error| Failure::usage(format!("cannot read {}: {error}", source.name())))?;
    Ok(bytes)
}

/// Reads a cluster.yaml, which must be text.
///
/// # Errors
/// Usage, with file, line and column.
pub fn text(source: &Source) -> Result<String, Failure> {
    spec::decode(&source.name(), read(source)?).map_err(|errors| senseless(&errors))
}

/// Checks the text of a cluster.yaml.
///
/// # Errors
/// Usage, with file, line and column.
pub fn parse(source: &Source, text: &str) -> Result<ClusterFile, Failure> {
    spec::parse_as(Reader::Operator, &source.name(), text).map_err(|errors| senseless(&errors))
}

fn senseless(errors: &SpecErrors) -> Failure {
    let details = errors.lines().collect();
    Failure { details, ..Failure::usage(format!("{} makes no sense; nothing was done", errors.file)) }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::Cli;
    use crate::exit::Exit;
    use crate::starter;

    fn settings(arguments: &[&str], env: Environment) -> Settings {
        Settings::new(&Cli::parse_from([&["escli", "stop"], arguments].concat()).global, env)
    }

    fn file(path: &Path) -> PathBuf {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, starter::local_text(3, None, None)).unwrap();
        path.to_owned()
    }

    #[test]
    fn the_file_is_looked_for_in_the_order_of_the_manual() {
        let temp = tempfile::tempdir().unwrap();
        let dir = |name: &str| temp.path().join(name);
        let mut env = Environment {
            state_dir: dir("state"),
            data_dir: dir("data"),
            working_dir: dir("here"),
            ..Environment::default()
        };
        let found = |env: &Environment| settings(&[], env.clone()).find();
        assert_eq!(found(&env).unwrap_err().exit, Exit::Usage);
        let default = file(&dir("data").join("local/cluster.yaml"));
        assert_eq!(found(&env).unwrap(), Source::File(default.clone()));
        let remembered = file(&dir("elsewhere").join("cluster.yaml"));
        std::fs::create_dir_all(dir("state")).unwrap();
        std::fs::write(dir("state").join("local.path"), format!("{}\n", remembered.display())).unwrap();
        assert_eq!(found(&env).unwrap(), Source::File(remembered.clone()));
        std::fs::remove_file(&remembered).unwrap();
        assert_eq!(found(&env).unwrap(), Source::File(default), "a cluster that is gone is forgotten");
        let here = file(&dir("here").join("cluster.yaml"));
        assert_eq!(found(&env).unwrap(), Source::File(here));
        env.config = Some(PathBuf::from("named-by-env.yaml"));
        assert_eq!(found(&env).unwrap(), Source::File("named-by-env.yaml".into()));
        assert_eq!(settings(&["-c", "x.yaml"], env.clone()).find().unwrap(), Source::File("x.yaml".into()));
        assert_eq!(settings(&["-c", "-"], env).find().unwrap(), Source::Stdin);
    }

    #[test]
    fn home_is_meant_by_every_path_of_this_machine() {
        let env = Environment {
            home: PathBuf::from("/home/ada"),
            working_dir: PathBuf::from("/work"),
            config: Some(PathBuf::from("~/env.yaml")),
            ..Environment::default()
        };
        let table = [
            ("~/x", "/home/ada/x"),
            ("~", "/home/ada"),
            ("x", "/work/x"),
            ("/x", "/x"),
            ("./~/x", "/work/./~/x"),
        ];
        for (path, expected) in table {
            assert_eq!(env.path(Path::new(path)), PathBuf::from(expected), "{path}");
        }
        assert_eq!(
            settings(&["--config=~/c.yaml"], env.clone()).find().unwrap(),
            Source::File("/home/ada/c.yaml".into())
        );
        assert_eq!(settings(&[], env).find().unwrap(), Source::File("/home/ada/env.yaml".into()));
    }

    #[test]
    fn a_file_that_makes_no_sense_is_a_usage_error_with_its_name() {
        let error = parse(&Source::File("/x/cluster.yaml".into()), "cluster: 7").unwrap_err();
        assert_eq!(error.exit, Exit::Usage);
        assert!(error.details[0].starts_with("/x/cluster.yaml:1:10: "), "{:?}", error.details);
    }
}

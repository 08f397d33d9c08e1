//! The cluster.yaml on the operator's machine: how it is found and read.
//!
//! `template` writes a new one, `edit` adds and removes nodes, `pending_edit` saves an edited one, `known_cluster`
//! remembers which cluster a file describes, and `explain` lists the keys.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use shared::spec::{self, ClusterFile, Reader, SpecErrors};

use crate::failure::Failure;
use crate::settings::{Environment, Settings};

pub mod edit;
pub mod explain;
pub mod known_cluster;
pub mod pending_edit;
pub mod template;

/// A cluster.yaml that was found and read.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The parsed file.
    pub spec: ClusterFile,
    /// The text of the file.
    pub text: String,
    /// Where it was read from.
    pub source: Source,
}

/// Where a cluster.yaml is read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A file.
    File(PathBuf),
    /// Standard input.
    Stdin,
}

impl Source {
    /// Returns its name for messages: the path, or `<stdin>`.
    pub fn name(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Stdin => "<stdin>".to_owned(),
        }
    }
}

/// Finds the cluster.yaml: `config` (`-c`), `$ESCLI_CONFIG`, `./cluster.yaml`, the local cluster last brought up.
///
/// # Errors
/// [`Exit::Usage`](crate::failure::Exit::Usage) if none of them exists.
pub fn find(config: Option<&Path>, env: &Environment) -> Result<Source, Failure> {
    if let Some(path) = config {
        return Ok(if path == Path::new("-") { Source::Stdin } else { Source::File(path.to_owned()) });
    }
    if let Some(path) = &env.config {
        return Ok(Source::File(env.expanded(path)));
    }
    let candidates =
        [Some(env.working_dir.join("cluster.yaml")), env.last_local(), Some(env.default_local())];
    candidates.into_iter().flatten().find(|path| path.is_file()).map(Source::File).ok_or_else(|| {
        Failure::usage("there is no cluster.yaml in this directory, and no local cluster")
            .hint("name the file:                 escli -c path/to/cluster.yaml ...")
            .hint("or bring up a local cluster:   escli up --local")
    })
}

/// Finds, reads and checks the cluster.yaml that a command is about.
///
/// # Errors
/// [`Exit::Usage`](crate::failure::Exit::Usage) if there is none, or it cannot be read or is invalid.
pub fn load(settings: &Settings) -> Result<Loaded, Failure> {
    load_from(find(settings.config.as_deref(), &settings.env)?)
}

/// Reads and checks the cluster.yaml at `source`.
///
/// # Errors
/// [`Exit::Usage`](crate::failure::Exit::Usage) if it cannot be read, or is invalid.
pub fn load_from(source: Source) -> Result<Loaded, Failure> {
    let text = text(&source)?;
    let spec = parse(&source, &text)?;
    Ok(Loaded { spec, text, source })
}

/// Reads the bytes of a cluster.yaml. Of a file that is too large it reads one byte more than is allowed.
///
/// # Errors
/// [`Exit::Usage`](crate::failure::Exit::Usage) if it cannot be read.
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
/// [`Exit::Usage`](crate::failure::Exit::Usage) if it is invalid, with file, line and column.
pub fn text(source: &Source) -> Result<String, Failure> {
    spec::decode(&source.name(), read(source)?).map_err(|errors| invalid(&errors))
}

/// Checks the text of a cluster.yaml.
///
/// # Errors
/// [`Exit::Usage`](crate::failure::Exit::Usage) if it is invalid, with file, line and column.
pub fn parse(source: &Source, text: &str) -> Result<ClusterFile, Failure> {
    spec::parse_as(Reader::Operator, &source.name(), text).map_err(|errors| invalid(&errors))
}

fn invalid(errors: &SpecErrors) -> Failure {
    let details = errors.lines().collect();
    Failure { details, ..Failure::usage(format!("{} is invalid; no changes were made", errors.file)) }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::Cli;
    use crate::failure::Exit;

    fn found_by(arguments: &[&str], env: Environment) -> Result<Source, Failure> {
        let cli = Cli::parse_from([&["escli", "stop"], arguments].concat());
        let settings = cli.global.settings(env);
        find(settings.config.as_deref(), &settings.env)
    }

    fn file(path: &Path) -> PathBuf {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, template::local_text(3, None, None)).unwrap();
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
        let found = |env: &Environment| found_by(&[], env.clone());
        assert_eq!(found(&env).unwrap_err().kind, Exit::Usage);
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
        assert_eq!(found_by(&["-c", "x.yaml"], env.clone()).unwrap(), Source::File("x.yaml".into()));
        assert_eq!(found_by(&["-c", "-"], env).unwrap(), Source::Stdin);
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
            found_by(&["--config=~/c.yaml"], env.clone()).unwrap(),
            Source::File("/home/ada/c.yaml".into())
        );
        assert_eq!(found_by(&[], env).unwrap(), Source::File("/home/ada/env.yaml".into()));
    }

    #[test]
    fn an_invalid_file_is_a_usage_error_with_its_name() {
        let error = parse(&Source::File("/x/cluster.yaml".into()), "cluster: 7").unwrap_err();
        assert_eq!(error.kind, Exit::Usage);
        assert!(error.details[0].starts_with("/x/cluster.yaml:1:10: "), "{:?}", error.details);
    }
}

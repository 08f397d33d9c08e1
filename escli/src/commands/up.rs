//! `escli up`.

use std::path::Path;

use shared::spec::authority;

use super::again::{CommandLine, word};
use super::binary;
use super::operation::{Operation, finish};
use super::target::Target;
use crate::cli::up::Args;
use crate::cluster_file::{self, Source};
use crate::engine::outcome::Outcome;
use crate::failure::{Exit, Failure};
use crate::files;
use crate::hosts::local::Layout;
use crate::plan::request::Request;
use crate::plan::up::UpOptions;
use crate::settings::Settings;
use crate::{cluster_file::template, view};

/// Brings up the cluster of cluster.yaml, or with `--local` one on this machine.
///
/// # Errors
/// [`Exit::Usage`] if the cluster.yaml or an argument is invalid; [`Exit::Locked`] if another operation runs.
pub async fn run(settings: &Settings, args: &Args) -> Result<Exit, Failure> {
    let (mut target, is_new) =
        if args.local { local(settings, args)? } else { (Target::open(settings)?, false) };
    let options = options(settings, args, &mut target, is_new, "up")?;
    let retry = retry(CommandLine::new(settings, "up"), args);
    let request = Request::Up(Box::new(options));
    let operation =
        Operation { settings, target: &target, name: "up", retry, confirm: None, request, resumes: None };
    let report = operation.run().await?;
    let exit = finish(settings, report.as_ref());
    let ran = report.is_some_and(|report| report.outcome != Outcome::Refused);
    if ran && args.local {
        remember(settings, &target);
    }
    if ran && exit == Exit::Ok {
        view::next_steps(settings, &next_steps(settings, &target));
    }
    Ok(exit)
}

/// Returns the options of the planner for `up`.
pub(super) fn options(
    settings: &Settings,
    args: &Args,
    target: &mut Target,
    is_new: bool,
    operation: &str,
) -> Result<UpOptions, Failure> {
    let binary = binary::find(settings, args.binary.as_deref(), target.named_binary())?;
    let named = args.binary.is_some() || target.named_binary().is_some();
    Ok(UpOptions {
        operation: operation.to_owned(),
        nodes: Vec::new(),
        new_file: target.file.clone().filter(|_| is_new),
        remote: target.provide(binary.as_deref(), named)?,
        binary,
        named: args.binary.is_some(),
    })
}

/// Returns the local cluster of the directory, or a new one, and whether it is new.
pub(super) fn local(settings: &Settings, args: &Args) -> Result<(Target, bool), Failure> {
    // clap does not detect a conflict between a global option and a command's own.
    if settings.config.is_some() {
        return Err(Failure::usage(
            "-c and --local exclude each other: --local uses the cluster.yaml in --dir",
        )
        .hint(format!("drop --local:  {}", CommandLine::new(settings, "up")))
        .hint("drop -c:       escli up --local --dir DIR"));
    }
    let default = settings.env.default_local();
    let dir = match &args.dir {
        Some(dir) => settings.env.path(dir),
        None => default.parent().unwrap_or(Path::new(".")).to_path_buf(),
    };
    if dir.to_str().is_none() {
        // The path will be written into the nodes' cluster.yaml, and YAML is UTF-8.
        return Err(Failure::usage(format!("the directory name is not UTF-8: {}", dir.display()))
            .hint("choose another:  escli up --local --dir DIR"));
    }
    let file = Layout::new(&dir).cluster_file();
    if !file.exists() {
        let text = template::local_text(args.nodes.unwrap_or(3), args.base_port, args.binary.as_deref());
        let spec = cluster_file::parse(&Source::File(file), &text)?;
        return Ok((Target::new(settings, spec, text, &dir)?, true));
    }
    let source = Source::File(file);
    let text = cluster_file::text(&source)?;
    let spec = cluster_file::parse(&source, &text)?;
    let target = Target::existing(settings, spec, text, &dir)?;
    refuse_changes(args, &target, &source)?;
    Ok((target, false))
}

/// Refuses options that contradict the existing cluster.yaml, rather than ignore them.
fn refuse_changes(args: &Args, target: &Target, source: &Source) -> Result<(), Failure> {
    let nodes = &target.spec.cluster.nodes;
    let mut refused = Failure::new(Exit::Refused, "there is already a local cluster; no changes were made");
    if let Some(count) = args.nodes.filter(|count| usize::from(*count) != nodes.len()) {
        refused = refused.detail(format!("{} has {} nodes, not {count}", source.name(), nodes.len()));
    }
    let first = nodes.first().map(|node| node.client_port);
    if let Some(base) = args.base_port.filter(|base| Some(*base) != first) {
        let first = first.unwrap_or_default();
        refused = refused.detail(format!("{}: its first port is {first}, not {base}", source.name()));
    }
    if refused.details.is_empty() {
        return Ok(());
    }
    let file = source.name();
    Err(refused
        .hint("bring up the existing one:       escli up --local, without --nodes and --base-port")
        .hint("or create another one:           escli up --local --dir ANOTHER --base-port PORT")
        .hint(format!(
            "or delete it with its data:      escli -c {} down --purge-data",
            word(Path::new(&file))
        )))
}

/// Adds the options of `up` to the same command again.
pub(super) fn retry(line: CommandLine, args: &Args) -> CommandLine {
    line.flag("--local", args.local)
        .value("--nodes", args.nodes)
        .path("--dir", args.dir.as_deref())
        .path("--binary", args.binary.as_deref())
        .base_port(args.base_port)
}

/// Records the local cluster as the default for later commands in any directory. A failure to do so is not one of `up`.
pub(super) fn remember(settings: &Settings, target: &Target) {
    let Some(path) = &target.file else { return };
    let _ = files::write_atomically(&settings.env.last_local_file(), &format!("{}\n", path.display()));
}

/// Returns commands to try next: set the PATH if escli is not on it, then show the status, produce an event, and
/// consume it through another node.
fn next_steps(settings: &Settings, target: &Target) -> Vec<String> {
    let mut lines = Vec::new();
    let folder = settings.env.executable.as_deref().and_then(Path::parent);
    let on_path =
        |folder: &Path| settings.env.path.iter().flat_map(std::env::split_paths).any(|dir| dir == folder);
    if let Some(folder) = folder.filter(|folder| !on_path(folder)) {
        lines.push(format!("export PATH=\"{}:$PATH\"", folder.display()));
    }
    lines.push(CommandLine::new(settings, "status").to_string());
    let address = |index: usize| {
        let nodes = &target.spec.cluster.nodes;
        nodes.get(index).or_else(|| nodes.first()).map(|node| authority(&node.host, node.client_port))
    };
    if let (Some(first), Some(second)) = (address(0), address(1)) {
        lines.push(format!("echo hello | kcat -P -b {first} -t greetings"));
        lines.push(format!("kcat -C -b {second} -t greetings -e"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};
    use crate::settings::Environment;

    fn open(line: &str, dir: &Path) -> Result<(Target, bool), Failure> {
        let cli = Cli::parse_from(line.split(' '));
        let env =
            Environment { working_dir: dir.to_owned(), data_dir: dir.join("data"), ..Environment::default() };
        let settings = cli.global.settings(env);
        let Command::Up(args) = cli.command else { panic!("{line}") };
        local(&settings, &args)
    }

    #[test]
    fn the_file_that_is_there_is_the_truth() {
        let temp = tempfile::tempdir().unwrap();
        let (target, is_new) = open("escli up --local --dir d --nodes 5", temp.path()).unwrap();
        assert!(is_new);
        let file = target.file.unwrap();
        assert!(file.ends_with("d/cluster.yaml"));
        files::write_atomically(&file, &target.edit.after).unwrap();
        let (target, is_new) = open("escli up --local --dir d", temp.path()).unwrap();
        assert_eq!((target.spec.cluster.nodes.len(), is_new), (5, false));
        assert!(open("escli up --local --dir d --nodes 5 --base-port 9000", temp.path()).is_ok());
        let refused =
            open("escli up --local --dir d --nodes 3 --base-port 20000", temp.path()).err().unwrap();
        assert_eq!((refused.kind, refused.details.len()), (Exit::Refused, 2));
    }

    #[test]
    fn a_file_and_local_contradict_each_other() {
        let temp = tempfile::tempdir().unwrap();
        for line in ["escli -c x.yaml up --local", "escli up --local -c x.yaml"] {
            assert_eq!(open(line, temp.path()).err().unwrap().kind, Exit::Usage);
        }
    }

    #[test]
    fn what_to_try_next_can_be_pasted() {
        let temp = tempfile::tempdir().unwrap();
        let (mut target, _) = open("escli up --local --dir d", temp.path()).unwrap();
        target.spec.cluster.nodes[0].host = "::1".to_owned();
        let settings =
            Cli::parse_from(["escli", "-c", "my file.yaml", "up"]).global.settings(Environment::default());
        let steps = next_steps(&settings, &target);
        assert!(
            steps.iter().any(|step| step.starts_with("echo hello | kcat -P -b [::1]:9000 ")),
            "{steps:?}"
        );
        assert!(steps.iter().any(|step| step.starts_with("kcat -C -b 127.0.0.1:9001 ")), "{steps:?}");
        assert!(steps.contains(&"escli -c 'my file.yaml' status".to_owned()), "{steps:?}");
    }

    #[test]
    fn a_folder_that_yaml_cannot_name_is_refused() {
        let name = <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(b"/tmp/not-\xff-utf-8");
        assert_eq!(open("escli up --local --dir d", Path::new(name)).err().unwrap().kind, Exit::Usage);
    }
}

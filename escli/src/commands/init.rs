//! `escli init`: writes a first cluster.yaml.

use std::path::Path;

use super::again::word;
use crate::cli::init::Args;
use crate::cluster_file::{self, Source};
use crate::failure::{Exit, Failure};
use crate::files;
use crate::settings::Settings;
use crate::{cluster_file::template, view};

/// Addresses that stand for the operator's own hosts (RFC 5737).
const EXAMPLES: [&str; 3] = ["192.0.2.1", "192.0.2.2", "192.0.2.3"];

/// Writes or prints a cluster.yaml, after it was checked like any other.
///
/// # Errors
/// [`Exit::Usage`] if the names are not valid in a cluster.yaml; [`Exit::Refused`] if the file exists.
pub fn run(settings: &Settings, args: &Args) -> Result<Exit, Failure> {
    let hosts: Vec<&str> = if args.hosts.is_empty() {
        EXAMPLES.to_vec()
    } else {
        args.hosts.iter().map(String::as_str).collect()
    };
    let text = template::hosts_text(&args.name, &hosts, args.user.as_deref());
    let path = settings.config.as_deref().unwrap_or(Path::new("cluster.yaml"));
    cluster_file::parse(&Source::File(path.to_owned()), &text)?;
    if path == Path::new("-") {
        view::put(&text);
        return Ok(Exit::Ok);
    }
    let place = settings.env.path(path);
    if place.exists() {
        let message = format!("{} already exists; nothing was written", path.display());
        return Err(
            Failure::new(Exit::Refused, message).hint("write elsewhere:  escli -c ANOTHER.yaml init ...")
        );
    }
    files::write_atomically(&place, &text)
        .map_err(|error| Failure::failed(format!("cannot write {}: {error}", path.display())))?;
    let with = settings.config.as_ref().map_or_else(String::new, |path| format!(" -c {}", word(path)));
    let fill = args.hosts.is_empty().then(|| format!("write your hosts into {}", path.display()));
    let steps =
        [format!("escli{with} check"), format!("escli{with} up --dry-run"), format!("escli{with} up")];
    view::next_steps(settings, &fill.into_iter().chain(steps).collect::<Vec<_>>());
    Ok(Exit::Ok)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};
    use crate::settings::Environment;

    fn init(line: &str, dir: &Path) -> Result<Exit, Failure> {
        let cli = Cli::parse_from(line.split(' '));
        let env = Environment { working_dir: dir.to_owned(), ..Environment::default() };
        let settings = cli.global.settings(env);
        let Command::Init(args) = cli.command else { panic!("{line}") };
        run(&settings, &args)
    }

    #[test]
    fn what_is_written_is_a_cluster_of_those_hosts_and_stays() {
        let temp = tempfile::tempdir().unwrap();
        assert_eq!(
            init("escli init a.example b.example --name orders --user ada", temp.path()),
            Ok(Exit::Ok)
        );
        let text = std::fs::read_to_string(temp.path().join("cluster.yaml")).unwrap();
        let spec = shared::spec::parse("cluster.yaml", &text).unwrap();
        let hosts: Vec<_> = spec.cluster.nodes.iter().map(|node| (node.id, node.host.as_str())).collect();
        assert_eq!(hosts, [(1, "a.example"), (2, "b.example")]);
        assert_eq!(spec.cluster.name, "orders");
        assert_eq!(spec.deploy.unwrap().ssh.unwrap().user.as_deref(), Some("ada"));
        assert_eq!(init("escli init c.example", temp.path()).unwrap_err().kind, Exit::Refused);
        assert_eq!(std::fs::read_to_string(temp.path().join("cluster.yaml")).unwrap(), text);
    }

    #[test]
    fn what_makes_no_cluster_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        for line in ["escli init a b --name no_good!", "escli init a;b", "escli init same same"] {
            assert_eq!(init(line, temp.path()).unwrap_err().kind, Exit::Usage, "{line}");
        }
        assert!(!temp.path().join("cluster.yaml").exists());
    }
}

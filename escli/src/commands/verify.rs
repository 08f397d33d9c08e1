//! `escli verify`: checks whether the files of stopped nodes, or of a backup, are as they were written.

use std::path::{Path, PathBuf};

use futures_util::stream::{self, StreamExt};
use shared::ids::NodeId;
use shared::verified::Verified;
use tokio::process::Command;

use super::binary;
use super::target::Target;
use crate::backup::{private_folder, read_folder, read_tar};
use crate::cli::{self, verify::Args};
use crate::engine::ports::{Hosts, PortError};
use crate::failure::{Exit, Failure};
use crate::plan::facts::Process;
use crate::plan::up::targets;
use crate::settings::Settings;
use crate::view::{self, verified};

/// The result of one verification, or why there is none.
type Verdict = Result<Verified, String>;

/// Verifies nodes, all at once, or backups.
///
/// # Errors
/// [`Exit::Usage`] if the cluster.yaml or an argument is invalid; if a node runs.
pub async fn run(settings: &Settings, args: &Args) -> Result<Exit, Failure> {
    let ids: Vec<Option<Vec<NodeId>>> = args.what.iter().map(|what| named(what)).collect();
    let verdicts = match ids.iter().cloned().collect::<Option<Vec<_>>>().map(|ids| ids.concat()) {
        Some(ids) => nodes(settings, &ids).await?,
        None if ids.iter().all(Option::is_none) => backups(settings, &args.what).await?,
        None => return Err(Failure::usage("nodes and backups are verified by separate commands")),
    };
    let document = verified::document(verdicts);
    view::show(settings, &document, |paint| verified::text(&document, paint));
    Ok(if document.ok { Exit::Ok } else { Exit::Failed })
}

/// Parses a list of nodes such as `2,n3`; `None` if it is not one.
fn named(what: &Path) -> Option<Vec<NodeId>> {
    what.to_str()?.split(',').map(|name| cli::node(name).ok()).collect()
}

async fn nodes(settings: &Settings, named: &[NodeId]) -> Result<Vec<(String, Verdict)>, Failure> {
    let target = Target::open(settings)?;
    let ids = targets(&target.spec, named)?;
    let at_rest = stream::iter(ids.iter().map(|id| target.hosts.process(*id)));
    let at_rest: Vec<_> = at_rest.buffered(settings.concurrency).collect().await;
    let mut refusal = Failure::new(Exit::Refused, "a running node cannot be verified; nothing was read");
    for (id, process) in ids.iter().zip(at_rest) {
        let process = process?;
        if process != Process::Stopped {
            let how = if process.runs() { "runs" } else { "is not stopped" };
            refusal = refusal.detail(format!("node {id} {how}")).hint(format!("escli stop {id}"));
        }
    }
    if !refusal.details.is_empty() {
        return Err(refusal);
    }
    let binary = binary::find(settings, None, target.named_binary())?;
    let look = |id: NodeId| {
        let (hosts, binary) = (&target.hosts, binary.as_deref());
        async move { (format!("n{id}"), understood(hosts.verify(id, binary, settings.timeout).await)) }
    };
    Ok(stream::iter(ids.into_iter().map(look)).buffered(settings.concurrency).collect().await)
}

/// Parses the output of the node's program.
pub(super) fn understood(said: Result<String, PortError>) -> Verdict {
    let said = said.map_err(|error| error.to_string())?;
    serde_json::from_str(&said).map_err(|_| format!("esnode verify printed {said:?}"))
}

async fn backups(settings: &Settings, paths: &[PathBuf]) -> Result<Vec<(String, Verdict)>, Failure> {
    let Some(binary) = binary::find(settings, None, None)? else {
        return Err(Failure::usage("esnode was not found; it is needed to read a backup").hint("set $ESNODE"));
    };
    let mut verdicts = Vec::new();
    for path in paths {
        let whole = settings.env.path(path);
        verdicts.push((path.display().to_string(), backup(&binary, &whole).await));
    }
    Ok(verdicts)
}

/// Verifies a backup: its checksums first, then its files as a node reads them, since a backup of a damaged log has
/// right checksums.
async fn backup(binary: &Path, path: &Path) -> Verdict {
    let place = path.to_owned();
    let read = move || -> Result<(PathBuf, Option<tempfile::TempDir>), String> {
        if place.is_dir() {
            return read_folder(&place).map(|_| (place, None)).map_err(|error| error.to_string());
        }
        let file = std::fs::File::open(&place).map_err(|error| format!("{}: {error}", place.display()))?;
        let beside = place.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let folder =
            private_folder(beside).map_err(|error| format!("unpacking it beside itself: {error}"))?;
        read_tar(std::io::BufReader::new(file), Some(folder.path())).map_err(|error| error.to_string())?;
        Ok((folder.path().to_owned(), Some(folder)))
    };
    let read = tokio::task::spawn_blocking(read).await.map_err(|error| error.to_string())?;
    let (folder, _unpacked) = read?;
    let mut command = Command::new(binary);
    command.args(["verify", "--json", "--data-dir"]).arg(&folder).kill_on_drop(true);
    let output =
        command.output().await.map_err(|error| format!("cannot run {}: {error}", binary.display()))?;
    if output.stdout.is_empty() {
        return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
    }
    understood(Ok(String::from_utf8_lossy(&output.stdout).into_owned()))
}

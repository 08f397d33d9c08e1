//! `escli exec`: runs a command on every host at once.

use futures_util::stream::{self, StreamExt};
use serde::Serialize;
use shared::ids::NodeId;

use super::target::Target;
use crate::cli::exec::Args;
use crate::failure::{Exit, Failure};
use crate::hosts::ssh::{Status, quote};
use crate::output::SCHEMA_VERSION;
use crate::output::printable;
use crate::plan::identity::{self, Intent};
use crate::plan::up::targets;
use crate::settings::Settings;
use crate::view::{self, paint::Paint};

/// The result of the command on one host.
#[derive(Debug, Serialize)]
struct CommandResult {
    node: NodeId,
    /// Exit status; `null` if the command did not end by itself.
    code: Option<i32>,
    stdout: String,
    stderr: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Debug, Serialize)]
struct Document<'a> {
    schema_version: u32,
    cluster: &'a str,
    hosts: Vec<CommandResult>,
}

/// Runs the command.
///
/// # Errors
/// [`Exit::Usage`] if the cluster.yaml or an argument is invalid, or the cluster is local and has no hosts.
pub async fn run(settings: &Settings, args: &Args) -> Result<Exit, Failure> {
    let mut target = Target::open(settings)?;
    let ids = targets(&target.spec, &args.nodes)?;
    let Some(hosts) = target.hosts.remote() else {
        return Err(Failure::usage(
            "all nodes of this cluster run on this machine: there is no host to run it on",
        ));
    };
    // The command may change something, so its hosts are checked as those of a change are.
    target.spec.cluster.nodes.retain(|node| ids.contains(&node.id));
    let facts = target.inspect(settings, false).await;
    identity::refuse(&target.spec, &facts, &Intent::default())?;
    let line = quote::join(args.command.iter().map(String::as_str));
    let line = &line;
    let runs = ids.into_iter().map(|node| async move {
        match hosts.run(node, line, settings.timeout).await {
            Ok(output) => {
                let (code, error) = match &output.status {
                    Status::Exited(code) => (Some(*code), None),
                    Status::Signalled(signal) => (None, Some(format!("killed by SIG{signal}"))),
                };
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                CommandResult {
                    node,
                    code,
                    stdout: text(&output.stdout),
                    stderr: text(&output.stderr),
                    error,
                }
            }
            Err(error) => CommandResult {
                node,
                code: None,
                stdout: String::new(),
                stderr: String::new(),
                error: Some(error.to_string()),
            },
        }
    });
    let hosts: Vec<CommandResult> = stream::iter(runs).buffered(settings.concurrency).collect().await;
    let all_well = hosts.iter().all(|said| said.code == Some(0));
    let document = Document { schema_version: SCHEMA_VERSION, cluster: target.name(), hosts };
    view::show(settings, &document, |paint| document.hosts.iter().map(|said| text(said, paint)).collect());
    Ok(if all_well { Exit::Ok } else { Exit::Failed })
}

fn text(said: &CommandResult, paint: Paint) -> String {
    let label = paint.node(said.node, &format!("n{} |", said.node));
    let ended = match (said.code, &said.error) {
        (Some(0), _) => None,
        (Some(code), _) => Some(format!("exit code {code}")),
        (None, error) => error.as_deref().map(|error| printable::line(error).into_owned()),
    };
    let lines = said.stdout.lines().chain(said.stderr.lines()).map(|line| printable::line(line).into_owned());
    let lines = lines.chain(ended.map(|ended| paint.bad(&ended)));
    lines.map(|line| format!("{label} {line}\n")).collect()
}

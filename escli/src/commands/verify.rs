//! `escli verify`: whether what stopped nodes have on their disks is what was written.

use futures_util::stream::{self, StreamExt};
use shared::ids::NodeId;
use shared::verified::Verified;

use super::binary;
use super::target::Target;
use crate::cli::verify::Args;
use crate::engine::ports::{Hosts, PortError};
use crate::exit::{Exit, Failure};
use crate::plan::up::targets;
use crate::settings::Settings;
use crate::view::{self, verified};

/// Verifies the nodes, all at once.
///
/// # Errors
/// Usage; and where one of them runs.
pub async fn run(settings: &Settings, args: &Args) -> Result<Exit, Failure> {
    let target = Target::open(settings)?;
    let ids = targets(&target.spec, &args.nodes)?;
    let at_rest = stream::iter(ids.iter().map(|id| target.hosts.is_running(*id)));
    let at_rest: Vec<_> = at_rest.buffered(settings.concurrency).collect().await;
    let mut refusal = Failure::new(Exit::Refused, "a node that runs is not verified; nothing was read");
    for (id, running) in ids.iter().zip(at_rest) {
        if running? {
            refusal = refusal.detail(format!("node {id} runs")).hint(format!("escli stop {id}"));
        }
    }
    if !refusal.details.is_empty() {
        return Err(refusal);
    }
    let binary = binary::find(settings, None, target.named_binary())?;
    let look = |id: NodeId| {
        let (hosts, binary) = (&target.hosts, binary.as_deref());
        async move { (id, verdict(hosts.verify(id, binary, settings.timeout).await)) }
    };
    let looks = stream::iter(ids.into_iter().map(look));
    let verdicts: Vec<_> = looks.buffered(settings.concurrency).collect().await;
    let document = verified::document(target.name(), verdicts);
    view::show(settings, &document, |paint| verified::text(&document, paint));
    Ok(if document.ok { Exit::Ok } else { Exit::Failed })
}

/// What the node's program made of it, or why it came to nothing.
fn verdict(said: Result<String, PortError>) -> Result<Verified, String> {
    let said = said.map_err(|error| error.to_string())?;
    serde_json::from_str(&said).map_err(|_| format!("esnode verify printed {said:?}"))
}

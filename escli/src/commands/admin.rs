//! The admin API as a cluster's hosts let it be reached: directly, or through the jump host that leads to them.

use std::sync::Arc;

use shared::spec::ClusterFile;

use super::target::is_local;
use crate::client::AdminClient;
use crate::exit::Failure;
use crate::remote::{Destinations, destinations};
use crate::settings::Settings;
use crate::ssh::{Forward, Limits, Passphrases};
use crate::view;

/// The admin ports of the nodes of `spec`, for commands that need nothing else of their hosts.
///
/// # Errors
/// When no client can be set up.
pub fn admin(settings: &Settings, spec: &ClusterFile) -> Result<AdminClient, Failure> {
    if is_local(spec) {
        return AdminClient::new(spec, settings.host_timeout);
    }
    behind(settings, spec, &destinations(spec), &Arc::new(view::passphrases(settings)))
}

/// The same, where it is known already how to reach the hosts.
///
/// # Errors
/// When no client can be set up.
pub fn behind(
    settings: &Settings,
    spec: &ClusterFile,
    destinations: &Destinations,
    passphrases: &Arc<Passphrases>,
) -> Result<AdminClient, Failure> {
    let limit = settings.host_timeout;
    let mut client = AdminClient::new(spec, limit)?;
    for node in &spec.cluster.nodes {
        // A host that cannot be resolved for SSH may answer all the same.
        let Some(Ok(destination)) = destinations.get(&node.id) else { continue };
        let Some((last, before)) = destination.jumps.split_last() else { continue };
        let mut via = last.clone();
        via.jumps = before.to_vec();
        let limits = Limits { open: limit, ..Limits::default() };
        let forward = Forward::begin(via, &node.host, node.http_port, Arc::clone(passphrases), limits)
            .map_err(|error| Failure::failed(error.to_string()))?;
        client.reach(node.id, forward)?;
    }
    Ok(client)
}

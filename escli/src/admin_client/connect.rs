//! Chooses the route to each node's admin API: directly, through the jump host that leads to its host, or through the
//! host's own SSH server.

use std::sync::Arc;

use shared::spec::{ClusterFile, Node};

use super::AdminClient;
use super::route::{Route, SshTunnel};
use crate::engine::ports::PortError;
use crate::hosts::remote::{Destinations, destinations};
use crate::hosts::ssh::{Destination, Passphrases};
use crate::settings::Settings;

/// Returns a client for the admin ports of the nodes of `spec`, for commands that do not use the hosts in any other
/// way.
///
/// # Errors
/// If no HTTP client can be created.
pub fn admin(settings: &Settings, spec: &ClusterFile) -> Result<AdminClient, PortError> {
    if spec.is_local() {
        return AdminClient::new(spec, settings.host_timeout);
    }
    through(settings, spec, &destinations(spec), &settings.passphrases)
}

/// As [`admin`], for a caller that already knows the way to each host.
///
/// # Errors
/// If no HTTP client can be created.
pub fn through(
    settings: &Settings,
    spec: &ClusterFile,
    destinations: &Destinations,
    passphrases: &Arc<Passphrases>,
) -> Result<AdminClient, PortError> {
    AdminClient::by(spec, settings.host_timeout, |node, limit| {
        let tunnel = |via, host: &str| SshTunnel::new(via, host, node.http_port, passphrases);
        match way(node, destinations) {
            Way::Direct => Route::direct(limit),
            Way::Either { via, host } => Route::either(limit, tunnel(via, &host)),
            Way::Behind { via, host } => Ok(Route::behind(limit, tunnel(via, &host))),
        }
    })
}

/// How the ports of a node's host are reached.
#[derive(Clone, Debug)]
pub enum Way {
    /// Directly only.
    Direct,
    /// Directly, and through the host's own SSH server where that is closed.
    Either {
        /// The host's SSH server.
        via: Destination,
        /// Where the node listens, as that server calls it.
        host: String,
    },
    /// Through a jump host only.
    Behind {
        /// The jump host.
        via: Destination,
        /// The node's host, as the jump host calls it.
        host: String,
    },
}

/// Returns how the ports of a node's host are reached.
pub fn way(node: &Node, destinations: &Destinations) -> Way {
    // A host that SSH cannot resolve may still answer directly.
    let Some(Ok(destination)) = destinations.get(&node.id) else { return Way::Direct };
    let Some((last, before)) = destination.jumps.split_last() else {
        return Way::Either { via: destination.clone(), host: listens(node).to_owned() };
    };
    let via = Destination { jumps: before.to_vec(), ..last.clone() };
    Way::Behind { via, host: node.host.clone() }
}

/// Returns the address of the node's ports, as seen from its own host.
fn listens(node: &Node) -> &str {
    match node.bind.as_deref() {
        None | Some("0.0.0.0") => "127.0.0.1",
        Some("::") => "::1",
        Some(address) => address,
    }
}

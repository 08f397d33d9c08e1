//! The identity in a node's data directory, and the Hello that it sends to others.

use std::io;
use std::sync::Arc;
use std::thread;

use anyhow::Result;
use crossbeam_channel::Sender;
use parking_lot::Mutex;
use shared::ids::{ClusterId, NodeId};
use shared::spec::MAX_NODES;

use crate::net::peer::Transport;
use crate::process::config::Config;
use crate::process::version::FORMAT;
use crate::replica::{Bootstrapped, Formats, Hello, Input};
use crate::runtime::Event;
use crate::storage::data_dir::{DataDir, Identity, IdentityError};
use crate::storage::is_full;

/// Returns the node's first Hello.
pub(super) fn hello(config: &Config, identity: &Identity) -> Hello {
    Hello {
        node: config.node_id,
        store: identity.store_id,
        cluster: identity.cluster_id,
        fresh: identity.fresh,
        members: config.members_digest(),
        initial_voters: initial_voters(&identity.voters),
        your_store: None,
        formats: Formats { reads: FORMAT, active: identity.format },
    }
}

/// Returns the voters in the form that a Hello has.
fn initial_voters(voters: &[NodeId]) -> [NodeId; MAX_NODES] {
    let mut initial_voters = [0; MAX_NODES];
    initial_voters.iter_mut().zip(voters).for_each(|(place, voter)| *place = *voter);
    initial_voters
}

/// Stores how a fresh node has got a cluster. Returns its Hello from then on.
pub(super) fn remember_bootstrap(
    config: &Config,
    data_dir: &mut DataDir,
    hello: Hello,
    joined: Bootstrapped,
) -> Result<Hello> {
    let (cluster_id, voters, format) = match joined {
        Bootstrapped::New => (None, config.member_ids(), hello.formats.active),
        Bootstrapped::Joined(cluster, initial, format) => {
            (Some(cluster), initial.into_iter().filter(|id| *id != 0).collect(), format)
        }
    };
    let initial_voters = initial_voters(&voters);
    data_dir.update(|identity| {
        *identity = Identity { format, cluster_id, fresh: false, voters, ..identity.clone() };
    })?;
    let formats = Formats { active: format, ..hello.formats };
    Ok(Hello { fresh: false, cluster: cluster_id, initial_voters, formats, ..hello })
}

/// Stores the cluster's identity, on another thread than the raft thread, and tells the other nodes.
pub(super) fn remember_cluster(
    data_dir: Arc<Mutex<DataDir>>,
    transport: Arc<Transport>,
    hello: Hello,
    events: Sender<Event>,
) -> impl FnOnce(ClusterId) + Send {
    move |cluster| {
        // After a recovery, the log also contains the identities of previous clusters.
        if hello.cluster.is_some() {
            return;
        }
        transport.set_cluster(cluster);
        thread::spawn(move || {
            match data_dir.lock().update(|identity| identity.cluster_id = Some(cluster)) {
                // The next start stores it.
                Err(IdentityError::Io(error)) if is_full(&error) => {
                    tracing::error!("no room to write the cluster's identity down: {error}");
                }
                // The raft thread ends only when the node stops.
                Err(error) => drop(events.send(Event::DiskFailed(io::Error::other(error)))),
                Ok(()) => {}
            }
        });
    }
}

/// Stores the on-disk format that is used from now on, and tells the other nodes.
pub(super) fn adopt_format(
    data_dir: Arc<Mutex<DataDir>>,
    transport: Arc<Transport>,
    events: Sender<Event>,
) -> impl FnMut(u16) -> io::Result<()> + Send {
    move |format| match data_dir.lock().update(|identity| identity.format = identity.format.max(format)) {
        Err(IdentityError::Io(error)) if is_full(&error) => {
            tracing::error!("no room to write the on-disk format down, which is tried again: {error}");
            Ok(())
        }
        Err(error) => Err(io::Error::other(error)),
        Ok(()) => {
            tracing::info!(format, "the data directory is written in this on-disk format from now on");
            transport.set_active_format(format);
            // The raft thread ends only when the node stops.
            let _ = events.send(Event::Input(Input::FormatAdopted(format)));
            Ok(())
        }
    }
}

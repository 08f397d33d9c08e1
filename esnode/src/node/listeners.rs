//! The ports of a node, and its tasks on the async runtime.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use anyhow::{Context, Result};
use crossbeam_channel::Sender;
use tokio::runtime::Runtime;
use tokio::sync::watch;

use super::handle::Handle;
use super::retention;
use crate::net::kafka::limits::Limits;
use crate::net::listen;
use crate::net::peer::{Transport, TransportConfig};
use crate::net::{admin, kafka};
use crate::process::config::Config;
use crate::process::{log_file, rlimit};
use crate::replica::Hello;
use crate::runtime::Event;

/// Largest frame between nodes, in bytes.
const MAX_FRAME: usize = 16 << 20;

/// The listeners for clients. They are opened before anything else, so that a port that is taken changes nothing on
/// disk.
pub(super) struct Listeners {
    kafka: TcpListener,
    admin: TcpListener,
}

impl Listeners {
    pub(super) fn open(config: &Config) -> Result<Self> {
        let listen = |port, what| -> Result<TcpListener> {
            let address = config.listen_on(port)?;
            listen::listen(address).with_context(|| taken(address, what))
        };
        let node = &config.node;
        Ok(Self {
            kafka: listen(node.client_port, "Kafka clients (client_port)")?,
            admin: listen(node.http_port, "the admin API (http_port)")?,
        })
    }
}

/// Starts everything on the async runtime: listeners, retention, and rotation of the log file.
pub(super) fn serve(
    runtime: &Runtime,
    listeners: Listeners,
    handle: Handle,
    stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let _inside = runtime.enter();
    runtime.spawn(log_file::rotate(stop.clone()));
    runtime.spawn(retention::run(handle.clone(), stop.clone()));
    let connections = rlimit::connections(handle.file().network.max_connections);
    let front = kafka::Kafka::new(handle.clone(), Limits { connections, ..Limits::default() });
    let running = admin::Running { handle, kafka: front.metrics() };
    let limits = admin::Limits { connections, ..admin::Limits::default() };
    runtime.spawn(front.serve(tokio_listener(listeners.kafka)?, stop.clone()));
    runtime.spawn(admin::serve(tokio_listener(listeners.admin)?, running, limits, stop));
    Ok(())
}

fn tokio_listener(listener: TcpListener) -> io::Result<tokio::net::TcpListener> {
    listener.set_nonblocking(true)?;
    tokio::net::TcpListener::from_std(listener)
}

pub(super) fn start_transport(config: &Config, hello: Hello, events: Sender<Event>) -> Result<Transport> {
    let listen = config.listen_on(config.node.cluster_port)?;
    let nodes = config.file.cluster.nodes.iter();
    let transport = TransportConfig {
        node_id: config.node_id,
        listen,
        at: (config.node.host.clone(), config.node.cluster_port),
        peers: nodes.map(|node| (node.id, node.host.clone(), node.cluster_port)).collect(),
        hello,
        rpc_timeout: Duration::from_millis(config.file.cluster.raft.rpc_timeout),
        max_frame: MAX_FRAME,
    };
    // The raft thread ends only when the node stops.
    let deliver = move |event| drop(events.send(Event::Peer(event)));
    Transport::start(transport, deliver).with_context(|| taken(listen, "the other nodes (cluster_port)"))
}

fn taken(address: SocketAddr, what: &str) -> String {
    format!("cannot listen on {address} for {what}: is another process using the port? `ss -ltnp` tells")
}

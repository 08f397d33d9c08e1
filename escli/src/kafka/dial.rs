//! How a node's client port is reached: by the host that cluster.yaml names, not by the one that it advertises to clients,
//! which may be known in their network only. Directly, or through SSH where the admin port is reached that way too.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use shared::ids::NodeId;
use shared::spec::{ClusterFile, Node, authority};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::KafkaError;
use crate::admin_client::connect::{Way, way};
use crate::hosts::remote::destinations;
use crate::hosts::ssh::{Destination, Forward, Limits, Passphrases, SshError};

/// A host that does not accept a connection within this time is not worth waiting for: another node may answer.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);
/// Of that, the part in which a direct connection must be there when there is another way.
const DIRECT_SHARE: f64 = 0.4;

/// Bytes to and from a node.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A node, and where its client port is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Its id, Kafka's broker id.
    pub id: NodeId,
    /// Its host.
    pub host: String,
    /// Its client port.
    pub port: u16,
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "n{} ({})", self.id, authority(&self.host, self.port))
    }
}

/// The nodes of a cluster.yaml, and the ways to them.
#[derive(Debug, Default)]
pub struct Dialer {
    nodes: Vec<Endpoint>,
    tunnels: BTreeMap<NodeId, Tunnel>,
}

/// A way through SSH to a client port. Nothing is begun before it is needed.
#[derive(Debug)]
struct Tunnel {
    via: Destination,
    host: String,
    port: u16,
    /// There is no other way.
    is_only: bool,
    passphrases: Arc<Passphrases>,
    begun: OnceLock<Result<Forward, SshError>>,
}

impl Dialer {
    /// The nodes of `spec`. `passphrases` are for keys on the way.
    pub fn new(spec: &ClusterFile, passphrases: &Arc<Passphrases>) -> Self {
        if spec.is_local() {
            return Self::by(spec, passphrases, |_| Way::Direct);
        }
        let destinations = destinations(spec);
        Self::by(spec, passphrases, |node| way(node, &destinations))
    }

    /// The same by a way of each node's own.
    pub fn by(spec: &ClusterFile, passphrases: &Arc<Passphrases>, way: impl Fn(&Node) -> Way) -> Self {
        let mut this = Self::default();
        for node in &spec.cluster.nodes {
            let (id, port) = (node.id, node.client_port);
            this.nodes.push(Endpoint { id, host: node.host.clone(), port });
            let (via, host, is_only) = match way(node) {
                Way::Direct => continue,
                Way::Either { via, host } => (via, host, false),
                Way::Behind { via, host } => (via, host, true),
            };
            let passphrases = Arc::clone(passphrases);
            this.tunnels.insert(id, Tunnel { via, host, port, is_only, passphrases, begun: OnceLock::new() });
        }
        this
    }

    /// Returns the nodes, in the order of cluster.yaml.
    pub fn nodes(&self) -> &[Endpoint] {
        &self.nodes
    }

    /// Connects within `limit`, at most two seconds.
    ///
    /// # Errors
    /// `Unreachable`.
    pub async fn connect(&self, to: &Endpoint, limit: Duration) -> Result<Box<dyn Stream>, KafkaError> {
        let limit = limit.min(CONNECT_LIMIT);
        let unreachable = |why: String| KafkaError::Unreachable { node: to.to_string(), why };
        let Some(tunnel) = self.tunnels.get(&to.id) else {
            return direct(to, limit).await.map_err(|error| unreachable(words(&error)));
        };
        if tunnel.is_only {
            return tunnel.connect(limit).await.map_err(unreachable);
        }
        match direct(to, limit.mul_f64(DIRECT_SHARE)).await {
            // The host itself has answered that nobody listens.
            Err(error) if error.kind() != io::ErrorKind::ConnectionRefused => {
                let also = |why| unreachable(format!("{}; through SSH: {why}", words(&error)));
                tunnel.connect(limit).await.map_err(also)
            }
            result => result.map_err(|error| unreachable(words(&error))),
        }
    }

    /// Returns why the way through SSH to a node is closed, if it is: the connection to its near end tells nothing.
    pub fn obstacle(&self, node: NodeId) -> Option<String> {
        let forward = self.tunnels.get(&node)?.begun.get()?.as_ref().ok()?;
        forward.error().map(|(_, error)| error.message)
    }
}

impl Tunnel {
    async fn connect(&self, limit: Duration) -> Result<Box<dyn Stream>, String> {
        let begun = self.begun.get_or_init(|| {
            let limits = Limits { open: limit, ..Limits::default() };
            let (via, passphrases) = (self.via.clone(), Arc::clone(&self.passphrases));
            Forward::begin(via, &self.host, self.port, passphrases, limits)
        });
        let forward = begun.as_ref().map_err(ToString::to_string)?;
        let stream = UnixStream::connect(forward.socket()).await.map_err(|error| words(&error))?;
        Ok(Box::new(stream))
    }
}

async fn direct(to: &Endpoint, limit: Duration) -> io::Result<Box<dyn Stream>> {
    let connected = timeout(limit, TcpStream::connect((to.host.as_str(), to.port))).await;
    let stream = connected.map_err(|_| io::Error::other(format!("no connection within {limit:?}")))??;
    stream.set_nodelay(true)?;
    Ok(Box::new(stream))
}

/// An error without its number, as the other messages of escli have it.
pub fn words(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}

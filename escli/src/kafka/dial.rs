//! How a node's client port is reached: by the host that cluster.yaml names, not by the one that it advertises to clients,
//! which may be known in their network only. Directly, or through SSH where the admin port is reached that way too.

use std::io;
use std::time::Duration;

use shared::ids::NodeId;
use shared::spec::{ClusterFile, authority};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::KafkaError;

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

/// Returns the nodes of `spec`, in its order.
pub fn endpoints(spec: &ClusterFile) -> Vec<Endpoint> {
    let endpoint =
        |node: &shared::spec::Node| Endpoint { id: node.id, host: node.host.clone(), port: node.client_port };
    spec.cluster.nodes.iter().map(endpoint).collect()
}

/// Connects.
///
/// # Errors
/// `Unreachable`.
pub async fn connect(to: &Endpoint, limit: Duration) -> Result<Box<dyn Stream>, KafkaError> {
    let unreachable = |why: String| KafkaError::Unreachable { node: to.to_string(), why };
    let connected = timeout(limit, TcpStream::connect((to.host.as_str(), to.port))).await;
    let stream = connected
        .map_err(|_| unreachable(format!("no connection within {limit:?}")))?
        .map_err(|error| unreachable(words(&error)))?;
    stream.set_nodelay(true).map_err(|error| unreachable(words(&error)))?;
    Ok(Box::new(stream))
}

/// An error without its number, as the other messages of escli have it.
pub fn words(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}

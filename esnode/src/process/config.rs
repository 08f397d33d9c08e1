//! From command line and `cluster.yaml` to what the node needs to start.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use shared::ids::NodeId;
use shared::spec::{self, ClusterFile, Node};

/// A checked configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// This node's id.
    pub node_id: NodeId,
    /// The whole file, with `node_id` filled in.
    pub file: ClusterFile,
    /// This node's own part.
    pub node: Node,
}

impl Config {
    /// Reads and checks `path`; `node_id` overrides `cluster.node_id`.
    pub fn load(path: &Path, node_id: Option<NodeId>) -> Result<Self> {
        let bytes = std::fs::read(path).with_context(|| {
            format!("cannot read the configuration {}; name it with --config=FILE", path.display())
        })?;
        let name = path.display().to_string();
        let file = spec::parse(&name, &spec::decode(&name, bytes)?)?;
        Self::new(&file, node_id).with_context(|| format!("in {}", path.display()))
    }

    /// Picks this node's part of the file.
    pub fn new(file: &ClusterFile, node_id: Option<NodeId>) -> Result<Self> {
        let Some(node_id) = node_id.or(file.cluster.node_id) else {
            bail!("which node is this? Set cluster.node_id, or start with --node-id=N");
        };
        let known: Vec<_> = file.cluster.nodes.iter().map(|node| node.id.to_string()).collect();
        let Some(file) = file.for_node(node_id) else {
            bail!("node {node_id} is not in cluster.nodes, which has {}", known.join(", "));
        };
        let node = file.node(node_id).cloned().context("for_node keeps the node itself")?;
        Ok(Self { node_id, file, node })
    }

    /// Where the node keeps its data.
    pub fn data_dir(&self) -> PathBuf {
        self.file.cluster.storage.data_dir.clone()
    }

    /// Where to listen for `port`: on `bind`; else, when `host` is a loopback address, only there; else everywhere.
    pub fn listen_on(&self, port: u16) -> Result<SocketAddr> {
        if let Some(bind) = &self.node.bind {
            let mut found = (bind.as_str(), port)
                .to_socket_addrs()
                .with_context(|| format!("cannot resolve `bind: {bind}` of node {}", self.node_id))?;
            return found
                .next()
                .with_context(|| format!("`bind: {bind}` of node {} has no address", self.node_id));
        }
        let host = self.node.host.as_str();
        let loopback = match host.parse::<IpAddr>() {
            Ok(address) => Some(address).filter(IpAddr::is_loopback),
            Err(_) => Some(IpAddr::from([127, 0, 0, 1])).filter(|_| host == "localhost"),
        };
        Ok(SocketAddr::new(loopback.unwrap_or(IpAddr::from([0, 0, 0, 0])), port))
    }

    /// CRC32C of the members' ids and addresses: equal on nodes that are configured with the same members.
    pub fn members_digest(&self) -> u32 {
        let mut nodes: Vec<_> = self.file.cluster.nodes.iter().collect();
        nodes.sort_by_key(|node| node.id);
        nodes.iter().fold(0, |crc, node| {
            crc32c::crc32c_append(
                crc,
                format!("{} {} {}\n", node.id, node.host, node.cluster_port).as_bytes(),
            )
        })
    }

    /// Ids of all configured nodes, ascending.
    pub fn member_ids(&self) -> Vec<NodeId> {
        let mut ids: Vec<_> = self.file.cluster.nodes.iter().map(|node| node.id).collect();
        ids.sort_unstable();
        ids
    }
}

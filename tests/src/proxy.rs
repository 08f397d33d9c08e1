//! TCP proxies between the nodes of [`Cluster::prepare_behind_proxies`] that block, delay or break the
//! connections from one node to another, each direction by itself. No root needed.
//!
//! The end of a connection is never delayed. Requests that a node forwards to the leader's client and admin
//! ports pass without faults.

use std::collections::HashMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use shared::ids::NodeId;

use crate::cluster::Cluster;

/// How often a pump checks for changed faults.
const POLL_INTERVAL: Duration = Duration::from_millis(5);
/// Bytes of a peer's greeting up to and including the id of the node that dials: frame header, magic,
/// protocol range, three numbers, id.
const GREETING_PREFIX: usize = 13 + 4 + 4 + 3 * 8 + 8;

/// What happens to the bytes from one node to another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NetworkFault {
    /// They pass.
    #[default]
    None,
    /// They pass after this time.
    Delay(Duration),
    /// They wait until the fault ends, or are lost with the connection.
    Block,
}

#[derive(Default)]
struct NetworkFaults {
    links: HashMap<(NodeId, NodeId), NetworkFault>,
    /// How often the connections of a pair of nodes were broken.
    broken: HashMap<(NodeId, NodeId), u64>,
}

#[derive(Default)]
struct Shared {
    faults: Mutex<NetworkFaults>,
    stop: AtomicBool,
}

impl Shared {
    fn faults(&self) -> std::sync::MutexGuard<'_, NetworkFaults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fault(&self, from: NodeId, to: NodeId) -> NetworkFault {
        self.faults().links.get(&(from, to)).copied().unwrap_or_default()
    }

    fn broken(&self, a: NodeId, b: NodeId) -> u64 {
        self.faults().broken.get(&(a.min(b), a.max(b))).copied().unwrap_or_default()
    }
}

/// All proxies of a cluster.
pub struct Proxies {
    shared: Arc<Shared>,
    listeners: Vec<(SocketAddr, JoinHandle<()>)>,
}

impl Proxies {
    /// Starts proxies in front of every node; to be called before the nodes start.
    pub fn start(cluster: &Cluster) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let mut listeners = Vec::new();
        for id in cluster.ids() {
            let (host, proxy) = cluster.proxy(id);
            for (port, peer) in [(9100, Some(id)), (9000, None), (8080, None)] {
                let (there, here) = (format!("{host}:{port}").parse()?, format!("{proxy}:{port}").parse()?);
                let listener = TcpListener::bind::<SocketAddr>(here).context("a proxy's address is taken")?;
                let shared = Arc::clone(&shared);
                listeners.push((here, std::thread::spawn(move || accept(&shared, &listener, there, peer))));
            }
        }
        Ok(Self { shared, listeners })
    }

    /// Sets what happens to the bytes from `from` to `to`.
    pub fn set(&self, from: NodeId, to: NodeId, fault: NetworkFault) {
        self.shared.faults().links.insert((from, to), fault);
    }

    /// Breaks the connections between two nodes, once.
    pub fn sever(&self, a: NodeId, b: NodeId) {
        *self.shared.faults().broken.entry((a.min(b), a.max(b))).or_default() += 1;
    }

    /// Removes all faults.
    pub fn heal(&self) {
        self.shared.faults().links.clear();
    }
}

impl Drop for Proxies {
    fn drop(&mut self) {
        self.shared.stop.store(true, Relaxed);
        for (address, listener) in self.listeners.drain(..) {
            // Wakes the thread that waits for a connection.
            let _ = TcpStream::connect(address);
            let _ = listener.join();
        }
    }
}

fn accept(shared: &Arc<Shared>, listener: &TcpListener, node_address: SocketAddr, peer: Option<NodeId>) {
    for stream in listener.incoming().flatten() {
        if shared.stop.load(Relaxed) {
            return;
        }
        let shared = Arc::clone(shared);
        std::thread::spawn(move || {
            // Both ends must cope with a connection that fails.
            let _ = join(&shared, stream, node_address, peer);
        });
    }
}

/// Connects a client with the node that it dialled, until one of them closes.
fn join(
    shared: &Arc<Shared>,
    mut client: TcpStream,
    node_address: SocketAddr,
    peer: Option<NodeId>,
) -> Result<()> {
    let mut greeting = [0; GREETING_PREFIX];
    let mut ends = None;
    if let Some(node) = peer {
        client.set_read_timeout(Some(Duration::from_secs(1)))?;
        client.read_exact(&mut greeting)?;
        let (_, id) = greeting.split_last_chunk::<8>().context("a shorter greeting")?;
        ends = Some((NodeId::from_le_bytes(*id), node));
    }
    let mut node = TcpStream::connect_timeout(&node_address, Duration::from_secs(1))?;
    for stream in [&client, &node] {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(POLL_INTERVAL))?;
    }
    let forth = Pump::new(shared, &client, &node, ends)?;
    let back = Pump::new(shared, &node, &client, ends.map(|(from, to)| (to, from)))?;
    if ends.is_some() {
        forth.hold(Instant::now());
        node.write_all(&greeting)?;
    }
    let back = std::thread::spawn(move || back.run());
    forth.run();
    let _ = back.join();
    Ok(())
}

/// One direction of a connection.
struct Pump {
    shared: Arc<Shared>,
    input: TcpStream,
    output: TcpStream,
    ends: Option<(NodeId, NodeId)>,
    broken: u64,
}

impl Pump {
    fn new(
        shared: &Arc<Shared>,
        input: &TcpStream,
        output: &TcpStream,
        ends: Option<(NodeId, NodeId)>,
    ) -> Result<Self> {
        let broken = ends.map_or(0, |(from, to)| shared.broken(from, to));
        let (input, output) = (input.try_clone()?, output.try_clone()?);
        Ok(Self { shared: Arc::clone(shared), input, output, ends, broken })
    }

    fn run(mut self) {
        let mut buffer = vec![0; 64 << 10];
        while !self.is_over() {
            match self.input.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => {
                    if !self.hold(Instant::now()) || self.output.write_all(&buffer[..length]).is_err() {
                        break;
                    }
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => break,
            }
        }
        let _ = self.input.shutdown(Shutdown::Both);
        let _ = self.output.shutdown(Shutdown::Both);
    }

    /// Waits as long as a fault holds back what arrived at `since`. Returns false when the connection is
    /// over.
    fn hold(&self, since: Instant) -> bool {
        let Some((from, to)) = self.ends else { return true };
        loop {
            if self.is_over() {
                return false;
            }
            match self.shared.fault(from, to) {
                NetworkFault::None => return true,
                NetworkFault::Delay(delay) => match delay.checked_sub(since.elapsed()) {
                    Some(rest) if !rest.is_zero() => std::thread::sleep(rest.min(POLL_INTERVAL)),
                    _ => return true,
                },
                NetworkFault::Block => std::thread::sleep(POLL_INTERVAL),
            }
        }
    }

    fn is_over(&self) -> bool {
        let broken = self.ends.is_some_and(|(from, to)| self.shared.broken(from, to) != self.broken);
        broken || self.shared.stop.load(Relaxed)
    }
}

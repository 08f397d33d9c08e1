//! What stands between the nodes of [`Cluster::prepare_behind_proxies`]: TCP proxies that hold back, delay or break what
//! one node says to another, each direction for itself. No root needed.
//!
//! The end of a connection is not held back: whoever closes it is heard at once. Requests that a node passes on to the leader over its client and admin ports go through unhurt.

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

/// How often a pump looks at what the test has ordered meanwhile.
const GLANCE: Duration = Duration::from_millis(5);
/// Bytes of a peer's greeting up to and with the greeting node's id, which ends them: frame header, magic, protocol
/// range, three numbers, id.
const INTRODUCTION: usize = 13 + 4 + 4 + 3 * 8 + 8;

/// What happens to the bytes that one node sends to another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Weather {
    /// They pass.
    #[default]
    Fair,
    /// They pass later.
    Slow(Duration),
    /// They wait until this is over; a connection that does not outlive it takes them with it.
    Blocked,
}

#[derive(Default)]
struct Sky {
    weather: HashMap<(NodeId, NodeId), Weather>,
    /// How often the connections of a pair were broken.
    broken: HashMap<(NodeId, NodeId), u64>,
}

#[derive(Default)]
struct Shared {
    sky: Mutex<Sky>,
    stop: AtomicBool,
}

impl Shared {
    fn sky(&self) -> std::sync::MutexGuard<'_, Sky> {
        self.sky.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn weather(&self, from: NodeId, to: NodeId) -> Weather {
        self.sky().weather.get(&(from, to)).copied().unwrap_or_default()
    }

    fn broken(&self, a: NodeId, b: NodeId) -> u64 {
        self.sky().broken.get(&(a.min(b), a.max(b))).copied().unwrap_or_default()
    }
}

/// All proxies of a cluster.
pub struct Proxies {
    shared: Arc<Shared>,
    listeners: Vec<(SocketAddr, JoinHandle<()>)>,
}

impl Proxies {
    /// Proxies before every node; to be called before the nodes start.
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

    /// From now on, what `from` sends to `to` meets this weather.
    pub fn set(&self, from: NodeId, to: NodeId, weather: Weather) {
        self.shared.sky().weather.insert((from, to), weather);
    }

    /// Breaks the connections between two nodes, once.
    pub fn sever(&self, a: NodeId, b: NodeId) {
        *self.shared.sky().broken.entry((a.min(b), a.max(b))).or_default() += 1;
    }

    /// Fair weather everywhere.
    pub fn heal(&self) {
        self.shared.sky().weather.clear();
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

fn accept(shared: &Arc<Shared>, listener: &TcpListener, there: SocketAddr, peer: Option<NodeId>) {
    for stream in listener.incoming().flatten() {
        if shared.stop.load(Relaxed) {
            return;
        }
        let shared = Arc::clone(shared);
        std::thread::spawn(move || {
            // A connection that fails is what both ends must live with.
            let _ = join(&shared, stream, there, peer);
        });
    }
}

/// Connects a dialler with the node that it means, as long as both want it.
fn join(shared: &Arc<Shared>, mut dialler: TcpStream, there: SocketAddr, peer: Option<NodeId>) -> Result<()> {
    let mut introduction = [0; INTRODUCTION];
    let mut ends = None;
    if let Some(node) = peer {
        dialler.set_read_timeout(Some(Duration::from_secs(1)))?;
        dialler.read_exact(&mut introduction)?;
        let (_, id) = introduction.split_last_chunk::<8>().context("it is longer")?;
        ends = Some((NodeId::from_le_bytes(*id), node));
    }
    let mut node = TcpStream::connect_timeout(&there, Duration::from_secs(1))?;
    for stream in [&dialler, &node] {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(GLANCE))?;
    }
    let forth = Pump::new(shared, &dialler, &node, ends)?;
    let back = Pump::new(shared, &node, &dialler, ends.map(|(from, to)| (to, from)))?;
    if ends.is_some() {
        forth.hold(Instant::now());
        node.write_all(&introduction)?;
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

    /// Waits as long as the weather keeps back what came at `since`; false when the connection is over.
    fn hold(&self, since: Instant) -> bool {
        let Some((from, to)) = self.ends else { return true };
        loop {
            if self.is_over() {
                return false;
            }
            match self.shared.weather(from, to) {
                Weather::Fair => return true,
                Weather::Slow(delay) => match delay.checked_sub(since.elapsed()) {
                    Some(rest) if !rest.is_zero() => std::thread::sleep(rest.min(GLANCE)),
                    _ => return true,
                },
                Weather::Blocked => std::thread::sleep(GLANCE),
            }
        }
    }

    fn is_over(&self) -> bool {
        let broken = self.ends.is_some_and(|(from, to)| self.shared.broken(from, to) != self.broken);
        broken || self.shared.stop.load(Relaxed)
    }
}

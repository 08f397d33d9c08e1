//! The Kafka front end: lets every Kafka client produce, consume and manage topics.
//!
//! `connection` keeps requests and answers in order; `dispatch` finds their handlers in `apis`, the table of what is
//! served; one module per API does the work, with what `session` gives it. Everything the front end knows of the node comes through [`Handle`].

mod answer;
mod answers;
mod apis;
mod changes;
mod configs;
mod connection;
mod coordinator;
mod cursors;
mod delete_records;
mod describe_cluster;
mod describe_producers;
mod dispatch;
mod elect_leaders;
mod errors;
mod fetch;
mod fetch_read;
mod fetch_session;
mod forward;
mod frame;
#[cfg(any(test, feature = "fuzzing"))]
mod fuzz;
mod groups;
mod ids;
mod leader_epoch;
pub mod limits;
mod list_offsets;
mod log_dirs;
mod memory;
mod metadata;
mod metadata_key;
pub mod metrics;
mod new_leader;
mod oversized;
mod partition_read;
mod partitions;
mod produce;
mod producer_id;
mod quorum;
mod reading;
mod reassignments;
mod records;
mod request_schema;
mod session;
mod topic_partitions;
mod topics;
mod transactions;
mod versions;

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use self::answers::Cache;
use self::connection::{Common, Ended};
use self::forward::Link;
#[cfg(any(test, feature = "fuzzing"))]
pub use self::fuzz::fuzz;
use self::groups::coordinator::Coordinator;
use self::limits::Limits;
use self::memory::Memory;
use self::metrics::KafkaMetrics;
use self::session::{Session, Shared};
use crate::node::handle::Handle;
use crate::process::rate_limited_log::RateLimitedLog;

/// How long open connections get to send what has begun, when the node stops.
const DRAIN: Duration = Duration::from_secs(5);
/// Requests whose batches are read through at the same time, when that takes more than a moment.
const CHECKS: usize = 2;
/// Searches of the log for a time that are under way together.
const SEARCHES: usize = 4;
/// Idle time of a connection before the first keepalive probe.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// The front end, before it serves.
pub struct Kafka {
    shared: Arc<Shared>,
}

impl Kafka {
    /// A front end for `node`, whose clients may take as much as `limits` says.
    pub fn new(node: Handle, limits: Limits) -> Self {
        let rpc_timeout = Duration::from_millis(node.file().cluster.raft.rpc_timeout);
        let shared = Shared {
            node,
            metrics: Arc::default(),
            // A forwarded request includes a commit, and perhaps a disk that is slow just now.
            link: Link::new(rpc_timeout * 5),
            memory: Memory::new(&limits),
            checks: Semaphore::new(CHECKS),
            metadata: Cache::default(),
            bad_requests: RateLimitedLog::default(),
            old_format: RateLimitedLog::default(),
            searches: Semaphore::new(SEARCHES),
            groups: Coordinator::default(),
            limits,
        };
        Self { shared: Arc::new(shared) }
    }

    /// Its figures, for whoever exposes them.
    pub fn metrics(&self) -> Arc<KafkaMetrics> {
        Arc::clone(&self.shared.metrics)
    }

    /// Serves clients on `listener` until `shutdown` turns true; then answers what has begun and returns.
    pub async fn serve(self, listener: TcpListener, mut shutdown: watch::Receiver<bool>) {
        let mut connections = JoinSet::new();
        tokio::spawn(groups::timers::run(Arc::clone(&self.shared), shutdown.clone()));
        tokio::spawn(transactions::timers::run(Arc::clone(&self.shared), shutdown.clone()));
        let refusals = RateLimitedLog::default();
        let limit = self.shared.limits.connections;
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                Some(_) = connections.join_next() => continue,
                _ = shutdown.wait_for(|stop| *stop) => break,
            };
            while connections.try_join_next().is_some() {}
            match accepted {
                Ok((_, peer)) if connections.len() >= limit => {
                    self.shared.metrics.connections_refused.fetch_add(1, Relaxed);
                    if let Some(refused) = refusals.due() {
                        tracing::warn!(
                            %peer, refused, limit,
                            "Kafka clients were turned away: network.max_connections is reached; raise it, or find \
                             who holds them"
                        );
                    }
                }
                Ok((socket, peer)) => {
                    let session = Session::new(Arc::clone(&self.shared), peer, shutdown.clone());
                    connections.spawn(attend(socket, Arc::new(session)));
                }
                Err(error) => {
                    // Most likely no file descriptors are left; they come back as connections end.
                    tracing::warn!(%error, "a Kafka client could not be accepted; raise the limit of open files");
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
        drop(listener);
        if timeout(DRAIN, async { while connections.join_next().await.is_some() {} }).await.is_err() {
            tracing::warn!(
                left = connections.len(),
                "Kafka clients were cut off: they did not take their answers"
            );
        }
    }
}

async fn attend(socket: TcpStream, session: Arc<Session>) {
    let metrics = Arc::clone(&session.shared.metrics);
    metrics.connections.fetch_add(1, Relaxed);
    if let Err(error) = configure(&socket, &session.shared.node) {
        tracing::debug!(peer = %session.peer, %error, "socket options could not be set");
    }
    let (leave, leaving) = watch::channel(false);
    let common =
        Common { metrics: &metrics, limits: &session.shared.limits, memory: &session.shared.memory, leaving };
    let send_away = async {
        session.until_sent_away().await;
        leave.send_replace(true);
        pending::<()>().await;
    };
    let ended = tokio::select! {
        ended = connection::run(socket, &session, common) => ended,
        () = send_away => Ok(()),
    };
    if let Err(ended) = ended {
        report(&ended, &session);
    }
    metrics.connections.fetch_sub(1, Relaxed);
}

/// Counts and logs the end of a connection. Clients that just vanish are no news.
fn report(ended: &Ended, session: &Session) {
    let peer = session.peer;
    match ended {
        Ended::BadRequest(error) => {
            session.shared.metrics.bad_requests.fetch_add(1, Relaxed);
            if let Some(times) = session.shared.bad_requests.due() {
                tracing::warn!(%peer, %error, times, "a Kafka client was disconnected for what it sent");
            }
        }
        Ended::TooSlow(_) | Ended::GaveWay => {
            if let Some(times) = session.shared.bad_requests.due() {
                tracing::warn!(%peer, why = %ended, times, "a Kafka client was disconnected");
            }
        }
        Ended::Io(error) => tracing::debug!(%peer, %error, "a Kafka client's connection failed"),
    }
}

fn configure(socket: &TcpStream, node: &Handle) -> std::io::Result<()> {
    let network = &node.file().network;
    socket.set_nodelay(network.tcp_nodelay)?;
    if network.keepalive {
        SockRef::from(socket).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))?;
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests;

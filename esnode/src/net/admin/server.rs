//! The listener: accepts within limits, speaks HTTP/1, ends gracefully. Knows no route.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_io_timeout::TimeoutStream;
use tracing::{debug, warn};

use super::Node;
use super::routes::router;
use crate::process::rate_limited_log::RateLimitedLog;

/// What clients may take of this node. Given when the listener is served.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at a time; more are refused.
    pub connections: usize,
    /// A request's header must be there within this time of the connection, or of the answer before.
    pub header: Duration,
    /// A client that takes none of its answer for so long is let go.
    pub untaken: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 1000, header: Duration::from_secs(10), untaken: Duration::from_secs(60) }
    }
}

/// Bytes of a request's header, at most.
const MAX_HEADER: usize = 32 << 10;
/// Requests under way may take this long after the shutdown began.
const DRAIN: Duration = Duration::from_secs(2);
/// Pause after a failed accept: usually the process is out of file descriptors, and trying at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Time and number of connections that are being told that there are too many.
const REFUSAL_TIME: Duration = Duration::from_secs(1);
const MAX_REFUSALS: usize = 64;
/// What they are told.
const TOO_MANY: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\n\
    connection: close\r\nretry-after: 1\r\n\r\n\
    {\"code\": \"too_many_connections\", \"message\": \"the node has as many admin connections open as it \
    allows\", \"hint\": \"close some, or raise network.max_connections\"}\n";

/// Serves the admin API on `listener` until `shutdown` turns true; then lets requests under way finish for a moment.
pub async fn serve<N: Node>(
    listener: TcpListener,
    node: N,
    limits: Limits,
    mut shutdown: watch::Receiver<bool>,
) {
    let network = node.file().network;
    let gate = Gate {
        open: Arc::new(Semaphore::new(limits.connections)),
        refusing: Arc::new(Semaphore::new(MAX_REFUSALS)),
        refused: RateLimitedLog::default(),
        limits,
    };
    let router = router(node);
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            _ = shutdown.wait_for(|stop| *stop) => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let _ = stream.set_nodelay(network.tcp_nodelay);
                gate.admit(&mut connections, stream, &router, &shutdown);
            }
            Err(error) => {
                warn!(%error, "cannot accept an admin connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    let _ = timeout(DRAIN, async { while connections.join_next().await.is_some() {} }).await;
}

struct Gate {
    open: Arc<Semaphore>,
    refusing: Arc<Semaphore>,
    /// Refusals, in the log.
    refused: RateLimitedLog,
    limits: Limits,
}

impl Gate {
    fn admit(
        &self,
        connections: &mut JoinSet<()>,
        stream: TcpStream,
        router: &Router,
        shutdown: &watch::Receiver<bool>,
    ) {
        if let Ok(permit) = self.open.clone().try_acquire_owned() {
            let (router, limits, shutdown) = (router.clone(), self.limits, shutdown.clone());
            connections.spawn(async move {
                converse(stream, router, &limits, shutdown).await;
                drop(permit);
            });
            return;
        }
        if let Some(refused) = self.refused.due() {
            warn!(
                refused,
                limit = self.limits.connections,
                "admin connections were refused: network.max_connections is reached; find out who holds them"
            );
        }
        // Beyond that many at once they are just closed: turning them away must not cost what letting them in would.
        if let Ok(permit) = self.refusing.clone().try_acquire_owned() {
            connections.spawn(async move {
                let _ = timeout(REFUSAL_TIME, refuse(stream)).await;
                drop(permit);
            });
        }
    }
}

/// One connection, until it ends or the node stops.
pub(super) async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    router: Router,
    limits: &Limits,
    mut shutdown: watch::Receiver<bool>,
) {
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(limits.untaken));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header)
        .max_buf_size(MAX_HEADER)
        // Who has said all may close that direction, and still wants an answer.
        .half_close(true)
        .serve_connection(TokioIo::new(Box::pin(stream)), TowerToHyperService::new(router));
    tokio::pin!(connection);
    // What wait_for returns cannot be held across an await.
    let stop = async { drop(shutdown.wait_for(|stop| *stop).await) };
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = stop => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(%error, "an admin connection ended early");
    }
}

async fn refuse(mut stream: TcpStream) -> std::io::Result<()> {
    stream.write_all(TOO_MANY.as_bytes()).await?;
    stream.shutdown().await?;
    // Closing with the request unread would reset the connection, and the answer with it.
    let mut request = [0; 1024];
    while stream.read(&mut request).await? > 0 {}
    Ok(())
}

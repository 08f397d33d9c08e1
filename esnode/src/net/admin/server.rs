//! The HTTP listener: accepts connections within limits, speaks HTTP/1, and shuts down gracefully. Knows no routes.

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

/// Limits for clients.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Largest number of connections; further ones are refused.
    pub connections: usize,
    /// Time limit for a request's header, from the start of the connection or the end of the previous response.
    pub header: Duration,
    /// A client that reads nothing of its response for this time is disconnected.
    pub untaken: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 1000, header: Duration::from_secs(10), untaken: Duration::from_secs(60) }
    }
}

/// Largest header of a request, in bytes.
const MAX_HEADER: usize = 32 << 10;
/// Time that requests may still take after the shutdown has begun.
const DRAIN: Duration = Duration::from_secs(2);
/// Pause after a failed accept. Usually the process is out of file descriptors, and would otherwise try again without
/// end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Time limit and largest number of connections that are being refused.
const REFUSAL_TIME: Duration = Duration::from_secs(1);
const MAX_REFUSALS: usize = 64;
/// The response to a refused connection.
const TOO_MANY: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\n\
    connection: close\r\nretry-after: 1\r\n\r\n\
    {\"code\": \"too_many_connections\", \"message\": \"the node has as many admin connections open as it \
    allows\", \"hint\": \"close some, or raise network.max_connections\"}\n";

/// Serves the admin API on `listener` until `shutdown` turns true. Then requests may finish for a short time.
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
    /// Logs refusals.
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
        // Beyond that number they are closed without a response, so that refusing costs less than serving.
        if let Ok(permit) = self.refusing.clone().try_acquire_owned() {
            connections.spawn(async move {
                let _ = timeout(REFUSAL_TIME, refuse(stream)).await;
                drop(permit);
            });
        }
    }
}

/// Serves one connection, until it is closed or the node stops.
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
        // A client that has sent everything may close that direction, and still expects a response.
        .half_close(true)
        .serve_connection(TokioIo::new(Box::pin(stream)), TowerToHyperService::new(router));
    tokio::pin!(connection);
    // The value that wait_for returns must not be held across an await.
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
    // If a connection is closed with an unread request, it is reset, and the client never sees the response.
    let mut request = [0; 1024];
    while stream.read(&mut request).await? > 0 {}
    Ok(())
}

//! The admin API over HTTP (default port 8080): status, health, metrics, leadership.

mod forward;
mod routes;

use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::handle::Handle;
use crate::net::kafka::metrics::KafkaMetrics;

/// A request's head must be complete within this.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves operators on `listener` until `shutdown` turns true.
pub async fn serve(
    listener: TcpListener,
    node: Handle,
    kafka: Arc<KafkaMetrics>,
    mut shutdown: watch::Receiver<bool>,
) {
    let room = Arc::new(Semaphore::new(node.file().network.max_connections as usize));
    let router = routes::router(node, kafka);
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            _ = shutdown.wait_for(|stop| *stop) => return,
        };
        let Ok((socket, peer)) = accepted else {
            // No file descriptors are left; they come back.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let Ok(permit) = Arc::clone(&room).try_acquire_owned() else {
            tracing::warn!(%peer, "an admin connection was turned away: network.max_connections is reached");
            continue;
        };
        let service = TowerToHyperService::new(router.clone());
        connections.spawn(async move {
            let _permit = permit;
            let mut http = http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
            if let Err(error) = http.serve_connection(TokioIo::new(socket), service).await {
                tracing::debug!(%peer, %error, "an admin connection failed");
            }
        });
    }
}

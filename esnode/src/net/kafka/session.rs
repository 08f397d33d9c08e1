//! What a handler can use: the node, this listener's shared means, and what one connection remembers.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use shared::ids::NodeId;
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep_until, timeout, timeout_at};

use super::answers::Cache;
use super::cursors::Cursors;
use super::fetch_session::FetchSessions;
use super::forward::Link;
use super::frame::{Outcome, Request};
use super::groups::coordinator::Coordinator;
use super::limits::Limits;
use super::memory::Memory;
use super::metadata_key::MetadataKey;
use super::metrics::KafkaMetrics;
use crate::node::handle::Handle;
use crate::process::rate_limited_log::RateLimitedLog;
use crate::runtime::LeaderView;

/// How long a client may be kept waiting for a new leader: for so many elections, and at least so long.
const LEADER_TIMEOUT: (u32, Duration) = (3, Duration::from_secs(1));
/// How often to look whether the leader is heard again.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// What all connections of the listener share.
pub struct Shared {
    /// The node.
    pub node: Handle,
    /// The listener's figures.
    pub metrics: Arc<KafkaMetrics>,
    /// The way to the leader.
    pub link: Link,
    /// What clients may take.
    pub limits: Limits,
    /// The memory that they share.
    pub memory: Memory,
    /// Who may read through large batches, and compressed ones: it takes memory and time.
    pub checks: Semaphore,
    /// Metadata of all topics.
    pub metadata: Cache<MetadataKey>,
    /// Clients that were disconnected for what they did, in the log.
    pub bad_requests: RateLimitedLog,
    /// Clients that want what the active on-disk format does not have, in the log.
    pub old_format: RateLimitedLog,
    /// Turns at searching the log for a time.
    pub searches: Semaphore,
    /// What the coordinator of the consumer groups remembers.
    pub groups: Coordinator,
}

/// One client's connection.
pub struct Session {
    /// What all connections share.
    pub shared: Arc<Shared>,
    /// The client's address.
    pub peer: SocketAddr,
    /// Turns true when the node stops.
    pub stopping: watch::Receiver<bool>,
    /// Where this client's reads will go on.
    pub cursors: Cursors,
    /// What this client wants, and knows.
    pub fetch_sessions: FetchSessions,
    leadership: watch::Receiver<LeaderView>,
    since: Instant,
}

impl Session {
    /// For a connection that was just accepted.
    pub fn new(shared: Arc<Shared>, peer: SocketAddr, stopping: watch::Receiver<bool>) -> Self {
        let leadership = shared.node.leadership();
        Self {
            shared,
            peer,
            stopping,
            cursors: Cursors::default(),
            fetch_sessions: FetchSessions::default(),
            leadership,
            since: Instant::now(),
        }
    }

    /// The node.
    pub fn node(&self) -> &Handle {
        &self.shared.node
    }

    /// Who leads, just now.
    pub fn leadership(&self) -> LeaderView {
        *self.leadership.borrow()
    }

    /// A receiver of its own, for waiting until that changes.
    pub fn watch_leadership(&self) -> watch::Receiver<LeaderView> {
        self.leadership.clone()
    }

    /// The leader that clients can be sent to, and its term: none while this node itself was elected but is not
    /// ready, or is handing over.
    pub fn usable_leader(&self) -> Option<(NodeId, u64)> {
        let now = self.leadership();
        let usable = now.serving && !now.handing_over;
        let leader = now.leader.filter(|leader| *leader != self.node().node_id() || usable)?;
        Some((leader, now.term))
    }

    /// Whether there is no reason to doubt the leader: it is this node, or one that is heard.
    pub fn is_leader_sure(&self) -> bool {
        let own = self.node().node_id();
        self.usable_leader().is_some_and(|(leader, _)| leader == own || self.node().hears(leader))
    }

    /// Waits a moment while the leader is in doubt. A client that has just lost the leader asks who leads now; sent
    /// back to the dead one, it would take it for alive and not ask again for long.
    pub async fn await_leader(&self) {
        let asked = Instant::now();
        let mut changes = self.watch_leadership();
        while !self.is_leader_sure() && Instant::now() < self.leader_deadline(asked) {
            // A change of leadership wakes it at once; that a connection is back it finds out by looking.
            let _ = timeout(LOOK_AGAIN, changes.changed()).await;
        }
    }

    /// Until when whoever asked at `asked` may wait here to hear who leads.
    fn leader_deadline(&self, asked: Instant) -> Instant {
        let latest = asked + self.leader_timeout();
        // It is about to be sent elsewhere. Where nobody has a quorum, the wait keeps clients from going round in a whirl.
        let elsewhere = self.cut_off_from().map(|from| from.max(asked + self.election_timeouts().0));
        elsewhere.map_or(latest, |elsewhere| elsewhere.min(latest))
    }

    /// Whether a producer's request, which came at `received`, had better wait here: nobody can say who leads, or this
    /// node is about to, or about to cease. Sent away now, the client would ask, wait and come back all the same.
    pub fn holds_producers(&self, received: Instant) -> bool {
        self.usable_leader().is_none() && Instant::now() < self.producers_wait_until(received)
    }

    fn producers_wait_until(&self, received: Instant) -> Instant {
        let latest = received + self.leader_timeout();
        self.cut_off_from().map_or(latest, |from| from.min(latest))
    }

    /// Waits until the client has to leave: the node stops, or is cut off. One that comes only then may stay until it has
    /// heard of the other nodes.
    pub async fn until_sent_away(&self) {
        let (mut changes, mut stopping) = (self.watch_leadership(), self.stopping.clone());
        loop {
            changes.mark_unchanged();
            let from = self.cut_off_from().filter(|from| *from > self.since);
            tokio::select! {
                _ = changes.changed() => {}
                () = sleep_until(from.unwrap_or(self.since).into()), if from.is_some() => return,
                _ = stopping.wait_for(|stop| *stop) => return,
            }
        }
    }

    /// Whether this node has been without a leader for longer than elections take, so that others may well have one:
    /// clients had better ask them.
    pub fn is_cut_off(&self) -> bool {
        self.cut_off_from().is_some_and(|from| from <= Instant::now())
    }

    /// Two election timeouts after it last heard of a leader, or of a majority if it led. It noticed the silence only
    /// after the shortest one.
    fn cut_off_from(&self) -> Option<Instant> {
        let (shortest, longest) = self.election_timeouts();
        self.leadership().leaderless.map(|noticed| noticed + 2 * longest - shortest)
    }

    fn leader_timeout(&self) -> Duration {
        self.node().file().cluster.raft.elections(LEADER_TIMEOUT.0, LEADER_TIMEOUT.1)
    }

    /// The shortest and the longest.
    fn election_timeouts(&self) -> (Duration, Duration) {
        let raft = &self.node().file().cluster.raft;
        (Duration::from_millis(raft.election_timeout_min), Duration::from_millis(raft.election_timeout_max))
    }

    /// Holds a producer's request, which came at `received`, for as long as it had better wait here.
    pub async fn hold_producer(&self, received: Instant) {
        let mut changes = self.watch_leadership();
        while self.holds_producers(received) {
            let until = self.producers_wait_until(received);
            let _ = timeout_at(until.into(), changes.changed()).await;
        }
    }

    /// Lets the leader serve the request, if another node leads and can be reached.
    pub async fn ask_leader(&self, request: &Request) -> Option<Outcome> {
        let leader = self.leadership().leader?;
        if request.forwarded || leader == self.node().node_id() {
            return None;
        }
        let roster = self.node().roster();
        let node = roster.iter().find(|node| node.id == leader)?;
        let mut changes = self.watch_leadership();
        let asked = tokio::select! {
            asked = self.shared.link.ask(node, request, &self.shared.memory) => asked,
            _ = changes.wait_for(|now| now.leader != Some(leader)) => Err(io::ErrorKind::NotConnected.into()),
        };
        match asked {
            Ok((frame, held)) => Some(request.to.relay(frame, held)),
            Err(error) => {
                tracing::debug!(leader, %error, "a client's request could not be passed on to the leader");
                None
            }
        }
    }
}

//! The admin API over real sockets. Only the node behind it is made up.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use shared::api::{
    ClusterStatus, ConsumerGroups, ErrorBody, Health, MemberResponse, Membership, PeerStatus, RaftRole,
    TransferResponse, example,
};
use shared::ids::NodeId;
use shared::spec::{Cluster, ClusterFile, Network};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;

use super::{Limits, Node, serve};
use crate::consensus::NoQuorum;
use crate::maintenance::backup::{BackupError, Pieces};
use crate::node::handle::RaiseError;
use crate::replica::ChangeError;
use crate::replica::FormatError;
use crate::replica::TransferError;
use crate::state_machine::members::{Added, Address, Change};

/// A follower's status that nothing is wrong with.
pub fn status() -> ClusterStatus {
    ClusterStatus {
        state: Some(RaftRole::Follower),
        peers: Vec::new(),
        leader: Some(2),
        last_index: 42,
        ..example::status()
    }
}

fn peer(id: NodeId, http_port: u16) -> PeerStatus {
    PeerStatus {
        id,
        state: Some(RaftRole::Leader),
        match_index: None,
        host: "127.0.0.1".into(),
        cluster_port: 1,
        client_port: 1,
        http_port,
        advertised_host: None,
        membership: Membership::Voter,
        connected: true,
        last_contact_ms: Some(1),
        lag: None,
    }
}

#[derive(Clone)]
struct Made {
    file: ClusterFile,
    /// `None`: the raft thread is stuck.
    status: Arc<Mutex<Option<ClusterStatus>>>,
    /// `None`: it does not lead.
    groups: Arc<Mutex<Option<Arc<ConsumerGroups>>>>,
    transfer: Result<(NodeId, u64), TransferError>,
    asked: Arc<Mutex<Vec<Option<NodeId>>>>,
    /// Outcomes of changes, the last one for good.
    outcomes: Arc<Mutex<Vec<Result<(), ChangeError>>>>,
    changes: Arc<Mutex<Vec<Change>>>,
}

impl Node for Made {
    fn file(&self) -> &ClusterFile {
        &self.file
    }

    async fn status(&self) -> ClusterStatus {
        let status = self.status.lock().clone();
        match status {
            Some(status) => status,
            None => std::future::pending().await,
        }
    }

    fn serving(&self) -> bool {
        false
    }

    async fn metrics(&self) -> String {
        "raft_term 0\n".to_owned()
    }

    async fn groups(&self) -> Option<Arc<ConsumerGroups>> {
        self.groups.lock().clone()
    }

    async fn transfer(&self, to: Option<NodeId>) -> Result<(NodeId, u64), TransferError> {
        self.asked.lock().push(to);
        self.transfer.clone()
    }

    async fn raise_format(&self, wanted: Option<u16>) -> Result<u16, RaiseError> {
        let refused = match wanted {
            Some(9) => FormatError::TooOld { node: 3, max: 1 },
            Some(8) => FormatError::Away(3),
            Some(7) => FormatError::NotLeader(Some(1)),
            _ => return Ok(2),
        };
        Err(refused.into())
    }

    async fn backup(&self, _covers: u64) -> Result<Pieces, BackupError> {
        Err(BackupError::Busy)
    }

    async fn change(&self, change: Change) -> Result<(), ChangeError> {
        self.changes.lock().push(change);
        let mut outcomes = self.outcomes.lock();
        if outcomes.len() > 1 { outcomes.remove(0) } else { outcomes[0].clone() }
    }
}

struct Server {
    port: u16,
    node: Made,
    shutdown: watch::Sender<bool>,
    done: tokio::task::JoinHandle<()>,
}

async fn start(transfer: Result<(NodeId, u64), TransferError>) -> Server {
    start_with(transfer, Limits::default()).await
}

async fn start_with(transfer: Result<(NodeId, u64), TransferError>, limits: Limits) -> Server {
    let cluster = Cluster {
        name: "test".into(),
        node_id: Some(1),
        nodes: Vec::new(),
        raft: Default::default(),
        storage: Default::default(),
        topics: Default::default(),
    };
    let node = Made {
        file: ClusterFile { cluster, network: Network::default(), deploy: None },
        status: Arc::new(Mutex::new(Some(status()))),
        groups: Arc::default(),
        transfer,
        asked: Arc::default(),
        outcomes: Arc::new(Mutex::new(vec![Ok(())])),
        changes: Arc::default(),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (shutdown, stop) = watch::channel(false);
    let done = tokio::spawn(serve(listener, node.clone(), limits, stop));
    Server { port, node, shutdown, done }
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn error(&self) -> ErrorBody {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// Sends `text` as it is and reads until the other side closes.
async fn raw(port: u16, text: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.write_all(text).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_lowercase(), body: body.to_owned() }
}

/// As `curl -d` would: a body, and a Content-Type that does not fit it.
async fn call(port: u16, method: &str, path: &str, body: &str) -> Answer {
    let text = format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\
         content-type: application/x-www-form-urlencoded\r\n\r\n{body}",
        body.len()
    );
    raw(port, text.as_bytes()).await
}

#[tokio::test]
async fn status_health_and_metrics_answer() {
    let server = start(Ok((2, 2))).await;
    let answer = call(server.port, "GET", "/cluster/status", "").await;
    assert_eq!(answer.status, 200);
    assert!(answer.head.contains("content-type: application/json"));
    assert_eq!(serde_json::from_str::<ClusterStatus>(&answer.body).unwrap(), status());

    assert_eq!(call(server.port, "GET", "/health/live", "").await.status, 200);
    assert_eq!(call(server.port, "GET", "/health/ready", "").await.status, 200);
    server.node.status.lock().as_mut().unwrap().leader = None;
    let answer = call(server.port, "GET", "/health/ready", "").await;
    assert_eq!(answer.status, 503);
    assert!(!serde_json::from_str::<Health>(&answer.body).unwrap().ok);

    let answer = call(server.port, "GET", "/metrics", "").await;
    assert!(answer.status == 200 && answer.head.contains("content-type: text/plain; version=0.0.4"));
    assert_eq!(answer.body, "raft_term 0\n");
    server.node.status.lock().as_mut().unwrap().state = Some(RaftRole::Leader);
    assert_eq!(
        call(server.port, "GET", "/health/ready", "").await.status,
        503,
        "a leader that does not serve"
    );
    let answer = call(server.port, "GET", "/", "").await;
    assert!(
        answer.status == 200 && answer.body.contains("/cluster/status") && answer.body.lines().count() == 1
    );
}

#[tokio::test]
async fn what_is_not_there_is_said_in_json() {
    let server = start(Ok((2, 2))).await;
    let answer = call(server.port, "GET", "/cluster/nodes", "").await;
    assert_eq!((answer.status, answer.error().code.as_str()), (404, "not_found"));
    let answer = call(server.port, "DELETE", "/cluster/status", "").await;
    assert_eq!((answer.status, answer.error().code.as_str()), (405, "method_not_allowed"));
    assert!(answer.head.contains("allow: get"), "{}", answer.head);
}

#[tokio::test]
async fn a_transfer_takes_a_target_or_none() {
    let server = start(Ok((3, 9))).await;
    for (body, asked) in [("", None), ("{}", None), (" {\"to\": 3}\n", Some(3))] {
        let answer = call(server.port, "POST", "/cluster/leader/transfer", body).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let response: TransferResponse = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(response, TransferResponse { leader: 3, term: 9 });
        assert_eq!(server.node.asked.lock().pop(), Some(asked));
    }
    for body in ["{\"target\": 3}", "{", "3", "{\"to\": \"x\"}", "\u{0}"] {
        let answer = call(server.port, "POST", "/cluster/leader/transfer", body).await;
        assert_eq!((answer.status, answer.error().code.as_str()), (400, "bad_request"), "{body}");
    }
    assert!(server.node.asked.lock().is_empty());
}

#[tokio::test]
async fn a_format_is_raised_or_the_reason_is_said() {
    let server = start(Ok((2, 8))).await;
    for (body, status, said) in [
        ("", 200, "\"active_format\": 2"),
        ("{\"to\":2}", 200, "\"active_format\": 2"),
        ("{\"to\":9}", 409, "node 3 reads on-disk formats up to 1"),
        ("{\"to\":8}", 409, "node 3 is not connected"),
        ("{\"to\":7}", 503, "no leader is known"),
        ("{\"version\":7}", 400, "send JSON"),
    ] {
        let answer = call(server.port, "POST", "/cluster/format", body).await;
        assert_eq!(answer.status, status, "{body} {}", answer.body);
        assert!(answer.body.contains(said), "{body} {}", answer.body);
    }
}

#[tokio::test]
async fn a_transfer_that_fails_says_why() {
    for (error, status, code) in [
        (TransferError::NotLeader(None), 503, "no_leader"),
        (TransferError::NotLeader(Some(8)), 503, "no_leader"),
        (TransferError::BadTarget(4, "it is a learner".into()), 409, "bad_target"),
        (TransferError::TimedOut, 504, "transfer_timed_out"),
    ] {
        let server = start(Err(error)).await;
        let answer = call(server.port, "POST", "/cluster/leader/transfer", "").await;
        assert_eq!((answer.status, answer.error().code.as_str()), (status, code));
        assert!(!answer.error().hint.is_empty());
    }
}

#[tokio::test]
async fn a_follower_passes_a_transfer_on_to_the_leader_but_only_once() {
    let leader = start(Ok((3, 5))).await;
    let follower = start(Err(TransferError::NotLeader(Some(2)))).await;
    follower.node.status.lock().as_mut().unwrap().peers = vec![peer(2, leader.port)];
    let answer = call(follower.port, "POST", "/cluster/leader/transfer", "{\"to\":3}").await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert!(answer.head.contains("content-type: application/json"));
    let response: TransferResponse = serde_json::from_str(&answer.body).unwrap();
    assert_eq!((response.leader, response.term), (3, 5));
    assert_eq!(*leader.node.asked.lock(), [Some(3)]);

    // The leader's refusal comes back as it is.
    let refusing = start(Err(TransferError::BadTarget(3, "it is a learner".into()))).await;
    follower.node.status.lock().as_mut().unwrap().peers = vec![peer(2, refusing.port)];
    let answer = call(follower.port, "POST", "/cluster/leader/transfer", "{\"to\":3}").await;
    assert_eq!((answer.status, answer.error().code.as_str()), (409, "bad_target"));

    // Two that take each other for the leader do not play it back and forth.
    let other = start(Err(TransferError::NotLeader(Some(1)))).await;
    other.node.status.lock().as_mut().unwrap().peers = vec![peer(1, follower.port)];
    follower.node.status.lock().as_mut().unwrap().peers = vec![peer(2, other.port)];
    let answer = call(follower.port, "POST", "/cluster/leader/transfer", "").await;
    assert_eq!((answer.status, answer.error().code.as_str()), (409, "not_leader"));

    // A leader that is gone is named.
    other.shutdown.send(true).unwrap();
    other.done.await.unwrap();
    let answer = call(follower.port, "POST", "/cluster/leader/transfer", "").await;
    assert_eq!((answer.status, answer.error().code.as_str()), (502, "leader_unreachable"));
    assert!(answer.error().message.contains("node 2 at 127.0.0.1"));
}

#[tokio::test]
async fn the_leader_tells_of_groups_and_a_follower_asks_it() {
    let leader = start(Ok((2, 2))).await;
    *leader.node.groups.lock() = Some(Arc::new(example::groups()));
    let follower = start(Ok((2, 2))).await;
    let asked = call(follower.port, "GET", "/cluster/groups", "").await;
    assert_eq!((asked.status, asked.error().code.as_str()), (503, "no_leader"));
    follower.node.status.lock().as_mut().unwrap().peers = vec![peer(2, leader.port)];
    for port in [leader.port, follower.port] {
        let answer = call(port, "GET", "/cluster/groups", "").await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert_eq!(serde_json::from_str::<ConsumerGroups>(&answer.body).unwrap(), example::groups());
    }
    // A node that takes itself for no leader does not ask on.
    *leader.node.groups.lock() = None;
    leader.node.status.lock().as_mut().unwrap().peers = vec![peer(2, follower.port)];
    let answer = call(follower.port, "GET", "/cluster/groups", "").await;
    assert_eq!((answer.status, answer.error().code.as_str()), (409, "not_leader"));
}

/// A server whose changes end like this, one after the other.
async fn changing(outcomes: &[Result<(), ChangeError>]) -> Server {
    let server = start(Ok((2, 2))).await;
    *server.node.outcomes.lock() = outcomes.to_vec();
    server
}

#[tokio::test]
async fn members_come_and_go_as_the_documentation_says() {
    let server = changing(&[Ok(())]).await;
    let body = r#"{"id": 4, "host": "10.0.0.4", "port": 9100}"#;
    let answer = call(server.port, "POST", "/cluster/members", body).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let response: MemberResponse = serde_json::from_str(&answer.body).unwrap();
    assert_eq!((response.id, response.voters), (4, vec![1]));
    assert_eq!(call(server.port, "POST", "/cluster/members/4/promote", "").await.status, 200);
    assert_eq!(call(server.port, "DELETE", "/cluster/members/4", "").await.status, 200);
    let address = Address {
        host: "10.0.0.4".into(),
        advertised_host: None,
        cluster_port: 9100,
        client_port: 9000,
        http_port: 8080,
    };
    let added = Added { address, stays_learner: false };
    let expected = [Change::Add(4, added), Change::Promote(4), Change::Remove(4)];
    assert_eq!(*server.node.changes.lock(), expected);
}

#[tokio::test]
async fn a_change_that_makes_no_sense_never_reaches_the_leader() {
    let server = changing(&[Ok(())]).await;
    for body in [
        "",
        "{}",
        r#"{"id": 0, "host": "a", "port": 1}"#,
        r#"{"id": 4, "host": "a:9100", "port": 1}"#,
        r#"{"id": 4, "host": "a", "port": 0}"#,
        r#"{"id": 4, "host": "a", "port": 1, "cluster_port": 1}"#,
    ] {
        let answer = call(server.port, "POST", "/cluster/members", body).await;
        assert_eq!((answer.status, answer.error().code.as_str()), (400, "bad_request"), "{body}");
    }
    for (method, path) in [("DELETE", "/cluster/members/x"), ("POST", "/cluster/members/-1/promote")] {
        let answer = call(server.port, method, path, "").await;
        assert_eq!((answer.status, answer.error().code.as_str()), (400, "bad_request"), "{path}");
    }
    assert!(server.node.changes.lock().is_empty());
}

#[tokio::test]
async fn a_refused_change_says_why() {
    let left = NoQuorum { voters: 2, healthy: 1, needed: 2 };
    for (error, status, code) in [
        (ChangeError::InFlight, 409, "change_in_flight"),
        (ChangeError::NoQuorum(left), 409, "no_quorum"),
        (ChangeError::LastVoter(1), 409, "last_voter"),
        (ChangeError::IdTaken(4, "a:1".into()), 409, "id_taken"),
        (ChangeError::AddressTaken(2), 409, "address_taken"),
        (ChangeError::Full, 409, "too_many_members"),
        (ChangeError::NotAMember(4), 404, "not_a_member"),
        (ChangeError::Behind(4, 1000), 409, "behind"),
        (ChangeError::Stopping, 503, "stopping"),
    ] {
        let server = changing(&[Err(error)]).await;
        let answer = call(server.port, "DELETE", "/cluster/members/4", "").await;
        assert_eq!((answer.status, answer.error().code.as_str()), (status, code));
        assert!(!answer.error().hint.is_empty());
    }
}

#[tokio::test]
async fn a_change_waits_for_a_leader_and_goes_where_it_leads() {
    let lost =
        [Err(ChangeError::JustElected), Err(ChangeError::Unknown), Err(ChangeError::NotLeader(None)), Ok(())];
    let server = changing(&lost).await;
    assert_eq!(call(server.port, "DELETE", "/cluster/members/4", "").await.status, 200);
    assert_eq!(server.node.changes.lock().len(), 4);

    // The leader that is to go hands over, and passes the request on although it has been passed on to it.
    let next = changing(&[Ok(())]).await;
    let leader = changing(&[Err(ChangeError::Leads), Err(ChangeError::NotLeader(Some(3)))]).await;
    leader.node.status.lock().as_mut().unwrap().peers = vec![peer(3, next.port)];
    let follower = changing(&[Err(ChangeError::NotLeader(Some(2)))]).await;
    follower.node.status.lock().as_mut().unwrap().peers = vec![peer(2, leader.port)];
    let answer = call(follower.port, "DELETE", "/cluster/members/2", "").await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(*leader.node.asked.lock(), [None]);
    assert_eq!(*next.node.changes.lock(), [Change::Remove(2)]);
}

#[tokio::test(start_paused = true)]
async fn a_change_without_a_leader_ends() {
    let server = changing(&[Err(ChangeError::NotLeader(None))]).await;
    let answer = call(server.port, "DELETE", "/cluster/members/4", "").await;
    assert_eq!((answer.status, answer.error().code.as_str()), (503, "no_leader"));
}

#[tokio::test]
async fn a_body_above_the_limit_is_refused() {
    let server = start(Ok((1, 1))).await;
    let body = " ".repeat(65 << 10);
    let answer = call(server.port, "POST", "/cluster/leader/transfer", &body).await;
    assert_eq!((answer.status, answer.error().code.as_str()), (413, "body_too_large"));
}

#[tokio::test]
async fn a_connection_too_many_is_told_so_and_a_freed_one_is_given_out_again() {
    let limits = Limits { connections: 2, ..Limits::default() };
    let server = start_with(Ok((1, 1)), limits).await;
    let mut held = Vec::new();
    for _ in 0..2 {
        held.push(TcpStream::connect(("127.0.0.1", server.port)).await.unwrap());
    }
    let answer = call(server.port, "GET", "/health/live", "").await;
    assert_eq!((answer.status, answer.error().code.as_str()), (503, "too_many_connections"));
    held.clear();
    let freed = Instant::now();
    while call(server.port, "GET", "/health/live", "").await.status != 200 {
        assert!(freed.elapsed() < Duration::from_secs(5));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_client_that_takes_no_answers_is_let_go() {
    let untaken = Duration::from_millis(300);
    let server = start_with(Ok((1, 1)), Limits { untaken, ..Limits::default() }).await;
    let mut stream = TcpStream::connect(("127.0.0.1", server.port)).await.unwrap();
    let asked = "GET /cluster/status HTTP/1.1\r\nHost: a\r\n\r\n".repeat(1000);
    let began = Instant::now();
    // Once the sockets are full nothing more is taken; then the connection is closed.
    while !matches!(timeout(untaken, stream.write_all(asked.as_bytes())).await, Ok(Err(_))) {
        assert!(began.elapsed() < Duration::from_secs(20), "it is still open");
    }
    assert_eq!(call(server.port, "GET", "/", "").await.status, 200);
}

#[tokio::test]
async fn a_shutdown_ends_idle_connections_and_frees_the_port() {
    let server = start(Ok((1, 1))).await;
    let mut idle = TcpStream::connect(("127.0.0.1", server.port)).await.unwrap();
    let asked = b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n";
    idle.write_all(asked).await.unwrap();
    assert!(idle.read(&mut [0; 1024]).await.unwrap() > 0);
    server.shutdown.send(true).unwrap();
    server.done.await.unwrap();
    while idle.read(&mut [0; 1024]).await.unwrap() > 0 {}
    assert!(TcpStream::connect(("127.0.0.1", server.port)).await.is_err());
}

/// Time stands still but for the timers, so ten seconds pass at once.
#[tokio::test(start_paused = true)]
async fn a_header_that_does_not_come_ends_the_connection() {
    let server = start(Ok((1, 1))).await;
    let mut slow = TcpStream::connect(("127.0.0.1", server.port)).await.unwrap();
    slow.write_all(b"GET /health/live HT").await.unwrap();
    let began = tokio::time::Instant::now();
    let mut answer = String::new();
    slow.read_to_string(&mut answer).await.unwrap();
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(9) && took < Duration::from_secs(12), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_stuck_raft_thread_is_neither_alive_nor_ready_but_still_measured() {
    let server = start(Ok((1, 1))).await;
    *server.node.status.lock() = None;
    assert_eq!(call(server.port, "GET", "/health/live", "").await.status, 503);
    let answer = call(server.port, "GET", "/health/ready", "").await;
    assert_eq!((answer.status, answer.error().code.as_str()), (503, "stalled"));
    assert_eq!(call(server.port, "GET", "/metrics", "").await.status, 200);
}

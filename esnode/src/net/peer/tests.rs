//! Whole transports on 127.0.0.1.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use bytes::Bytes;
use crossbeam_channel::{Receiver, unbounded};
use shared::ids::{ClusterId, NodeId, StoreId};
use shared::spec::MAX_NODES;
use shared::version::Range;
use uuid::Uuid;

use super::frame::{FrameReader, Kind, write_frames};
use super::greeting::Greeting;
use super::*;
use crate::consensus::{Message, MessageType};
use crate::entry::{Entry, EntryKind};
use crate::process::version::PROTOCOL;

mod strangers;

const RPC: Duration = Duration::from_millis(50);
const MAX_FRAME: usize = 16 << 20;
/// Far beyond what anything here takes; reached only when something is broken.
const WAIT_TIMEOUT: Duration = Duration::from_secs(10);

struct Peer {
    transport: Transport,
    events: Receiver<PeerEvent>,
    address: SocketAddr,
}

fn hello(node: NodeId) -> Hello {
    let store = StoreId(Uuid::from_u128(node.into()));
    let initial_voters = [0; MAX_NODES];
    Hello {
        node,
        store,
        cluster: None,
        fresh: true,
        members: 1,
        initial_voters,
        your_store: None,
        formats: Formats::default(),
    }
}

fn start_at(listen: &str, hello: Hello, protocol: Range, queue_bytes: usize) -> Peer {
    let (sender, events) = unbounded();
    let listen: SocketAddr = listen.parse().unwrap();
    let at = (listen.ip().to_string(), listen.port());
    let config = TransportConfig {
        node_id: hello.node,
        listen,
        at,
        peers: Vec::new(),
        hello,
        rpc_timeout: RPC,
        max_frame: MAX_FRAME,
    };
    let tell = move |event| {
        let _ = sender.send(event);
    };
    let transport = Transport::start_with(config, tell, protocol, queue_bytes).unwrap();
    let address = transport.local_addr();
    Peer { transport, events, address }
}

fn start(hello: Hello) -> Peer {
    start_at("127.0.0.1:0", hello, PROTOCOL, 64 << 20)
}

fn address_of(node: NodeId, address: SocketAddr) -> PeerAddress {
    (node, address.ip().to_string(), address.port())
}

/// Makes all of them each other's peers.
fn join(peers: &[(NodeId, &Peer)]) {
    for (_, peer) in peers {
        let all = peers.iter().map(|(id, other)| address_of(*id, other.address)).collect();
        peer.transport.set_peers(all).unwrap();
    }
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + WAIT_TIMEOUT;
    while !holds() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

impl Peer {
    /// The first event that `pick` takes; others are passed over.
    fn wait<T>(&self, what: &str, mut pick: impl FnMut(PeerEvent) -> Option<T>) -> T {
        let deadline = Instant::now() + WAIT_TIMEOUT;
        loop {
            let event = self.events.recv_deadline(deadline);
            if let Some(found) = pick(event.unwrap_or_else(|_| panic!("never came: {what}"))) {
                return found;
            }
        }
    }

    fn messages(&self) -> (NodeId, Vec<Message>) {
        self.wait("messages", |event| match event {
            PeerEvent::Messages(from, mut messages) => Some((from, messages.take())),
            _ => None,
        })
    }

    fn refusal(&self) -> Refused {
        self.wait("a refusal", |event| match event {
            PeerEvent::Refused(_, refused) => Some(refused),
            _ => None,
        })
    }

    fn stats(&self, id: NodeId) -> PeerStats {
        self.transport.peer_stats().into_iter().find(|stats| stats.id == id).unwrap()
    }
}

fn append(from: NodeId, to: NodeId, index: u64, size: usize) -> Message {
    let data = Bytes::from(vec![7u8; size]);
    let entries = vec![Entry { index: 0, term: 0, kind: EntryKind::Normal, data }];
    Message { kind: MessageType::Append, from, to, index, entries, ..Message::default() }
}

#[test]
fn three_nodes_exchange_messages_in_order() {
    let peers: Vec<Peer> = (1..=3).map(|node| start(hello(node))).collect();
    join(&[(1, &peers[0]), (2, &peers[1]), (3, &peers[2])]);
    for peer in &peers {
        eventually("all connected", || peer.transport.connected().len() == 2);
    }
    for index in 0..100 {
        for to in [2, 3] {
            assert!(
                peers[0]
                    .transport
                    .send(to, vec![append(1, to, 2 * index, 3000), append(1, to, 2 * index + 1, 10)])
            );
        }
    }
    for peer in &peers[1..] {
        let mut next = 0;
        while next < 200 {
            let (from, messages) = peer.messages();
            assert_eq!(from, 1);
            for message in messages {
                assert_eq!(message.index, next);
                assert_eq!(message.entries[0].data.len(), if next % 2 == 0 { 3000 } else { 10 });
                next += 1;
            }
        }
    }
    assert!(!peers[0].transport.send(9, vec![append(1, 9, 0, 0)]), "nobody knows node 9");
    let stats = peers[0].stats(2);
    assert!(stats.outbound && stats.inbound && stats.bytes_sent > 300_000, "{stats:?}");
    assert_eq!((stats.messages_dropped, stats.reconnects), (0, 0));
}

#[test]
fn a_message_for_or_from_somebody_else_is_not_passed_on() {
    let (one, two) = (start(hello(1)), start(hello(2)));
    join(&[(1, &one), (2, &two)]);
    eventually("connected", || one.transport.connected() == [2]);
    let messages = vec![append(1, 3, 5, 0), append(3, 2, 6, 0), append(1, 2, 7, 0)];
    assert!(one.transport.send(2, messages));
    let (_, got) = two.messages();
    assert_eq!(got.iter().map(|message| message.index).collect::<Vec<_>>(), [7]);
}

#[test]
fn a_changed_hello_reaches_everybody_and_names_their_store() {
    let (one, two) = (start(hello(1)), start(hello(2)));
    join(&[(1, &one), (2, &two)]);
    eventually("connected", || one.transport.connected() == [2]);
    let cluster = Some(ClusterId(Uuid::from_u128(9)));
    let store = StoreId(Uuid::from_u128(22));
    one.transport.set_bindings([(2, store)].into(), HashMap::new());
    one.transport.set_hello(Hello { cluster, fresh: false, ..hello(1) });
    let changed = Instant::now();
    let heard = two.wait("the new Hello", |event| match event {
        PeerEvent::Hello(hello) if hello.cluster.is_some() => Some(hello),
        _ => None,
    });
    assert_eq!(heard, Hello { cluster, fresh: false, your_store: Some(store), ..hello(1) });
    assert!(changed.elapsed() < Duration::from_secs(1));
    assert_eq!(one.transport.connected(), [2], "a cluster id on one side only is no reason to part");
}

/// Of one cluster, at an address that the others can be told before it starts.
fn of_cluster(node: NodeId) -> Hello {
    Hello { cluster: Some(ClusterId(Uuid::from_u128(9))), fresh: false, ..hello(node) }
}

#[test]
fn a_member_that_another_one_names_is_met_and_a_removed_one_is_not() {
    let [one, two, four] = [1, 2, 4].map(|node| start(of_cluster(node)));
    let addresses = |peers: &[(NodeId, &Peer)]| {
        peers.iter().map(|(id, peer)| address_of(*id, peer.address)).collect::<Vec<_>>()
    };
    // Node 1 was away: it has never heard of node 4.
    four.transport.set_peers(addresses(&[(1, &one), (2, &two), (4, &four)])).unwrap();
    assert_eq!(four.refusal().code, RefusalCode::UnknownNode);
    one.transport.set_peers(addresses(&[(1, &one), (2, &two)])).unwrap();
    two.transport.set_peers(addresses(&[(1, &one), (2, &two), (4, &four)])).unwrap();
    eventually("met", || [&one, &four].iter().all(|peer| peer.transport.connected().len() == 2));
    assert!(one.transport.send(4, vec![append(1, 4, 3, 5)]));
    assert_eq!(four.messages().1[0].index, 3);

    for peer in [&one, &two] {
        peer.transport.set_bindings([].into(), [(of_cluster(4).store, 4)].into());
        peer.transport.set_peers(addresses(&[(1, &one), (2, &two)])).unwrap();
    }
    assert_eq!(four.refusal().code, RefusalCode::Removed);
    eventually("parted", || one.transport.connected() == [2] && four.transport.connected().is_empty());
}

#[test]
fn a_restarted_peer_is_back_at_once() {
    let (one, two) = (start(hello(1)), start(hello(2)));
    join(&[(1, &one), (2, &two)]);
    eventually("connected", || one.transport.connected() == [2] && two.transport.connected() == [1]);
    let listen = two.address.to_string();
    two.transport.stop();
    one.wait("the end", |event| matches!(event, PeerEvent::Disconnected(2)).then_some(()));
    eventually("seen as gone", || one.transport.connected().is_empty());
    assert!(!one.transport.send(2, vec![append(1, 2, 0, 0)]));
    // Somebody who hangs up shows when node 1 dials. Once it pauses for long between attempts, node 2 comes back
    // right after one: it must not be made to wait for the next.
    let listener = TcpListener::bind(&listen).unwrap();
    let mut pause = Duration::ZERO;
    while pause < Duration::from_millis(400) {
        let began = Instant::now();
        drop(listener.accept().unwrap());
        pause = began.elapsed();
    }
    drop(listener);

    let back = Instant::now();
    let two = start_at(&listen, hello(2), PROTOCOL, 1 << 20);
    two.transport.set_peers(vec![address_of(1, one.address)]).unwrap();
    eventually("both ways", || one.transport.connected() == [2] && two.transport.connected() == [1]);
    println!("both ways {:?} after the restart", back.elapsed());
    assert!(back.elapsed() < Duration::from_millis(300), "it waited for the next attempt");
    assert!(one.transport.send(2, vec![append(1, 2, 3, 5)]));
    assert_eq!(two.messages().1[0].index, 3);
    assert_eq!(one.stats(2).reconnects, 1);
    assert_eq!(one.stats(2).messages_dropped, 1);
}

#[test]
fn idle_connections_stay() {
    let (one, two) = (start(hello(1)), start(hello(2)));
    join(&[(1, &one), (2, &two)]);
    eventually("connected", || one.transport.connected() == [2] && two.transport.connected() == [1]);
    std::thread::sleep(RPC * 15);
    for (peer, other) in [(&one, 2), (&two, 1)] {
        let stats = peer.stats(other);
        assert!(stats.outbound && stats.inbound && stats.reconnects == 0, "{stats:?}");
        assert!(stats.last_contact.unwrap() < RPC * 10, "{stats:?}");
    }
    assert!(!one.events.try_iter().any(|event| matches!(event, PeerEvent::Disconnected(_))));
}

#[test]
fn a_foreign_cluster_is_refused_with_one_event() {
    let of = |id: u128| Some(ClusterId(Uuid::from_u128(id)));
    let one = start(Hello { cluster: of(1), ..hello(1) });
    let two = start(Hello { cluster: of(2), ..hello(2) });
    // Node 2 knows node 1 before that one dials.
    join(&[(2, &two), (1, &one)]);
    let refused = one.refusal();
    assert_eq!(refused.code, RefusalCode::ForeignCluster);
    assert!(refused.text.contains("cluster.yaml"), "{refused}");
    // Several retries later it has been told once, and nobody was ever connected.
    std::thread::sleep(Duration::from_millis(1200));
    assert!(
        one.events.try_iter().all(|event| !matches!(event, PeerEvent::Refused(..) | PeerEvent::Connected(_)))
    );
    assert!(one.transport.connected().is_empty() && two.transport.connected().is_empty());

    // It heals when the reason is gone.
    two.transport.set_hello(Hello { cluster: of(1), ..hello(2) });
    eventually("accepted", || one.transport.connected() == [2] && two.transport.connected() == [1]);
    // And an open connection is judged again.
    two.transport.set_hello(Hello { cluster: of(3), ..hello(2) });
    assert_eq!(one.refusal().code, RefusalCode::ForeignCluster);
    eventually("parted", || one.transport.connected().is_empty());
}

#[test]
fn a_wrong_node_an_unknown_node_and_an_old_protocol_are_refused() {
    let one = start(hello(1));
    let two = start(hello(2));
    one.transport.set_peers(vec![address_of(5, two.address)]).unwrap();
    assert_eq!(one.refusal().code, RefusalCode::WrongNode);
    two.transport.set_peers(vec![address_of(1, one.address)]).unwrap();
    assert_eq!(two.refusal().code, RefusalCode::UnknownNode);

    let three =
        start_at("127.0.0.1:0", hello(3), Range { min: PROTOCOL.max + 1, max: PROTOCOL.max + 2 }, 1 << 20);
    join(&[(1, &one), (3, &three)]);
    assert_eq!(one.refusal().code, RefusalCode::ProtocolTooOld);
    assert_eq!(three.refusal().code, RefusalCode::ProtocolTooNew);
}

/// Somebody that listens as a peer of the version before would and introduces itself as `node`, then leaves the connection
/// alone.
fn stuck_peer(listener: &TcpListener, node: NodeId) -> TcpStream {
    let (mut stream, _) = listener.accept().unwrap();
    let mut frames = FrameReader::new(4096);
    let theirs = loop {
        if let Some((kind, body)) = frames.next_frame().unwrap() {
            assert_eq!(kind, Kind::Hello);
            break Greeting::decode(body).unwrap();
        }
        frames.fill(&mut stream).unwrap();
    };
    let answer = Greeting { to: theirs.hello.node, ..greeting(hello(node), None) };
    write_frames(&mut stream, &[answer.encode()]).unwrap();
    stream
}

#[test]
fn a_peer_that_does_not_read_fills_its_queue_and_no_more() {
    const LIMIT: usize = 4 << 20;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let one = start_at("127.0.0.1:0", hello(1), PROTOCOL, LIMIT);
    let three = start(hello(3));
    join(&[(1, &one), (3, &three)]);
    one.transport
        .set_peers(vec![address_of(2, listener.local_addr().unwrap()), address_of(3, three.address)])
        .unwrap();
    let stuck = stuck_peer(&listener, 2);
    eventually("connected to both", || one.stats(2).outbound && one.stats(3).outbound);

    let began = Instant::now();
    let mut refused = 0;
    for index in 0..400 {
        let sent = Instant::now();
        refused += u64::from(!one.transport.send(2, vec![append(1, 2, index, 100_000)]));
        assert!(sent.elapsed() < Duration::from_millis(100), "send waited");
    }
    assert!(one.stats(2).bytes_queued <= LIMIT as u64);
    assert!(refused > 100, "40 MB cannot fit 4 MiB and the socket's buffers: {refused}");
    assert!(one.stats(2).messages_dropped >= refused);
    // The others do not notice.
    assert!(one.transport.send(3, vec![append(1, 3, 1, 10)]));
    assert_eq!(three.messages().1[0].index, 1);
    // It shows no sign of life either, so the connection does not last.
    one.wait("the end", |event| matches!(event, PeerEvent::Disconnected(2)).then_some(()));
    assert!(began.elapsed() < RPC * 40);
    assert_eq!(one.stats(2).bytes_queued, 0);
    drop(stuck);
}

/// What somebody says to node 1 who only dials, and who is of the version before if it has no token.
fn greeting(hello: Hello, token: Option<u128>) -> Greeting {
    let at = (String::new(), 0);
    Greeting { protocol: PROTOCOL, to: 1, incarnation: 1, revision: 1, hello, at, token, names: Vec::new() }
}

/// Somebody that dials as `node` would, introduces itself to node 1, and reads the answer.
fn bare_dialler(to: SocketAddr, greeting: &Greeting) -> TcpStream {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(WAIT_TIMEOUT)).unwrap();
    write_frames(&mut stream, &[greeting.encode()]).unwrap();
    let mut frames = FrameReader::new(4096);
    while frames.next_frame().unwrap().is_none() {
        frames.fill(&mut stream).unwrap();
    }
    stream
}

fn write_messages(stream: &mut TcpStream, messages: &[Message]) {
    let mut frames = Vec::new();
    codec::encode(messages, MAX_FRAME, &mut frames);
    write_frames(stream, &frames).unwrap();
}

/// Reads until the other side has closed the connection. Returns how much came.
fn read_to_its_end(stream: &mut TcpStream) -> usize {
    let mut heard = 0;
    loop {
        match stream.read(&mut [0; 64]) {
            Ok(0) => return heard,
            Ok(bytes) => heard += bytes,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return heard,
            Err(error) => panic!("it was not closed: {error}"),
        }
    }
}

#[test]
fn a_silent_dialler_of_the_version_before_is_let_go_and_a_second_one_replaces_the_first() {
    let one = start(hello(1));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    one.transport.set_peers(vec![address_of(2, listener.local_addr().unwrap())]).unwrap();
    let _there = stuck_peer(&listener, 2);
    let mut first = bare_dialler(one.address, &greeting(hello(2), None));
    eventually("in", || one.stats(2).inbound);
    let began = Instant::now();
    let mut second = bare_dialler(one.address, &greeting(hello(2), None));
    read_to_its_end(&mut first);
    assert!(began.elapsed() < RPC * 5, "the first waited for its time to run out: {:?}", began.elapsed());
    assert!(one.stats(2).inbound);
    write_messages(&mut second, &[append(2, 1, 4, 100_000)]);
    assert_eq!(one.messages().1[0].index, 4);
    // It gets signs of life and gives none.
    let heard = read_to_its_end(&mut second);
    let lasted = began.elapsed();
    assert!(lasted > RPC * 9 && lasted < RPC * 30, "{lasted:?}");
    assert!(heard >= 2 * 9, "{heard}");
    eventually("gone", || !one.stats(2).inbound);
}

#[test]
fn peers_are_let_go_and_taken_back() {
    let (one, two) = (start(hello(1)), start(hello(2)));
    join(&[(1, &one), (2, &two)]);
    eventually("connected", || one.transport.connected() == [2] && two.transport.connected() == [1]);
    one.transport.set_peers(Vec::new()).unwrap();
    assert!(!one.transport.send(2, vec![append(1, 2, 0, 0)]));
    assert_eq!(two.refusal().code, RefusalCode::UnknownNode);
    one.transport.set_peers(vec![address_of(2, two.address)]).unwrap();
    eventually("back", || one.transport.connected() == [2] && two.transport.connected() == [1]);
}

/// Prints what a round trip costs; judged by a person, since a busy machine must not fail a test.
#[test]
fn round_trip_time() {
    let (one, two) = (start(hello(1)), start(hello(2)));
    join(&[(1, &one), (2, &two)]);
    eventually("connected", || one.transport.connected() == [2] && two.transport.connected() == [1]);
    let (back, events) = (two.transport, two.events);
    let echo = std::thread::spawn(move || {
        for event in events {
            if let PeerEvent::Messages(1, messages) = event {
                let last = messages[0].index == u64::MAX;
                back.send(1, messages.iter().map(|message| append(2, 1, message.index, 0)).collect());
                if last {
                    return;
                }
            }
        }
    });
    let mut trips: Vec<Duration> = (0..2000)
        .map(|index| {
            let sent = Instant::now();
            one.transport.send(2, vec![append(1, 2, index, 1024)]);
            assert_eq!(one.messages().1[0].index, index);
            sent.elapsed()
        })
        .collect();
    one.transport.send(2, vec![append(1, 2, u64::MAX, 0)]);
    echo.join().unwrap();
    trips.sort();
    println!("round trip of 1 KiB: p50 {:?}, p99 {:?}", trips[1000], trips[1980]);
    assert!(trips[1000] < Duration::from_millis(20), "something waits for a timer");
}

//! A connection over real sockets, with services that answer at once, late, or not at all.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use bytes::BufMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;

/// Answers each frame with its first four bytes, when and how `answer` says.
struct Test<F> {
    begun: AtomicUsize,
    /// What each takes besides its frame.
    besides: usize,
    answer: F,
}

impl<F: Fn(u32, Outcome) -> Answer + Sync> Service for Test<F> {
    type Request = Bytes;

    fn admit(&self, frame: Bytes) -> Result<(Bytes, usize), BadRequest> {
        Ok((frame, self.besides))
    }

    fn oversized(&self, head: Bytes) -> Result<(ReplyTo, Answer), BadRequest> {
        let to =
            ReplyTo { key: ApiKey::Produce, version: 9, correlation: 0, received: std::time::Instant::now() };
        Ok((to, Answer::Now(Outcome::Send(BytesMut::from(&head[..4])))))
    }

    async fn begin(&self, frame: Bytes) -> Result<(ReplyTo, Answer), BadRequest> {
        self.begun.fetch_add(1, Relaxed);
        let to =
            ReplyTo { key: ApiKey::Produce, version: 9, correlation: 0, received: std::time::Instant::now() };
        let number = frame.first_chunk::<4>().map(|bytes| u32::from_be_bytes(*bytes));
        let number = number.ok_or(BadRequest::Length("too short".to_owned()))?;
        let mut out = BytesMut::new();
        out.put_u32(number);
        Ok((to, (self.answer)(number, Outcome::Send(out))))
    }
}

struct Client {
    socket: TcpStream,
    begun: Arc<dyn Fn() -> usize + Send + Sync>,
    stop: watch::Sender<bool>,
    task: JoinHandle<Result<(), Ended>>,
}

/// A client connected to a service, where all requests together may take `memory` bytes.
async fn connect(memory: usize, answer: impl Fn(u32, Outcome) -> Answer + Send + Sync + 'static) -> Client {
    let limits = Limits { request_bytes: memory, ..Limits::default() };
    connect_with(&Arc::new(Listener::new(limits)), answer).await
}

/// What the connections of one listener share.
struct Listener {
    limits: Limits,
    memory: Memory,
}

impl Listener {
    fn new(limits: Limits) -> Self {
        Self { memory: Memory::new(&limits), limits }
    }
}

async fn connect_with(
    shared: &Arc<Listener>,
    answer: impl Fn(u32, Outcome) -> Answer + Send + Sync + 'static,
) -> Client {
    connect_heavy(shared, 0, answer).await
}

async fn connect_heavy(
    shared: &Arc<Listener>,
    besides: usize,
    answer: impl Fn(u32, Outcome) -> Answer + Send + Sync + 'static,
) -> Client {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let socket = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (accepted, _) = listener.accept().await.unwrap();
    let (stop, leaving) = watch::channel(false);
    let service = Arc::new(Test { begun: AtomicUsize::new(0), besides, answer });
    let counted = Arc::clone(&service);
    let shared = Arc::clone(shared);
    let task = tokio::spawn(async move {
        let metrics = KafkaMetrics::default();
        let Listener { limits, memory } = &*shared;
        let common = Common { metrics: &metrics, limits, memory, leaving };
        run(accepted, &*service, common).await
    });
    Client { socket, begun: Arc::new(move || counted.begun.load(Relaxed)), stop, task }
}

fn frames(numbers: std::ops::Range<u32>, size: u32) -> Vec<u8> {
    let mut out = Vec::new();
    for number in numbers {
        out.put_u32(size);
        out.put_u32(number);
        out.put_bytes(0, size as usize - 4);
    }
    out
}

impl Client {
    async fn expect(&mut self, numbers: std::ops::Range<u32>) {
        for number in numbers {
            assert_eq!(self.socket.read_u32().await.unwrap(), number);
        }
    }

    /// Waits until nothing more is begun, and says how much was.
    async fn settled(&self) -> usize {
        let mut before = usize::MAX;
        loop {
            let now = (self.begun)();
            if now == before {
                return now;
            }
            before = now;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

#[tokio::test]
async fn answers_come_in_the_order_of_requests_whatever_they_take() {
    let mut client = connect(1 << 20, |number, outcome| match number % 3 {
        0 => Answer::Now(outcome),
        1 => {
            let (send, receive) = oneshot::channel();
            tokio::spawn(async move {
                sleep_until(Instant::now() + Duration::from_millis(u64::from(7 - number % 7))).await;
                send.send(outcome)
            });
            Answer::later(async { receive.await.unwrap() })
        }
        _ => Answer::later(async { outcome }),
    })
    .await;
    let sent = frames(0..500, 100);
    for piece in sent.chunks(777) {
        client.socket.write_all(piece).await.unwrap();
    }
    client.expect(0..500).await;
}

#[tokio::test]
async fn requests_are_begun_before_earlier_ones_are_answered_up_to_a_limit() {
    let mut client = connect(64 << 20, |_, _| Answer::later(std::future::pending())).await;
    let sent = frames(0..6_000, 8);
    client.socket.write_all(&sent).await.unwrap();
    let begun = client.settled().await;
    assert!((MAX_IN_FLIGHT..MAX_IN_FLIGHT + 5).contains(&begun), "{begun} begun");
}

#[tokio::test]
async fn requests_wait_for_memory_and_are_not_refused() {
    let (send, receive) = watch::channel(false);
    let mut client = connect(250, move |_, outcome| {
        let mut free = receive.clone();
        Answer::later(async move {
            free.wait_for(|free| *free).await.unwrap();
            outcome
        })
    })
    .await;
    client.socket.write_all(&frames(0..50, 100)).await.unwrap();
    assert_eq!(client.settled().await, 2);
    send.send_replace(true);
    client.expect(0..50).await;
}

#[tokio::test]
async fn a_large_frame_arrives_whole() {
    let mut client = connect(64 << 20, |_, outcome| Answer::Now(outcome)).await;
    client.socket.write_all(&frames(0..3, 5 << 20)).await.unwrap();
    client.expect(0..3).await;
}

#[tokio::test]
async fn silence_is_skipped_and_an_end_comes_after_what_was_answered() {
    let mut client = connect(1 << 20, |number, outcome| {
        Answer::Now(match number {
            1 => Outcome::NoResponse,
            3 => Outcome::Close,
            _ => outcome,
        })
    })
    .await;
    client.socket.write_all(&frames(0..5, 100)).await.unwrap();
    client.expect(0..1).await;
    client.expect(2..3).await;
    assert!(client.socket.read_u8().await.is_err(), "closed without another byte");
    assert!(client.task.await.unwrap().is_ok());
}

#[tokio::test]
async fn what_was_begun_is_answered_when_the_client_misbehaves_leaves_or_the_node_stops() {
    for how in ["nonsense", "leave", "stop"] {
        let mut client = connect(1 << 20, |_, outcome| {
            Answer::later(async {
                sleep_until(Instant::now() + Duration::from_millis(20)).await;
                outcome
            })
        })
        .await;
        client.socket.write_all(&frames(0..10, 100)).await.unwrap();
        assert_eq!(client.settled().await, 10);
        match how {
            "nonsense" => client.socket.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap(),
            "leave" => client.socket.shutdown().await.unwrap(),
            _ => drop(client.stop.send_replace(true)),
        }
        client.expect(0..10).await;
        let ended = client.task.await.unwrap();
        assert_eq!(ended.is_err(), how == "nonsense", "{how}: {ended:?}");
    }
}

#[tokio::test]
async fn a_frame_too_large_to_be_held_is_thrown_away_and_answered_in_its_turn() {
    let limits = Limits { half_sent_bytes: 1 << 20, request_bytes: 1 << 20, ..Limits::default() };
    let mut client =
        connect_with(&Arc::new(Listener::new(limits)), |_, outcome| Answer::later(async { outcome })).await;
    let sent = [frames(0..3, 100), frames(3..5, 20 << 20), frames(5..7, 100)].concat();
    client.socket.write_all(&sent).await.unwrap();
    client.expect(0..7).await;
}

#[tokio::test]
async fn a_frame_beyond_the_limit_ends_the_connection_before_its_bytes_are_read() {
    let mut client = connect(64 << 20, |_, outcome| Answer::Now(outcome)).await;
    client.socket.write_all(&(101u32 << 20).to_be_bytes()).await.unwrap();
    let ended = client.task.await.unwrap().unwrap_err();
    assert!(matches!(ended, Ended::BadRequest(BadRequest::Length(_))), "{ended}");
}

/// A generous floor, for a build without optimisation on a shared machine: thousands of tiny requests must not take
/// a write, a task or a timer each.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_tiny_requests_on_one_connection_are_quick() {
    const REQUESTS: u32 = 100_000;
    let mut client = connect(64 << 20, |_, outcome| Answer::later(async { outcome })).await;
    let began = Instant::now();
    let (mut read, mut write) = client.socket.split();
    let sending = async {
        for first in (0..REQUESTS).step_by(1_000) {
            write.write_all(&frames(first..first + 1_000, 150)).await.unwrap();
        }
    };
    let receiving = async {
        let mut answers = vec![0; REQUESTS as usize * 4];
        read.read_exact(&mut answers).await.unwrap();
        let mut numbers = answers.chunks_exact(4).map(|bytes| u32::from_be_bytes(bytes.try_into().unwrap()));
        assert!(numbers.by_ref().eq(0..REQUESTS));
    };
    tokio::join!(sending, receiving);
    let rate = f64::from(REQUESTS) / began.elapsed().as_secs_f64();
    println!("{rate:.0} requests/s");
    assert!(rate > 20_000.0, "{rate:.0} requests/s");
}

const SOON: Duration = Duration::from_millis(300);

/// Nobody here waits for a minute.
fn hasty() -> Limits {
    let (half_sent_bytes, request_bytes) = (4 << 20, 2 << 20);
    let (half_sent, untaken, leaving) = (SOON * 20, SOON * 20, SOON);
    Limits { half_sent, untaken, leaving, half_sent_bytes, request_bytes, grace: SOON, ..Limits::default() }
}

/// Whether an honest client's request of so many bytes is answered, and how soon.
async fn served(shared: &Arc<Listener>, size: u32) -> Duration {
    let began = Instant::now();
    let mut honest = connect_with(shared, |_, outcome| Answer::Now(outcome)).await;
    honest.socket.write_all(&frames(7..8, size)).await.unwrap();
    honest.expect(7..8).await;
    began.elapsed()
}

#[tokio::test]
async fn a_byte_now_and_then_does_not_make_the_time_longer() {
    let limits = Limits { half_sent: SOON, ..Limits::default() };
    for sent in [frames(0..1, 100), frames(0..1, 100_000)] {
        let mut client =
            connect_with(&Arc::new(Listener::new(limits)), |_, outcome| Answer::Now(outcome)).await;
        let began = Instant::now();
        for byte in sent {
            if client.socket.write_all(&[byte]).await.is_err() || client.task.is_finished() {
                break;
            }
            tokio::time::sleep(SOON / 10).await;
        }
        let ended = client.task.await.unwrap().unwrap_err();
        assert!(matches!(ended, Ended::TooSlow(_)), "{ended}");
        assert!(began.elapsed() < SOON * 3, "{:?}", began.elapsed());
    }
}

#[tokio::test]
async fn a_claimed_length_alone_holds_nothing() {
    let shared = Arc::new(Listener::new(hasty()));
    let mut claims = Vec::new();
    for _ in 0..100 {
        let mut client = connect_with(&shared, |_, outcome| Answer::Now(outcome)).await;
        client.socket.write_all(&frames(0..1, 16 << 20)[..20]).await.unwrap();
        claims.push(client);
    }
    for size in [10, 60_000, 1 << 20] {
        let took = served(&shared, size).await;
        assert!(took < hasty().grace + SOON * 2, "{size} bytes took {took:?}");
    }
}

#[tokio::test]
async fn half_sent_requests_give_way_when_others_need_their_memory() {
    let shared = Arc::new(Listener::new(hasty()));
    let mut half = Vec::new();
    for _ in 0..3 {
        let mut client = connect_with(&shared, |_, outcome| Answer::Now(outcome)).await;
        client.socket.write_all(&frames(0..1, 4 << 20)[..3 << 20]).await.unwrap();
        half.push(client);
    }
    assert!(served(&shared, 60_000).await < SOON, "small requests need none of it");
    assert!(served(&shared, 1 << 20).await < SOON * 5);
    let gone = half.iter().filter(|client| client.task.is_finished()).count();
    assert!(gone > 0, "somebody must have given way");
}

#[tokio::test]
async fn a_client_that_takes_no_answers_gives_way_when_others_need_its_memory() {
    let shared = Arc::new(Listener::new(hasty()));
    let mut stuck = Vec::new();
    for _ in 0..3 {
        // Its answers soon fill the socket; its requests then fill the memory.
        let mut client =
            connect_with(&shared, |_, _| Answer::later(async { Outcome::Send(BytesMut::zeroed(8 << 20)) }))
                .await;
        let _ = timeout(SOON, client.socket.write_all(&frames(0..40, 60_000))).await;
        stuck.push(client);
    }
    let took = served(&shared, 60_000).await;
    assert!(took < SOON * 5, "{took:?}");
    let ended = stuck.iter().position(|client| client.task.is_finished()).expect("one gave way");
    let ended = stuck.swap_remove(ended).task.await.unwrap().unwrap_err();
    assert!(matches!(ended, Ended::GaveWay), "{ended}");
}

#[tokio::test]
async fn what_a_request_takes_when_decoded_counts_too() {
    let limits = Limits { request_bytes: 1000, ..Limits::default() };
    let answer = |_, _| Answer::later(std::future::pending());
    let mut client = connect_heavy(&Arc::new(Listener::new(limits)), 150, answer).await;
    client.socket.write_all(&frames(0..50, 50)).await.unwrap();
    assert_eq!(client.settled().await, 5);
}

#[tokio::test]
async fn large_requests_hold_up_no_small_ones() {
    let limits = Limits { large_request_bytes: 4 << 20, ..Limits::default() };
    let shared = Arc::new(Listener::new(limits));
    let mut large = Vec::new();
    for _ in 0..3 {
        let mut client = connect_with(&shared, |_, _| Answer::later(std::future::pending())).await;
        client.socket.write_all(&frames(0..1, 3 << 20)).await.unwrap();
        large.push(client);
    }
    assert_eq!(large[0].settled().await + large[1].settled().await + large[2].settled().await, 1);
    assert!(served(&shared, 60_000).await < SOON);
}

#[tokio::test]
async fn answers_that_are_never_taken_end_the_connection() {
    let limits = Limits { untaken: SOON, ..Limits::default() };
    let mut client = connect_with(&Arc::new(Listener::new(limits)), |_, _| {
        Answer::later(async { Outcome::Send(BytesMut::zeroed(32 << 20)) })
    })
    .await;
    let began = Instant::now();
    client.socket.write_all(&frames(0..1, 100)).await.unwrap();
    while !client.task.is_finished() && began.elapsed() < SOON * 10 {
        // A little of it, now and then.
        let _ = timeout(SOON / 10, client.socket.read(&mut [0; 1024])).await;
        tokio::time::sleep(SOON / 10).await;
    }
    let ended = client.task.await.unwrap().unwrap_err();
    assert!(matches!(ended, Ended::TooSlow(_)) && began.elapsed() >= SOON, "{ended}");
}

#[tokio::test]
async fn a_client_that_has_left_is_not_waited_for() {
    let shared = Arc::new(Listener::new(hasty()));
    let client = connect_with(&shared, |_, _| Answer::later(std::future::pending())).await;
    let Client { mut socket, task, .. } = client;
    socket.write_all(&frames(0..10, 100)).await.unwrap();
    drop(socket);
    let began = Instant::now();
    assert!(task.await.unwrap().is_ok());
    assert!(began.elapsed() < SOON * 5, "{:?}", began.elapsed());
}

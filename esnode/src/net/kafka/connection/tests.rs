//! A connection over real sockets, with services that answer at once, late, or not at all.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use bytes::BufMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;

/// Answers each frame with its first four bytes, when and how `answer` says.
struct Test<F> {
    begun: AtomicUsize,
    answer: F,
}

impl<F: Fn(u32, Outcome) -> Answer + Sync> Service for Test<F> {
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
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let socket = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (accepted, _) = listener.accept().await.unwrap();
    let (stop, stopping) = watch::channel(false);
    let service = Arc::new(Test { begun: AtomicUsize::new(0), answer });
    let counted = Arc::clone(&service);
    let task = tokio::spawn(async move {
        let metrics = KafkaMetrics::default();
        let request_bytes = Arc::new(Semaphore::new(memory));
        run(accepted, &*service, Common { metrics: &metrics, request_bytes: &request_bytes, stopping }).await
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
            1 => Outcome::Silence,
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
async fn a_frame_beyond_the_limit_ends_the_connection_before_its_bytes_are_read() {
    let mut client = connect(64 << 20, |_, outcome| Answer::Now(outcome)).await;
    client.socket.write_all(&(17u32 << 20).to_be_bytes()).await.unwrap();
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

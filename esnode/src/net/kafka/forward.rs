//! Passes a client's request on to the leader, over the leader's own Kafka port, and brings the answer back.
//!
//! Clients send some requests (metadata that creates a topic, producer ids, topics' creation) to any node; not all
//! of them look for another one when refused. One connection is kept; requests go over it one at a time.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use shared::spec::Node;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Mutex, OwnedSemaphorePermit};
use tokio::time::timeout;

use super::answers::SMALL;
use super::frame::{MAX_FRAME, Request};
use super::memory::{Held, Memory};

/// The way to the leader.
#[derive(Debug)]
pub struct Link {
    connection: Mutex<Option<Connection>>,
    limit: Duration,
}

/// An answer, and the memory that it holds.
pub type Answered = (BytesMut, Option<Held>);

#[derive(Debug)]
struct Connection {
    address: (String, u16),
    socket: TcpStream,
    sent: i32,
}

impl Link {
    /// A link whose questions are given up after `limit`.
    pub fn new(limit: Duration) -> Self {
        Self { connection: Mutex::new(None), limit }
    }

    /// The answer of `leader` to `request`: a frame with length prefix, addressed to this node, and the memory that it
    /// holds if it is a large one.
    pub async fn ask(&self, leader: &Node, request: &Request, memory: &Memory) -> io::Result<Answered> {
        timeout(self.limit, self.exchange((leader.host.clone(), leader.client_port), request, memory))
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    async fn exchange(
        &self,
        address: (String, u16),
        request: &Request,
        memory: &Memory,
    ) -> io::Result<Answered> {
        let mut slot = self.connection.lock().await;
        // Taken out while in use: whatever interrupts the exchange, a half-read answer is never left behind.
        let mut connection = match slot.take() {
            Some(kept) if kept.address == address && kept.is_open() => kept,
            _ => Connection::open(address).await?,
        };
        let answer = connection.exchange(request, memory).await?;
        *slot = Some(connection);
        Ok(answer)
    }
}

impl Connection {
    async fn open(address: (String, u16)) -> io::Result<Self> {
        let socket = TcpStream::connect((address.0.as_str(), address.1)).await?;
        socket.set_nodelay(true)?;
        Ok(Self { address, socket, sent: 0 })
    }

    /// False when the other side has closed it, or has said something unasked.
    fn is_open(&self) -> bool {
        matches!(self.socket.try_read(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    async fn exchange(&mut self, request: &Request, memory: &Memory) -> io::Result<Answered> {
        self.sent = self.sent.wrapping_add(1);
        self.socket.write_all(&request.forward(self.sent)).await?;
        let mut head = [0; 8];
        self.socket.read_exact(&mut head).await?;
        let [length, correlation] =
            [0, 4].map(|at| i32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]));
        let body = usize::try_from(length)
            .ok()
            .and_then(|length| length.checked_sub(4))
            .filter(|body| *body <= MAX_FRAME && correlation == self.sent)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not the answer to this request"))?;
        let held = if body > SMALL { Some(Held::Answer(reserve(memory, body)?)) } else { None };
        let mut frame = BytesMut::zeroed(8 + body);
        frame[..8].copy_from_slice(&head);
        self.socket.read_exact(&mut frame[8..]).await?;
        Ok((frame, held))
    }
}

/// Memory for an answer. Nobody waits for it here, where all others would wait behind.
fn reserve(memory: &Memory, bytes: usize) -> io::Result<OwnedSemaphorePermit> {
    memory.answers.try_take(bytes).ok_or_else(|| {
        memory.answers.evict();
        io::Error::new(io::ErrorKind::OutOfMemory, "no memory for the leader's answer just now")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::kafka::frame;
    use crate::net::kafka::limits::Limits;
    use kafka_protocol::messages::ApiKey;
    use serde_json::json;
    use tokio::net::TcpListener;

    fn request() -> Request {
        // Key, version, correlation id, no client id; an empty list of topics.
        let frame = [&[0, 3, 0, 1, 0, 0, 0, 9, 0xff, 0xff], &[0; 4][..]].concat();
        Request::parse(ApiKey::Metadata, frame.into()).unwrap()
    }

    fn memory() -> Memory {
        Memory::new(&Limits::default())
    }

    async fn leader() -> (TcpListener, Node) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let node = json!({"id": 2, "host": "127.0.0.1", "client_port": port});
        (listener, serde_json::from_value(node).unwrap())
    }

    /// Reads one frame and answers with its correlation id and `body`.
    async fn answer(socket: &mut TcpStream, body: &[u8]) -> i32 {
        let mut frame = vec![0; socket.read_u32().await.unwrap() as usize];
        socket.read_exact(&mut frame).await.unwrap();
        let (_, _, correlation) = frame::peek(&frame).unwrap();
        socket.write_u32(u32::try_from(4 + body.len()).unwrap()).await.unwrap();
        socket.write_i32(correlation).await.unwrap();
        socket.write_all(body).await.unwrap();
        correlation
    }

    #[tokio::test]
    async fn one_connection_serves_many_questions_and_is_renewed_when_lost() {
        let (listener, node) = leader().await;
        let link = Link::new(Duration::from_secs(5));
        let serving = async {
            let (mut first, _) = listener.accept().await.unwrap();
            assert_eq!(answer(&mut first, b"one").await, 1);
            assert_eq!(answer(&mut first, b"two").await, 2);
            drop(first);
            let (mut second, _) = listener.accept().await.unwrap();
            assert_eq!(answer(&mut second, b"three").await, 1);
        };
        let asking = async {
            for expected in [&b"one"[..], b"two", b"three"] {
                let (frame, _) = link.ask(&node, &request(), &memory()).await.unwrap();
                assert_eq!(&frame[8..], expected);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::join!(serving, asking);
    }

    #[tokio::test]
    async fn a_leader_that_does_not_answer_is_given_up_and_asked_anew() {
        let (listener, node) = leader().await;
        let link = Link::new(Duration::from_millis(100));
        let error = link.ask(&node, &request(), &memory()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let (_silent, _) = listener.accept().await.unwrap();
        let serving = async {
            let (mut socket, _) = listener.accept().await.unwrap();
            answer(&mut socket, b"late").await;
        };
        let (request, memory) = (request(), memory());
        let (asked, ()) = tokio::join!(link.ask(&node, &request, &memory), serving);
        assert_eq!(&asked.unwrap().0[8..], b"late");
    }

    #[tokio::test]
    async fn an_answer_to_something_else_is_no_answer() {
        let (listener, node) = leader().await;
        let link = Link::new(Duration::from_secs(5));
        let serving = async {
            let (mut socket, _) = listener.accept().await.unwrap();
            socket.write_all(&[0, 0, 0, 4, 0, 0, 0, 99]).await.unwrap();
            socket.flush().await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        let (request, memory) = (request(), memory());
        let (asked, ()) = tokio::join!(link.ask(&node, &request, &memory), serving);
        assert_eq!(asked.unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}

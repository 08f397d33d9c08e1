//! One client's connection: requests are begun in the order they arrive and answered in that order, with many in
//! flight between. Knows frames and the table of APIs, not what any API does.
//!
//! Reading and writing are one task: most wake-ups concern both, and none needs a hand-over to another thread.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::messages::ApiKey;
use std::future::poll_fn;
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};

use super::apis::Answer;
use super::frame::{self, BadRequest, Outcome, ReplyTo};
use super::metrics::KafkaMetrics;

/// Bytes asked of the socket at a time.
const READ_BUFFER: usize = 64 << 10;
/// Answers are gathered up to this size before they are written.
const WRITE_BUFFER: usize = 128 << 10;
/// Requests of one connection that may be unanswered; more are not read.
const MAX_IN_FLIGHT: usize = 4096;
/// Their bytes.
const MAX_IN_FLIGHT_BYTES: usize = 64 << 20;
/// A client may be silent, or leave its answers untaken, for so long: consumers that work on what they have got do.
const IDLE: Duration = Duration::from_secs(600);
/// A frame that has begun must be complete within this.
const STALLED: Duration = Duration::from_secs(60);

/// Serves the requests that a connection brings.
pub trait Service {
    /// Begins to serve a frame (without its length prefix). The next one is not begun before this returns, which
    /// may take a while when there is too much to do.
    fn begin(&self, frame: Bytes) -> impl Future<Output = Result<(ReplyTo, Answer), BadRequest>> + Send;
}

/// What a connection shares with the others of its listener.
#[derive(Debug)]
pub struct Common<'a> {
    /// Counts its answers.
    pub metrics: &'a KafkaMetrics,
    /// Bytes of requests that may be in flight on all connections together.
    pub request_bytes: &'a Arc<Semaphore>,
    /// Turns true when the node stops.
    pub stopping: watch::Receiver<bool>,
}

/// Why a connection ended, other than by the client's wish.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    /// The client sent something that cannot be answered.
    #[error(transparent)]
    BadRequest(#[from] BadRequest),
    /// The socket failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Nothing came, or was taken, for too long.
    #[error("{0}")]
    TooSlow(&'static str),
}

/// Memory that a request in flight accounts for, on its connection and on all together.
struct Permits {
    _connection: OwnedSemaphorePermit,
    _all: OwnedSemaphorePermit,
}

/// A request that has begun.
struct Pending {
    to: ReplyTo,
    answer: Answer,
    _permits: Permits,
}

/// Serves one client until it leaves, misbehaves or the node stops; whatever was begun is answered first.
pub async fn run(mut socket: TcpStream, service: &impl Service, common: Common<'_>) -> Result<(), Ended> {
    let (read, write) = socket.split();
    let (queue, answers) = mpsc::channel(MAX_IN_FLIGHT);
    let writer = write_answers(write, common.metrics, Answers { queue: answers, head: None });
    let reader = Reader { socket: read, common, buffer: BytesMut::with_capacity(READ_BUFFER) };
    let reader = reader.run(service, queue);
    tokio::pin!(reader, writer);
    tokio::select! {
        ended = &mut reader => {
            writer.await?;
            ended
        }
        ended = &mut writer => ended,
    }
}

struct Reader<'a> {
    socket: ReadHalf<'a>,
    common: Common<'a>,
    buffer: BytesMut,
}

impl Reader<'_> {
    async fn run(mut self, service: &impl Service, queue: mpsc::Sender<Pending>) -> Result<(), Ended> {
        let budget = Arc::new(Semaphore::new(MAX_IN_FLIGHT_BYTES));
        loop {
            let Some(length) = self.prefix().await? else { return Ok(()) };
            let permits = self.permits(&budget, length).await?;
            let Some(frame) = self.frame(length).await? else { return Ok(()) };
            let (to, answer) = service.begin(frame).await?;
            if queue.send(Pending { to, answer, _permits: permits }).await.is_err() {
                return Ok(());
            }
        }
    }

    /// The next frame's length; `None` at the end of the stream or when the node stops.
    async fn prefix(&mut self) -> Result<Option<usize>, Ended> {
        loop {
            if let Some(length) = frame::next_length(&self.buffer)? {
                return Ok(Some(length));
            }
            let limit = if self.buffer.is_empty() { IDLE } else { STALLED };
            if !self.fill(4, Instant::now() + limit).await? {
                return Ok(None);
            }
        }
    }

    /// The next frame, without its prefix.
    async fn frame(&mut self, length: usize) -> Result<Option<Bytes>, Ended> {
        if self.buffer.len() < 4 + length {
            let deadline = Instant::now() + STALLED;
            while self.buffer.len() < 4 + length {
                if !self.fill(4 + length, deadline).await? {
                    return Ok(None);
                }
            }
        }
        self.buffer.advance(4);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }

    /// Reads what is there, towards `wanted` bytes in the buffer; false at the end or when the node stops.
    async fn fill(&mut self, wanted: usize, deadline: Instant) -> Result<bool, Ended> {
        // A large frame gets its memory as its bytes arrive, doubling, not when its length is claimed.
        let missing = wanted.saturating_sub(self.buffer.len());
        if self.buffer.capacity() - self.buffer.len() < READ_BUFFER / 8 {
            self.buffer.reserve(missing.min(self.buffer.len()).max(READ_BUFFER));
        }
        loop {
            if *self.common.stopping.borrow() {
                return Ok(false);
            }
            match self.socket.try_read_buf(&mut self.buffer) {
                Ok(read) => return Ok(read > 0),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
            let mut stopping = self.common.stopping.clone();
            tokio::select! {
                ready = self.socket.readable() => ready?,
                _ = stopping.wait_for(|stop| *stop) => return Ok(false),
                () = sleep_until(deadline) => {
                    return if self.buffer.is_empty() {
                        Ok(false)
                    } else {
                        Err(Ended::TooSlow("a request was not complete within 60 s"))
                    };
                }
            }
        }
    }

    /// Waits until there is memory for a request of `length` bytes.
    async fn permits(&self, budget: &Arc<Semaphore>, length: usize) -> Result<Permits, Ended> {
        // An empty frame is refused later, but counts as something here.
        let bytes = u32::try_from(length.max(1)).map_err(|_| Ended::TooSlow("a frame beyond 4 GiB"))?;
        let closed = |_| Ended::TooSlow("the listener is closed");
        Ok(Permits {
            _connection: Arc::clone(budget).acquire_many_owned(bytes).await.map_err(closed)?,
            _all: Arc::clone(self.common.request_bytes).acquire_many_owned(bytes).await.map_err(closed)?,
        })
    }
}

/// Requests that have begun, in order.
struct Answers {
    queue: mpsc::Receiver<Pending>,
    head: Option<Pending>,
}

impl Answers {
    /// The next answer in order; `None` when there will be no more.
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<(ReplyTo, Outcome)>> {
        if self.head.is_none() {
            self.head = ready!(self.queue.poll_recv(context));
        }
        let outcome = match self.head.as_mut().map(|pending| &mut pending.answer) {
            None => return Poll::Ready(None),
            Some(Answer::Later(future)) => ready!(Pin::new(future).poll(context)),
            Some(answer) => match std::mem::replace(answer, Answer::Busy) {
                Answer::Now(outcome) => outcome,
                // `begin` never lets one through; were it to, silence would put every later answer out of step.
                Answer::Busy | Answer::Later(_) => Outcome::Close,
            },
        };
        Poll::Ready(self.head.take().map(|pending| (pending.to, outcome)))
    }
}

/// Writes answers in order, as many at once as are ready.
async fn write_answers(
    socket: WriteHalf<'_>,
    metrics: &KafkaMetrics,
    mut answers: Answers,
) -> Result<(), Ended> {
    let mut out = BytesMut::with_capacity(READ_BUFFER);
    loop {
        let mut next = poll_fn(|context| answers.poll_next(context)).await;
        let mut last = next.is_none();
        let mut held = Vec::new();
        while let Some((to, outcome)) = next.take() {
            observe(metrics, to);
            let frame = match outcome {
                Outcome::Send(frame) => frame,
                Outcome::SendHolding(frame, permit) => {
                    held.push(permit);
                    frame
                }
                Outcome::Silence => BytesMut::new(),
                Outcome::Close => {
                    last = true;
                    break;
                }
            };
            if out.is_empty() && frame.len() >= WRITE_BUFFER {
                out = frame;
            } else {
                out.extend_from_slice(&frame);
            }
            if out.len() < WRITE_BUFFER {
                next = match poll_fn(|context| Poll::Ready(answers.poll_next(context))).await {
                    Poll::Ready(next) => next,
                    Poll::Pending => None,
                };
            }
        }
        write(&socket, &out).await?;
        if last {
            return Ok(());
        }
        out.clear();
        if out.capacity() > 2 * WRITE_BUFFER {
            out = BytesMut::with_capacity(READ_BUFFER);
        }
    }
}

async fn write(socket: &WriteHalf<'_>, mut bytes: &[u8]) -> Result<(), Ended> {
    while !bytes.is_empty() {
        match socket.try_write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                timeout(IDLE, socket.writable())
                    .await
                    .map_err(|_| Ended::TooSlow("the client took none of its answers for 10 min"))??;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn observe(metrics: &KafkaMetrics, to: ReplyTo) {
    let latency = match to.key {
        ApiKey::Produce => &metrics.produce_latency,
        ApiKey::Fetch => &metrics.fetch_latency,
        _ => &metrics.other_latency,
    };
    latency.observe(to.received.elapsed());
}

#[cfg(test)]
mod tests;

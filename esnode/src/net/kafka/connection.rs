//! One client's connection: requests are begun in the order they arrive and answered in that order, with many in
//! flight between. Knows frames and the table of APIs, not what any API does.
//!
//! Reading and writing are one task: most wake-ups concern both, and none needs a hand-over to another thread.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::messages::ApiKey;
use std::future::poll_fn;
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::answer::Answer;
use super::frame::{self, BadRequest, MAX_FRAME, Outcome, ReplyTo};
use super::limits::Limits;
use super::memory::{Held, Memory, SlowClient};
use super::metrics::KafkaMetrics;

/// Bytes asked of the socket at a time.
const READ_BUFFER: usize = 64 << 10;
/// Answers are gathered up to this size before they are written.
const WRITE_BUFFER: usize = 128 << 10;
/// Requests of one connection that may be unanswered; more are not read.
const MAX_IN_FLIGHT: usize = 4096;
/// Their bytes, and those that they take once decoded, unless a single one takes more.
const MAX_IN_FLIGHT_BYTES: u32 = 16 << 20;

/// Serves the requests that a connection brings.
pub trait Service {
    /// A frame that has been looked at.
    type Request: Send;

    /// Looks at a frame (without its length prefix) and says how many bytes it will take besides its own.
    fn admit(&self, frame: Bytes) -> Result<(Self::Request, usize), BadRequest>;

    /// The answer to a request that is too large to be held, of which this is the beginning.
    fn oversized(&self, head: Bytes) -> Result<(ReplyTo, Answer), BadRequest>;

    /// Begins to serve a request. The next one is not begun before this returns, which may take a while when there is
    /// too much to do.
    fn begin(
        &self,
        request: Self::Request,
    ) -> impl Future<Output = Result<(ReplyTo, Answer), BadRequest>> + Send;
}

/// What a connection shares with the others of its listener.
#[derive(Debug)]
pub struct Common<'a> {
    /// Counts its answers.
    pub metrics: &'a KafkaMetrics,
    /// What it may take.
    pub limits: &'a Limits,
    /// The memory that it shares.
    pub memory: &'a Memory,
    /// Turns true when the client has to leave.
    pub leaving: watch::Receiver<bool>,
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
    /// It held memory that others waited for.
    #[error("it was given up to free memory: others waited for what it held")]
    GaveWay,
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
    permits: Permits,
}

/// An answer, and the memory that its request held so far.
type Answered = (ReplyTo, Outcome, Permits);

/// Serves one client until it leaves, misbehaves or has to leave; whatever was begun is answered first.
pub async fn run(mut socket: TcpStream, service: &impl Service, common: Common<'_>) -> Result<(), Ended> {
    let (read, write) = socket.split();
    let (queue, answers) = mpsc::channel(MAX_IN_FLIGHT);
    let Common { metrics, limits, memory, .. } = common;
    let budget = Arc::new(Semaphore::new(MAX_IN_FLIGHT_BYTES as usize));
    let writer = Writer { socket: write, metrics, limits, memory, budget: Arc::clone(&budget) };
    let writer = writer.run(Answers { queue: answers, head: None });
    let reader = Reader { socket: read, common, budget, buffer: BytesMut::with_capacity(READ_BUFFER) };
    let reader = reader.run(service, queue);
    tokio::pin!(reader, writer);
    tokio::select! {
        ended = &mut reader => {
            // Nothing shows whether anybody is left to read it, and a fetch waits for a minute.
            if let Ok(written) = timeout(limits.leaving, writer).await {
                written?;
            }
            ended
        }
        ended = &mut writer => ended,
    }
}

struct Reader<'a> {
    socket: ReadHalf<'a>,
    common: Common<'a>,
    /// What this connection may still have in flight.
    budget: Arc<Semaphore>,
    buffer: BytesMut,
}

impl Reader<'_> {
    async fn run(mut self, service: &impl Service, queue: mpsc::Sender<Pending>) -> Result<(), Ended> {
        loop {
            let Some((frame, rest)) = self.frame().await? else { return Ok(()) };
            let length = frame.len();
            let (permits, (to, answer)) = if rest > 0 {
                let answered = service.oversized(frame)?;
                if !self.skip(rest).await? {
                    return Ok(());
                }
                (self.permits(length).await, answered)
            } else {
                let (request, besides) = service.admit(frame)?;
                (self.permits(length + besides).await, service.begin(request).await?)
            };
            if queue.send(Pending { to, answer, permits }).await.is_err() {
                return Ok(());
            }
        }
    }

    /// The next frame, without its prefix; of one that is too large the beginning, and how much comes behind. `None` at
    /// the end of the stream or when the client has to leave.
    async fn frame(&mut self) -> Result<Option<(Bytes, usize)>, Ended> {
        if self.buffer.is_empty() && !self.fill(4, Instant::now() + self.common.limits.idle).await? {
            return Ok(None);
        }
        // It has begun. A byte now and then does not make the time longer.
        let began = Instant::now();
        let deadline = began + self.common.limits.half_sent;
        let length = loop {
            match frame::next_length(&self.buffer)? {
                Some(length) => break 4 + length,
                None if self.fill(4, deadline).await? => {}
                None => return Ok(None),
            }
        };
        let all = length;
        let length = if all > 4 + MAX_FRAME { READ_BUFFER } else { all };
        let whole = self.gather(length.min(READ_BUFFER), deadline).await?
            && (length <= READ_BUFFER || self.gather_large(length, began).await?);
        Ok(whole.then(|| {
            self.buffer.advance(4);
            (self.buffer.split_to(length - 4).freeze(), all - length)
        }))
    }

    /// Throws the next `rest` bytes away; false at the end or when the client has to leave.
    async fn skip(&mut self, mut rest: usize) -> Result<bool, Ended> {
        let deadline = Instant::now() + self.common.limits.half_sent;
        loop {
            let here = rest.min(self.buffer.len());
            self.buffer.advance(here);
            rest -= here;
            if rest == 0 || !self.fill(READ_BUFFER, deadline).await? {
                return Ok(rest == 0);
            }
        }
    }

    /// Reads until the buffer holds `length` bytes; false at the end or when the client has to leave.
    async fn gather(&mut self, length: usize, deadline: Instant) -> Result<bool, Ended> {
        while self.buffer.len() < length {
            if !self.fill(length, deadline).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The same for more than every connection has room for. That it is claimed makes no room: it gets its memory as
    /// its bytes arrive, doubling, and is evicted when others want it.
    async fn gather_large(&mut self, length: usize, began: Instant) -> Result<bool, Ended> {
        let budget = &self.common.memory.half_sent;
        let deadline = began + self.common.limits.half_sent;
        let slow = budget.slow_client(began);
        let mut held = Vec::new();
        let mut room = READ_BUFFER;
        let work = async {
            while self.buffer.len() < length {
                let more = length.min(2 * self.buffer.len()) - room;
                held.push(timeout_at(deadline, budget.take(more)).await.map_err(|_| half_sent())?);
                room += more;
                if !self.gather(room, deadline).await? {
                    return Ok(false);
                }
            }
            Ok(true)
        };
        tokio::select! {
            whole = work => whole,
            () = slow.cut() => Err(Ended::GaveWay),
        }
    }

    /// Reads what is there, towards `wanted` bytes in the buffer; false at the end or when the client has to leave.
    async fn fill(&mut self, wanted: usize, deadline: Instant) -> Result<bool, Ended> {
        if self.buffer.capacity() - self.buffer.len() < READ_BUFFER / 8 {
            self.buffer.reserve(wanted.saturating_sub(self.buffer.len()).max(READ_BUFFER));
        }
        loop {
            if *self.common.leaving.borrow() {
                return Ok(false);
            }
            match self.socket.try_read_buf(&mut self.buffer) {
                Ok(read) => return Ok(read > 0),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
            let mut leaving = self.common.leaving.clone();
            tokio::select! {
                ready = self.socket.readable() => ready?,
                _ = leaving.wait_for(|leave| *leave) => return Ok(false),
                () = sleep_until(deadline) => {
                    return if self.buffer.is_empty() { Ok(false) } else { Err(half_sent()) };
                }
            }
        }
    }

    /// Waits until there is memory for a request that takes `bytes`.
    async fn permits(&self, bytes: usize) -> Permits {
        let own = u32::try_from(bytes).unwrap_or(u32::MAX).min(MAX_IN_FLIGHT_BYTES);
        let own = Arc::clone(&self.budget).acquire_many_owned(own).await;
        let own = own.expect("the semaphore is never closed");
        Permits { _connection: own, _all: self.common.memory.take(bytes).await }
    }
}

fn half_sent() -> Ended {
    Ended::TooSlow("a request had begun and was not complete in time")
}

/// Requests that have begun, in order.
struct Answers {
    queue: mpsc::Receiver<Pending>,
    head: Option<Pending>,
}

impl Answers {
    /// The next answer in order; `None` when there will be no more.
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Answered>> {
        if self.head.is_none() {
            self.head = ready!(self.queue.poll_recv(context));
        }
        let outcome = match self.head.as_mut().map(|pending| &mut pending.answer) {
            None => return Poll::Ready(None),
            Some(Answer::Later(future)) => ready!(Pin::new(future).poll(context)),
            Some(answer) => match std::mem::replace(answer, Answer::Now(Outcome::Close)) {
                Answer::Now(outcome) => outcome,
                // `begin` never lets one through; were it to, silence would put every later answer out of step.
                Answer::First(_) | Answer::Later(_) => Outcome::Close,
            },
        };
        Poll::Ready(self.head.take().map(|pending| (pending.to, outcome, pending.permits)))
    }
}

/// Answers that are written together, and what is held until they are.
struct Outbox {
    bytes: BytesMut,
    /// Comes behind the bytes; others send it too.
    body: Bytes,
    requests: Vec<Permits>,
    held: Vec<Held>,
}

impl Outbox {
    fn new() -> Self {
        let bytes = BytesMut::with_capacity(READ_BUFFER);
        Self { bytes, body: Bytes::new(), requests: Vec::new(), held: Vec::new() }
    }

    fn is_full(&self) -> bool {
        self.bytes.len() >= WRITE_BUFFER || !self.body.is_empty()
    }

    /// Adds an answer; false when none may come behind it.
    fn put(&mut self, outcome: Outcome) -> bool {
        match outcome {
            Outcome::Send(frame) => self.append(frame),
            Outcome::SendHolding(frame, held) => {
                self.append(frame);
                if let Held::Shared(shared) = &held {
                    self.body = shared.body.clone();
                }
                self.held.push(held);
            }
            Outcome::Last(outcome) => {
                self.put(*outcome);
                return false;
            }
            Outcome::NoResponse => {}
            Outcome::Close => return false,
        }
        true
    }

    fn append(&mut self, frame: BytesMut) {
        if self.bytes.is_empty() && frame.len() >= WRITE_BUFFER {
            self.bytes = frame;
        } else {
            self.bytes.extend_from_slice(&frame);
        }
    }

    fn clear(&mut self) {
        self.bytes.clear();
        if self.bytes.capacity() > 2 * WRITE_BUFFER {
            self.bytes = BytesMut::with_capacity(READ_BUFFER);
        }
        self.body = Bytes::new();
        self.requests.clear();
        self.held.clear();
    }
}

struct Writer<'a> {
    socket: WriteHalf<'a>,
    metrics: &'a KafkaMetrics,
    limits: &'a Limits,
    memory: &'a Memory,
    budget: Arc<Semaphore>,
}

impl Writer<'_> {
    /// Writes answers in order, as many at once as are ready.
    async fn run(self, mut answers: Answers) -> Result<(), Ended> {
        let mut outbox = Outbox::new();
        loop {
            let mut next = poll_fn(|context| answers.poll_next(context)).await;
            let mut last = next.is_none();
            while let Some((to, outcome, permits)) = next.take() {
                observe(self.metrics, to);
                outbox.requests.push(permits);
                last = !outbox.put(outcome);
                if !last && !outbox.is_full() {
                    next = match poll_fn(|context| Poll::Ready(answers.poll_next(context))).await {
                        Poll::Ready(next) => next,
                        Poll::Pending => None,
                    };
                }
            }
            self.write(&outbox).await?;
            if last {
                return Ok(());
            }
            outbox.clear();
        }
    }

    /// Writes all of it.
    async fn write(&self, outbox: &Outbox) -> Result<(), Ended> {
        let mut slow = None;
        let mut bytes = outbox.bytes.as_ref().chain(&outbox.body[..]);
        while bytes.has_remaining() {
            match self.socket.try_write(bytes.chunk()) {
                Ok(written) => bytes.advance(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // A byte taken now and then does not make the time longer.
                    let now = Instant::now();
                    let (slow, deadline) = slow.get_or_insert_with(|| {
                        let left = self.budget.available_permits() + READ_BUFFER;
                        let requests = left < MAX_IN_FLIGHT_BYTES as usize;
                        (self.memory.slow_clients(now, requests, &outbox.held), now + self.limits.untaken)
                    });
                    tokio::select! {
                        ready = self.socket.writable() => ready?,
                        () = any_cut(slow) => return Err(Ended::GaveWay),
                        () = sleep_until(*deadline) => {
                            return Err(Ended::TooSlow("answers were not taken in time"));
                        }
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// Done when any memory must be given back.
async fn any_cut(slow: &[SlowClient<'_>]) {
    let mut cuts: Vec<_> = slow.iter().map(|client| Box::pin(client.cut())).collect();
    poll_fn(|context| {
        let cut = cuts.iter_mut().any(|cut| cut.as_mut().poll(context).is_ready());
        if cut { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
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

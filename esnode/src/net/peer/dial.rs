//! Our connection to one peer: opens it, sends a greeting, writes what is queued, and opens it again when it breaks.

use std::io::{self, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

use tracing::{debug, warn};

use super::PeerEvent;
use super::claims::Token;
use super::codec;
use super::frame::{Encoded, FrameError, FrameReader, Kind, write_frames};
use super::greeting::{Answer, Greeting, MAX_GREETING};
use super::handshake::{Expected, accept};
use super::link::Link;
use super::refused::Refused;
use super::shared_state::Shared;

/// Pause after the first failed attempt; doubled after each further one.
const BACKOFF_MIN: Duration = Duration::from_millis(20);
/// Longest pause. A peer that returns but cannot connect to us is noticed this late at most.
const BACKOFF_MAX: Duration = Duration::from_millis(500);

/// Why there is no connection.
enum End {
    Broken(io::Error),
    Refused(Refused),
}

impl<E: Into<io::Error>> From<E> for End {
    fn from(error: E) -> Self {
        Self::Broken(error.into())
    }
}

/// The sender thread of `link`, until the link is closed.
pub fn run(shared: &Arc<Shared>, link: &Link) {
    let mut backoff = BACKOFF_MIN;
    while !link.queue.is_closed() {
        let began = Instant::now();
        let token = link.claims.draw(false);
        let end = match dial(shared, link, token) {
            Ok(dialled) => converse(shared, link, token, dialled),
            Err(end) => end,
        };
        link.claims.ended(token);
        shared.closed(link);
        if link.queue.is_closed() {
            break;
        }
        report(shared, link, &end);
        if began.elapsed() > shared.silence() {
            backoff = BACKOFF_MIN;
        }
        if matches!(end, End::Refused(_)) {
            backoff = BACKOFF_MAX;
        }
        let called = link.queue.pause(backoff);
        // Anybody can make us connect to the peer, by claiming to be it, and as often as they like.
        thread::sleep(BACKOFF_MIN.saturating_sub(began.elapsed()));
        backoff = if called { BACKOFF_MIN } else { (backoff * 2).min(BACKOFF_MAX) };
    }
}

/// A connection on which the peer has sent its greeting.
struct Dialled {
    stream: Arc<TcpStream>,
    frames: FrameReader,
    /// Revision of our Hello that the peer has.
    revision: u64,
    /// It asks which connections are ours, and answers the same question.
    answers: bool,
}

fn dial(shared: &Arc<Shared>, link: &Link, token: Token) -> Result<Dialled, End> {
    let stream = Arc::new(link.connect(shared.connect_timeout())?);
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(shared.silence()))?;
    stream.set_write_timeout(Some(shared.silence()))?;
    link.set_outbound(Some(stream.clone()));

    let greeting = shared.greeting_with(link.id, token);
    write_frames(&mut &*stream, &[greeting.encode()])?;
    let mut frames = FrameReader::new(MAX_GREETING);
    let (kind, body) = loop {
        match frames.next_frame()? {
            Some(frame) => break frame,
            None => link.heard(frames.fill(&mut &*stream)?),
        }
    };
    let theirs = match kind {
        Kind::Hello => Greeting::decode(body)?,
        Kind::Refused => return Err(End::Refused(Refused::decode(body)?)),
        _ => return Err(FrameError::Malformed.into()),
    };
    introduce(shared, link, &stream, &theirs)?;
    Ok(Dialled { stream, frames, revision: greeting.revision, answers: theirs.token.is_some() })
}

/// Validates the listener's Hello, and reports it to the node.
fn introduce(shared: &Arc<Shared>, link: &Link, stream: &TcpStream, theirs: &Greeting) -> Result<(), End> {
    match accept(&shared.hello(), shared.protocol, theirs, Expected::Dialled(link.id)) {
        Ok(version) => {
            debug!(peer = link.id, version, "introduced");
            link.if_newest(theirs, || shared.emit(PeerEvent::Hello(theirs.hello)));
            if theirs.hello.cluster.is_some() {
                shared.named(link.id, theirs.names.clone())?;
            }
            Ok(())
        }
        Err(refused) => {
            let _ = write_frames(&mut &*stream, &[refused.encode()]);
            Err(End::Refused(refused))
        }
    }
}

/// Uses an accepted connection until it ends: this thread writes, and a second one reads signs of life and answers.
fn converse(shared: &Arc<Shared>, link: &Link, token: Token, dialled: Dialled) -> End {
    let Dialled { stream, frames, revision, answers } = dialled;
    let stream = &stream;
    link.queue.begin();
    link.claims.reached(answers, |connection, stream| shared.admit(link, connection, stream));
    link.claims.greeted(token, answers, || shared.opened(link));
    link.queue.announce();

    let end = thread::scope(|scope| {
        let listener =
            thread::Builder::new().name(format!("peer-{}-echo", link.id)).spawn_scoped(scope, || {
                let end = listen(shared, link, stream, frames);
                link.queue.lost();
                end
            });
        let listener = match listener {
            Ok(listener) => listener,
            Err(error) => return End::Broken(error),
        };
        let written = write(shared, link, stream, revision);
        let _ = stream.shutdown(Shutdown::Both);
        match (listener.join(), written) {
            (Ok(end), Ok(())) | (Ok(end @ End::Refused(_)), _) => end,
            (_, Err(error)) => End::Broken(error),
            (Err(_), Ok(())) => End::Broken(io::Error::other("the connection's reader panicked")),
        }
    });

    link.claims.lost();
    end
}

/// Writes until the queue says that connection or peer are gone (`Ok`), or the socket fails.
fn write(shared: &Shared, link: &Link, stream: &TcpStream, mut revision: u64) -> io::Result<()> {
    let mut frames: Vec<Encoded> = Vec::new();
    while let Some(work) = link.queue.wait(shared.keepalive()) {
        (&*stream).write_all(&work.rest)?;
        if shared.revision.load(Relaxed) != revision {
            let greeting = shared.greeting(link.id);
            revision = greeting.revision;
            frames.push(greeting.encode());
        }
        let questions = link.claims.questions().into_iter();
        frames.extend(questions.map(|token| Answer { token, own: false }.encode(Kind::Ask)));
        let too_large = codec::encode(&work.messages, shared.max_frame, &mut frames);
        if too_large > 0 {
            link.messages_dropped.fetch_add(too_large, Relaxed);
            warn!(
                peer = link.id,
                limit = shared.max_frame,
                "dropped {too_large} messages larger than a frame"
            );
        }
        if frames.is_empty() && work.rest.is_empty() {
            frames.push(Encoded::new(Kind::Keepalive, Vec::new()));
        }
        let bytes = work.rest.len() + write_frames(&mut &*stream, &frames)?;
        frames.clear();
        link.bytes_sent.fetch_add(bytes as u64, Relaxed);
        link.queue.written(work.bytes);
    }
    Ok(())
}

/// Reads what the listener sends on our connection, until it is closed or was silent for too long.
fn listen(shared: &Arc<Shared>, link: &Link, stream: &TcpStream, mut frames: FrameReader) -> End {
    let mut hear = || -> Result<(), End> {
        loop {
            while let Some((kind, body)) = frames.next_frame()? {
                match kind {
                    Kind::Hello => introduce(shared, link, stream, &Greeting::decode(body)?)?,
                    Kind::Refused => return Err(End::Refused(Refused::decode(body)?)),
                    Kind::Keepalive => {}
                    Kind::Own => {
                        let Answer { token, own } = Answer::decode(body)?;
                        link.claims.answered(token, own, |connection, stream| {
                            shared.admit(link, connection, stream);
                        });
                    }
                    _ => return Err(FrameError::Malformed.into()),
                }
            }
            link.heard(frames.fill(&mut &*stream)?);
        }
    };
    match hear() {
        Err(end) => end,
        Ok(()) => End::Broken(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Logs a problem once, however often the attempt is repeated.
fn report(shared: &Shared, link: &Link, end: &End) {
    let (peer, host, port) = (link.id, &link.host, link.port);
    match end {
        End::Broken(error) => {
            let text = match error.kind() {
                io::ErrorKind::UnexpectedEof => "the peer closed the connection".to_owned(),
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                    format!("nothing came or went for {} ms", shared.silence().as_millis())
                }
                _ => error.to_string(),
            };
            if link.is_news(text.clone()) {
                warn!(peer, %host, port, "not connected: {text}; trying again until it works");
            }
        }
        End::Refused(refused) => {
            if link.is_news(refused.text.clone()) {
                warn!(peer, %host, port, code = ?refused.code, "refused: {refused}");
                shared.emit(PeerEvent::Refused(peer, refused.clone()));
            }
        }
    }
}

//! Finds out whether a connection that claims to be a peer's really is. The peer is asked, on the connection that this
//! node has opened to the address that its configuration or its log has for the peer.
//!
//! Whoever opens a connection draws a token and sends it in its greeting. The listener asks the peer for that token,
//! and the peer knows it only if it has drawn it. So a node passes for a member only if it can be reached at the
//! member's address; the member's id, or the identity of its data directory, which any node tells, are not enough. And
//! no message is accepted from a node that could not be answered.

use std::collections::BTreeMap;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// The token of a connection, known only to its two ends: 128 random bits.
pub type Token = u128;

/// What is at the other end of our connection to the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum There {
    /// Nothing: there is no connection.
    Nobody,
    /// A program that answers questions, and knows which connections are its own.
    Answers,
    /// A program of the version before, which does not. Its connections are believed as long as we are connected to it.
    Believed,
}

/// The connections that claim to be the peer's, and our own connections to it, which it may ask about.
#[derive(Debug)]
pub struct Claims {
    state: Mutex<State>,
    decided: Condvar,
}

#[derive(Debug)]
struct State {
    there: There,
    claims: BTreeMap<u64, Claim>,
    own: BTreeMap<Token, Own>,
}

#[derive(Debug)]
struct Claim {
    token: Option<Token>,
    /// The stream, if the connection is for messages; connections for files have none here.
    messages: Option<Arc<TcpStream>>,
    asked: bool,
    genuine: Option<bool>,
}

/// One of our connections to the peer for messages.
#[derive(Clone, Copy, Debug, Default)]
struct Own {
    /// The peer has sent its greeting on it.
    greeted: bool,
    /// The peer has asked for it, so it listens to us.
    asked_for: bool,
    files: bool,
}

impl Default for Claims {
    fn default() -> Self {
        let state = State { there: There::Nobody, claims: BTreeMap::new(), own: BTreeMap::new() };
        Self { state: Mutex::new(state), decided: Condvar::new() }
    }
}

impl Claims {
    /// A connection claims to be the peer's; `messages` is its stream if it is for messages. `admit` is called with it
    /// as soon as the claim proves true.
    pub fn make(
        &self,
        connection: u64,
        token: Option<Token>,
        messages: Option<Arc<TcpStream>>,
        mut admit: impl FnMut(u64, Arc<TcpStream>),
    ) {
        let mut state = self.state.lock();
        let mut claim = Claim { token, messages, asked: false, genuine: None };
        if state.there != There::Nobody {
            claim.compare(connection, state.there == There::Answers, &mut admit);
        }
        state.claims.insert(connection, claim);
    }

    /// The connection is closed, or its claim is settled.
    pub fn forget(&self, connection: u64) {
        self.state.lock().claims.remove(&connection);
    }

    /// Returns the tokens to ask the peer about, on our connection to it.
    pub fn questions(&self) -> Vec<Token> {
        let mut state = self.state.lock();
        if state.there != There::Answers {
            return Vec::new();
        }
        let unasked = state.claims.values_mut().filter(|claim| !claim.asked);
        unasked
            .filter_map(|claim| {
                claim.asked = true;
                claim.token
            })
            .collect()
    }

    /// Our connection has reached the peer; `answers` says whether its program answers questions.
    pub fn reached(&self, answers: bool, mut admit: impl FnMut(u64, Arc<TcpStream>)) {
        let mut state = self.state.lock();
        state.there = if answers { There::Answers } else { There::Believed };
        for (connection, claim) in &mut state.claims {
            claim.asked = false;
            claim.compare(*connection, answers, &mut admit);
        }
        drop(state);
        self.decided.notify_all();
    }

    /// Our connection to the peer is closed, so it cannot be asked.
    pub fn lost(&self) {
        self.state.lock().there = There::Nobody;
    }

    /// The peer has said whether the connection with this token is its own.
    pub fn answered(&self, token: Token, own: bool, mut admit: impl FnMut(u64, Arc<TcpStream>)) {
        let mut state = self.state.lock();
        let claim = state.claims.iter_mut().find(|(_, claim)| claim.token == Some(token) && claim.asked);
        if let Some((connection, claim)) = claim {
            if own {
                claim.grant(*connection, &mut admit);
            } else {
                claim.genuine = Some(false);
            }
        }
        drop(state);
        self.decided.notify_all();
    }

    /// Returns whether the connection is the peer's; `None` if that is not known yet.
    pub fn verdict(&self, connection: u64) -> Option<bool> {
        self.state.lock().claims.get(&connection)?.genuine
    }

    /// As [`Self::verdict`], but waits for it up to `longest`.
    pub fn wait(&self, connection: u64, longest: Duration) -> Option<bool> {
        let deadline = Instant::now() + longest;
        let mut state = self.state.lock();
        loop {
            let genuine = state.claims.get(&connection)?.genuine;
            if genuine.is_some() || self.decided.wait_until(&mut state, deadline).timed_out() {
                return genuine;
            }
        }
    }

    /// Draws a token for a connection that we are about to open.
    pub fn draw(&self, files: bool) -> Token {
        let token = fastrand::u128(1..);
        self.state.lock().own.insert(token, Own { files, ..Own::default() });
        token
    }

    /// Our connection with this token is closed. When this returns, no other call works on it any more.
    pub fn ended(&self, token: Token) {
        self.state.lock().own.remove(&token);
    }

    /// The peer has sent its greeting on our connection. Calls `open` if it listens to us, too.
    pub fn greeted(&self, token: Token, answers: bool, open: impl FnOnce()) {
        let mut state = self.state.lock();
        if let Some(own) = state.own.get_mut(&token) {
            own.greeted = true;
            own.asked_for |= !answers;
            if own.asked_for {
                open();
            }
        }
    }

    /// The peer asks whether the connection with this token is ours. Only the peer can know the token, so it listens to
    /// us from now on. Calls `open` if it has sent its greeting.
    pub fn owns(&self, token: Token, open: impl FnOnce()) -> bool {
        let mut state = self.state.lock();
        let Some(own) = state.own.get_mut(&token) else { return false };
        let first = !std::mem::replace(&mut own.asked_for, true);
        if first && own.greeted && !own.files {
            open();
        }
        true
    }
}

impl Claim {
    /// A connection without a token is of the version before. It is the peer's if the peer's program is of that
    /// version, too.
    fn compare(&mut self, connection: u64, answers: bool, admit: &mut impl FnMut(u64, Arc<TcpStream>)) {
        if self.token.is_some() != answers {
            self.genuine = Some(false);
        } else if !answers {
            self.grant(connection, admit);
        }
    }

    fn grant(&mut self, connection: u64, admit: &mut impl FnMut(u64, Arc<TcpStream>)) {
        if self.genuine.replace(true) != Some(true)
            && let Some(stream) = &self.messages
        {
            admit(connection, Arc::clone(stream));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const NOW: Duration = Duration::ZERO;

    fn nobody(_: u64, _: Arc<TcpStream>) {
        panic!("there is no stream to admit");
    }

    #[test]
    fn a_claim_is_decided_by_the_one_that_it_names() {
        let claims = Claims::default();
        claims.make(1, Some(11), None, nobody);
        claims.make(2, Some(12), None, nobody);
        assert_eq!((claims.questions(), claims.wait(1, NOW)), (Vec::new(), None), "nobody can be asked");
        claims.answered(11, true, nobody);
        assert_eq!(claims.verdict(1), None, "it was not asked");
        claims.reached(true, nobody);
        assert_eq!((claims.questions(), claims.questions()), (vec![11, 12], Vec::new()));
        claims.answered(11, true, nobody);
        claims.answered(12, false, nobody);
        claims.answered(13, true, nobody);
        assert_eq!(
            (claims.verdict(1), claims.wait(2, NOW), claims.verdict(3)),
            (Some(true), Some(false), None)
        );
        claims.make(3, Some(13), None, nobody);
        claims.lost();
        assert!(claims.questions().is_empty());
        claims.reached(true, nobody);
        assert_eq!(claims.questions(), [11, 12, 13], "on another connection all is asked again");
        assert_eq!(claims.verdict(1), Some(true));
        claims.forget(1);
        assert_eq!(claims.verdict(1), None);
    }

    #[test]
    fn who_draws_no_token_is_believed_only_beside_a_peer_that_draws_none() {
        let claims = Claims::default();
        claims.make(1, None, None, nobody);
        claims.make(2, Some(12), None, nobody);
        assert_eq!(claims.verdict(1), None, "an absent peer has no connections");
        claims.reached(false, nobody);
        assert_eq!((claims.verdict(1), claims.verdict(2)), (Some(true), Some(false)));
        assert!(claims.questions().is_empty(), "it would not understand them");
        claims.make(3, None, None, nobody);
        assert_eq!(claims.verdict(3), Some(true));
        claims.reached(true, nobody);
        assert_eq!(claims.verdict(3), Some(false), "it is of this version now");
    }

    #[test]
    fn our_connection_opens_once_the_peer_has_greeted_us_and_asked_for_it() {
        for asked_first in [true, false] {
            let (claims, opened) = (Claims::default(), Cell::new(0));
            let open = || opened.set(opened.get() + 1);
            let token = claims.draw(false);
            assert!(!claims.owns(token ^ 1, open));
            let ask = || assert!(claims.owns(token, open));
            if asked_first {
                ask();
            }
            claims.greeted(token, true, open);
            ask();
            ask();
            assert_eq!(opened.get(), 1);
            claims.ended(token);
            assert!(!claims.owns(token, open));
        }
        let claims = Claims::default();
        let opened = Cell::new(false);
        claims.greeted(claims.draw(false), false, || opened.set(true));
        assert!(opened.get(), "a peer of the version before asks nothing");
        assert!(claims.owns(claims.draw(true), || panic!("files need no opening")));
    }
}

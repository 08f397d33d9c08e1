//! When each member was last heard. A coordinator that has just begun gives everyone a whole session.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// A group and one of its members.
type Key = (String, String);

#[derive(Debug)]
struct MemberSession {
    renewed: Instant,
    /// Requests of the member that wait for its group here: it is there as long as one does.
    waiting: usize,
}

/// The sessions of all members.
#[derive(Clone, Debug, Default)]
pub struct Sessions {
    all: Arc<Mutex<HashMap<Key, MemberSession>>>,
}

/// A member that waits for its group; its session does not end while this exists.
pub struct Waiting {
    sessions: Sessions,
    key: Key,
}

impl Sessions {
    /// The member was heard: its session begins anew.
    pub fn renew(&self, group: &str, member: &str, now: Instant) {
        self.with((group.to_owned(), member.to_owned()), now, |_| {});
    }

    /// The member begins to wait.
    pub fn wait(&self, group: &str, member: &str, now: Instant) -> Waiting {
        let key = (group.to_owned(), member.to_owned());
        self.with(key.clone(), now, |session| session.waiting += 1);
        Waiting { sessions: self.clone(), key }
    }

    fn with(&self, key: Key, now: Instant, change: impl FnOnce(&mut MemberSession)) {
        let mut all = self.all.lock();
        let session = all.entry(key).or_insert(MemberSession { renewed: now, waiting: 0 });
        session.renewed = now;
        change(session);
    }

    /// Of `members`, with their session timeouts, those that were silent for longer. Forgets everyone else that it knows.
    pub fn expired(&self, members: impl Iterator<Item = (Key, Duration)>, now: Instant) -> Vec<Key> {
        let mut all = self.all.lock();
        let mut known = std::mem::take(&mut *all);
        let mut expired = Vec::new();
        for (key, timeout) in members {
            let session = known.remove(&key).unwrap_or(MemberSession { renewed: now, waiting: 0 });
            if session.waiting == 0 && now.saturating_duration_since(session.renewed) > timeout {
                expired.push(key.clone());
            }
            all.insert(key, session);
        }
        // Someone who waits is about to be a member.
        all.extend(known.into_iter().filter(|(_, session)| session.waiting > 0));
        expired
    }

    /// Forgets everyone who does not wait: this node does not coordinate any more.
    pub fn clear(&self) {
        self.all.lock().retain(|_, session| session.waiting > 0);
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut all = self.sessions.all.lock();
        if let Some(session) = all.get_mut(&self.key) {
            session.waiting = session.waiting.saturating_sub(1);
            session.renewed = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: Duration = Duration::from_secs(10);

    fn key(member: &str) -> Key {
        ("g".to_owned(), member.to_owned())
    }

    fn expired(sessions: &Sessions, now: Instant) -> Vec<String> {
        let members = ["a", "b"].map(|member| (key(member), SESSION));
        sessions.expired(members.into_iter(), now).into_iter().map(|(_, member)| member).collect()
    }

    #[test]
    fn whoever_is_silent_for_longer_than_its_session_expires() {
        let (sessions, began) = (Sessions::default(), Instant::now());
        assert!(expired(&sessions, began).is_empty(), "a new coordinator has heard nobody yet");
        sessions.renew("g", "a", began + SESSION);
        assert!(expired(&sessions, began + SESSION).is_empty());
        assert_eq!(expired(&sessions, began + SESSION + Duration::from_millis(1)), ["b"]);
        sessions.clear();
        assert!(expired(&sessions, began + 3 * SESSION).is_empty());
    }

    #[test]
    fn whoever_waits_is_there() {
        let (sessions, began) = (Sessions::default(), Instant::now());
        let waiting = sessions.wait("g", "a", began);
        sessions.renew("g", "b", began + 2 * SESSION);
        assert!(expired(&sessions, began + 2 * SESSION).is_empty());
        drop(waiting);
        assert_eq!(expired(&sessions, Instant::now() + 2 * SESSION), ["a"], "its wait was over just now");
    }
}

//! When each member was last heard. A coordinator that has just begun gives everyone a whole session.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// A group and one of its members.
type Key = (String, String);

#[derive(Debug)]
struct Heard {
    at: Instant,
    /// Requests of the member that wait for its group here: it is there as long as one does.
    waiting: usize,
}

/// When each member was last heard.
#[derive(Clone, Debug, Default)]
pub struct Sessions {
    heard: Arc<Mutex<HashMap<Key, Heard>>>,
}

/// A member that waits for its group; it counts as heard as long as this exists.
pub struct Waiting {
    sessions: Sessions,
    key: Key,
}

impl Sessions {
    /// The member was heard.
    pub fn heard(&self, group: &str, member: &str, now: Instant) {
        self.with((group.to_owned(), member.to_owned()), now, |_| {});
    }

    /// The member begins to wait.
    pub fn wait(&self, group: &str, member: &str, now: Instant) -> Waiting {
        let key = (group.to_owned(), member.to_owned());
        self.with(key.clone(), now, |heard| heard.waiting += 1);
        Waiting { sessions: self.clone(), key }
    }

    fn with(&self, key: Key, now: Instant, change: impl FnOnce(&mut Heard)) {
        let mut all = self.heard.lock();
        let heard = all.entry(key).or_insert(Heard { at: now, waiting: 0 });
        heard.at = now;
        change(heard);
    }

    /// Of `members`, with their session timeouts, those that were silent for longer. Forgets everyone else that it knows.
    pub fn expired(&self, members: impl Iterator<Item = (Key, Duration)>, now: Instant) -> Vec<Key> {
        let mut all = self.heard.lock();
        let mut known = std::mem::take(&mut *all);
        let mut expired = Vec::new();
        for (key, timeout) in members {
            let heard = known.remove(&key).unwrap_or(Heard { at: now, waiting: 0 });
            if heard.waiting == 0 && now.saturating_duration_since(heard.at) > timeout {
                expired.push(key.clone());
            }
            all.insert(key, heard);
        }
        // Someone who waits is about to be a member.
        all.extend(known.into_iter().filter(|(_, heard)| heard.waiting > 0));
        expired
    }

    /// Forgets everyone who does not wait: this node does not coordinate any more.
    pub fn clear(&self) {
        self.heard.lock().retain(|_, heard| heard.waiting > 0);
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut all = self.sessions.heard.lock();
        if let Some(heard) = all.get_mut(&self.key) {
            heard.waiting = heard.waiting.saturating_sub(1);
            heard.at = Instant::now();
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
        sessions.heard("g", "a", began + SESSION);
        assert!(expired(&sessions, began + SESSION).is_empty());
        assert_eq!(expired(&sessions, began + SESSION + Duration::from_millis(1)), ["b"]);
        sessions.clear();
        assert!(expired(&sessions, began + 3 * SESSION).is_empty());
    }

    #[test]
    fn whoever_waits_is_there() {
        let (sessions, began) = (Sessions::default(), Instant::now());
        let waiting = sessions.wait("g", "a", began);
        sessions.heard("g", "b", began + 2 * SESSION);
        assert!(expired(&sessions, began + 2 * SESSION).is_empty());
        drop(waiting);
        assert_eq!(expired(&sessions, Instant::now() + 2 * SESSION), ["a"], "its wait was over just now");
    }
}

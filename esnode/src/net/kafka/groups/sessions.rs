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
    /// The last look at which it was a member.
    look: u64,
}

#[derive(Debug, Default)]
struct Known {
    /// By group and member.
    groups: HashMap<String, HashMap<String, MemberSession>>,
    /// Number of looks so far.
    looks: u64,
}

/// The sessions of all members.
#[derive(Clone, Debug, Default)]
pub struct Sessions {
    all: Arc<Mutex<Known>>,
}

/// A member that waits for its group; its session does not end while this exists.
pub struct Waiting {
    sessions: Sessions,
    key: Key,
}

impl Sessions {
    /// The member was heard: its session begins anew.
    pub fn renew(&self, group: &str, member: &str, now: Instant) {
        self.all.lock().session(group, member, now).renewed = now;
    }

    /// The member begins to wait.
    pub fn wait(&self, group: &str, member: &str, now: Instant) -> Waiting {
        let mut all = self.all.lock();
        let session = all.session(group, member, now);
        session.renewed = now;
        session.waiting += 1;
        Waiting { sessions: self.clone(), key: (group.to_owned(), member.to_owned()) }
    }

    /// Of all members of these groups, with their session timeouts, those that were silent for longer. Forgets everyone
    /// else that it knows.
    pub fn expired<'a, Members: Iterator<Item = (&'a str, Duration)>>(
        &self,
        groups: impl Iterator<Item = (&'a str, Members)>,
        now: Instant,
    ) -> Vec<Key> {
        let mut all = self.all.lock();
        all.looks += 1;
        let look = all.looks;
        let mut expired = Vec::new();
        for (group, members) in groups {
            // Most groups may have no members, and nothing is kept of these.
            let mut members = members.peekable();
            if members.peek().is_none() {
                continue;
            }
            let sessions = all.group(group);
            for (member, timeout) in members {
                let session = session(sessions, member, now);
                session.look = look;
                if session.waiting == 0 && now.saturating_duration_since(session.renewed) > timeout {
                    expired.push((group.to_owned(), member.to_owned()));
                }
            }
        }
        // Someone who waits is about to be a member.
        all.retain(|session| session.look == look || session.waiting > 0);
        expired
    }

    /// Forgets everyone who does not wait: this node does not coordinate any more.
    pub fn clear(&self) {
        self.all.lock().retain(|session| session.waiting > 0);
    }
}

impl Known {
    // Most members are known, and looking them up takes no memory.
    fn group(&mut self, group: &str) -> &mut HashMap<String, MemberSession> {
        if !self.groups.contains_key(group) {
            self.groups.insert(group.to_owned(), HashMap::new());
        }
        self.groups.get_mut(group).expect("it was inserted")
    }

    fn session(&mut self, group: &str, member: &str, now: Instant) -> &mut MemberSession {
        session(self.group(group), member, now)
    }

    fn retain(&mut self, keeps: impl Fn(&MemberSession) -> bool) {
        self.groups.retain(|_, sessions| {
            sessions.retain(|_, session| keeps(session));
            !sessions.is_empty()
        });
    }
}

fn session<'a>(
    sessions: &'a mut HashMap<String, MemberSession>,
    member: &str,
    now: Instant,
) -> &'a mut MemberSession {
    if !sessions.contains_key(member) {
        sessions.insert(member.to_owned(), MemberSession { renewed: now, waiting: 0, look: 0 });
    }
    sessions.get_mut(member).expect("it was inserted")
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let (group, member) = &self.key;
        let mut all = self.sessions.all.lock();
        let session = all.groups.get_mut(group).and_then(|sessions| sessions.get_mut(member));
        if let Some(session) = session {
            session.waiting = session.waiting.saturating_sub(1);
            session.renewed = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: Duration = Duration::from_secs(10);

    fn expired(sessions: &Sessions, now: Instant) -> Vec<String> {
        let groups = [("g", ["a", "b"].map(|member| (member, SESSION)).into_iter())];
        sessions.expired(groups.into_iter(), now).into_iter().map(|(_, member)| member).collect()
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
    fn whoever_is_no_member_is_forgotten() {
        let (sessions, began) = (Sessions::default(), Instant::now());
        sessions.renew("g", "c", began);
        sessions.renew("h", "a", began);
        let _waiting = sessions.wait("i", "a", began);
        expired(&sessions, began);
        let all = sessions.all.lock();
        let mut known: Vec<_> = all.groups.iter().map(|(group, of)| (group.as_str(), of.len())).collect();
        known.sort_unstable();
        assert_eq!(known, [("g", 2), ("i", 1)], "whoever waits is about to be one");
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

//! Member ids that clients were told to join with (`MEMBER_ID_REQUIRED`), until they do.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Ids given out and not used yet, at most. Beyond it the oldest are forgotten, and their clients ask for another one.
const MAX_PENDING: usize = 10_000;

/// The ids, and until when each may be used.
#[derive(Debug, Default)]
pub struct Pending {
    ids: Mutex<HashMap<String, Instant>>,
}

impl Pending {
    /// Notes an id that may be used within `session`.
    pub fn add(&self, member: String, session: Duration, now: Instant) {
        let mut ids = self.ids.lock();
        if ids.len() >= MAX_PENDING {
            ids.retain(|_, until| *until > now);
        }
        if ids.len() >= MAX_PENDING
            && let Some(oldest) = ids.iter().min_by_key(|(_, until)| **until).map(|(id, _)| id.clone())
        {
            ids.remove(&oldest);
        }
        ids.insert(member, now + session);
    }

    /// Whether the id was given out and may be used still; it is used now.
    pub fn take(&self, member: &str, now: Instant) -> bool {
        self.ids.lock().remove(member).is_some_and(|until| until > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_used_once_and_in_time() {
        let (pending, now) = (Pending::default(), Instant::now());
        pending.add("a".to_owned(), Duration::from_secs(10), now);
        pending.add("b".to_owned(), Duration::from_secs(10), now);
        assert!(pending.take("a", now));
        assert!(!pending.take("a", now), "once");
        assert!(!pending.take("b", now + Duration::from_secs(11)), "too late");
    }
}

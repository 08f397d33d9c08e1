//! The leader's term in which each event of a partition was appended. A consumer needs it to notice that the log it has
//! read is not the log it reads now (KIP-320).
//!
//! The terms are derived from the log, and are not part of what replicas must agree on: a replica that began with the
//! snapshot of an older program does not know the terms of the events before it. It then answers with a bound that can
//! only be too high, so that no consumer is told for no reason that its log has changed.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Largest number of terms that a partition remembers. Of older terms it only knows that they end where the oldest one
/// remembered begins.
const MAX_TERMS: usize = 32;

/// Each term that has events, oldest first, with the offset of its first event.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Terms(Arc<Vec<(u64, i64)>>);

impl Terms {
    /// Notes that the event at `offset` was appended in `term`.
    pub(super) fn record(&mut self, term: u64, offset: i64) {
        if self.0.last().is_some_and(|(last, _)| *last >= term) {
            return;
        }
        let terms = Arc::make_mut(&mut self.0);
        if terms.len() == MAX_TERMS {
            terms.remove(0);
        }
        terms.push((term, offset));
    }

    /// Forgets the terms whose events all lie before `start`, because these events are deleted.
    pub(super) fn delete_before(&mut self, start: i64) {
        let gone = self.0.partition_point(|(_, first)| *first <= start).saturating_sub(1);
        if gone > 0 {
            Arc::make_mut(&mut self.0).drain(..gone);
        }
    }

    /// Returns the term of the event at `offset`, or of the last event before it; `None` if it is not known.
    pub(super) fn of(&self, offset: i64) -> Option<u64> {
        let after = self.0.partition_point(|(_, first)| *first <= offset);
        after.checked_sub(1).map(|place| self.0[place].0)
    }

    /// Returns the last term up to `term` that has events, and the offset at which its events end. This is as far as a
    /// consumer whose last event is of `term` can have read in this log. `next` is the end of the partition. If `term`
    /// is older than all that are known, it is returned itself.
    pub(super) fn end_of(&self, term: u64, next: i64) -> (u64, i64) {
        let after = self.0.partition_point(|(known, _)| *known <= term);
        let last = after.checked_sub(1).map_or(term, |place| self.0[place].0);
        (last, self.0.get(after).map_or(next, |(_, first)| *first))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(events: &[(u64, i64)]) -> Terms {
        let mut terms = Terms::default();
        events.iter().for_each(|(term, offset)| terms.record(*term, *offset));
        terms
    }

    #[test]
    fn a_term_ends_where_the_next_one_with_events_begins() {
        let terms = terms(&[(2, 0), (2, 5), (5, 10), (6, 20)]);
        assert_eq!(terms.end_of(2, 30), (2, 10));
        assert_eq!((terms.end_of(4, 30), terms.end_of(5, 30)), ((2, 10), (5, 20)), "4 had no events");
        assert_eq!((terms.end_of(6, 30), terms.end_of(9, 30)), ((6, 30), (6, 30)));
        assert_eq!(
            (terms.of(0), terms.of(9), terms.of(10), terms.of(99)),
            (Some(2), Some(2), Some(5), Some(6))
        );
        assert_eq!((self::terms(&[(7, 10)]).of(9), self::terms(&[]).of(0)), (None, None));
    }

    #[test]
    fn of_what_is_not_known_the_end_is_never_too_early() {
        assert_eq!(terms(&[]).end_of(3, 30), (3, 30), "all events are older than the record of terms");
        assert_eq!(terms(&[(7, 10)]).end_of(3, 30), (3, 10));
        let many: Vec<_> = (1..=100).map(|term: u64| (term, term.cast_signed())).collect();
        let terms = terms(&many);
        assert_eq!(terms.0.len(), MAX_TERMS);
        assert_eq!((terms.end_of(1, 200), terms.end_of(99, 200)), ((1, 69), (99, 100)));
    }

    #[test]
    fn what_is_gone_is_forgotten_but_not_the_term_of_the_first_event_kept() {
        let mut terms = terms(&[(2, 0), (5, 10), (6, 20)]);
        terms.delete_before(15);
        assert_eq!(terms, self::terms(&[(5, 10), (6, 20)]));
        terms.delete_before(30);
        assert_eq!(terms.end_of(6, 30), (6, 30));
    }
}

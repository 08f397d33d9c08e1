//! What has been handed to the disk and not yet come back, and which messages wait for it.

use std::collections::VecDeque;

use super::message::{Message, MessageType};

/// One unit of work at the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Work {
    number: u64,
    /// Index and term of its last entry.
    last: Option<(u64, u64)>,
    /// It carries a new term or vote.
    ballot: bool,
    /// The tick at which it was handed over.
    since: u64,
}

/// Work at the disk, in order, and the messages that may leave only after it.
#[derive(Debug, Default)]
pub struct InFlight {
    work: VecDeque<Work>,
    /// Messages held back, each behind the work of that number.
    held: VecDeque<(u64, Vec<Message>)>,
}

impl InFlight {
    /// Work `number` goes to the disk, at tick `since`.
    pub(super) fn begin(&mut self, number: u64, last: Option<(u64, u64)>, ballot: bool, since: u64) {
        self.work.push_back(Work { number, last, ballot, since });
    }

    /// The tick at which the oldest work that has not come back was handed over.
    pub(super) fn oldest(&self) -> Option<u64> {
        self.work.front().map(|work| work.since)
    }

    /// Sorts a Ready's after-persist messages: those that may go at once are returned, the rest wait for everything
    /// now at the disk.
    ///
    /// An append response vouches for entries and a vote for a ballot, so both wait. A heartbeat's or pre-vote's
    /// answer vouches for nothing but the term; it goes ahead unless a new term or vote is still in flight, so that
    /// a slow disk is not mistaken for a dead node.
    pub(super) fn sort(&mut self, messages: Vec<Message>) -> Vec<Message> {
        let Some(last) = self.work.back() else { return messages };
        let number = last.number;
        let ballot = self.work.iter().any(|work| work.ballot);
        let (now, later): (Vec<_>, Vec<_>) =
            messages.into_iter().partition(|m| !ballot && vouches_for_nothing(m));
        if !later.is_empty() {
            self.held.push_back((number, later));
        }
        now
    }

    /// All work up to `number` is durable. Returns the messages now free to go, and the last entry made durable.
    pub(super) fn finish(&mut self, number: u64) -> (Vec<Message>, Option<(u64, u64)>) {
        let mut last = None;
        while let Some(work) = self.work.pop_front_if(|work| work.number <= number) {
            last = work.last.or(last);
        }
        let mut free = Vec::new();
        while let Some((_, messages)) = self.held.pop_front_if(|(behind, _)| *behind <= number) {
            free.extend(messages);
        }
        (free, last)
    }

    /// The highest Ready that is durable once `finished` is: those behind it that gave the disk nothing to do.
    pub(super) fn settled(&self, newest: u64) -> u64 {
        self.work.front().map_or(newest, |work| work.number - 1)
    }
}

fn vouches_for_nothing(message: &Message) -> bool {
    matches!(
        message.kind,
        MessageType::HeartbeatResponse | MessageType::RequestPreVote | MessageType::RequestPreVoteResponse
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: MessageType) -> Message {
        Message { kind, ..Message::default() }
    }

    #[test]
    fn an_append_response_waits_for_the_disk_and_a_heartbeat_response_does_not() {
        let mut disk = InFlight::default();
        disk.begin(1, Some((5, 1)), false, 0);
        let both = vec![message(MessageType::AppendResponse), message(MessageType::HeartbeatResponse)];
        let now = disk.sort(both);
        assert_eq!(now, vec![message(MessageType::HeartbeatResponse)]);
        let (free, last) = disk.finish(1);
        assert_eq!(free, vec![message(MessageType::AppendResponse)]);
        assert_eq!(last, Some((5, 1)));
    }

    #[test]
    fn everything_waits_for_a_ballot() {
        let mut disk = InFlight::default();
        disk.begin(1, None, true, 0);
        assert!(disk.sort(vec![message(MessageType::HeartbeatResponse)]).is_empty());
        assert_eq!(disk.finish(1).0.len(), 1);
    }

    #[test]
    fn messages_wait_for_work_begun_before_them_in_earlier_effects() {
        let mut disk = InFlight::default();
        disk.begin(1, Some((5, 1)), false, 3);
        disk.begin(2, Some((6, 1)), false, 4);
        assert_eq!(disk.oldest(), Some(3));
        assert!(disk.sort(vec![message(MessageType::AppendResponse)]).is_empty());
        assert!(disk.finish(1).0.is_empty(), "the second write is still at the disk");
        assert_eq!((disk.settled(9), disk.oldest()), (1, Some(4)));
        assert_eq!(disk.finish(2).0.len(), 1);
        assert_eq!((disk.settled(9), disk.oldest()), (9, None));
    }
}

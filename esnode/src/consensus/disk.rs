//! Work that was sent to the disk and is not yet durable, and the messages that wait for it.

use std::collections::VecDeque;

use super::message::{Message, MessageType};

/// One unit of work at the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Work {
    number: u64,
    /// Index and term of its last entry.
    last: Option<(u64, u64)>,
    /// Whether it contains a new term or vote.
    ballot: bool,
    /// The tick at which it was sent to the disk.
    since: u64,
}

/// The work at the disk, in order, and the messages that may only be sent after it.
#[derive(Debug, Default)]
pub struct InFlight {
    work: VecDeque<Work>,
    /// Messages that wait, each for the work with this number.
    held: VecDeque<(u64, Vec<Message>)>,
}

impl InFlight {
    /// Work `number` was sent to the disk at tick `since`.
    pub(super) fn begin(&mut self, number: u64, last: Option<(u64, u64)>, ballot: bool, since: u64) {
        self.work.push_back(Work { number, last, ballot, since });
    }

    /// Returns the tick at which the oldest work that is not durable was sent to the disk.
    pub(super) fn oldest(&self) -> Option<u64> {
        self.work.front().map(|work| work.since)
    }

    /// Sorts the messages that Raft wants sent after its work is durable: returns those that may go at once, and keeps
    /// the others until everything now at the disk is durable.
    ///
    /// An append response promises that entries are durable, and a vote that the vote is, so both wait. The response to
    /// a heartbeat or a pre-vote promises nothing but the term. It goes at once unless a new term or vote is at the
    /// disk, so that a slow disk is not mistaken for a dead node.
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

    /// All work up to `number` is durable. Returns the messages that may go now, and index and term of the last entry
    /// that became durable.
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

    /// Returns the highest number that is durable once `finished` is: those after it that had nothing to write are
    /// durable too.
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

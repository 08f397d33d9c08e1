//! The consumer groups with their lag, for the admin API and the metrics.
//!
//! An event changes the lag of every group that reads its partition, so lag is computed when it is asked for, in slices
//! between which the raft thread may have the state machine.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use shared::api::{ConsumerGroup, ConsumerGroups};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::state_machine::StateMachine;

/// Largest number of groups that are reported: those with the most lag. Each takes a few hundred bytes of every answer,
/// and time series wherever metrics are kept.
pub const MAX_REPORTED: usize = 100;
/// Longest name that is reported, in bytes. Kafka has no limit, and every answer names the group.
const MAX_NAME: usize = 255;
/// Committed offsets of a slice, about: a fraction of a millisecond.
const SLICE: usize = 4096;
/// For how long a report is used again, at least.
const MIN_AGE: Duration = Duration::from_secs(1);
/// For how many times as long as it took a report is used again, at least: so that no number of groups and of questions
/// takes more than this part of a core.
const AGE_FACTOR: u32 = 20;

/// The latest report, which is used again for a while.
#[derive(Debug, Default)]
pub struct GroupReports {
    latest: Mutex<Option<Latest>>,
}

#[derive(Debug)]
struct Latest {
    report: Arc<ConsumerGroups>,
    usable_until: Instant,
}

impl GroupReports {
    /// Returns the groups in this state, as of now or of a moment ago.
    pub async fn get(&self, state_machine: &RwLock<StateMachine>) -> Arc<ConsumerGroups> {
        let mut latest = self.latest.lock().await;
        if let Some(latest) = latest.as_ref().filter(|latest| Instant::now() < latest.usable_until) {
            return Arc::clone(&latest.report);
        }
        let began = Instant::now();
        let mut survey = Survey::default();
        while !survey.slice(&state_machine.read()) {
            tokio::task::yield_now().await;
        }
        let report = Arc::new(survey.report());
        let now = Instant::now();
        let usable_until = now + MIN_AGE.max(AGE_FACTOR * (now - began));
        *latest = Some(Latest { report: Arc::clone(&report), usable_until });
        report
    }
}

/// PURE: the groups that were looked at so far.
#[derive(Debug, Default)]
struct Survey {
    /// Name of the last one.
    after: Option<String>,
    total: u64,
    /// Those with the most lag, which come first.
    most: BTreeMap<(Reverse<u64>, String), ConsumerGroup>,
}

impl Survey {
    /// Looks at further groups, in the order of their names. Returns whether these were the last ones.
    fn slice(&mut self, state: &StateMachine) -> bool {
        let (after, mut offsets) = (self.after.take(), 0);
        for (name, group) in state.groups_after(after.as_deref()) {
            self.total += 1;
            if name.len() <= MAX_NAME {
                let lag = state.lag(group);
                self.add(ConsumerGroup {
                    name: name.to_owned(),
                    state: group.state().to_owned(),
                    members: group.member_count() as u64,
                    lag: lag.total,
                    max_lag: lag.max,
                });
            }
            offsets += 1 + group.offsets().len();
            if offsets >= SLICE {
                self.after = Some(name.to_owned());
                return false;
            }
        }
        true
    }

    fn add(&mut self, group: ConsumerGroup) {
        self.most.insert((Reverse(group.lag), group.name.clone()), group);
        if self.most.len() > MAX_REPORTED {
            self.most.pop_last();
        }
    }

    fn report(self) -> ConsumerGroups {
        let left_off = self.total - self.most.len() as u64;
        ConsumerGroups { total: self.total, left_off, groups: self.most.into_values().collect() }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bytes::BytesMut;

    use super::*;
    use crate::state_machine::command::Command;
    use crate::state_machine::groups::{CommittedOffset, GROUPS_FORMAT, GroupChange, OffsetCommit};
    use crate::state_machine::tests::batch;

    /// A state machine with a topic of two partitions, of 10 and 20 events, and what is applied to it.
    struct Lab {
        state: RwLock<StateMachine>,
        index: u64,
    }

    impl Lab {
        fn new() -> Self {
            let mut lab = Self { state: RwLock::default(), index: 0 };
            lab.apply(&Command::RaiseFormat { to: GROUPS_FORMAT });
            lab.apply(&Command::CreateTopic {
                name: "t".to_owned(),
                partitions: 2,
                configs: BTreeMap::new(),
            });
            lab.append(0, 10);
            lab.append(1, 20);
            lab
        }

        fn apply(&mut self, command: &Command) {
            let mut payload = BytesMut::new();
            command.encode(&mut payload);
            self.index += 1;
            self.state.get_mut().apply(self.index, 1, &payload.freeze());
        }

        fn append(&mut self, partition: u32, events: i32) {
            self.apply(&Command::Append { topic: 1, partition, batch: batch(events, 0, None) });
        }

        fn commit(&mut self, group: &str, offsets: &[(u32, i64)]) {
            let committed =
                |offset| CommittedOffset { offset, leader_epoch: -1, metadata: String::new(), committed: 0 };
            let offsets = offsets.iter().map(|(partition, offset)| (1, *partition, committed(*offset)));
            let (member, generation) = (String::new(), -1);
            let commit = OffsetCommit { member, instance: None, generation, offsets: offsets.collect() };
            self.apply(&Command::Group { group: group.to_owned(), change: GroupChange::Commit(commit) });
        }

        fn survey(&self) -> ConsumerGroups {
            let mut survey = Survey::default();
            while !survey.slice(&self.state.read()) {}
            survey.report()
        }
    }

    #[test]
    fn lag_counts_where_something_was_committed_and_is_never_negative() {
        let mut lab = Lab::new();
        lab.commit("one", &[(1, 5)]);
        lab.commit("both", &[(0, 4), (1, 19)]);
        lab.commit("beyond", &[(0, 99), (1, 20)]);
        let found = lab.survey();
        let of = |group: &ConsumerGroup| (group.name.clone(), group.lag, group.max_lag);
        let expected = [("one", 15, 15), ("both", 7, 6), ("beyond", 0, 0)];
        let expected = expected.map(|(name, lag, max)| (name.to_owned(), lag, max));
        assert_eq!(found.groups.iter().map(of).collect::<Vec<_>>(), expected);
        assert_eq!((found.total, found.left_off), (3, 0));
        assert_eq!((found.groups[0].state.as_str(), found.groups[0].members), ("Empty", 0));
    }

    #[test]
    fn of_many_groups_those_with_the_most_lag_are_reported() {
        let mut lab = Lab::new();
        let many = MAX_REPORTED + SLICE;
        for number in 0..many {
            let behind = if number % 2 == 0 { 20 } else { 0 };
            lab.commit(&format!("g{number:05}"), &[(1, 20 - behind)]);
        }
        lab.commit(&"x".repeat(MAX_NAME + 1), &[(1, 0)]);
        let found = lab.survey();
        assert_eq!((found.total, found.groups.len()), (many as u64 + 1, MAX_REPORTED));
        assert_eq!(found.left_off, SLICE as u64 + 1);
        // Those with the same lag are always the same ones.
        let expected = (0..MAX_REPORTED).map(|number| format!("g{:05}", 2 * number));
        assert!(found.groups.iter().map(|group| &group.name).eq(&expected.collect::<Vec<_>>()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_report_is_used_again_for_a_second() {
        let mut lab = Lab::new();
        let reports = GroupReports::default();
        lab.commit("g", &[(0, 0)]);
        let first = reports.get(&lab.state).await;
        lab.append(0, 10);
        tokio::time::advance(MIN_AGE - Duration::from_millis(1)).await;
        assert!(Arc::ptr_eq(&first, &reports.get(&lab.state).await));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!((first.groups[0].lag, reports.get(&lab.state).await.groups[0].lag), (10, 20));
    }
}

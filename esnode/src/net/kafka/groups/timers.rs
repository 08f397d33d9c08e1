//! What is due in groups by a clock: rebalances that have waited long enough, members that are silent for too long, and
//! offsets that nobody has used for a week. The leader sees to it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use super::consumer::{SESSION_TIMEOUT, pattern};
use super::duration;
use crate::net::kafka::session::Shared;
use crate::state_machine::command::Command;
use crate::state_machine::groups::consumer::ConsumerChange;
use crate::state_machine::groups::{Group, GroupChange, Leaving, Phase};
use crate::state_machine::{StateMachine, TopicId};

/// How often rebalances are looked at.
const TICK: Duration = Duration::from_millis(50);
/// Ticks from one look at the members' sessions to the next.
const SESSION_TICKS: u64 = 10;
/// Ticks from one look at what patterns match to the next. There is another one whenever topics come or go.
const PATTERN_TICKS: u64 = 200;
/// Ticks from one look at the offsets to the next.
const OFFSET_TICKS: u64 = 1200;
/// How long a group that had no members waits for more of them, from the first one on. Kafka's default is 3 s, which every
/// test and every demo would wait for.
const INITIAL_DELAY: Duration = Duration::from_millis(250);
/// How long offsets are kept once a group has no members, as Kafka's `offsets.retention.minutes`.
const OFFSETS_RETENTION_MS: i64 = 7 * 24 * 3_600_000;

/// Since when others wait for members of the consumer protocol to give up partitions: group, member and its epoch.
type Revocations = HashMap<(String, String, i32), Instant>;
/// Since when each group that prepares a rebalance does so: name, and the generation before it.
type Rebalances = HashMap<(String, i32), Instant>;

/// What this coordinator has seen begin, and waits for the end of.
#[derive(Default)]
struct Waits {
    rebalances: Rebalances,
    revocations: Revocations,
    /// The topics that patterns were matched with last.
    topics: Option<(TopicId, usize, usize)>,
}

/// Sees to it until `stop` turns true.
pub async fn run(shared: Arc<Shared>, mut stop: watch::Receiver<bool>) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let leadership = shared.node.leadership();
    let (mut tick, mut waits) = (0_u64, Waits::default());
    loop {
        tokio::select! {
            _ = ticks.tick() => tick += 1,
            _ = stop.wait_for(|stop| *stop) => return,
        }
        if !leadership.borrow().serving {
            waits = Waits::default();
            shared.groups.sessions.clear();
            continue;
        }
        let commands = due(&shared, tick, &mut waits);
        if !commands.is_empty()
            && let Err(error) = shared.node.propose_many(&commands).await
        {
            // It is due still at the next tick.
            tracing::debug!(%error, "what is due in groups has to wait");
        }
    }
}

fn due(shared: &Shared, tick: u64, waits: &mut Waits) -> Vec<Command> {
    let (state, now) = (shared.node.frozen_state(), Instant::now());
    let mut commands = due_rebalances(&state, now, &mut waits.rebalances);
    if tick.is_multiple_of(SESSION_TICKS) {
        commands.extend(silent_members(shared, &state, now));
        commands.extend(slow_members(&state, now, &mut waits.revocations));
        let topics = waits.topics.replace(state.topics_version());
        if topics != waits.topics || tick.is_multiple_of(PATTERN_TICKS) {
            commands.extend(outdated_patterns(&state));
        }
    }
    if tick.is_multiple_of(OFFSET_TICKS) {
        commands.extend(unused_offsets(&state));
    }
    commands
}

fn due_rebalances(state: &StateMachine, now: Instant, since: &mut Rebalances) -> Vec<Command> {
    let mut before = std::mem::take(since);
    let mut commands = Vec::new();
    for (name, group) in state.groups() {
        let Phase::PreparingRebalance { initial } = group.phase() else { continue };
        let key = (name.to_owned(), group.generation());
        let began = before.remove(&key).unwrap_or(now);
        let limit = if initial { INITIAL_DELAY } else { duration(group.rebalance_timeout()) };
        if now.duration_since(began) >= limit {
            let change = GroupChange::CompleteJoin { generation: group.generation() };
            commands.push(Command::Group { group: name.to_owned(), change });
        }
        since.insert(key, began);
    }
    commands
}

fn silent_members(shared: &Shared, state: &StateMachine, now: Instant) -> Vec<Command> {
    let members = state.groups().map(|(name, group)| {
        let members = group.members().iter();
        let members = members.map(|(id, member)| (id.as_str(), duration(member.session_timeout)));
        let consumers = group.consumer().into_iter().flat_map(|group| group.members());
        let consumers = consumers.map(|(id, member)| {
            let classic = member.classic.as_ref().map(|classic| duration(classic.session_timeout));
            (id.as_str(), classic.unwrap_or(SESSION_TIMEOUT))
        });
        (name, members.chain(consumers))
    });
    let mut leaving: HashMap<String, Vec<Leaving>> = HashMap::new();
    for (group, member) in shared.groups.sessions.expired(members, now) {
        tracing::info!(
            group,
            member,
            "a member of a consumer group was silent for its whole session: it is removed"
        );
        leaving.entry(group).or_default().push(Leaving { member, instance: None });
    }
    leaving
        .into_iter()
        .map(|(group, gone)| Command::Group { group, change: GroupChange::Leave(gone) })
        .collect()
}

/// Those that have not given up partitions, or joined again, in the time that they asked for in a group of the consumer
/// protocol.
fn slow_members(state: &StateMachine, now: Instant, since: &mut Revocations) -> Vec<Command> {
    let mut before = std::mem::take(since);
    let mut commands = Vec::new();
    let groups = state.groups().filter_map(|(name, group)| Some((name, group.consumer()?)));
    let members = groups.flat_map(|(name, group)| group.waited_for().map(move |member| (name, member)));
    for (name, (id, member)) in members {
        let key = (name.to_owned(), id.clone(), member.epoch);
        let began = before.remove(&key).unwrap_or(now);
        if now.duration_since(began) >= duration(member.rebalance_timeout) {
            tracing::info!(
                group = name,
                member = id,
                "a member of a consumer group is too slow: it is removed"
            );
            let fence = ConsumerChange::Fence { member: id.clone(), epoch: member.epoch };
            commands.push(Command::Group { group: name.to_owned(), change: GroupChange::Consumer(fence) });
        }
        since.insert(key, began);
    }
    commands
}

/// Patterns that match other topics by now.
fn outdated_patterns(state: &StateMachine) -> Vec<Command> {
    let groups = state.groups().filter_map(|(name, group)| Some((name, group.consumer()?)));
    let outdated = groups.flat_map(|(name, group)| {
        let changes = pattern::outdated(state, group).into_iter().map(ConsumerChange::Match);
        changes.map(|change| Command::Group { group: name.to_owned(), change: GroupChange::Consumer(change) })
    });
    outdated.collect()
}

fn unused_offsets(state: &StateMachine) -> Vec<Command> {
    let Some(now) = state.clock().latest() else { return Vec::new() };
    let committed = now.ms.saturating_sub(OFFSETS_RETENTION_MS);
    let unused = |(_, group): &(&str, &Group)| {
        let offsets = || group.offsets().iter().any(|(_, offset)| offset.committed <= committed);
        group.empty_since().is_some_and(|since| since <= committed) && offsets()
    };
    let expire = |(name, _): (&str, &Group)| Command::Group {
        group: name.to_owned(),
        change: GroupChange::Expire { committed },
    };
    state.groups().filter(unused).map(expire).collect()
}

//! What is due in groups by a clock: rebalances that have waited long enough, members that are silent for too long, and
//! offsets that nobody has used for a week. The leader sees to it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use super::duration;
use crate::net::kafka::session::Shared;
use crate::state_machine::StateMachine;
use crate::state_machine::command::Command;
use crate::state_machine::groups::{Group, GroupChange, Leaving, Phase};

/// How often rebalances are looked at.
const TICK: Duration = Duration::from_millis(50);
/// Ticks from one look at the members' sessions to the next.
const SESSION_TICKS: u64 = 10;
/// Ticks from one look at the offsets to the next.
const OFFSET_TICKS: u64 = 1200;
/// How long a group that had no members waits for more of them, from the first one on. Kafka's default is 3 s, which every
/// test and every demo would wait for.
const INITIAL_DELAY: Duration = Duration::from_millis(250);
/// How long offsets are kept once a group has no members, as Kafka's `offsets.retention.minutes`.
const OFFSETS_RETENTION_MS: i64 = 7 * 24 * 3_600_000;

/// Since when each group that prepares a rebalance does so: name, and the generation before it.
type Rebalances = HashMap<(String, i32), Instant>;

/// Sees to it until `stop` turns true.
pub async fn run(shared: Arc<Shared>, mut stop: watch::Receiver<bool>) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let leadership = shared.node.leadership();
    let (mut tick, mut rebalances) = (0_u64, Rebalances::new());
    loop {
        tokio::select! {
            _ = ticks.tick() => tick += 1,
            _ = stop.wait_for(|stop| *stop) => return,
        }
        if !leadership.borrow().serving {
            rebalances.clear();
            shared.groups.sessions.clear();
            continue;
        }
        let commands = due(&shared, tick, &mut rebalances);
        if !commands.is_empty()
            && let Err(error) = shared.node.propose(&commands).await
        {
            // It is due still at the next tick.
            tracing::debug!(%error, "what is due in groups has to wait");
        }
    }
}

fn due(shared: &Shared, tick: u64, rebalances: &mut Rebalances) -> Vec<Command> {
    let (state, now) = (shared.node.state_machine(), Instant::now());
    let mut commands = due_rebalances(&state, now, rebalances);
    if tick.is_multiple_of(SESSION_TICKS) {
        commands.extend(silent_members(shared, &state, now));
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
    let members = state.groups().flat_map(|(name, group)| {
        let members = group.members().iter();
        members.map(move |(id, member)| ((name.to_owned(), id.clone()), duration(member.session_timeout)))
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

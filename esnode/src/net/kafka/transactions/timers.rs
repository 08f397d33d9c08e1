//! What is due in transactions by the log's time: those that take too long are aborted, and transactional ids that nobody
//! has used for a week are forgotten. The leader sees to it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use crate::net::kafka::session::Shared;
use crate::runtime::read_clocks;
use crate::state_machine::StateMachine;
use crate::state_machine::command::Command;
use crate::state_machine::transactions::TransactionChange;

/// How often transactions are looked at.
const TICK: Duration = Duration::from_millis(500);
/// Ticks from one look at what nobody uses to the next.
const UNUSED_TICKS: u64 = 120;
/// How long a transactional id is kept after its last transaction, as Kafka's `transactional.id.expiration.ms`.
const UNUSED_MS: i64 = 7 * 24 * 3_600_000;
/// Changes that are proposed together, at most. An end names up to all partitions of the cluster.
const MAX_FORGOTTEN: usize = 1000;

/// Sees to it until `stop` turns true.
pub async fn run(shared: Arc<Shared>, mut stop: watch::Receiver<bool>) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let leadership = shared.node.leadership();
    let mut tick = 0_u64;
    loop {
        tokio::select! {
            _ = ticks.tick() => tick += 1,
            _ = stop.wait_for(|stop| *stop) => return,
        }
        if !leadership.borrow().serving {
            continue;
        }
        let proposals = {
            let (state, now) = (shared.node.frozen_state(), shared.node.time().now());
            let mut proposals: Vec<_> =
                late(&state, now, read_clocks().wall).map(|late| vec![late]).collect();
            if tick.is_multiple_of(UNUSED_TICKS) {
                proposals.push(unused(&state, now));
            }
            proposals
        };
        for commands in proposals.iter().filter(|commands| !commands.is_empty()) {
            if let Err(error) = shared.node.propose(commands).await {
                // It is due still at the next tick.
                tracing::debug!(%error, "what is due in transactions has to wait");
                break;
            }
        }
    }
}

/// Aborts each transaction that has taken longer than its producer said, and fences the producer.
fn late(state: &StateMachine, now: i64, wall: i64) -> impl Iterator<Item = Command> {
    state.transactions().filter_map(move |(id, transaction)| {
        let took = now - transaction.began()?;
        if took <= i64::from(transaction.timeout_ms()) {
            return None;
        }
        let mut ending = transaction.ending(transaction.producer(), false, wall).ok()?;
        ending.fence = true;
        tracing::info!(id, took, "a transaction has taken too long: it is aborted");
        Some(Command::Transaction { id: id.to_owned(), change: TransactionChange::End(ending) })
    })
}

fn unused(state: &StateMachine, now: i64) -> Vec<Command> {
    let unused_since = now.saturating_sub(UNUSED_MS);
    let unused = state.transactions().filter(|(_, transaction)| transaction.is_unused_since(unused_since));
    let expire = |(id, _): (&str, _)| Command::Transaction {
        id: id.to_owned(),
        change: TransactionChange::Expire { unused_since },
    };
    unused.take(MAX_FORGOTTEN).map(expire).collect()
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;
    use crate::state_machine::clock::Tick;
    use crate::state_machine::command::Reply;
    use crate::state_machine::transactions::{Phase, ProducerIdentity};

    fn apply(state: &mut StateMachine, command: &Command) -> Reply {
        let mut payload = BytesMut::new();
        command.encode(&mut payload);
        state.apply(state.applied_index() + 1, 1, &payload.freeze()).replies.remove(0)
    }

    fn change(state: &mut StateMachine, change: TransactionChange) -> Reply {
        apply(state, &Command::Transaction { id: "a".to_owned(), change })
    }

    #[test]
    fn what_takes_too_long_is_aborted_and_what_nobody_uses_forgotten() {
        let mut state = StateMachine::default();
        let begins = 1_000_000;
        apply(&mut state, &Command::Clock(Tick { ms: begins, wall: 0, doubted: false, made_up: 0 }));
        change(&mut state, TransactionChange::Init { timeout_ms: 60_000, known: None });
        assert_eq!(late(&state, begins + 100_000, 5).count(), 0, "nothing is under way");
        let producer = ProducerIdentity { id: 1, epoch: 0 };
        change(&mut state, TransactionChange::AddPartitions { producer, partitions: Vec::new() });
        assert_eq!(late(&state, begins + 60_000, 5).count(), 0);
        let ends: Vec<_> = late(&state, begins + 60_001, 5).collect();
        assert_eq!(ends.len(), 1);
        let week = begins + UNUSED_MS;
        assert!(unused(&state, week).is_empty(), "it is under way");
        assert_eq!(apply(&mut state, &ends[0]), Reply::Done);
        let transaction = state.transaction("a").unwrap();
        assert_eq!((transaction.phase(), transaction.producer().epoch), (Phase::CompleteAbort, 1));
        assert!(unused(&state, week - 1).is_empty());
        let forget = unused(&state, week);
        apply(&mut state, &forget[0]);
        assert_eq!(state.transactions().count(), 0);
    }
}

//! Turns errors of other modules into what the operator reads: exit codes, and commands to try next.

use crate::engine::Rescue;
use crate::engine::Run;
use crate::engine::error::{Awaited, StepError};
use crate::engine::lock::LockError;
use crate::engine::outcome::Outcome;
use crate::engine::ports::{PortError, PortErrorKind};
use crate::failure::{Exit, Failure};
use crate::kafka::{KafkaError, TopicPartition};
use crate::plan::Refusal;
use crate::view::report::Report;

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self { kind: Exit::Refused, message: refusal.message, details: refusal.reasons, hints: refusal.hints }
    }
}

impl From<PortError> for Failure {
    fn from(error: PortError) -> Self {
        let exit = match error.kind {
            PortErrorKind::Unreachable => Exit::Unreachable,
            PortErrorKind::Failed => Exit::Failed,
            PortErrorKind::Refused => Exit::Refused,
            PortErrorKind::Locked => Exit::Locked,
        };
        error.with_kind(exit)
    }
}

impl From<LockError> for Failure {
    fn from(error: LockError) -> Self {
        match error {
            LockError::Taken(_) => Self::new(Exit::Locked, error.to_string())
                .hint("wait until it has finished, then try again; escli watch shows its progress"),
            LockError::Io { .. } => Self::failed(error.to_string()),
        }
    }
}

impl From<StepError> for Failure {
    fn from(error: StepError) -> Self {
        let message = error.to_string();
        match error {
            StepError::Port { did_not_stop, error } => {
                let failure = Self::from(error);
                match did_not_stop {
                    Some(id) => {
                        failure.hint(format!("escli stop {id} --force")).hint(format!("escli logs {id}"))
                    }
                    None => failure,
                }
            }
            StepError::TimedOut { awaited, limit, last } => {
                let failure = match limit {
                    Some(_) => Self::failed(message),
                    None => Self::new(Exit::Timeout, format!("{awaited} within --timeout")),
                };
                Self { hints: hints(&awaited), ..failure.detail(last) }
            }
            StepError::DeadlinePassed { step } => {
                Self::new(Exit::Timeout, format!("--timeout passed before {step}"))
            }
            StepError::LeaseLost { lost, step } => Self::new(Exit::Locked, message)
                .detail(format!("before {step}"))
                .detail(lost.reason)
                .detail("another operator may be at work there by now")
                .hint("see the state of the cluster:  escli status"),
            StepError::Died { node, log, .. } => {
                Self { details: log, ..Self::failed(message) }.hint(format!("escli logs {node}"))
            }
            StepError::Interrupted => Self::new(Exit::Interrupted, message),
            StepError::WrongNode { .. }
            | StepError::WrongVersion { .. }
            | StepError::Restarted { .. }
            | StepError::NoEffect { .. }
            | StepError::Journal { .. } => Self::failed(message),
        }
    }
}

impl From<KafkaError> for Failure {
    fn from(error: KafkaError) -> Self {
        let failure = Self::new(exit_of_call(&error), error.to_string());
        match &error {
            KafkaError::Unreachable { .. } | KafkaError::NoLeader(_) | KafkaError::NoCoordinator => {
                failure.hint("escli status")
            }
            KafkaError::NoResponse { .. } => failure
                .detail("it may have been carried out all the same; look before you try again")
                .hint("escli status"),
            KafkaError::Unsupported { .. } => failure.hint("upgrade the nodes:  escli upgrade --binary PATH"),
            KafkaError::UnknownTopic(name) => {
                failure.hint("escli topic list").hint(format!("escli topic create {name}"))
            }
            KafkaError::UnknownPartition { partition, .. } => {
                failure.hint(format!("escli topic describe {}", partition.topic))
            }
            KafkaError::UnknownGroup(_) => failure.hint("escli group list"),
            KafkaError::UnknownTransactionalId(_) => failure.hint("escli transaction list"),
            KafkaError::Unreadable { partition: TopicPartition { topic, partition }, next, .. } => failure.hint(
                format!("to read what comes after it:  escli consume {topic} --partition {partition} --from {next}"),
            ),
            KafkaError::Refused { .. } if error.is_ambiguous() => {
                failure.detail("it may have been carried out all the same; look before you try again")
            }
            KafkaError::Malformed { .. } | KafkaError::Unwritable { .. } | KafkaError::Refused { .. } => failure,
        }
    }
}

fn exit_of_call(error: &KafkaError) -> Exit {
    match error {
        KafkaError::Unreachable { .. } | KafkaError::NoResponse { .. } => Exit::Unreachable,
        // What the cluster might do later was given up; what it will not do was not done.
        KafkaError::Refused { .. } if error.is_retriable() => Exit::Failed,
        KafkaError::Refused { .. } => Exit::Refused,
        KafkaError::NoLeader(_)
        | KafkaError::NoCoordinator
        | KafkaError::Unsupported { .. }
        | KafkaError::Malformed { .. }
        | KafkaError::UnknownTopic(_)
        | KafkaError::UnknownGroup(_)
        | KafkaError::UnknownTransactionalId(_)
        | KafkaError::UnknownPartition { .. }
        | KafkaError::Unwritable { .. }
        | KafkaError::Unreadable { .. } => Exit::Failed,
    }
}

/// Returns commands that show why something did not happen in time.
fn hints(awaited: &Awaited) -> Vec<String> {
    let status = || "escli status".to_owned();
    let health = || "escli health".to_owned();
    let logs = |id: &u64| format!("escli logs {id}");
    match awaited {
        Awaited::Live(id) => vec![logs(id), format!("escli status --node {id}")],
        Awaited::Leader | Awaited::Format => vec![status(), "escli logs".to_owned()],
        Awaited::Agreement => vec![status(), health()],
        Awaited::LeaderIs(_) | Awaited::Removed(_) => vec![status()],
        Awaited::Quorum(_) => vec![health()],
        Awaited::CaughtUp(id) | Awaited::Steady(id, _) => vec![logs(id), health()],
        Awaited::Voter(id) => vec![status(), logs(id)],
        Awaited::Reachable(_) => {
            vec!["escli check".to_owned(), "look at firewalls between the hosts".to_owned()]
        }
    }
}

/// Returns why a plan did not succeed, with whether the steps of the failed stage were undone.
pub fn of_run(run: &mut Run) -> Option<Failure> {
    let failure = Failure::from(run.error.take()?);
    Some(match &run.rescue {
        Rescue::None => failure,
        Rescue::Done => failure.detail("what had been begun was undone"),
        Rescue::Failed { step, reason } => {
            failure.detail(format!("and it could not be undone: {step}: {reason}"))
        }
    })
}

/// Returns the exit code of an operation. An error's own code is preferred, since it is more precise than the outcome.
pub fn exit_of(report: &Report) -> Exit {
    match (&report.error, report.outcome) {
        (Some(error), Outcome::Refused | Outcome::Failed) => error.kind,
        (_, Outcome::Succeeded | Outcome::Planned) => Exit::Ok,
        (None, Outcome::Refused) => Exit::Refused,
        (None, Outcome::Failed) => Exit::Failed,
        (_, Outcome::Partial) => Exit::Partial,
        (_, Outcome::TimedOut) => Exit::Timeout,
        (_, Outcome::Interrupted) => Exit::Interrupted,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::engine::ports::LeaseLost;
    use crate::kafka::error::check;

    fn waited(limit: Option<Duration>) -> StepError {
        StepError::TimedOut { awaited: Awaited::Live(1), limit, last: "connection refused :8080".to_owned() }
    }

    #[test]
    fn the_operations_own_time_limit_has_its_own_exit_code() {
        let own = Failure::from(waited(Some(Duration::from_secs(60))));
        assert_eq!((own.kind, own.message.ends_with("within 60s")), (Exit::Failed, true), "{own}");
        assert_eq!(own.details, ["connection refused :8080"]);
        let over = Failure::from(waited(None));
        assert_eq!((over.kind, over.message.ends_with("within --timeout")), (Exit::Timeout, true), "{over}");
        let before = Failure::from(StepError::DeadlinePassed { step: "n1.start".to_owned() });
        assert_eq!(
            (before.kind, before.message.as_str()),
            (Exit::Timeout, "--timeout passed before n1.start")
        );
    }

    #[test]
    fn a_node_that_does_not_stop_can_be_killed_and_one_that_died_shows_its_log() {
        let stuck = StepError::Port { did_not_stop: Some(1), error: PortError::failed("it did not stop") };
        assert_eq!(Failure::from(stuck).hints, ["escli stop 1 --force", "escli logs 1"]);
        let log = vec!["ERROR the disk is full".to_owned()];
        let died = Failure::from(StepError::Died { node: 2, reason: "its last log lines:".to_owned(), log });
        assert_eq!((died.details.len(), died.hints[0].as_str()), (1, "escli logs 2"));
    }

    #[test]
    fn what_the_cluster_refuses_was_not_done_and_what_it_might_do_later_failed() {
        let refused = |code: i16| Failure::from(check(code, None, || "orders".to_owned()).unwrap_err());
        assert_eq!((refused(36).kind, refused(6).kind), (Exit::Refused, Exit::Failed));
        assert!(
            refused(36).details.is_empty() && refused(7).details[0].contains("may have been carried out")
        );
        let unknown = Failure::from(KafkaError::UnknownTopic("orders".to_owned()));
        assert_eq!((unknown.kind, unknown.hints[1].as_str()), (Exit::Failed, "escli topic create orders"));
        let gone =
            KafkaError::Unreachable { node: "n1 (h:9000)".to_owned(), why: "connection refused".to_owned() };
        assert_eq!(Failure::from(gone).kind, Exit::Unreachable);
    }

    #[test]
    fn a_lost_lease_says_before_which_step() {
        let lost = LeaseLost { node: 2, reason: "the connection was closed".to_owned() };
        let failure = Failure::from(StepError::LeaseLost { lost, step: "n2.start".to_owned() });
        assert_eq!((failure.kind, failure.details[0].as_str()), (Exit::Locked, "before n2.start"));
    }
}

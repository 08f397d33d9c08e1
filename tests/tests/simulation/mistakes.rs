//! The simulator's checks catch every mistake that it can make; else they would prove nothing about the runs that they pass.

use esnode::replica::Mistake;
use tests::sim::bugs::Bug;
use tests::sim::checks::InvariantViolation;
use tests::sim::env::Profile;
use tests::sim::world::Setup;
use tests::sim::{run, run_in};

use super::behind;

#[test]
fn simulation_of_a_failing_seed_fails_again_the_same_way() {
    let (seed, what) = caught(Bug::AckBeforeSync, 200);
    assert_eq!(run(seed, Some(Bug::AckBeforeSync), false), Err(InvariantViolation(what)));
}

#[test]
fn simulation_catches_a_snapshot_of_two_states() {
    let bug = Some(Bug::Replica(Mistake::SnapshotWhileInstalling));
    // Such a snapshot becomes due during an installation only if it had to wait.
    let profile = Some(Profile { snapshot_pause: 60, ..Profile::BEHIND });
    let run = |seed| run_in(&Setup { profile, bug, ..Setup::seed(seed) });
    let caught = (0..600).find_map(|seed| run(seed).err());
    let InvariantViolation(what) = caught.expect("it went unnoticed");
    assert!(what.starts_with("stale membership"), "{what}");
}

#[test]
fn simulation_catches_a_log_that_goes_on_from_what_was_never_committed() {
    let what = caught_behind(Bug::JoinAnything);
    assert!(what.starts_with("log matching"), "{what}");
}

/// Returns the violation of the first run that catches the bug while nodes fall behind all the time.
fn caught_behind(bug: Bug) -> String {
    let caught = (0..300).find_map(|seed| behind(seed, Some(bug)).err());
    let InvariantViolation(what) = caught.expect("it went unnoticed");
    what
}

/// Returns the first seed whose run catches the bug, and the violation that it reports.
fn caught(bug: Bug, within: u64) -> (u64, String) {
    (0..within)
        .find_map(|seed| run(seed, Some(bug), false).err().map(|InvariantViolation(what)| (seed, what)))
        .unwrap_or_else(|| panic!("{bug:?} went unnoticed in {within} seeds"))
}

macro_rules! catches {
    ($($name:ident: $bug:expr, within $seeds:literal;)*) => {
        $(#[test]
        fn $name() {
            let (seed, what) = caught($bug, $seeds);
            eprintln!("caught by seed {seed}: {what}");
        })*
    };
}

catches! {
    simulation_catches_an_ack_before_the_sync: Bug::AckBeforeSync, within 200;
    simulation_catches_a_lost_vote: Bug::VoteNotSynced, within 500;
    simulation_catches_a_commit_index_ahead_of_its_entries: Bug::CommitBeforeEntries, within 200;
    simulation_catches_a_resurrected_suffix: Bug::ResurrectSuffix, within 200;
    simulation_catches_an_ack_before_the_commit: Bug::Replica(Mistake::AckBeforeCommit), within 200;
    simulation_catches_a_skipped_replay: Bug::SkipReplay, within 200;
    simulation_catches_an_entry_applied_twice: Bug::Replica(Mistake::ApplyTwice), within 200;
    simulation_catches_an_ack_by_index_alone: Bug::Replica(Mistake::AckByIndex), within 200;
    simulation_catches_a_read_without_a_barrier: Bug::ReadWithoutBarrier, within 200;
    simulation_catches_a_read_ahead_of_its_barrier: Bug::Replica(Mistake::ReadBeforeApply), within 500;
    simulation_catches_a_leader_that_serves_too_early: Bug::Replica(Mistake::ServeBeforeApplied), within 500;
    simulation_catches_a_retry_under_a_new_number: Bug::RetryAsNew, within 200;
    simulation_catches_a_failed_sync_that_is_believed: Bug::FailedSyncBelieved, within 500;
    simulation_catches_an_entry_applied_twice_after_a_restart: Bug::SnapshotAhead, within 200;
    simulation_catches_lost_producers_after_a_restart: Bug::LostProducers, within 200;
    simulation_catches_stale_members_after_a_restart: Bug::StaleMembers, within 200;
    simulation_catches_stale_members_after_a_snapshot: Bug::Replica(Mistake::StaleMembersAfterSnapshot), within 200;
    simulation_catches_an_installation_that_is_not_durable: Bug::InstalledBeforeSync, within 200;
    simulation_catches_a_state_from_before_the_installation: Bug::Replica(Mistake::StateNotInstalled), within 200;
    simulation_catches_a_promotion_of_a_learner_that_lags: Bug::Replica(Mistake::PromoteAtOnce), within 200;
    simulation_catches_a_deletion_on_one_replica_only: Bug::DeleteAlone, within 200;
    simulation_catches_events_deleted_that_are_kept: Bug::Replica(Mistake::DeleteUpToSnapshot), within 200;
}

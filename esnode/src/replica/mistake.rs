//! Mistakes that the simulator can have a replica make. Its checks must catch every one of them, or they prove nothing
//! about the runs that they pass.

/// One mistake. Each was made by a real system, or breaks one rule of this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    /// Answers a client when its entry is in the leader's log, not when it is committed and applied.
    AckBeforeCommit,
    /// Answers a proposal by its index alone, though another leader's entry took its place.
    AckByIndex,
    /// Applies an entry twice once in a while.
    ApplyTwice,
    /// Takes an entry as committed when a majority has it, though an older term's entry may still be replaced.
    CommitByCount,
    /// Serves a read when the barrier's index is known, not when it is applied.
    ReadBeforeApply,
    /// A new leader validates batches by what it has applied, before that is all of the terms before.
    ServeBeforeApplied,
    /// Changes the members though too few of those that remain respond.
    ChangeWithoutQuorum,
    /// Gives a learner a vote as soon as it is there.
    PromoteAtOnce,
    /// Takes votes, and leads, whoever has a member's id.
    TrustAnyStore,
    /// Tells a node that it was removed before this is certain to survive a crash.
    ForgetRemovals,
    /// Hands leadership over without waiting for what is in the log.
    TransferWithoutDrain,
    /// Takes a binding as proposed that was dropped during a hand-over.
    ForgetDropped,
    /// Raises the on-disk format though a member does not read it.
    RaiseUnreadFormat,
    /// A leader whose disk hangs leads on.
    LeadOnStalledDisk,
    /// Goes on with its own members after another node's snapshot took the place of its state.
    StaleMembersAfterSnapshot,
    /// Installs another node's snapshot in the log, and goes on with the state that it had.
    StateNotInstalled,
    /// Writes a snapshot of its state while Raft has the members of the one that it installs already.
    SnapshotWhileInstalling,
    /// Deletes the log up to the snapshot, whatever events it holds.
    DeleteUpToSnapshot,
}

#[cfg(feature = "mistakes")]
mod made {
    use std::cell::Cell;

    use super::Mistake;

    thread_local! {
        static MISTAKE: Cell<Option<Mistake>> = const { Cell::new(None) };
    }

    /// Has the replicas of this thread make this mistake from now on, or none.
    pub fn make(mistake: Option<Mistake>) {
        MISTAKE.set(mistake);
    }

    /// Whether the replicas of this thread make this mistake.
    pub(crate) fn makes(mistake: Mistake) -> bool {
        MISTAKE.get() == Some(mistake)
    }
}

#[cfg(feature = "mistakes")]
pub use made::make;
#[cfg(feature = "mistakes")]
pub(crate) use made::makes;

/// Whether to make this mistake: never, outside the simulator.
#[cfg(not(feature = "mistakes"))]
pub(crate) const fn makes(_: Mistake) -> bool {
    false
}

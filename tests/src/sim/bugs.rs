//! Mistakes that the simulated node and disk can be told to make. Each was made by a real system; the checks must
//! catch every one of them, or they prove nothing about the runs that they pass.

/// One mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// Reports work as durable when it is handed over, not when it is synced.
    AckBeforeSync,
    /// Syncs entries only: a crash loses a term and vote written since the last entry, and the node votes again.
    VoteNotSynced,
    /// Writes the newest commit index ahead of the entries that it covers, in one write that may be torn.
    CommitBeforeEntries,
    /// Recovery replaces an entry but keeps what the replaced entry's leader wrote after it.
    ResurrectSuffix,
    /// Answers a client when its entry is in the leader's log, not when it is committed and applied.
    AckBeforeCommit,
    /// After a restart takes all that was committed as applied, though the state is gone.
    SkipReplay,
    /// Applies an entry twice once in a while.
    ApplyTwice,
    /// Answers a proposal by its index alone, though another leader's entry took its place.
    AckByIndex,
    /// Serves reads from its own state without asking a majority whether it still leads.
    ReadWithoutBarrier,
    /// Serves a read when the barrier's index is known, not when it is applied.
    ReadBeforeApply,
    /// A producer retries without its sequence number, so that nothing tells the retry from a new batch.
    RetryAsNew,
    /// Takes an entry as committed when a majority has it, though an older term's entry may still be replaced.
    CommitByCount,
    /// Serves reads without asking while its own clock says that a majority was heard of lately, and the clock stood
    /// still while the process did.
    LeaseAcrossPause,
    /// Goes on after a sync that failed, as if it had not.
    FailedSyncBelieved,
    /// A checkpoint holds one entry more than it says, so that a restart applies it twice.
    CheckpointAhead,
    /// A checkpoint forgets what producers have sent, so that a retry after a restart is a new batch there.
    LostProducers,
    /// A checkpoint keeps the members that the cluster was founded with.
    StaleMembers,
    /// Goes on with its own members after another node's checkpoint took the place of its state.
    StaleMembersAfterSnapshot,
    /// Calls an installation durable, and goes on from it, when it is handed to the disk.
    InstalledBeforeSync,
    /// Installs another node's checkpoint in the log, and goes on with the state that it had.
    StateNotInstalled,
    /// Puts another node's log behind an own entry that was never committed and is another one there.
    JoinAnything,
    /// Writes a checkpoint of its state while Raft has the members of the one that it takes already.
    CheckpointWhileTaking,
    /// The leader forgets what is due by itself, not through the log.
    TrimAlone,
    /// Retires the log up to the checkpoint, whatever events it holds.
    RetireByCheckpoint,
}

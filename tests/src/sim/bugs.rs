//! Mistakes that the simulated node, disk and clients can be told to make, besides those of the replica itself. Each was made by a real system; the checks must
//! catch every one of them, or they prove nothing about the runs that they pass.

use esnode::replica::Mistake;

/// One mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// One that the replica makes.
    Replica(Mistake),
    /// Reports work as durable when it is handed over, not when it is synced.
    AckBeforeSync,
    /// Syncs entries only: a crash loses a term and vote written since the last entry, and the node votes again.
    VoteNotSynced,
    /// Writes the newest commit index ahead of the entries that it covers, in one write that may be torn.
    CommitBeforeEntries,
    /// Recovery replaces an entry but keeps what the replaced entry's leader wrote after it.
    ResurrectSuffix,
    /// After a restart takes all that was committed as applied, though the state is gone.
    SkipReplay,
    /// Serves reads from its own state without asking a majority whether it still leads.
    ReadWithoutBarrier,
    /// A producer retries without its sequence number, so that nothing tells the retry from a new batch.
    RetryAsNew,
    /// Serves reads without asking while its own clock says that a majority was heard of lately, and the clock stood
    /// still while the process did.
    LeaseAcrossPause,
    /// Goes on after a sync that failed, as if it had not.
    FailedSyncBelieved,
    /// A snapshot holds one entry more than it says, so that a restart applies it twice.
    SnapshotAhead,
    /// A snapshot forgets what producers have sent, so that a retry after a restart is a new batch there.
    LostProducers,
    /// A snapshot keeps the members that the cluster was bootstrapped with.
    StaleMembers,
    /// Calls an installation durable, and goes on from it, when it is handed to the disk.
    InstalledBeforeSync,
    /// Puts another node's log behind an own entry that was never committed and is another one there.
    JoinAnything,
    /// Takes the commits of whoever was a group's member once, whatever the generation.
    AnyGeneration,
    /// Takes what any instance of a transactional id says for the newest one's.
    AnyEpoch,
    /// A pipeline commits its offsets beside its transaction.
    OffsetsApart,
    /// Committed readers see what was aborted, too.
    ReadAborted,
    /// The leader forgets what is due by itself, not through the log.
    DeleteAlone,
}

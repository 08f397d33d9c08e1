//! EventStream's node: a replicated event log that speaks the Kafka wire protocol.
//!
//! Its rooms, from the inside out:
//!
//! - `consensus`: Raft, behind a facade; `state_machine`: what the log means; `replica`: one node's part in the cluster;
//!   `batch_index`: where each partition's batches are. These four are pure: no IO, no clock, no randomness. The simulator runs
//!   whole clusters of them.
//! - `runtime`: the threads that run a replica; `storage`: the disk; `net`: peers, Kafka clients and operators.
//! - `node`: a node from start to end; `maintenance`: backup, verification, recovery; `process`: what any Unix process needs.

pub mod batch_index;
pub mod consensus;
pub mod entry;
#[doc(hidden)]
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
pub mod maintenance;
pub mod net;
pub mod node;
pub mod process;
pub mod replica;
pub mod runtime;
pub mod state_machine;
pub mod storage;

//! EventStream's node: a replicated event log that speaks the Kafka wire protocol.
//!
//! `consensus` and `state_machine` are pure: no IO, no clock, no randomness. `storage` and `net` touch the world.
//! `driver` alone joins them.

pub mod consensus;
pub mod driver;
pub mod entry;
#[doc(hidden)]
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
pub mod maintenance;
pub mod net;
pub mod node;
pub mod process;
pub mod state_machine;
pub mod storage;

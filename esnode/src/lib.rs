//! EventStream's node: a replicated event log that speaks the Kafka wire protocol.
//!
//! `consensus` and `stream` are pure: no IO, no clock, no randomness. `storage` and `net` touch the world.
//! `driver` alone joins them.

pub mod args;
pub mod backup;
pub mod config;
pub mod consensus;
mod descriptors;
pub mod driver;
pub mod entry;
#[doc(hidden)]
pub mod fuzz;
pub mod handle;
mod log_file;
pub mod metrics;
pub mod net;
mod nice;
pub mod node;
pub mod panics;
pub mod raft_logger;
pub mod rebuild;
pub mod report;
pub mod retention;
pub mod storage;
pub mod stream;
pub mod verify;
pub mod version;

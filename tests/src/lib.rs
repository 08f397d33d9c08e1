//! The harness that the suites share: built binaries, clusters of real processes, a plain Kafka client.

pub mod client;
pub mod cluster;
pub mod ledger;

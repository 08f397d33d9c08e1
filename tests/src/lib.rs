//! The harness that the suites share: built binaries, clusters of real processes, a plain Kafka client, and a
//! simulator of whole clusters.

pub mod client;
pub mod cluster;
pub mod hostile;
pub mod ledger;
pub mod mutate;
pub mod sim;

//! The harness that the suites share: built binaries, clusters of real processes, a plain Kafka client, faults, the
//! books that are kept meanwhile, and a simulator of whole clusters.

pub mod client;
pub mod cluster;
pub mod history;
pub mod hostile;
pub mod lab;
pub mod ledger;
pub mod mutate;
pub mod operator;
pub mod place;
pub mod power;
pub mod programs;
pub mod proxy;
pub mod pulse;
pub mod ready;
pub mod sim;
pub mod skip;
pub mod sshd;
pub mod strace;
pub mod stranger;
pub mod traffic;
pub mod unbroken;

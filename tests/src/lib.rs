//! The harness that the suites share: the programs under test, clusters of real processes, hosts, a plain
//! Kafka client, load and the check of what it saw, faults, and a simulator of whole clusters.

#![allow(clippy::missing_errors_doc, reason = "an error of the harness fails the test that calls it")]

pub mod cli;
pub mod client;
pub mod cluster;
pub mod hostile;
pub mod http;
pub mod lab;
pub mod load;
pub mod logs;
pub mod mutate;
pub mod programs;
pub mod proxy;
pub mod ready;
pub mod scripted_node;
pub mod sim;
pub mod skip;
pub mod sshd;
pub mod strace;

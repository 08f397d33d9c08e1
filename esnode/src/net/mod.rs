//! The three listeners: peers, Kafka clients, operators.

pub mod admin;
pub mod kafka;
pub mod listen;
pub mod peer;

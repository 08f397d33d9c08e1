//! The three listeners: peers, Kafka clients, operators.

pub mod admin;
pub mod kafka;
pub mod peer;
mod seldom;

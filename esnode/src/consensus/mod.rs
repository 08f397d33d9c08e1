//! Consensus as a pure machine: inputs go in, effects come out.
//!
//! A facade over `raft` (raft-rs) that owns what is easy to get wrong: which messages must wait for the disk,
//! which entries are still only in memory, and how long an election timeout is. It performs no IO, reads no
//! clock and draws no randomness: time comes in as [`Core::tick`], the disk's answer as [`Core::persisted`],
//! chance as a seed. So whole clusters of it run in a seeded simulator.
//!
//! The caller's loop: feed inputs, then take [`Core::effects`] until there are none, and for each one send
//! `send`, hand `persist` to the disk, apply `committed` and report [`Core::applied`].

mod change;
mod convert;
mod core;
mod disk;
mod logger;
mod membership;
mod message;
mod plausible;
mod status;
mod timing;
mod view;

pub use self::change::change;
pub use self::core::{Core, CoreConfig, Dropped, Effects, Persist, Proposed, StartError};
pub use self::disk::InFlight;
pub use self::membership::{LastContact, NoQuorum, Promotion, lag, may_have};
pub use self::message::{ConfChange, ConfChangeType, ConfState, Message, MessageType, SnapshotMetadata};
pub use self::plausible::{Implausible, MAX_NUMBER};
pub use self::status::{Peer, Role, Status};
pub use self::timing::{TICK, Timing};
pub use self::view::{Durable, LogRead, ReadFailed};

//! What is done with a node's data besides serving it: backup, verification, recovery from a permanent loss of quorum.

pub mod backup;
pub mod recovery;
pub mod verify;

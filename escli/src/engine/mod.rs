//! Runs any plan: step by step, journalled, proved, interruptible. Knows plans and ports, never a transport.

pub mod event;
pub mod execute;
pub mod interrupt;
pub mod journal;
pub mod lock;
mod members;
pub mod past;
pub mod ports;
mod soak;
mod step;

pub use execute::{Engine, Run};

//! Runs any plan: step by step, journalled, proved, interruptible. Knows plans and ports, never a transport.

pub mod event;
pub mod ports;

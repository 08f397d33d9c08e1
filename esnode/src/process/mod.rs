//! What a Unix process needs, whatever it is for: arguments, configuration, version, logging, limits,
//! priorities, histograms and the end after a panic.

pub mod abort_on_panic;
pub mod args;
pub mod config;
pub mod histogram;
pub(crate) mod log_file;
pub(crate) mod rate_limited_log;
pub(crate) mod rlimit;
pub(crate) mod thread_priority;
pub mod version;

//! The archive of a support bundle. Everything passes through `redact` on its way in, and a manifest lists what is
//! present and what is missing. Knows nothing of hosts and commands.

pub mod archive;
pub mod redact;

pub use archive::{Archive, Entry};

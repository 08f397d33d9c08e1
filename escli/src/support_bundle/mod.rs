//! The archive that a support bundle is: everything goes through `redact` on its way in, and a manifest says what is there
//! and what is not. Knows nothing of hosts and commands.

pub mod archive;
pub mod redact;

pub use archive::{Archive, Entry};

//! Bringing a node that is far behind up to date: another node's segments and snapshot, from its log into
//! this one's.
//!
//! The node that has them makes an [`Offer`] ([`outgoing`]). They gather in `incoming` on the node that lacks
//! them, one file per segment ([`incoming`]). The writer then takes them over in one step ([`install`]):
//! everything is made ready under its last name and synced, a *commit* file that lists the renames follows,
//! and only then are they done. A crash before the commit file has changed nothing; one after it is made up
//! for by the next start ([`commit::finish`]).

pub(crate) mod commit;
pub(crate) mod incoming;
pub(crate) mod install;
mod outgoing;

pub use incoming::{Incoming, ReceivedPack, ReceivedSegment, Staged};
pub use install::install;
pub use outgoing::{Offer, OfferedPack, OfferedSegment, Outgoing};

/// Where pieces gather in the data directory.
const DIR: &str = "incoming";

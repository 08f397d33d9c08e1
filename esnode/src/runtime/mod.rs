//! The raft thread: the only place where consensus, the state machine, the disk and the network meet.
//!
//! It never waits for the disk or a peer. Whatever takes time is handed to a thread of its own and comes back as
//! an [`Input`].

mod catch_up;
mod changes;
mod checkpoints;
mod clock;
mod formats;
mod founding;
mod give_way;
mod input;
mod introductions;
mod members;
mod membership;
mod peers;
mod proposals;
mod raft_log;
mod reads;
mod refounding;
mod room;
mod run;
mod sequences;
mod timekeeper;
mod transfer;
mod way_back;

pub use catch_up::Pulled;
pub use changes::Changes;
pub use checkpoints::{Image, ImageError};
pub use formats::{FormatError, Unreadable};
pub use founding::{Founding, JoinError, found_or_join};
pub use input::{Claim, Input, Proposal};
pub use membership::{ChangeError, change_of};
pub use refounding::{UnknownChange, carry_on, is_carried_on};
pub use run::{CheckpointParts, Driver, Ended, Parts};
pub use timekeeper::{Now, Timekeeper};
pub use way_back::{Content, Step, WayBack, is_sent_there};

//! The on-disk format that the cluster's data is written in: raised by the leader when it is asked to, adopted by every
//! node.
//!
//! A format is raised by one entry of the log, and only while every member says that it reads it. A node that applies the
//! entry writes the new version into its identity file, through the thread that writes the log, and then announces it. So
//! there are two rules for whatever a later format changes. What a node writes for itself is in the new format only behind
//! that ([`WriteContent::AdoptFormat`]); what it gives to others, once they have announced it too
//! ([`super::hello::Formats::active`]). Until then an older program finds nothing that it cannot read.
//!
//! It is never raised unasked: from then on there is no way back to an older program. A new cluster has no way back to
//! lose, and begins in the newest format that all of its initial members read.

use shared::ids::NodeId;
use shared::version::Range;

use super::effect::{End, WriteContent};
use super::environment::Environment;
use super::hello::Formats;
use super::mistake::{Mistake, makes};
use super::response::FormatError;
use super::{Replica, members};
use crate::process::version::VERSION;
use crate::state_machine::command::Command;

/// Ticks between two attempts to write down what was raised, where there was no room.
const RETRY_TICKS: u64 = 50;

/// The cluster's data is in a format that this program does not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the cluster's data is in on-disk format {active}; this program, esnode {VERSION}, reads format {reads}. Start the \
     version of esnode that the other nodes run"
)]
pub struct UnreadableFormat {
    /// The format of the data.
    pub active: u16,
    /// The formats that this program reads.
    pub reads: Range,
}

/// Whether data in the format `active` can be read by a program that `reads` these formats.
///
/// # Errors
/// [`UnreadableFormat`].
pub(super) fn readable(active: u16, reads: Range) -> Result<(), UnreadableFormat> {
    if reads.contains(active) { Ok(()) } else { Err(UnreadableFormat { active, reads }) }
}

/// The format to raise to: `wanted`, or the newest that all `members` read. Of a member without formats nothing is known.
fn raisable(
    wanted: Option<u16>,
    own: Range,
    members: impl Iterator<Item = (NodeId, Option<Formats>)>,
) -> Result<u16, FormatError> {
    let mut newest = own.max;
    if makes(Mistake::RaiseUnreadFormat) {
        return Ok(wanted.unwrap_or(newest));
    }
    for (node, formats) in members {
        let max = formats.ok_or(FormatError::Away(node))?.reads.max;
        if wanted.is_some_and(|wanted| wanted > max) {
            return Err(FormatError::TooOld { node, max });
        }
        newest = newest.min(max);
    }
    Ok(wanted.unwrap_or(newest))
}

impl<E: Environment> Replica<E> {
    /// The format that this leader may raise the cluster to.
    ///
    /// # Errors
    /// [`FormatError`].
    pub(super) fn raisable_format(&self, wanted: Option<u16>) -> Result<u16, FormatError> {
        if !self.serves() {
            return Err(FormatError::NotLeader(self.core.leader()));
        }
        let there = |id| id == self.config.own.0 || self.registry.is_connected(id);
        let members = self.formats_of_members().map(|(id, formats)| (id, formats.filter(|_| there(id))));
        raisable(wanted, self.config.formats.reads, members)
    }

    /// The command that has a new cluster begin in the newest format that all its members read; every one of them is known.
    pub(super) fn begin_in_newest_format(&self) -> Option<Command> {
        let active = self.state.read().format();
        let to = raisable(None, self.config.formats.reads, self.formats_of_members());
        to.ok().filter(|to| *to > active).map(|to| Command::RaiseFormat { to })
    }

    fn formats_of_members(&self) -> impl Iterator<Item = (NodeId, Option<Formats>)> {
        let own = (self.config.own.0, self.config.formats);
        let formats = move |id| if id == own.0 { Some(own.1) } else { self.registry.formats_of(id) };
        members::ids(&self.core.conf_state()).into_iter().map(move |id| (id, formats(id)))
    }

    /// Tries again to note a raised format in the data directory, where there was no room.
    pub(super) fn retry_adoption(&mut self) {
        if self.tick.is_multiple_of(RETRY_TICKS) {
            self.adopt_format();
        }
    }

    /// Has the data directory say which format the cluster was raised to, before anything is written in it.
    pub(super) fn adopt_format(&mut self) {
        let raised = self.state.read().format();
        let Formats { reads, active } = self.config.formats;
        if raised <= active {
            return;
        }
        match readable(raised, reads) {
            Ok(()) => self.write(WriteContent::AdoptFormat(raised)),
            Err(unreadable) => self.end(End::UnreadableFormat(unreadable)),
        }
    }

    /// The data directory says that it is in this format.
    pub(super) fn format_adopted(&mut self, format: u16) {
        let active = &mut self.config.formats.active;
        *active = format.max(*active);
    }
}

#[cfg(test)]
mod tests {
    use shared::version::Range;

    use super::*;

    fn reads(node: NodeId, max: u16) -> (NodeId, Option<Formats>) {
        (node, Some(Formats { reads: Range { min: 1, max }, active: 1 }))
    }

    #[test]
    fn it_is_raised_to_what_every_member_reads() {
        let newest = 7;
        let own = Range { min: 1, max: newest };
        let to =
            |wanted, members: &[(NodeId, Option<Formats>)]| raisable(wanted, own, members.iter().copied());
        assert_eq!(
            to(None, &[reads(1, newest), reads(2, newest + 1)]),
            Ok(newest),
            "this program reads no more"
        );
        assert_eq!(to(None, &[reads(1, newest), reads(2, newest - 1)]), Ok(newest - 1));
        let old = FormatError::TooOld { node: 2, max: newest - 1 };
        assert_eq!(to(Some(newest), &[reads(1, newest), reads(2, newest - 1)]), Err(old));
        assert_eq!(to(None, &[reads(1, newest), (3, None)]), Err(FormatError::Away(3)));
    }

    #[test]
    fn data_of_a_later_format_is_refused_with_both_versions() {
        let reads = Range { min: 1, max: 7 };
        assert_eq!(readable(7, reads), Ok(()));
        let text = readable(8, reads).unwrap_err().to_string();
        assert!(text.contains("format 8;") && text.contains(VERSION), "{text}");
    }
}

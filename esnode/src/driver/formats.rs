//! The on-disk format that the cluster's data is written in: raised by the leader when it is asked to, adopted by every
//! node.
//!
//! A format is raised by one entry of the log, and only while every member says that it reads it. A node that applies the
//! entry writes the new version into its identity file, through the thread that writes the log, and then announces it. So
//! there are two rules for whatever a later format changes. What a node writes for itself is in the new format only behind
//! that ([`Work::Adopt`]); what it gives to others, once they have announced it too
//! ([`crate::net::peer::Formats::active`]). Until then an older program finds nothing that it cannot read.
//!
//! It is never raised unasked: from then on there is no way back to an older program. A new cluster has no way back to
//! lose, and begins in the newest format that all of its founders read.

use shared::ids::NodeId;
use tokio::sync::oneshot;

use crate::consensus::Role;
use crate::net::peer::Formats;
use crate::process::version::{FORMAT, VERSION};
use crate::state_machine::StateMachine;
use crate::state_machine::command::Command;
use crate::storage::writer::Work;

use super::run::{Driver, Ended};

/// Ticks between two attempts to write down what was raised, where there was no room.
const RETRY_TICKS: u64 = 50;

/// Who waits to hear to which format the cluster may be raised.
pub type FormatReply = oneshot::Sender<Result<u16, FormatError>>;

/// The cluster's data is in a format that this program does not read.
#[derive(Debug, thiserror::Error)]
#[error(
    "the cluster's data is in on-disk format {0}; this program, esnode {VERSION}, reads format {FORMAT}. Start the \
     version of esnode that the other nodes run"
)]
pub struct Unreadable(u16);

/// Why the format cannot be raised now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// Only the leader can; the named node may be it.
    #[error("not the leader")]
    NotLeader(Option<NodeId>),
    /// What it reads is not known.
    #[error("node {0} is not connected to the leader, so it is not known which on-disk formats it reads")]
    Away(NodeId),
    /// It reads older formats only.
    #[error("node {node} reads on-disk formats up to {max}")]
    TooOld {
        /// The member.
        node: NodeId,
        /// The newest format that it reads.
        max: u16,
    },
}

/// Whether this program reads what the members of this cluster write.
pub(super) fn readable(stream: &StateMachine) -> Result<(), Unreadable> {
    let format = stream.format();
    if FORMAT.contains(format) { Ok(()) } else { Err(Unreadable(format)) }
}

/// The format to raise to: `wanted`, or the newest that all `members` read. Of a member without formats nothing is known.
fn raisable(
    wanted: Option<u16>,
    members: impl Iterator<Item = (NodeId, Option<Formats>)>,
) -> Result<u16, FormatError> {
    let mut newest = FORMAT.max;
    for (node, formats) in members {
        let max = formats.ok_or(FormatError::Away(node))?.reads.max;
        if wanted.is_some_and(|wanted| wanted > max) {
            return Err(FormatError::TooOld { node, max });
        }
        newest = newest.min(max);
    }
    Ok(wanted.unwrap_or(newest))
}

impl Driver {
    /// The format that the leader may raise the cluster to.
    pub(super) fn raisable_format(&self, wanted: Option<u16>) -> Result<u16, FormatError> {
        if self.parts.core.role() != Role::Leader || self.serves_from.is_some() {
            return Err(FormatError::NotLeader(self.parts.core.leader()));
        }
        let connected = self.parts.transport.connected();
        raisable(
            wanted,
            self.formats_of_members().map(|(id, formats)| {
                (id, formats.filter(|_| id == self.parts.own.0 || connected.contains(&id)))
            }),
        )
    }

    /// What begins a new cluster: all its founders have met.
    pub(super) fn begin_in_newest_format(&self) -> Option<Command> {
        let active = self.parts.stream.read().format();
        let to = raisable(None, self.formats_of_members()).ok().filter(|to| *to > active)?;
        Some(Command::RaiseFormat { to })
    }

    fn formats_of_members(&self) -> impl Iterator<Item = (NodeId, Option<Formats>)> {
        let conf = self.parts.core.conf_state();
        let ids = [conf.voters, conf.voters_outgoing, conf.learners, conf.learners_next].concat();
        ids.into_iter().map(|id| {
            let own = id == self.parts.own.0;
            (id, if own { Some(self.parts.transport.formats()) } else { self.introductions.formats_of(id) })
        })
    }

    /// Tries again to write down what was raised, where there was no room.
    pub(super) fn retry_adoption(&mut self) {
        if self.tick.is_multiple_of(RETRY_TICKS) {
            self.adopt_format();
        }
    }

    /// Lets the data directory say what was raised, before anything is written in it.
    pub(super) fn adopt_format(&mut self) {
        let stream = self.parts.stream.read();
        let (raised, readable) = (stream.format(), readable(&stream));
        drop(stream);
        if raised <= self.parts.transport.formats().active {
            return;
        }
        match readable {
            Ok(()) => self.write(None, Work::Adopt(raised)),
            Err(unreadable) => self.ended = Some(Ended::Unreadable(unreadable)),
        }
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
        let newest = FORMAT.max;
        let to = |wanted, members: &[(NodeId, Option<Formats>)]| raisable(wanted, members.iter().copied());
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
    fn a_state_of_a_later_format_is_refused_with_both_versions() {
        let mut payload = bytes::BytesMut::new();
        Command::RaiseFormat { to: FORMAT.max + 1 }.encode(&mut payload);
        let mut stream = StateMachine::default();
        assert!(readable(&stream).is_ok());
        stream.apply(1, 1, &payload.freeze());
        let text = readable(&stream).unwrap_err().to_string();
        assert!(text.contains(&format!("format {};", FORMAT.max + 1)) && text.contains(VERSION), "{text}");
    }
}

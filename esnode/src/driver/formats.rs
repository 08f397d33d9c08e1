//! The on-disk format that the cluster's data is written in: raised by the leader, adopted by every node.
//!
//! A format is raised by one entry of the log, once every member has announced for a while that it reads it. A node that
//! applies the entry writes the new version into its identity file, through the thread that writes the log, and then
//! announces it. So there are two rules for whatever a later format changes. What a node writes for itself is in the new
//! format only behind that ([`Work::Adopt`]); what it gives to others, once they have announced it too
//! ([`crate::net::peer::Formats::active`]). Until then an older program finds nothing that it cannot read.

use crate::consensus::Role;
use crate::net::peer::Formats;
use crate::storage::writer::Work;
use crate::stream::Stream;
use crate::stream::command::Command;
use crate::version::{FORMAT, VERSION};

use super::run::{Driver, Ended};

/// Ticks for which every member must read a format before it is raised: an upgrade takes the last node back, if it does
/// not serve, and could not do so afterwards.
const SETTLED_TICKS: u64 = 3000;
/// Ticks between two looks.
const LOOK_TICKS: u64 = 50;

/// The cluster's data is in a format that this program does not read.
#[derive(Debug, thiserror::Error)]
#[error(
    "the cluster's data is in on-disk format {0}; this program, esnode {VERSION}, reads format {FORMAT}. Start the \
     version of esnode that the other nodes run"
)]
pub struct Unreadable(u16);

/// Whether this program reads what the members of this cluster write.
pub(super) fn readable(stream: &Stream) -> Result<(), Unreadable> {
    let format = stream.format();
    if FORMAT.contains(format) { Ok(()) } else { Err(Unreadable(format)) }
}

/// What a leader has seen of the formats that the members read.
#[derive(Default)]
pub(super) struct Raising {
    /// The format that all of them read, and since when.
    settled: Option<(u16, u64)>,
}

impl Raising {
    /// A member came or went, or another one leads.
    pub(super) fn begin_anew(&mut self) {
        self.settled = None;
    }

    /// The format to raise to now, if any; `members` are all of them, `None` is one that is not connected.
    fn due(&mut self, tick: u64, active: u16, members: impl Iterator<Item = Option<Formats>>) -> Option<u16> {
        let mut common = members.map(|formats| formats.map(|formats| formats.reads));
        let all = common.try_fold(FORMAT.max, |newest, reads| reads.map(|reads| reads.max.min(newest)));
        let Some(newest) = all.filter(|newest| *newest > active) else {
            self.settled = None;
            return None;
        };
        let (_, since) = *self.settled.get_or_insert((newest, tick));
        (tick >= since + SETTLED_TICKS).then_some(newest)
    }
}

impl Driver {
    /// A leader raises the format that every member has read for a while; every node writes down what was raised.
    pub(super) fn follow_format(&mut self) {
        if !self.tick.is_multiple_of(LOOK_TICKS) {
            return;
        }
        self.adopt_format();
        if self.parts.core.role() != Role::Leader || self.serves_from.is_some() {
            return self.raising.begin_anew();
        }
        if self.parts.stream.read().clock().latest().is_none() {
            self.tick_log_clock();
        }
        let conf = self.parts.core.conf_state();
        let ids = [conf.voters, conf.voters_outgoing, conf.learners, conf.learners_next].concat();
        let connected = self.parts.transport.connected();
        let (own, active) = (self.parts.own.0, self.parts.stream.read().format());
        let formats = |id| match id == own {
            true => Some(self.parts.transport.formats()),
            false => self.introductions.formats_of(id).filter(|_| connected.contains(&id)),
        };
        if let Some(to) = self.raising.due(self.tick, active, ids.into_iter().map(formats)) {
            tracing::info!(to, "every member reads a newer on-disk format: it is raised");
            self.propose_own(&[Command::RaiseFormat { to }]);
            self.raising.begin_anew();
        }
    }

    /// Lets the data directory say what was raised, before anything is written in it. Tried again where there was no room.
    pub(super) fn adopt_format(&mut self) {
        let stream = self.parts.stream.read();
        let (raised, readable) = (stream.format(), readable(&stream));
        drop(stream);
        if raised <= self.parts.transport.formats().active {
            return;
        }
        match readable {
            Ok(()) => self.write(0, Work::Adopt(raised)),
            Err(unreadable) => self.ended = Some(Ended::Unreadable(unreadable)),
        }
    }
}

#[cfg(test)]
mod tests {
    use shared::version::Range;

    use super::*;

    fn reads(max: u16) -> Option<Formats> {
        Some(Formats { reads: Range { min: 1, max }, active: 1 })
    }

    #[test]
    fn it_is_raised_once_every_member_has_read_it_for_a_while() {
        let newest = FORMAT.max;
        let active = newest - 1;
        let mut raising = Raising::default();
        let mut at = |tick, members: &[Option<Formats>]| raising.due(tick, active, members.iter().copied());
        let all = [reads(newest), reads(newest + 1)];
        assert_eq!(at(0, &all), None);
        assert_eq!(at(SETTLED_TICKS - 1, &all), None);
        assert_eq!(at(SETTLED_TICKS, &all), Some(newest), "no more than this program reads itself");
        // One that is away, or that does not read it, begins the wait anew.
        for one in [None, reads(active)] {
            assert_eq!(at(SETTLED_TICKS + 1, &[reads(newest), one]), None);
            assert_eq!(at(SETTLED_TICKS + 2, &all), None);
            assert_eq!(at(2 * SETTLED_TICKS + 1, &all), None);
            assert_eq!(at(2 * SETTLED_TICKS + 2, &all), Some(newest));
        }
        assert_eq!(raising.due(9 * SETTLED_TICKS, newest, all.into_iter()), None, "it is active already");
    }

    #[test]
    fn a_state_of_a_later_format_is_refused_with_both_versions() {
        let mut payload = bytes::BytesMut::new();
        Command::RaiseFormat { to: FORMAT.max + 1 }.encode(&mut payload);
        let mut stream = Stream::default();
        assert!(readable(&stream).is_ok());
        stream.apply(1, 1, &payload.freeze());
        let text = readable(&stream).unwrap_err().to_string();
        assert!(text.contains(&format!("format {};", FORMAT.max + 1)) && text.contains(VERSION), "{text}");
    }
}

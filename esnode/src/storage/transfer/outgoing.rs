//! What a node that is far behind gets from this one: the newest snapshot and the segment files before it,
//! piece by piece. Segments are append-only, so what is offered stays what it is, even while the log goes on
//! or is deleted.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::storage::log::Log;
use crate::storage::log::segment::Segment;
use crate::storage::log::state::Sealed;
use crate::storage::snapshot::{Snapshot, Snapshots};

/// What there is to get.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// The snapshot's entry: nothing beyond it is offered.
    pub index: u64,
    /// Its term.
    pub term: u64,
    /// Index and term of the entry before the first segment's first.
    pub before: (u64, u64),
    /// Bytes of the snapshot's payload.
    pub payload: u64,
    /// The segments, in order; each continues the one before it.
    pub segments: Vec<OfferedSegment>,
}

/// One segment of an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfferedSegment {
    /// Tells it from every other segment.
    pub generation: u64,
    /// Its bytes.
    pub length: u64,
}

/// An offer and what it is made of.
pub struct Outgoing {
    offer: Offer,
    payload: Bytes,
    segments: Vec<Arc<Segment>>,
}

impl Outgoing {
    /// Gathers what a node lacks whose log holds everything up to entry `have`; `None` if there is no
    /// snapshot beyond that.
    ///
    /// # Errors
    /// The system's; `InvalidData` if the log or the snapshot is damaged.
    pub fn gather(log: &Log, snapshots: &Snapshots, have: u64) -> io::Result<Option<Self>> {
        let Some(Snapshot { index, term, payload, .. }) = snapshots.newest()? else { return Ok(None) };
        if index <= have {
            return Ok(None);
        }
        let Sealed { before, segments: sealed } = log.sealed_between(have + 1, index);
        let (last, end) = log.end_of(index)?;
        let segments = sealed.into_iter().chain([(last, end)]);
        let (segments, pieces) = segments
            .map(|(segment, length)| {
                let generation = segment.header.generation;
                (segment, OfferedSegment { generation, length })
            })
            .unzip();
        let offer = Offer { index, term, before, payload: payload.len() as u64, segments: pieces };
        Ok(Some(Self { offer, payload, segments }))
    }

    /// What there is to get.
    pub fn offer(&self) -> &Offer {
        &self.offer
    }

    /// Bytes of the snapshot's payload (`None`) or of the segment of this generation, as many as there are
    /// from `offset` on, up to `length`; nothing for a segment that is not in the offer.
    ///
    /// # Errors
    /// The system's.
    pub fn read(&self, generation: Option<u64>, offset: u64, length: u64) -> io::Result<Bytes> {
        let Some(generation) = generation else {
            let clip = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(self.payload.len());
            return Ok(self.payload.slice(clip(offset)..clip(offset.saturating_add(length))));
        };
        let offered = self.offer.segments.iter().zip(&self.segments);
        let Some((piece, segment)) = offered.into_iter().find(|(piece, _)| piece.generation == generation)
        else {
            return Ok(Bytes::new());
        };
        let length = length.min(piece.length.saturating_sub(offset));
        segment.read(offset, usize::try_from(length).unwrap_or(usize::MAX))
    }
}

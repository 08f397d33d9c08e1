//! What a node that is far behind gets from this one: the newest snapshot and the segment files before it,
//! piece by piece. Segments are append-only, so what is offered stays what it is, even while the log goes on
//! or is deleted.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::storage::batch_reader::BatchFile;
use crate::storage::log::Log;
use crate::storage::log::packs::Pack;
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
    /// The packs, in order, if the log begins behind what the other node has: they hold what comes before, and whatever that
    /// node has is to be given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packs: Option<Vec<OfferedPack>>,
}

/// One pack of an offer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfferedPack {
    /// The file.
    pub piece: OfferedSegment,
    /// Its name.
    pub name: String,
}

/// One segment of an offer, or the file of a pack.
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
    files: Vec<(OfferedSegment, BatchFile)>,
}

impl Outgoing {
    /// Gathers what a node lacks whose log holds everything up to entry `have`; `None` if there is no
    /// snapshot beyond that.
    ///
    /// # Errors
    /// The system's; `InvalidData` if the log or the snapshot is damaged.
    pub fn gather(log: &Log, snapshots: &Snapshots, have: u64) -> io::Result<Option<Self>> {
        log.packs().unchanged(|packs| Self::gather_with(log, snapshots, have, packs))
    }

    fn gather_with(
        log: &Log,
        snapshots: &Snapshots,
        have: u64,
        packs: &[Arc<Pack>],
    ) -> io::Result<Option<Self>> {
        let Some(Snapshot { index, term, payload, .. }) = snapshots.newest()? else { return Ok(None) };
        if index <= have {
            return Ok(None);
        }
        let Sealed { before, segments: sealed } = log.sealed_between(have + 1, index);
        let segments = sealed.into_iter().chain([log.end_of(index)?]);
        let mut files: Vec<_> = segments
            .map(|(segment, length)| {
                let generation = segment.header.generation;
                (OfferedSegment { generation, length }, BatchFile::Segment(segment))
            })
            .collect();
        let segments = files.iter().map(|(piece, _)| *piece).collect();
        // `Some` also without packs: then nothing of what comes before is kept, whatever the other node has.
        let packs = (before.0 > have).then_some(packs);
        let offered = packs.map(|packs| packs.iter().map(|pack| OfferedPack::of(pack)).collect());
        let packs = packs.into_iter().flatten();
        files.extend(packs.map(|pack| (OfferedPack::of(pack).piece, BatchFile::Pack(Arc::clone(pack)))));
        let offer = Offer { index, term, before, payload: payload.len() as u64, segments, packs: offered };
        Ok(Some(Self { offer, payload, files }))
    }

    /// What there is to get.
    pub fn offer(&self) -> &Offer {
        &self.offer
    }

    /// Bytes of the snapshot's payload (`None`) or of the file of this generation, as many as there are
    /// from `offset` on, up to `length`; nothing for a file that is not in the offer.
    ///
    /// # Errors
    /// The system's.
    pub fn read(&self, generation: Option<u64>, offset: u64, length: u64) -> io::Result<Bytes> {
        let Some(generation) = generation else {
            let clip = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(self.payload.len());
            return Ok(self.payload.slice(clip(offset)..clip(offset.saturating_add(length))));
        };
        let Some((piece, file)) = self.files.iter().find(|(piece, _)| piece.generation == generation) else {
            return Ok(Bytes::new());
        };
        let length = length.min(piece.length.saturating_sub(offset));
        file.read(offset, usize::try_from(length).unwrap_or(usize::MAX))
    }
}

impl OfferedPack {
    fn of(pack: &Pack) -> Self {
        let piece = OfferedSegment { generation: pack.id(), length: pack.length() };
        Self { piece, name: pack.file_name() }
    }
}

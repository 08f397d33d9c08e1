//! How another node's segments become part of this log: what each is called, what follows what, what the
//! index becomes.

use std::fs::File;
use std::io;

use super::commit::{self, Commit};
use super::incoming::{Incoming, Staged};
use crate::entry::HardState;
use crate::storage::log::frame::{self, StateFrame};
use crate::storage::log::header::{Header, SEGMENT_HEADER_LEN};
use crate::storage::log::index::Index;
use crate::storage::log::wal::{FIRST_SEGMENT, Replacement};
use crate::storage::log::{LogStart, Wal};
use crate::storage::snapshot::{self, Snapshots};

/// Names in `incoming` of what is made here.
const TAIL: &str = "tail";
const SNAPSHOT: &str = "checkpoint";

/// Puts what is staged behind the log of `wal`, or in its place if it begins later. Durable and visible on
/// return, with the state. Where both have an entry they have the same one, since both are committed.
///
/// # Errors
/// `InvalidData` if it does not fit this log; the system's. All are final, as those of [`Wal::write`].
pub fn install(
    wal: &mut Wal,
    snapshots: &Snapshots,
    staged: &Staged,
    hard_state: Option<HardState>,
) -> io::Result<()> {
    wal.replace(hard_state, |wal| {
        let (log, last) = (wal.log(), wal.position());
        let start = log.start();
        let plan = log.with_index(|index| Installation::plan(start, index, last, staged))?;
        let dir = log.dir().parent().unwrap_or(log.dir());
        let incoming = Incoming::of(dir);
        let file = wal.with_room(|| plan.stage(&incoming, staged, wal.hard_state(), FIRST_SEGMENT))?;
        let finish = || {
            commit::decide(dir, &plan.commit(staged))?;
            commit::finish(dir).map_err(io::Error::other)
        };
        snapshots.replace((staged.index, plan.start), || match staged.packs {
            Some(_) => log.packs().replace_all(finish),
            None => finish(),
        })?;
        Ok(plan.replacement(staged, file))
    })
}

/// The log as it will be.
pub(crate) struct Installation {
    /// It goes on where this log ends; otherwise this log is given up.
    pub joins: bool,
    pub start: LogStart,
    /// The new segments' headers: they keep generation and frames, and get numbers of this log.
    pub headers: Vec<Header>,
    /// The new last segment's header.
    pub tail: Header,
    pub index: Index,
}

impl Installation {
    /// Plans it for a log that begins at `start`, holds what `index` says, and whose last segment, `last`,
    /// ends at `end`.
    pub fn plan(
        start: LogStart,
        index: &Index,
        (last, end): (Header, u64),
        staged: &Staged,
    ) -> io::Result<Self> {
        let refuse = |reason: &str| Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        let Some(first) = staged.parts.first().map(|part| part.index.first()) else {
            return refuse("there are no segments to install");
        };
        if first != staged.before.0 + 1 {
            return refuse("what comes before the segments to install is not known");
        }
        // An entry of another term there was never committed, and neither was what follows it: what lies
        // before it may lack entries that the others hold.
        let joins = staged.packs.is_none() && index.term(staged.before.0) == Some(staged.before.1);
        let mut whole = if joins { index.clone() } else { index.replaced(staged.before) };
        let (mut sequence, mut previous) = (last.sequence, (last.generation, end));
        let mut headers = Vec::new();
        for part in &staged.parts {
            sequence += 1;
            let header = Header::new(sequence, part.header.first_index, Some(previous));
            headers.push(Header { generation: part.header.generation, ..header });
            previous = (part.header.generation, part.length);
            if !whole.extend(&part.index.renumbered(sequence)) {
                return refuse("the segments to install do not continue this log");
            }
        }
        let start =
            if joins { start } else { LogStart { sequence: last.sequence + 1, before: staged.before } };
        let tail = Header::new(sequence + 1, staged.index + 1, Some(previous));
        Ok(Self { joins, start, headers, tail, index: whole })
    }

    /// Makes every file ready under `incoming`, durable but for its name. Returns the new last segment's.
    pub fn stage(
        &self,
        incoming: &Incoming,
        staged: &Staged,
        hard_state: HardState,
        capacity: u64,
    ) -> io::Result<File> {
        for (part, header) in staged.parts.iter().zip(&self.headers) {
            incoming.put_header(&part.file_name, header)?;
        }
        let bytes = snapshot::encode(staged.index, staged.term, self.start, &staged.payload);
        incoming.put(SNAPSHOT, &bytes)?;
        let start = SEGMENT_HEADER_LEN as u64;
        let state = StateFrame { hard_state, synced_to: start };
        let mut head = self.tail.encode().to_vec();
        head.extend(frame::encode_state(frame::Seed::new(self.tail.generation), start, &state));
        incoming.put_tail(TAIL, capacity, &head)
    }

    /// What the log takes over once the renames are done.
    fn replacement(self, staged: &Staged, last: File) -> Replacement {
        let sealed = self.headers.into_iter().zip(&staged.parts);
        Replacement {
            joins: self.joins,
            sealed: sealed.map(|(header, part)| (header, part.length, part.index.clone())).collect(),
            last: (self.tail, last, FIRST_SEGMENT),
            index: self.index,
            last_entry: (staged.index, staged.term),
        }
    }

    /// Where everything goes.
    pub fn commit(&self, staged: &Staged) -> Commit {
        let segments = staged.parts.iter().zip(&self.headers);
        let segments = segments.map(|(part, header)| (part.file_name.clone(), log_path(header)));
        let snapshot = snapshot::file_name(staged.index);
        let path = format!("{}/{snapshot}", snapshot::DIR);
        let ours = [(TAIL.to_owned(), log_path(&self.tail)), (SNAPSHOT.to_owned(), path)];
        let names = staged.packs.as_ref().map(|packs| packs.iter().map(|pack| pack.name.clone()).collect());
        let packs = staged.packs.iter().flatten();
        let packs = packs.map(|pack| (pack.file_name.clone(), format!("log/{}", pack.name)));
        Commit { renames: segments.chain(packs).chain(ours).collect(), snapshot, packs: names }
    }
}

fn log_path(header: &Header) -> String {
    format!("log/{}", header.file_name())
}

//! How another node's segments become part of this log: what each is called, what follows what, what the index becomes.

use std::fs::File;
use std::io;

use super::checkpoint::{self, Start};
use super::frame::{self, State};
use super::incoming::{Commit, Incoming, Staged};
use super::index::Index;
use super::segment::{Header, SEGMENT_HEADER_LEN};
use crate::entry::HardState;

/// Names in `incoming` of what is made here.
const TAIL: &str = "tail";
const CHECKPOINT: &str = "checkpoint";

/// The log as it will be.
pub(super) struct Installation {
    /// It goes on where this log ends; otherwise this log is given up.
    pub joins: bool,
    pub start: Start,
    /// The new segments' headers: they keep generation and frames, and get numbers of this log.
    pub headers: Vec<Header>,
    /// The new last segment's header.
    pub tail: Header,
    pub index: Index,
}

impl Installation {
    /// Plans it for a log that begins at `start`, holds what `index` says, and whose last segment, `last`, ends at `end`.
    pub fn plan(
        start: Start,
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
        // An entry of another term there was never committed, and neither was what follows it: what lies before it may lack
        // entries that the others hold.
        let joins = index.term(staged.before.0) == Some(staged.before.1);
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
        let start = if joins { start } else { Start { sequence: last.sequence + 1, before: staged.before } };
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
        let bytes = checkpoint::encode(staged.index, staged.term, self.start, &staged.payload);
        incoming.put(CHECKPOINT, &bytes)?;
        let start = SEGMENT_HEADER_LEN as u64;
        let state = State { hard_state, synced_to: start };
        let mut head = self.tail.encode().to_vec();
        head.extend(frame::encode_state(frame::Seed::new(self.tail.generation), start, &state));
        incoming.put_tail(TAIL, capacity, &head)
    }

    /// Where everything goes.
    pub fn commit(&self, staged: &Staged) -> Commit {
        let segments = staged.parts.iter().zip(&self.headers);
        let segments = segments.map(|(part, header)| (part.file_name.clone(), log_path(header)));
        let checkpoint = checkpoint::file_name(staged.index);
        let path = format!("{}/{checkpoint}", checkpoint::DIR);
        let ours = [(TAIL.to_owned(), log_path(&self.tail)), (CHECKPOINT.to_owned(), path)];
        Commit { renames: segments.chain(ours).collect(), checkpoint }
    }
}

fn log_path(header: &Header) -> String {
    format!("log/{}", header.file_name())
}

//! The journal of an operation: each step is recorded on disk before it is performed. It serves audits and `history
//! resume`. What counts in the end is what is observed: a step that was started and has no end may have run.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::outcome::Outcome;
use crate::plan::Plan;
use crate::plan::member_set::MemberSet;
use crate::plan::request::Request;

/// One line of a journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case")]
pub enum Record {
    /// The first line.
    Began {
        /// The operation's id, which is also the file's name; sorts by time.
        operation_id: String,
        /// User and machine, e.g. `ada@host`.
        who: String,
        /// Version of escli.
        escli: String,
        /// When the operation began.
        at: Timestamp,
        /// The plan that will be run.
        plan: Plan,
        /// What is needed to plan it again; `None` in journals of older versions.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        origin: Option<Box<Origin>>,
    },
    /// A step is about to run.
    Started {
        /// The step's id.
        step: String,
        /// When it was started.
        at: Timestamp,
    },
    /// A step was already done.
    Skipped {
        /// The step's id.
        step: String,
        /// When it was found to be done.
        at: Timestamp,
    },
    /// A step was performed and verified.
    Succeeded {
        /// The step's id.
        step: String,
        /// When it was verified.
        at: Timestamp,
        /// What was found, e.g. `pid 4711`.
        note: String,
    },
    /// A step was performed and failed.
    Failed {
        /// The step's id.
        step: String,
        /// When it failed.
        at: Timestamp,
        /// What went wrong.
        error: String,
    },
    /// The last line.
    Ended {
        /// The operation's outcome.
        outcome: Outcome,
        /// When the operation ended.
        at: Timestamp,
    },
    /// Another operation has resumed this one.
    Resumed {
        /// The id of that operation.
        by: String,
        /// When that operation began.
        at: Timestamp,
    },
    /// An operator has declared the operation finished.
    Aborted {
        /// User and machine, e.g. `ada@host`.
        who: String,
        /// When the operator did so.
        at: Timestamp,
    },
}

/// What an operation was asked to do, and on which cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Path of the cluster.yaml.
    pub file: PathBuf,
    /// The text of the cluster.yaml, if the operation was to write it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The request to the planner.
    pub request: Request,
    /// The members when the operation began.
    pub membership: MemberSet,
}

/// An operation's journal, open for writing.
#[derive(Debug)]
pub struct Journal {
    file: File,
    path: PathBuf,
}

/// Returns the id of a new operation. Ids sort by time, and contain the operation's name.
pub fn operation_id(operation: &str, now: Timestamp) -> String {
    format!("{}-{operation}-{}", now.strftime("%Y%m%dT%H%M%S.%3fZ"), std::process::id())
}

impl Journal {
    /// Creates the journal `<dir>/<operation_id>.jsonl`.
    ///
    /// # Errors
    /// Those of the file system; the operation must then not run.
    pub fn begin(
        dir: &Path,
        operation_id: &str,
        who: &str,
        plan: &Plan,
        origin: Option<Origin>,
    ) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let path = dir.join(format!("{operation_id}.jsonl"));
        // It contains what the operator typed and a cluster.yaml, which only the operator may read.
        let file = OpenOptions::new().create_new(true).append(true).mode(0o600).open(&path)?;
        File::open(dir)?.sync_all()?;
        let journal = Self { file, path };
        journal.append(&Record::Began {
            operation_id: operation_id.to_owned(),
            who: who.to_owned(),
            escli: env!("CARGO_PKG_VERSION").to_owned(),
            at: Timestamp::now(),
            plan: plan.clone(),
            origin: origin.map(Box::new),
        })?;
        Ok(journal)
    }

    /// Opens an existing journal, to record what happened to its operation after it had stopped.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn reopen(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).append(true).open(path)?;
        // An incomplete last line, left by a crash, is removed.
        let whole = fs::read(path)?.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        file.set_len(u64::try_from(whole).map_err(io::Error::other)?)?;
        Ok(Self { file, path: path.to_owned() })
    }

    /// Appends one line and syncs it.
    ///
    /// # Errors
    /// Those of the file system; what the line announces must then not be done.
    pub fn append(&self, record: &Record) -> io::Result<()> {
        let mut line = serde_json::to_vec(record).map_err(io::Error::other)?;
        line.push(b'\n');
        (&self.file).write_all(&line)?;
        self.file.sync_data()
    }

    /// Returns the journal's path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Reads a journal. An incomplete last line, left by a crash, is ignored.
///
/// # Errors
/// Those of the file system; `InvalidData` if any other line is invalid.
pub fn read(path: &Path) -> io::Result<Vec<Record>> {
    let text = fs::read_to_string(path)?;
    let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
    let broken = |number: usize, error: serde_json::Error| {
        let text = format!("{}:{}: {error}", path.display(), number + 1);
        io::Error::new(io::ErrorKind::InvalidData, text)
    };
    let parse =
        |(number, line): (usize, &str)| serde_json::from_str(line).map_err(|error| broken(number, error));
    whole.lines().enumerate().map(parse).collect()
}

/// Returns the ids of the steps that were started and have no end: they may have run.
pub fn unfinished(records: &[Record]) -> Vec<&str> {
    let mut open = Vec::new();
    for record in records {
        match record {
            Record::Started { step, .. } => open.push(step.as_str()),
            Record::Succeeded { step, .. } | Record::Failed { step, .. } => {
                open.retain(|id| *id != step.as_str());
            }
            Record::Began { .. }
            | Record::Skipped { .. }
            | Record::Ended { .. }
            | Record::Resumed { .. }
            | Record::Aborted { .. } => {}
        }
    }
    open
}

#[cfg(test)]
mod tests {
    use shared::api::Membership;

    use super::*;
    use crate::plan::rolling::RollOptions;

    fn started(step: &str) -> Record {
        Record::Started { step: step.to_owned(), at: Timestamp::UNIX_EPOCH }
    }

    fn succeeded(step: &str) -> Record {
        Record::Succeeded { step: step.to_owned(), at: Timestamp::UNIX_EPOCH, note: String::new() }
    }

    fn written() -> (tempfile::TempDir, PathBuf) {
        let temp = tempfile::tempdir().unwrap();
        let journal =
            Journal::begin(&temp.path().join("local"), "op", "ada@host", &Plan::new("up", "local"), None)
                .unwrap();
        for record in [started("n1.start"), succeeded("n1.start"), started("n2.start")] {
            journal.append(&record).unwrap();
        }
        let path = journal.path().to_owned();
        (temp, path)
    }

    #[test]
    fn what_began_and_did_not_end_may_have_run() {
        let (_temp, path) = written();
        let records = read(&path).unwrap();
        assert!(matches!(&records[0], Record::Began { who, .. } if who == "ada@host"));
        assert_eq!(unfinished(&records), ["n2.start"]);
    }

    #[test]
    fn what_was_asked_for_comes_back_as_it_was() {
        let temp = tempfile::tempdir().unwrap();
        let options = RollOptions {
            nodes: vec![1],
            before: [(1, Some("2026-01-31T10:15:30Z".to_owned())), (2, None)].into(),
            ..RollOptions::default()
        };
        let membership = MemberSet { cluster: None, members: [(1, Membership::Voter)].into() };
        let request = Request::Restart(options);
        let origin = Origin { file: "/d/cluster.yaml".into(), text: None, request, membership };
        let plan = Plan::new("restart", "local");
        let journal = Journal::begin(temp.path(), "op", "ada@host", &plan, Some(origin.clone())).unwrap();
        let records = read(journal.path()).unwrap();
        assert!(matches!(&records[0], Record::Began { origin: Some(read), .. } if **read == origin));
    }

    #[test]
    fn a_journal_that_was_cut_off_is_gone_on_with_on_a_line_of_its_own() {
        let (_temp, path) = written();
        let cut = fs::read_to_string(&path).unwrap() + "{\"record\":\"st";
        fs::write(&path, cut).unwrap();
        Journal::reopen(&path).unwrap().append(&succeeded("n2.start")).unwrap();
        assert!(unfinished(&read(&path).unwrap()).is_empty());
    }

    #[test]
    fn a_line_cut_off_at_any_byte_is_as_if_not_written() {
        let (_temp, path) = written();
        let bytes = fs::read(&path).unwrap();
        let before_last = bytes[..bytes.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
        for length in before_last..bytes.len() {
            fs::write(&path, &bytes[..length]).unwrap();
            let records = read(&path).unwrap();
            assert_eq!(records.len(), 3, "cut at {length}");
            assert!(unfinished(&records).is_empty(), "cut at {length}");
        }
    }

    #[test]
    fn a_broken_line_in_the_middle_is_an_error_with_its_number() {
        let (_temp, path) = written();
        let text = fs::read_to_string(&path).unwrap().replacen("\"started\"", "\"star", 1);
        fs::write(&path, text).unwrap();
        let error = read(&path).unwrap_err();
        assert!(error.to_string().contains("op.jsonl:2: "), "{error}");
    }

    #[test]
    fn ids_sort_by_time() {
        let at = |text: &str| operation_id("up", text.parse().unwrap());
        assert!(at("2026-01-31T10:15:30.123Z").starts_with("20260131T101530.123Z-up-"));
        assert!(at("2026-01-31T10:15:30.123Z") < at("2026-01-31T10:15:30.124Z"));
    }
}

//! Past operations, read from their journals: how each ended, and what is needed to resume one that did not.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::Serialize;

use super::journal::{self, Origin, Record};
use super::lock;
use crate::engine::outcome::{Outcome, StepOutcome};
use crate::plan::Plan;

/// One operation, past or still running.
#[derive(Clone, Debug)]
pub struct PastOperation {
    /// Path of its journal.
    pub path: PathBuf,
    /// The operation's id.
    pub id: String,
    /// User and machine, e.g. `ada@host`.
    pub who: String,
    /// Version of escli.
    pub escli: String,
    /// When it began.
    pub at: Timestamp,
    /// Its plan.
    pub plan: Plan,
    /// What it was asked to do; `None` in journals of older versions.
    pub origin: Option<Origin>,
    /// Whether and how it ended.
    pub end: OperationState,
    /// All records of its journal after the first one.
    pub records: Vec<Record>,
}

/// Whether and how an operation ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum OperationState {
    /// It ended by itself.
    Ended {
        /// Its outcome.
        outcome: Outcome,
    },
    /// It is running now.
    Running,
    /// Its journal has no end, and no process runs it.
    Unfinished,
    /// Another operation has resumed it.
    Resumed {
        /// The id of that operation.
        by: String,
    },
    /// An operator has declared it finished.
    Aborted,
}

/// One step of a past operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PastStep {
    /// The step's id.
    pub id: String,
    /// How it ended; `None` if it was started and has no end, so that it may have run.
    pub outcome: Option<StepOutcome>,
    /// What was found, or what went wrong.
    pub note: String,
    /// When the last record about it was written; `None` if there is none.
    pub at: Option<Timestamp>,
}

impl OperationState {
    /// Returns whether something may be left to do.
    pub fn is_open(&self) -> bool {
        match self {
            Self::Unfinished => true,
            Self::Ended { outcome } => !matches!(outcome, Outcome::Succeeded | Outcome::Planned),
            Self::Running | Self::Resumed { .. } | Self::Aborted => false,
        }
    }

    /// Returns the state in words, with the id of the operation that has resumed this one.
    pub fn word(&self) -> String {
        match self {
            Self::Ended { outcome } => outcome.word().to_owned(),
            Self::Running => "running".to_owned(),
            Self::Unfinished => "unfinished".to_owned(),
            Self::Resumed { by } => format!("resumed by {by}"),
            Self::Aborted => "aborted".to_owned(),
        }
    }
}

impl PastOperation {
    /// Reads one journal; returns `None` if its first line is incomplete.
    ///
    /// # Errors
    /// Those of [`journal::read`].
    pub fn read(path: &Path) -> io::Result<Option<Self>> {
        let mut records = journal::read(path)?.into_iter();
        let Some(Record::Began { operation_id, who, escli, at, plan, origin }) = records.next() else {
            return Ok(None);
        };
        let records: Vec<Record> = records.collect();
        let end = end(&records, || runs(path, &operation_id));
        let origin = origin.map(|origin| *origin);
        Ok(Some(Self { path: path.to_owned(), id: operation_id, who, escli, at, plan, origin, end, records }))
    }

    /// Returns every step of the plan, with how it ended.
    pub fn steps(&self) -> Vec<PastStep> {
        self.plan.steps().map(|step| self.step(&step.id)).collect()
    }

    fn step(&self, id: &str) -> PastStep {
        let mut found =
            PastStep { id: id.to_owned(), outcome: Some(StepOutcome::NotRun), note: String::new(), at: None };
        for record in &self.records {
            let (outcome, note, when) = match record {
                Record::Started { step, at } if step == id => (None, "", at),
                Record::Skipped { step, at } if step == id => (Some(StepOutcome::Skipped), "", at),
                Record::Succeeded { step, at, note } if step == id => {
                    (Some(StepOutcome::Succeeded), note.as_str(), at)
                }
                Record::Failed { step, at, error } if step == id => {
                    (Some(StepOutcome::Failed), error.as_str(), at)
                }
                _ => continue,
            };
            (found.outcome, found.note, found.at) = (outcome, note.to_owned(), Some(*when));
        }
        found
    }
}

/// Returns the state according to the last record. If it is not an end, the lock tells whether the operation runs.
fn end(records: &[Record], runs: impl FnOnce() -> bool) -> OperationState {
    let last = records.iter().rev().find_map(|record| match record {
        Record::Ended { outcome, .. } => Some(OperationState::Ended { outcome: *outcome }),
        Record::Resumed { by, .. } => Some(OperationState::Resumed { by: by.clone() }),
        Record::Aborted { .. } => Some(OperationState::Aborted),
        _ => None,
    });
    last.unwrap_or_else(|| if runs() { OperationState::Running } else { OperationState::Unfinished })
}

/// Returns whether the operation runs: the lock beside the journal is held by the process whose id is at the end of the
/// operation's id.
fn runs(path: &Path, id: &str) -> bool {
    let pid = id.rsplit('-').next().and_then(|pid| pid.parse().ok());
    let Some(entries) = path.parent().and_then(|folder| fs::read_dir(folder).ok()) else { return false };
    let locks = entries.flatten().map(|entry| entry.path());
    let mut locks = locks.filter(|path| path.extension().is_some_and(|extension| extension == "lock"));
    locks.any(|path| lock::holder(&path).is_some_and(|holder| Some(holder.pid) == pid))
}

/// Returns all operations in the state directory, oldest first, and messages about journals that cannot be read.
///
/// # Errors
/// If the directory cannot be read. One that does not exist counts as empty.
pub fn all(state: &Path) -> io::Result<(Vec<PastOperation>, Vec<String>)> {
    let (mut found, mut broken) = (Vec::new(), Vec::new());
    let folders = match fs::read_dir(state) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((found, broken)),
        folders => folders?,
    };
    for folder in folders.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()) {
        for path in fs::read_dir(&folder)?.flatten().map(|entry| entry.path()) {
            if path.extension().is_none_or(|extension| extension != "jsonl") {
                continue;
            }
            match PastOperation::read(&path) {
                Ok(past) => found.extend(past),
                Err(error) => broken.push(error.to_string()),
            }
        }
    }
    found.sort_by(|before, after| before.id.cmp(&after.id));
    broken.sort();
    Ok((found, broken))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::journal::Journal;
    use crate::engine::lock::{Holder, Lock};
    use crate::plan::{Action, Step};

    fn begun(folder: &Path, id: &str) -> Journal {
        let mut plan = Plan::new("stop", "local");
        for node in 1..=3 {
            plan.stage("stop", vec![Step::on(node, Action::StopNode { force: false }, "test")]);
        }
        Journal::begin(&folder.join("local"), id, "ada@host", &plan, None).unwrap()
    }

    fn now() -> Timestamp {
        Timestamp::UNIX_EPOCH
    }

    #[test]
    fn an_operation_without_an_end_runs_while_its_process_holds_the_lock() {
        let temp = tempfile::tempdir().unwrap();
        begun(temp.path(), "2026-stop-4711");
        let only = || all(temp.path()).unwrap().0.remove(0);
        assert_eq!(only().end, OperationState::Unfinished);
        let holder = |pid| Holder { who: "ada".into(), operation: "stop".into(), since: String::new(), pid };
        let path = temp.path().join("local").join("x.lock");
        let lock = Lock::take(&path, &holder(4711)).unwrap();
        assert_eq!(only().end, OperationState::Running);
        drop(lock);
        assert_eq!(only().end, OperationState::Unfinished);
        let _other = Lock::take(&path, &holder(4712)).unwrap();
        assert_eq!(only().end, OperationState::Unfinished, "another operation holds it");
    }

    #[test]
    fn the_last_word_counts_and_every_step_has_its_own() {
        let temp = tempfile::tempdir().unwrap();
        let journal = begun(temp.path(), "2026-stop-1");
        let step = |id: &str| id.to_owned();
        let write = |record| journal.append(&record).unwrap();
        write(Record::Skipped { step: step("n1.stop"), at: now() });
        write(Record::Started { step: step("n2.stop"), at: now() });
        let past = PastOperation::read(journal.path()).unwrap().unwrap();
        let outcomes: Vec<_> = past.steps().into_iter().map(|step| step.outcome).collect();
        assert_eq!(outcomes, [Some(StepOutcome::Skipped), None, Some(StepOutcome::NotRun)]);
        let ends = [
            (Record::Ended { outcome: Outcome::Partial, at: now() }, true, "partial"),
            (Record::Aborted { who: "bob".into(), at: now() }, false, "aborted"),
            (Record::Resumed { by: "2027-stop-2".into(), at: now() }, false, "resumed by 2027-stop-2"),
            (Record::Ended { outcome: Outcome::Succeeded, at: now() }, false, "succeeded"),
        ];
        for (record, open, word) in ends {
            write(record);
            let end = PastOperation::read(journal.path()).unwrap().unwrap().end;
            assert_eq!((end.is_open(), end.word().as_str()), (open, word));
        }
    }

    #[test]
    fn what_cannot_be_read_is_named_and_hides_nothing_else() {
        let temp = tempfile::tempdir().unwrap();
        begun(temp.path(), "2026-stop-1");
        fs::write(temp.path().join("local/2025-x-1.jsonl"), "{}\n{}\n").unwrap();
        fs::write(temp.path().join("local/2027-x-1.jsonl"), "cut off").unwrap();
        let (found, broken) = all(temp.path()).unwrap();
        assert_eq!((found.len(), broken.len()), (1, 1));
        assert!(broken[0].contains("2025-x-1.jsonl:1"), "{broken:?}");
        assert_eq!(all(&temp.path().join("none")).unwrap().0.len(), 0);
    }

    #[test]
    fn a_journal_of_an_older_version_is_read() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("old.jsonl");
        let line = r#"{"record":"began","operation_id":"2025-up-1","who":"a","escli":"0.1.0","at":"2025-01-01T00:00:00Z","plan":{"operation":"up","cluster":"local","stages":[]}}"#;
        fs::write(&path, format!("{line}\n")).unwrap();
        assert_eq!(PastOperation::read(&path).unwrap().unwrap().origin, None);
    }
}

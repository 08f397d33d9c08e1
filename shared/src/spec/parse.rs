//! From text to a checked [`ClusterFile`], or to everything that is wrong with it.

use std::fmt;

use serde_saphyr::Error;

use super::tree::{Place, Tree};
use super::{ClusterFile, schema, validate};

/// Something wrong at one place of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Line, from 1; 0 when the place is unknown.
    pub line: u64,
    /// Column, from 1.
    pub column: u64,
    /// What was found and what was expected.
    pub message: String,
}

/// Everything wrong with one file, in the order of the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecErrors {
    /// The file's name.
    pub file: String,
    /// At least one.
    pub problems: Vec<Problem>,
}

impl std::error::Error for SpecErrors {}

impl fmt::Display for SpecErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, Problem { line, column, message }) in self.problems.iter().enumerate() {
            let separator = if number == 0 { "" } else { "\n" };
            write!(f, "{separator}{}:{line}:{column}: {message}", self.file)?;
        }
        Ok(())
    }
}

/// Reads a cluster.yaml; `file` is only named in errors.
///
/// # Errors
/// The problem of a text that is no YAML; else every unknown key, missing key and value of a wrong kind; else every
/// value that makes no sense.
pub fn parse(file: &str, text: &str) -> Result<ClusterFile, SpecErrors> {
    read(text).map_err(|mut problems| {
        problems.sort_by_key(|problem| (problem.line, problem.column));
        SpecErrors { file: file.to_owned(), problems }
    })
}

fn read(text: &str) -> Result<ClusterFile, Vec<Problem>> {
    let unreadable = |error| vec![unreadable(&error)];
    let tree: Tree = serde_saphyr::from_str(text).map_err(unreadable)?;
    let problems = schema::problems(&tree);
    if !problems.is_empty() {
        return Err(problems);
    }
    let file = serde_saphyr::from_str(text).map_err(unreadable)?;
    let problems = validate::problems(&file, &tree);
    if problems.is_empty() { Ok(file) } else { Err(problems) }
}

/// The reader's own problem, without its excerpt of the text and its advice to programmers.
fn unreadable(error: &Error) -> Problem {
    let error = error.without_snippet();
    let Place { line, column } = error.location().map(Place::from).unwrap_or_default();
    let message = match error {
        Error::DuplicateMappingKey { key: Some(key), .. } => {
            format!("key \"{key}\" is here twice in one section")
        }
        Error::MultipleDocuments { .. } => "a second document begins here; expected one".to_owned(),
        Error::Message { msg, .. } => msg.clone(),
        other => {
            let text = other.to_string();
            text.rsplit_once(" at line ").map_or(text.clone(), |(message, _)| message.to_owned())
        }
    };
    Problem { line, column, message }
}

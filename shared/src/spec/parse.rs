//! Parses a cluster.yaml into a [`ClusterFile`] that was fully checked, or into the list of everything that is wrong
//! with it.

use std::fmt;

use serde::de::DeserializeOwned;
use serde_json::{Value as Json, json};
use serde_saphyr::Error;
use serde_saphyr::budget::BudgetBreach;
use serde_saphyr::options::DuplicateKeyPolicy;

use super::tree::{Place, Tree};
use super::{ClusterFile, schema, validate};

/// Largest number of values in one file, counted after aliases are expanded; far more than a cluster needs.
const MAX_VALUES: usize = 20_000;

/// The program that reads a file; they check different things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// A node, which reads its own file on its own machine.
    Node,
    /// escli, which writes names and paths of the file into scripts and units for hosts.
    Operator,
}

/// A problem at one position of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Line number, from 1; 0 if the position is unknown.
    pub line: u64,
    /// Column number, from 1.
    pub column: u64,
    /// What was found, and what was expected.
    pub message: String,
}

/// All problems of one file, in the order of their positions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecErrors {
    /// Name of the file.
    pub file: String,
    /// The problems; at least one.
    pub problems: Vec<Problem>,
}

impl std::error::Error for SpecErrors {}

impl SpecErrors {
    /// Returns one line of text for each problem: file, line, column, message.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.problems.iter().map(|Problem { line, column, message }| match line {
            0 => format!("{}: {message}", self.file),
            _ => format!("{}:{line}:{column}: {message}", self.file),
        })
    }
}

impl fmt::Display for SpecErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines().collect::<Vec<_>>().join("\n"))
    }
}

/// Parses the cluster.yaml `text` as a node does. `file` is only used in errors.
///
/// # Errors
/// The syntax error, if `text` is not YAML; otherwise all problems: unknown keys, missing keys, values of a wrong type,
/// and invalid values.
pub fn parse(file: &str, text: &str) -> Result<ClusterFile, SpecErrors> {
    parse_as(Reader::Node, file, text)
}

/// Parses the cluster.yaml `text`, with the checks for `reader`. `file` is only used in errors.
///
/// # Errors
/// As [`parse`].
pub fn parse_as(reader: Reader, file: &str, text: &str) -> Result<ClusterFile, SpecErrors> {
    read(text, reader).map_err(|mut problems| {
        problems.sort_by_key(|problem| (problem.line, problem.column));
        SpecErrors { file: file.to_owned(), problems }
    })
}

fn read(text: &str, reader: Reader) -> Result<ClusterFile, Vec<Problem>> {
    let tree: Tree = yaml(text)?;
    let (sound, mut problems) = schema::check(&tree);
    let file = if problems.is_empty() {
        Some(yaml(text)?)
    } else {
        // The parts without problems are validated too, so that all problems are reported at once.
        sound.json("", &mut stand_ins()).and_then(|json| serde_json::from_value(json).ok())
    };
    if let Some(file) = &file {
        problems.extend(validate::problems(file, &sound, reader));
    }
    match file {
        Some(file) if problems.is_empty() => Ok(file),
        _ => Err(problems),
    }
}

/// Returns a function that replaces required values that are unknown. It never returns the same value twice, so that no
/// check finds duplicates.
fn stand_ins() -> impl FnMut(&str) -> Option<Json> {
    let mut last = u64::MAX;
    move |key| {
        last -= 1;
        let (id, host) = (json!(last), json!(format!("unknown-{last}.invalid")));
        match key {
            "id" => Some(id),
            "host" => Some(host),
            "nodes" => Some(json!([])),
            "cluster" => Some(json!({ "nodes": [] })),
            // The list of nodes is the only list, so this is a node.
            "" => Some(json!({ "id": id, "host": host })),
            _ => None,
        }
    }
}

fn yaml<T: DeserializeOwned>(text: &str) -> Result<T, Vec<Problem>> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_nodes: MAX_VALUES, max_events: 4 * MAX_VALUES },
        // Duplicate keys are passed on, because `schema` reports them; numbers are passed on as they are written.
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        leading_zero_numbers_as_strings: true,
        // A tag asks for something that is not done here, and without it the value would mean something else.
        reject_unsupported_tags: true,
        reject_tagged_field_names: true,
    };
    serde_saphyr::from_str_with_options(text, options)
        .map_err(|error| vec![at_its_tag(unreadable(&error), &error, text)])
}

/// Moves the position of `problem` to its tag. A tag stands before its value, which may begin on the next line, and the
/// YAML reader reports the position of the value.
fn at_its_tag(problem: Problem, error: &Error, text: &str) -> Problem {
    let (Error::UnsupportedTag { tag, .. } | Error::TaggedStructFieldName { tag, .. }) =
        error.without_snippet()
    else {
        return problem;
    };
    let lines = (1..).zip(text.lines()).take_while(|(line, _)| *line <= problem.line);
    let places =
        lines.filter_map(|(line, text)| Some((line, text[..text.find(tag.as_str())?].chars().count())));
    let last = places.last().and_then(|(line, before)| Some((line, u64::try_from(before + 1).ok()?)));
    last.map_or(problem.clone(), |(line, column)| Problem { line, column, ..problem })
}

/// Turns an error of the YAML reader into a problem, without its excerpt of the text and its advice for programmers.
fn unreadable(error: &Error) -> Problem {
    let error = error.without_snippet();
    let Place { line, column } = error.location().map(Place::from).unwrap_or_default();
    Problem { line, column, message: message(error) }
}

fn message(error: &Error) -> String {
    match error {
        Error::UnsupportedTag { tag, .. } | Error::TaggedStructFieldName { tag, .. } => {
            format!("the tag {tag} is not supported; expected the value itself")
        }
        Error::Budget { breach: BudgetBreach::Depth { .. }, .. } => too_deep(),
        Error::AliasReplayCounterOverflow { .. }
        | Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. }
        | Error::Budget { .. } => too_much(),
        Error::AliasError { error, .. } => message(error),
        // The scanner has a limit of its own on nesting, and no error variant for it.
        other if other.to_string().contains("recursion limit exceeded") => too_deep(),
        Error::MultipleDocuments { .. } => "a second document starts here; expected one".to_owned(),
        Error::Message { msg, .. } => msg.clone(),
        other => {
            let text = other.to_string();
            text.rsplit_once(" at line ").map_or(text.clone(), |(message, _)| message.to_owned())
        }
    }
}

fn too_deep() -> String {
    "the nesting is too deep from here on".to_owned()
}

fn too_much() -> String {
    format!("more than {MAX_VALUES} values up to here, with aliases (*) expanded; expected a cluster.yaml")
}

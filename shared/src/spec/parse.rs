//! From text to a checked [`ClusterFile`], or to everything that is wrong with it.

use std::fmt;

use serde::de::DeserializeOwned;
use serde_json::{Value as Json, json};
use serde_saphyr::Error;
use serde_saphyr::budget::BudgetBreach;
use serde_saphyr::options::DuplicateKeyPolicy;

use super::tree::{Place, Tree};
use super::{ClusterFile, schema, validate};

/// Most values of one file, far more than a cluster needs; aliases are followed.
const MAX_VALUES: usize = 20_000;

/// Who reads a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// A node: its own file, on its own machine.
    Node,
    /// The operator's tool: names and paths go into scripts and units on hosts.
    Operator,
}

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

impl SpecErrors {
    /// One line for each: file, line, column, what is wrong.
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

/// Reads a cluster.yaml as a node does; `file` is only named in errors.
///
/// # Errors
/// The problem of a text that is no YAML; else everything that is wrong: unknown keys, missing keys, values of a wrong kind,
/// and values that make no sense.
pub fn parse(file: &str, text: &str) -> Result<ClusterFile, SpecErrors> {
    parse_as(Reader::Node, file, text)
}

/// The same, as `reader` does.
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
        // The rest of it, to say all at once.
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

/// What stands for values that must be there and are unknown: no two are alike.
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
            // An item of the list of nodes, the only list.
            "" => Some(json!({ "id": id, "host": host })),
            _ => None,
        }
    }
}

fn yaml<T: DeserializeOwned>(text: &str) -> Result<T, Vec<Problem>> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_nodes: MAX_VALUES, max_events: 4 * MAX_VALUES },
        // Both of a pair of keys, and numbers as they are written, for whoever validates them.
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        leading_zero_numbers_as_strings: true,
        // What they ask for is not done, and the value without them means something else.
        reject_unsupported_tags: true,
        reject_tagged_field_names: true,
    };
    serde_saphyr::from_str_with_options(text, options)
        .map_err(|error| vec![at_its_tag(unreadable(&error), &error, text)])
}

/// A tag stands before its value, which may begin on the next line; the reader only knows where that is.
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

/// The reader's own problem, without its excerpt of the text and its advice to programmers.
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
        // The scanner's own limit has no variant of its own.
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

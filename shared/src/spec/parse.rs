//! From text to a checked [`ClusterFile`], or to everything that is wrong with it.

use std::fmt;

use serde_saphyr::Location;

use super::{ClusterFile, located, validate};

/// Similarity (Jaro-Winkler, 0 to 1) from which a known key is offered for an unknown one.
const SIMILAR: f64 = 0.7;

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

/// Reads a cluster.yaml. Schema problems are reported one at a time, as the reader meets them; problems of sense all
/// at once.
pub fn parse(file: &str, text: &str) -> Result<ClusterFile, SpecErrors> {
    let errors = |problems| SpecErrors { file: file.to_owned(), problems };
    let parsed: ClusterFile =
        serde_saphyr::from_str(text).map_err(|error| errors(vec![schema_problem(&error)]))?;
    let located: located::File =
        serde_saphyr::from_str(text).map_err(|error| errors(vec![schema_problem(&error)]))?;
    let problems = validate::problems(&parsed, &located);
    if problems.is_empty() { Ok(parsed) } else { Err(errors(problems)) }
}

pub(super) fn problem(at: Location, message: String) -> Problem {
    Problem { line: at.line(), column: at.column(), message }
}

fn schema_problem(error: &serde_saphyr::Error) -> Problem {
    let text = error.to_string();
    let message = message_of(&text);
    let message = unknown_key(message).unwrap_or_else(|| message.to_owned());
    let (line, column) = error.location().map_or((0, 0), |at| (at.line(), at.column()));
    Problem { line, column, message }
}

/// The reader's message without its position and the excerpt of the text.
fn message_of(text: &str) -> &str {
    let first = text.lines().next().unwrap_or(text);
    let first = first.strip_prefix("error: ").unwrap_or(first);
    let rest = first.strip_prefix("line ").and_then(|rest| rest.split_once(": "));
    let message = rest.map_or(first, |(_, message)| message);
    message.split(", set DuplicateKeyPolicy").next().unwrap_or(message)
}

/// `unknown field` reworded, with the nearest known key.
fn unknown_key(message: &str) -> Option<String> {
    let rest = message.strip_prefix("unknown field `")?;
    let (key, rest) = rest.split_once('`')?;
    let known: Vec<_> = rest.split_once("expected ")?.1.trim_start_matches("one of ").split(", ").collect();
    let known: Vec<_> = known.iter().map(|key| key.trim_matches('`')).collect();
    let nearest = known
        .iter()
        .map(|known| (strsim::jaro_winkler(key, known), known))
        .filter(|(similarity, _)| *similarity >= SIMILAR)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    let offer = nearest.map_or_else(String::new, |(_, known)| format!("; did you mean \"{known}\"?"));
    Some(format!("unknown key \"{key}\"{offer} (known here: {})", known.join(", ")))
}

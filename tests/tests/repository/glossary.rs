//! The words that `GLOSSARY.md` retires stay out of the repository.

use std::collections::BTreeSet;
use std::process::Command;

use super::{read, root};

/// The heading of the table.
const HEADING: &str = "## Retired words\n";

/// One row of the table.
struct Retired {
    word: String,
    instead: String,
    exceptions: Vec<String>,
}

impl Retired {
    /// Returns the row in a line of the table, or `None` for its head and for anything else.
    fn parse(line: &str) -> Option<Self> {
        let mut cells = line.strip_prefix('|')?.split('|').map(str::trim);
        let (word, instead, exceptions) = (cells.next()?, cells.next()?, cells.next()?);
        let exceptions = exceptions.split('`').map(str::trim).filter(|text| !text.is_empty());
        let exceptions = exceptions.map(str::to_owned).collect();
        let row = Self { word: word.to_owned(), instead: instead.to_owned(), exceptions };
        (word != "Retired" && !word.starts_with('-')).then_some(row)
    }

    fn is_in(&self, text: &str, words: &BTreeSet<String>) -> bool {
        let verbatim = self.word.trim_matches('`');
        let candidate = match verbatim == self.word {
            true => [verbatim.to_owned(), format!("{verbatim}s")].iter().any(|word| words.contains(word)),
            false => has_whole(text, verbatim),
        };
        if !candidate || self.exceptions.is_empty() {
            return candidate;
        }
        let rest = self.exceptions.iter().fold(text.to_owned(), |text, kept| text.replace(kept, " "));
        let bare = Self { exceptions: Vec::new(), word: self.word.clone(), instead: String::new() };
        bare.is_in(&rest, &words_of(&rest))
    }
}

fn table(glossary: &str) -> Vec<Retired> {
    let (_, table) = glossary.split_once(HEADING).expect("GLOSSARY.md has the table");
    table.lines().take_while(|line| !line.starts_with('#')).filter_map(Retired::parse).collect()
}

fn is_part(letter: Option<char>) -> bool {
    letter.is_some_and(|letter| letter.is_alphanumeric() || letter == '_')
}

/// Returns whether `text` has `wanted` other than as a part of a longer identifier.
fn has_whole(text: &str, wanted: &str) -> bool {
    text.match_indices(wanted).any(|(at, _)| {
        !is_part(text[..at].chars().next_back()) && !is_part(text[at + wanted.len()..].chars().next())
    })
}

/// Returns all words in lower case. Identifiers are taken apart at underscores and capitals.
fn words_of(text: &str) -> BTreeSet<String> {
    let mut words = BTreeSet::new();
    for run in text.split(|letter: char| !letter.is_alphabetic()) {
        words.insert(run.to_lowercase());
        let mut from = 0;
        let humps = run.char_indices().zip(run.chars().skip(1));
        for ((at, letter), next) in humps {
            if letter.is_lowercase() && next.is_uppercase() {
                let end = at + letter.len_utf8();
                words.insert(run[from..end].to_lowercase());
                from = end;
            }
        }
        words.insert(run[from..].to_lowercase());
    }
    words
}

/// Returns every tracked text file's path and text, without the table itself and what others wrote.
fn tracked() -> Vec<(String, String)> {
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(root()).output().expect("git");
    let names = String::from_utf8(listed.stdout).expect("names in UTF-8");
    let names = names.split('\0').filter(|name| !name.is_empty());
    let names = names.filter(|name| !name.ends_with("Cargo.lock") && *name != "LICENSE");
    let files = names.filter_map(|name| {
        let text = String::from_utf8(std::fs::read(root().join(name)).ok()?).ok()?;
        let text = text.split(HEADING).next().unwrap_or_default().to_owned();
        Some((name.to_owned(), format!("{name}\n{text}")))
    });
    files.collect()
}

fn offenders(files: &[(String, String)], table: &[Retired]) -> Vec<String> {
    let hits = files.iter().flat_map(|(name, text)| {
        let words = words_of(text);
        let hits = table.iter().filter(move |row| row.is_in(text, &words));
        hits.map(move |row| format!("{name}: {} is retired, use {}", row.word, row.instead))
    });
    hits.collect()
}

#[test]
fn retired_words_are_gone() {
    let files = tracked();
    assert!(files.len() > 100, "only {} tracked files", files.len());
    let offenders = offenders(&files, &table(&read("GLOSSARY.md")));
    assert!(offenders.is_empty(), "{offenders:#?}");
}

#[test]
fn a_retired_word_is_found_whole_and_within_identifiers() {
    let table = table(&format!(
        "{HEADING}\n| Retired | Use instead | Except in |\n|---|---|---|\n| ledge | shelf | `on the ledge` |\n\
         | `Old` | New | |\n| `gone away` | left | |\n\n## More\n| other | x | |\n"
    ));
    let found = |text: &str| offenders(&[("x".to_owned(), text.to_owned())], &table).len();
    for text in
        ["a ledge", "Ledges", "high_ledge", "LedgeCount", "theLedge", "Old", "x::Old {", "has gone away"]
    {
        assert_eq!(found(text), 1, "{text}");
    }
    for text in ["ledger", "Older", "MyOld", "old", "on the ledge", "other", "gone away_x"] {
        assert_eq!(found(text), 0, "{text}");
    }
}

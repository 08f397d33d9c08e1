//! What is committed: the rules that the source keeps, its words, and the files that are generated from it.

mod generated;
mod glossary;
mod rules;

use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).expect("a file of the repository")
}

//! Taste, kept by a test: what may import what, who may print, how long a file may be.

use std::fs;
use std::path::{Path, PathBuf};

/// Longest file, in lines.
const MAX_LINES: usize = 600;
/// Folders that decide and touch nothing.
const PURE: [&str; 4] = ["esnode/src/consensus", "esnode/src/stream", "escli/src/plan", "shared/src"];
/// What touching the world looks like.
const IMPURE: [&str; 9] = [
    "tokio::",
    "std::fs",
    "std::net",
    "std::thread",
    "Instant::now",
    "SystemTime::now",
    "rand::",
    "Uuid::new_v4",
    "fastrand::u",
];
/// Who may write to standard output and standard error.
const PRINTERS: [&str; 4] = ["escli/src/view/", "escli/src/main.rs", "esnode/src/main.rs", "tests/"];
const PRINTING: [&str; 4] = ["println!", "eprintln!", "print!(", "eprint!("];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a folder").map(|entry| entry.expect("an entry").path()) {
        if entry.is_dir() && !entry.ends_with("target") {
            sources(&entry, found);
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            found.push(entry);
        }
    }
}

/// Every source file's path from the root, and its text.
fn all() -> Vec<(String, String)> {
    let root = root();
    let mut paths = Vec::new();
    for member in ["escli", "esnode", "shared", "tests"] {
        sources(&root.join(member), &mut paths);
    }
    let read = |path: PathBuf| {
        let name = path.strip_prefix(&root).expect("under the root").display().to_string();
        (name, fs::read_to_string(&path).expect("text"))
    };
    paths.into_iter().map(read).collect()
}

/// Code only: neither comments nor what is compiled for tests alone.
fn code(text: &str) -> String {
    let product = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or(text);
    product.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

fn offenders(files: &[(String, String)], applies: impl Fn(&str) -> bool, banned: &[&str]) -> Vec<String> {
    let product = files.iter().filter(|(name, _)| applies(name) && !name.ends_with("tests.rs"));
    let hits = product.flat_map(|(name, text)| {
        let code = code(text);
        let hit = banned.iter().filter(move |banned| code.contains(**banned));
        hit.map(move |banned| format!("{name}: {banned}")).collect::<Vec<_>>()
    });
    hits.collect()
}

fn in_pure(name: &str) -> bool {
    PURE.iter().any(|folder| name.starts_with(folder))
}

#[test]
fn the_pure_folders_touch_nothing() {
    assert_eq!(offenders(&all(), in_pure, &IMPURE), [""; 0]);
}

#[test]
fn the_two_programs_never_import_each_other() {
    let files = all();
    assert_eq!(offenders(&files, |name| name.starts_with("escli/"), &["esnode::"]), [""; 0]);
    assert_eq!(offenders(&files, |name| name.starts_with("esnode/"), &["escli::"]), [""; 0]);
    assert_eq!(offenders(&files, |name| name.starts_with("shared/"), &["esnode::", "escli::"]), [""; 0]);
}

#[test]
fn the_core_knows_nothing_of_its_shell() {
    let core = |name: &str| name.starts_with("esnode/src/consensus") || name.starts_with("esnode/src/stream");
    let shell = ["crate::driver", "crate::storage", "crate::net", "crate::handle", "crate::node"];
    assert_eq!(offenders(&all(), core, &shell), [""; 0]);
    let plan = |name: &str| name.starts_with("escli/src/plan");
    let shell =
        ["crate::engine", "crate::local", "crate::client", "crate::view", "crate::commands", "crate::cli"];
    assert_eq!(offenders(&all(), plan, &shell), [""; 0]);
}

#[test]
fn only_the_views_print() {
    let printers = |name: &str| {
        !PRINTERS.iter().any(|allowed| name.starts_with(allowed)) && !name.contains("/examples/")
    };
    let build_script = |name: &str| name.ends_with("build.rs");
    assert_eq!(offenders(&all(), |name| printers(name) && !build_script(name), &PRINTING), [""; 0]);
}

#[test]
fn every_file_says_what_it_is_for_and_is_not_too_long() {
    for (name, text) in all() {
        assert!(text.starts_with("//!"), "{name} does not begin with //!");
        assert!(text.lines().count() <= MAX_LINES, "{name} is longer than {MAX_LINES} lines");
    }
}

#[test]
fn each_rule_can_fail() {
    let file = |name: &str, text: &str| vec![(name.to_owned(), text.to_owned())];
    let bad = file("shared/src/x.rs", "//! x\nuse std::fs;\n");
    assert_eq!(offenders(&bad, in_pure, &IMPURE), ["shared/src/x.rs: std::fs"]);
    let commented = file("shared/src/x.rs", "//! x\n// std::fs is not used\n");
    assert_eq!(offenders(&commented, in_pure, &IMPURE), [""; 0]);
    let elsewhere = file("esnode/src/storage/x.rs", "//! x\nuse std::fs;\n");
    assert_eq!(offenders(&elsewhere, in_pure, &IMPURE), [""; 0]);
}

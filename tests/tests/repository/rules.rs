//! Rules of the source: what may import what, who may print, how long a file may be, which suites run alone.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use super::{read, root};

/// Longest file, in lines.
const MAX_LINES: usize = 600;
/// Folders that decide and touch nothing.
const PURE: [&str; 14] = [
    "esnode/src/batch_index/",
    "esnode/src/consensus/",
    "esnode/src/replica/",
    "esnode/src/state_machine/",
    "esnode/src/runtime/packer/plan.rs",
    "esnode/src/storage/log/packs/name.rs",
    "escli/src/plan/",
    "escli/src/hosts/ssh/destination.rs",
    "escli/src/hosts/ssh/known_hosts.rs",
    "escli/src/kafka/records.rs",
    "escli/src/kafka/partitioner.rs",
    "escli/src/kafka/position.rs",
    "escli/src/kafka/reset.rs",
    "shared/src/",
];
/// Who may write to standard output and standard error.
const PRINTERS: [&str; 3] = ["escli/src/view/", "escli/src/main.rs", "esnode/src/main.rs"];
/// All that escli's planner may use besides the standard library and itself.
const PLANNERS_CRATES: [&str; 3] = ["shared", "serde", "semver"];

/// Words that the product's code under some paths does without.
struct Rule {
    what: &'static str,
    applies: fn(&str) -> bool,
    /// A path to which it applies, to show that the rule can fail.
    sample: &'static str,
    banned: Vec<String>,
}

fn rules() -> Vec<Rule> {
    let rule = |what, applies, sample, banned: &[&str]| {
        let banned = banned.iter().map(|word| (*word).to_owned()).collect();
        Rule { what, applies, sample, banned }
    };
    let touching = [
        "tokio",
        "std::fs",
        "std::net",
        "std::thread",
        "std::process",
        "Instant::now",
        "SystemTime::now",
        "rand::",
        "fastrand::",
        "Uuid::new_v4",
    ];
    let pure = |name: &str| PURE.iter().any(|folder| name.starts_with(folder));
    let core = |name: &str| PURE[..4].iter().any(|folder| name.starts_with(folder));
    let shell = ["crate::runtime", "crate::storage", "crate::net", "crate::node", "crate::maintenance"];
    let printing = ["println!", "eprintln!", "print!", "eprint!"];
    let quiet = |name: &str| name.contains("/src/") && !PRINTERS.iter().any(|p| name.starts_with(p));
    vec![
        rule("the pure folders touch nothing", pure, "shared/src/x.rs", &touching),
        rule("the core knows nothing of its shell", core, "esnode/src/state_machine/x.rs", &shell),
        rule(
            "escli never imports esnode",
            |name| name.starts_with("escli/"),
            "escli/src/x.rs",
            &["esnode::"],
        ),
        rule(
            "esnode never imports escli",
            |name| name.starts_with("esnode/"),
            "esnode/src/x.rs",
            &["escli::"],
        ),
        rule(
            "shared imports neither",
            |name| name.starts_with("shared/"),
            "shared/src/x.rs",
            &["esnode::", "escli::"],
        ),
        rule("only the views print", quiet, "escli/src/plan/x.rs", &printing),
        Rule {
            what: "the planner uses shared and nothing else",
            applies: |name| name.starts_with("escli/src/plan/"),
            sample: "escli/src/plan/x.rs",
            banned: planner_does_without(),
        },
    ]
}

/// escli's other dependencies and its other modules.
fn planner_does_without() -> Vec<String> {
    let crates = dependencies(&read("escli/Cargo.toml")).into_iter();
    let crates =
        crates.filter(|name| !PLANNERS_CRATES.contains(&name.as_str())).map(|name| format!("{name}::"));
    let library = read("escli/src/lib.rs");
    let modules = library.lines().filter_map(|line| line.trim_start_matches("pub ").strip_prefix("mod "));
    let modules = modules.map(|module| module.trim_end_matches([';', ' ', '{']).to_owned());
    let modules = modules.filter(|module| module != "plan").map(|module| format!("crate::{module}"));
    crates.chain(modules).collect()
}

/// The crates named in `[dependencies]`, as code spells them.
fn dependencies(manifest: &str) -> Vec<String> {
    let section = manifest.split("[dependencies]").nth(1).unwrap_or_default();
    let lines = section.lines().take_while(|line| !line.starts_with('['));
    let names = lines.filter_map(|line| line.split(['.', ' ', '=']).next()).filter(|name| !name.is_empty());
    names.map(|name| name.replace('-', "_")).collect()
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

/// What is compiled into the product: neither the tests nor the harness.
fn product(name: &str) -> bool {
    !name.starts_with("tests/") && !name.ends_with("tests.rs") && !name.contains("/tests/")
}

/// Code only, without comments and the tests at the end, and after it every import spelled out.
fn code(text: &str) -> String {
    let product = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or(text);
    let lines = product.lines().filter(|line| !line.trim_start().starts_with("//"));
    let mut code = lines.collect::<Vec<_>>().join("\n");
    let uses: Vec<String> =
        code.split("use ").skip(1).filter_map(|rest| rest.split(';').next()).map(packed).collect();
    for tree in uses {
        spell_out("", &tree, &mut code);
    }
    code
}

fn packed(text: &str) -> String {
    text.split_whitespace().collect()
}

/// `std::{fs, net::{A, B}}` is `std::fs`, `std::net::A` and `std::net::B`.
fn spell_out(prefix: &str, tree: &str, into: &mut String) {
    let Some((head, rest)) = tree.split_once('{') else {
        into.push_str(&format!("\n{prefix}{tree}"));
        return;
    };
    let inner = rest.strip_suffix('}').unwrap_or(rest);
    let (mut depth, mut from) = (0, 0);
    for (at, letter) in inner.char_indices().chain([(inner.len(), ',')]) {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                spell_out(&format!("{prefix}{head}"), &inner[from..at], into);
                from = at + 1;
            }
            _ => {}
        }
    }
}

/// `word` stands in `code` as a word of its own, not as a part of a longer one.
fn says(code: &str, word: &str) -> bool {
    let part = |letter: Option<char>| letter.is_some_and(|letter| letter.is_alphanumeric() || letter == '_');
    code.match_indices(word).any(|(at, _)| {
        let open = word.ends_with(|end: char| end.is_alphanumeric());
        let longer = open && part(code[at + word.len()..].chars().next());
        !longer && !part(code[..at].chars().next_back())
    })
}

fn offenders(files: &[(String, String)], rule: &Rule) -> Vec<String> {
    let files = files.iter().filter(|(name, _)| product(name) && (rule.applies)(name));
    let hits = files.flat_map(|(name, text)| {
        let code = code(text);
        let hits = rule.banned.iter().filter(|word| says(&code, word));
        hits.map(|word| format!("{}: {name} says {word}", rule.what)).collect::<Vec<_>>()
    });
    hits.collect()
}

fn shapeless(files: &[(String, String)]) -> Vec<String> {
    let unsaid = files.iter().filter(|(_, text)| !text.starts_with("//!"));
    let long = files.iter().filter(|(_, text)| text.lines().count() > MAX_LINES);
    let unsaid = unsaid.map(|(name, _)| format!("{name} does not begin with //!"));
    unsaid.chain(long.map(|(name, _)| format!("{name} is longer than {MAX_LINES} lines"))).collect()
}

#[test]
fn the_code_keeps_every_rule() {
    let files = all();
    assert!(files.len() > 50, "the source is not where it should be");
    let offenders: Vec<_> = rules().iter().flat_map(|rule| offenders(&files, rule)).collect();
    assert!(offenders.is_empty(), "{offenders:#?}");
}

#[test]
fn neither_program_depends_on_the_other() {
    assert!(!dependencies(&read("escli/Cargo.toml")).contains(&"esnode".to_owned()));
    assert!(!dependencies(&read("esnode/Cargo.toml")).contains(&"escli".to_owned()));
    let sample = "[dependencies]\nesnode.workspace = true\nserde-saphyr = \"2\"\n[lints]\nescli = 1\n";
    assert_eq!(dependencies(sample), ["esnode", "serde_saphyr"]);
}

#[test]
fn every_file_says_what_it_is_for_and_is_not_too_long() {
    let offenders = shapeless(&all());
    assert!(offenders.is_empty(), "{offenders:#?}");
    let file = |text: &str| vec![("x.rs".to_owned(), text.to_owned())];
    assert_eq!(shapeless(&file("use x;\n")), ["x.rs does not begin with //!"]);
    assert_eq!(shapeless(&file(&"//! x\n".repeat(MAX_LINES + 1))), ["x.rs is longer than 600 lines"]);
}

#[test]
fn each_rule_can_fail() {
    for rule in rules() {
        assert!(!rule.banned.is_empty(), "{} bans nothing", rule.what);
        for word in &rule.banned {
            let caught = |name: &str, text: &str| {
                offenders(&[(name.to_owned(), text.to_owned())], &rule).iter().any(|hit| hit.ends_with(word))
            };
            assert!(caught(rule.sample, &format!("//! x\nfn x() {{ {word}; }}\n")), "{word}");
            assert!(!caught(rule.sample, &format!("//! {word}\n// {word}\n")), "a comment may say {word}");
            assert!(
                !caught(rule.sample, &format!("//! x\nfn x() {{ my_{word}; }}\n")),
                "my_{word} is another"
            );
            assert!(
                !caught("tests/src/x.rs", &format!("//! x\nfn x() {{ {word}; }}\n")),
                "{} is too wide",
                rule.what
            );
            assert!(
                !caught(rule.sample, &format!("//! x\n#[cfg(test)]\nmod tests {{\n{word};\n}}\n")),
                "tests may"
            );
        }
    }
}

#[test]
fn an_import_in_braces_is_an_import() {
    let pure = &rules()[0];
    let hits = |text: &str| offenders(&[("shared/src/x.rs".to_owned(), text.to_owned())], pure).len();
    assert_eq!(
        hits("//! x\nuse std::{\n    collections::{BTreeMap, BTreeSet},\n    fs::{self, File}, net,\n};\n"),
        2
    );
    assert_eq!(hits("//! x\npub use std::{fmt, path::Path};\nuse core::net::IpAddr;\n"), 0);
}

/// Modules of the harness that start nodes, which measure time and use the disk.
const STARTERS: [&str; 4] = ["cli::CliRunner", "cli::CliSession", "cluster", "lab"];

/// The suites (folders, or files without one) that use a starter.
fn starting(files: &[(String, String)]) -> BTreeSet<&str> {
    let starters = STARTERS.map(|module| format!("{}::{module}", "tests"));
    let suites =
        files.iter().filter_map(|(name, text)| Some((name.strip_prefix("tests/tests/")?, code(text))));
    let starting = suites.filter(|(_, code)| starters.iter().any(|starter| says(code, starter)));
    starting.filter_map(|(name, _)| name.split(['/', '.']).next()).collect()
}

#[test]
fn suites_that_start_nodes_are_named_live_and_run_one_test_at_a_time() {
    assert!(read(".config/nextest.toml").contains("filter = 'package(tests) & binary(/^live_/)'"));
    let suites = fs::read_dir(root().join("tests/tests")).expect("a folder");
    let suites = suites.map(|entry| entry.expect("an entry").path().file_stem().map(OsStr::to_os_string));
    let live: BTreeSet<String> =
        suites.filter_map(|name| name?.into_string().ok()).filter(|name| name.starts_with("live_")).collect();
    let files = all();
    assert!(
        starting(&files).into_iter().eq(live.iter().map(String::as_str)),
        "{live:?}, {:?}",
        starting(&files)
    );
    let file = |name: &str, used: &str| (name.to_owned(), format!("//! x\nuse {}::{used};\n", "tests"));
    let sample = [
        file("tests/tests/cli/x.rs", "cluster::Cluster"),
        file("tests/tests/one.rs", "{client, lab::Lab}"),
        file("tests/tests/ssh/x.rs", "client::Client"),
    ];
    assert!(starting(&sample).into_iter().eq(["cli", "one"]), "{:?}", starting(&sample));
}

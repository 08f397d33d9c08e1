//! Stamps the binary: the version that a packager gave, the commit and the profile it was built from.

use std::env;
use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=ESNODE_VERSION");
    let given = env::var("ESNODE_VERSION").ok().filter(|version| !version.trim().is_empty());
    let version = given.or_else(|| env::var("CARGO_PKG_VERSION").ok()).unwrap_or_default();
    println!("cargo::rustc-env=ESNODE_VERSION={}", version.trim());
    // For tests of upgrades: a build that reads, and in time writes, a later on-disk format.
    println!("cargo::rerun-if-env-changed=ESNODE_FORMAT_MAX");
    if let Some(newest) = env::var("ESNODE_FORMAT_MAX").ok().filter(|newest| !newest.trim().is_empty()) {
        println!("cargo::rustc-env=ESNODE_FORMAT_MAX={}", newest.trim());
    }

    // The log of HEAD grows with every commit and checkout, in linked worktrees too.
    if let Some(log) = git(&["rev-parse", "--path-format=absolute", "--git-path", "logs/HEAD"]) {
        println!("cargo::rerun-if-changed={log}");
    }
    // Sources unpacked inside somebody else's repository are not that repository's commit.
    let tracked = git(&["ls-files", "--error-unmatch", "build.rs"]).is_some();
    let commit = tracked.then(|| git(&["rev-parse", "--short=10", "HEAD"])).flatten();
    let profile = profile().unwrap_or_else(|| "unknown".to_owned());
    println!("cargo::rustc-env=ESNODE_BUILD={} {profile}", commit.as_deref().unwrap_or("unknown"));
}

/// `release`, `debug`, or `playground` for what `make up` builds. Cargo tells of a profile of our own only in the path.
fn profile() -> Option<String> {
    let out = env::var("OUT_DIR").ok()?;
    let folder = Path::new(&out).ancestors().nth(3)?.file_name()?;
    if folder == "up" { Some("playground".to_owned()) } else { env::var("PROFILE").ok() }
}

fn git(arguments: &[&str]) -> Option<String> {
    let output =
        Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}

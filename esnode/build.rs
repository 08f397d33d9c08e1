//! Stamps the binary: the version that a packager asks for (`ESNODE_VERSION`), and what it was built from.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-env-changed=ESNODE_VERSION");
    println!("cargo::rerun-if-changed=../.git/HEAD");
    let var = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let version = var("ESNODE_VERSION").or_else(|| var("CARGO_PKG_VERSION")).unwrap_or_default();
    let commit = Command::new("git").args(["rev-parse", "--short", "HEAD"]).output().ok();
    let commit = commit.filter(|output| output.status.success()).map(|output| output.stdout);
    let commit = commit.and_then(|text| String::from_utf8(text).ok()).unwrap_or_default();
    let commit = if commit.trim().is_empty() { "unknown" } else { commit.trim() };
    let profile = var("PROFILE").unwrap_or_default();
    println!("cargo::rustc-env=STAMPED_VERSION={version}");
    println!("cargo::rustc-env=STAMPED_BUILD={commit} {profile}");
}

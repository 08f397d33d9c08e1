//! The programs under test, as the build left them.

use std::path::PathBuf;

/// A program of this workspace, as the build left it beside the running test.
pub fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own path");
    let target = test.ancestors().nth(2).expect("tests live in target/PROFILE/deps");
    let path = target.join(name);
    assert!(path.exists(), "{} is missing: run `cargo build --workspace --bins` first", path.display());
    path
}

/// The node's program with the stamp of another version.
pub fn stamped(version: &str) -> PathBuf {
    let path = binary("esnode").with_file_name("stamped").join(format!("esnode-{version}"));
    assert!(path.exists(), "{} is missing: run tests/stamp.sh first", path.display());
    path
}

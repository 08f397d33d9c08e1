//! Tests that this machine cannot run. A test that lacks something fails, unless the variable `SKIP` names
//! what it lacks (`SKIP=lab,promtool`). `make test` then ends with the names of the tests that were skipped.

use std::fs::OpenOptions;
use std::io::Write;

use anyhow::{Result, bail};

use crate::programs::binary;

/// File with the names of skipped tests, which `make test` prints.
const SKIPPED: &str = "skipped";

/// Records that the calling test is skipped because this machine has no `what`, if `SKIP` names it.
///
/// # Errors
/// When `SKIP` does not name it.
pub fn allowed(what: &str, why: &str) -> Result<()> {
    let named = std::env::var("SKIP").unwrap_or_default();
    if !named.split(',').any(|name| name.trim() == what) {
        bail!("this test needs {what}, which this machine lacks: {why}\nTo skip it: SKIP={what}");
    }
    let test = std::thread::current().name().unwrap_or_default().to_owned();
    let path = binary("esnode").with_file_name(SKIPPED);
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    Ok(file.write_all(format!("{test} (no {what})\n").as_bytes())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_that_lacks_something_fails_unless_skip_names_it() {
        let error = allowed("moon", "it has set").unwrap_err().to_string();
        assert!(
            error.contains("needs moon") && error.contains("it has set") && error.contains("SKIP=moon"),
            "{error}"
        );
    }
}

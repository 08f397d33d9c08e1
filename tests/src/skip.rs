//! What this machine cannot show. A test that lacks something fails, unless `SKIP` names that: `SKIP=lab,promtool`. Then the
//! run ends with its name.

use std::fs::OpenOptions;
use std::io::Write;

use anyhow::{Result, bail};

use crate::programs::binary;

/// Where `make test` finds the names.
const SKIPPED: &str = "skipped";

/// Goes on when `SKIP` names `what`; the test that asks is skipped then.
///
/// # Errors
/// When it does not: the test lacks `what`, because of `why`.
pub fn allowed(what: &str, why: &str) -> Result<()> {
    let named = std::env::var("SKIP").unwrap_or_default();
    if !named.split(',').any(|name| name.trim() == what) {
        bail!("no {what} on this machine, so this cannot be shown: {why}\nSKIP={what} goes on without it");
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
    fn what_is_lacking_fails_unless_it_is_named() {
        let error = allowed("moon", "it has set").unwrap_err().to_string();
        assert!(
            error.contains("no moon") && error.contains("it has set") && error.contains("SKIP=moon"),
            "{error}"
        );
    }
}

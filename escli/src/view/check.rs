//! PURE: the findings of checks, as a table and as a document.

use std::fmt::Write as _;

use comfy_table::{Table, presets};
use serde::Serialize;

use super::paint::Paint;
use crate::output::SCHEMA_VERSION;
use crate::plan::preflight::{Finding, Level};
use crate::view::report::Report;

/// The document of `check`.
#[derive(Debug, Serialize)]
pub struct CheckDocument<'a> {
    schema_version: u32,
    cluster: &'a str,
    /// The worst level of all findings.
    level: Level,
    findings: &'a [Finding],
    /// The report of `--fix`, which ran before the checks.
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<&'a Report>,
}

/// Returns the document of these findings.
pub fn document<'a>(cluster: &'a str, findings: &'a [Finding], fix: Option<&'a Report>) -> CheckDocument<'a> {
    let level = findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok);
    CheckDocument { schema_version: SCHEMA_VERSION, cluster, level, findings, fix }
}

/// Returns a table of the findings, and what to do about them.
pub fn text(document: &CheckDocument<'_>, paint: Paint) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    if paint.is_on() {
        table.enforce_styling();
    }
    table.set_header(["NODE", "CHECK", "", "FOUND"]);
    for finding in document.findings {
        let level = match finding.level {
            Level::Ok => paint.good("ok"),
            Level::Warning => paint.warn("warning"),
            Level::Failure => paint.bad("FAILED"),
        };
        let found = [std::slice::from_ref(&finding.text), &finding.details].concat().join("\n");
        table.add_row([finding.node.to_string(), finding.check.to_owned(), level, found]);
    }
    let fixed = document.fix.map_or_else(String::new, |report| super::report::text(report, paint));
    let mut text = format!("{fixed}{}\n", table.trim_fmt());
    let mut told = Vec::new();
    for hint in document.findings.iter().filter_map(|finding| finding.hint.as_ref()) {
        if !told.contains(&hint) {
            let _ = writeln!(text, "{} {hint}", paint.good("→"));
            told.push(hint);
        }
    }
    let verdict = match document.level {
        Level::Ok => paint.good("all checks passed"),
        Level::Warning => paint.warn("passed, with warnings"),
        Level::Failure => paint.bad("some checks failed"),
    };
    let _ = writeln!(text, "check {}: {verdict}", document.cluster);
    text
}

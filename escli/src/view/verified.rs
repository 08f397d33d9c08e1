//! PURE: the results of `verify`, as a table and as a document.

use std::fmt::Write as _;

use comfy_table::{Table, presets};
use serde::Serialize;
use shared::verified::Verified;

use super::paint::Paint;
use crate::output::SCHEMA_VERSION;

/// The document of `verify`.
#[derive(Debug, Serialize)]
pub struct VerifiedDocument {
    schema_version: u32,
    /// No node or backup has damage.
    pub ok: bool,
    verified: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Row {
    /// What was verified: a node, such as `n2`, or the path of a backup.
    what: String,
    #[serde(flatten)]
    verified: Option<Verified>,
    /// Why there is no result.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Returns the document of these results.
pub fn document(verdicts: Vec<(String, Result<Verified, String>)>) -> VerifiedDocument {
    let row = |(what, verdict): (String, Result<Verified, String>)| match verdict {
        Ok(verified) => Row { what, verified: Some(verified), error: None },
        Err(error) => Row { what, verified: None, error: Some(error) },
    };
    let verified: Vec<Row> = verdicts.into_iter().map(row).collect();
    let ok = verified.iter().all(|row| row.verified.as_ref().is_some_and(|verified| verified.ok));
    VerifiedDocument { schema_version: SCHEMA_VERSION, ok, verified }
}

/// Returns a table of the results, every finding, and what to do.
pub fn text(document: &VerifiedDocument, paint: Paint) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    if paint.is_on() {
        table.enforce_styling();
    }
    table.set_header(["WHAT", "", "ENTRIES", "SNAPSHOT", "SEGMENTS", "LOG"]);
    let mut told = String::new();
    for Row { what, verified, error } in &document.verified {
        let Some(verified) = verified else {
            table.add_row([what.clone(), paint.bad("FAILED")]);
            let _ = writeln!(told, "{what}: {}", error.as_deref().unwrap_or_default());
            continue;
        };
        let verdict = if verified.ok { paint.good("ok") } else { paint.bad("DAMAGED") };
        table.add_row([
            what.clone(),
            verdict,
            format!("{}-{}", verified.first_index, verified.last_index),
            verified.snapshot.to_string(),
            verified.segments.to_string(),
            indicatif::HumanBytes(verified.bytes).to_string(),
        ]);
        for finding in &verified.findings {
            let kind = if finding.harmless { "harmless" } else { "DAMAGED" };
            let _ = writeln!(
                told,
                "{what}: {kind}: {}, byte {}: {}",
                finding.file, finding.offset, finding.reason
            );
        }
    }
    if !document.ok {
        let hint = "no changes were made. The other nodes have all data: check the disk (dmesg), then replace \
                    the node:  escli replace-node OLD NEW";
        let _ = writeln!(told, "{} {hint}", paint.good("→"));
    }
    format!("{}\n{told}", table.trim_fmt())
}

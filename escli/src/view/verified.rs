//! PURE: what was found on nodes' disks, as a table and as a document.

use std::fmt::Write as _;

use comfy_table::{Table, presets};
use serde::Serialize;
use shared::ids::NodeId;
use shared::verified::Verified;

use super::paint::Paint;
use crate::report::SCHEMA_VERSION;

/// The document of `verify`.
#[derive(Debug, Serialize)]
pub struct VerifiedDocument<'a> {
    schema_version: u32,
    cluster: &'a str,
    /// All of them are whole.
    pub ok: bool,
    nodes: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Row {
    id: NodeId,
    #[serde(flatten)]
    verified: Option<Verified>,
    /// Why there is no verdict.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// The document of these verdicts.
pub fn document(cluster: &str, verdicts: Vec<(NodeId, Result<Verified, String>)>) -> VerifiedDocument<'_> {
    let row = |(id, verdict): (NodeId, Result<Verified, String>)| match verdict {
        Ok(verified) => Row { id, verified: Some(verified), error: None },
        Err(error) => Row { id, verified: None, error: Some(error) },
    };
    let nodes: Vec<Row> = verdicts.into_iter().map(row).collect();
    let ok = nodes.iter().all(|row| row.verified.as_ref().is_some_and(|verified| verified.ok));
    VerifiedDocument { schema_version: SCHEMA_VERSION, cluster, ok, nodes }
}

/// A table, each finding, and what to do.
pub fn text(document: &VerifiedDocument<'_>, paint: Paint) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    if paint.is_on() {
        table.enforce_styling();
    }
    table.set_header(["NODE", "", "ENTRIES", "CHECKPOINT", "SEGMENTS", "LOG"]);
    let mut told = String::new();
    for Row { id, verified, error } in &document.nodes {
        let Some(verified) = verified else {
            table.add_row([id.to_string(), paint.bad("no verdict")]);
            let _ = writeln!(told, "n{id}: {}", error.as_deref().unwrap_or_default());
            continue;
        };
        let verdict = if verified.ok { paint.good("whole") } else { paint.bad("DAMAGED") };
        table.add_row([
            id.to_string(),
            verdict,
            format!("{}-{}", verified.first_index, verified.last_index),
            verified.checkpoint.to_string(),
            verified.segments.to_string(),
            indicatif::HumanBytes(verified.bytes).to_string(),
        ]);
        for finding in &verified.findings {
            let kind = if finding.harmless { "harmless" } else { "DAMAGED" };
            let _ = writeln!(
                told,
                "n{id}: {kind}: {}, byte {}: {}",
                finding.file, finding.offset, finding.reason
            );
        }
        if !verified.ok {
            let hint = format!(
                "the others have everything: look at the disk (dmesg), then put another node in its place:  escli \
                 replace-node {id} NEW"
            );
            let _ = writeln!(told, "{} {hint}", paint.good("→"));
        }
    }
    format!("{}\n{told}", table.trim_fmt())
}

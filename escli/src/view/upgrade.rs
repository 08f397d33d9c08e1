//! `upgrade status` as text.

use std::fmt::Write as _;

use super::paint::Paint;
use crate::overview::rollout::Rollout;

/// Returns the releases that the nodes run, and the progress of the last upgrade.
pub fn text(document: &Rollout, paint: Paint) -> String {
    let mut text = match &document.upgrade {
        Some(last) => format!(
            "{}: {} to {}: {}\n",
            document.cluster,
            last.operation_id,
            last.release.as_deref().unwrap_or("?"),
            last.state
        ),
        None => format!("{}: never upgraded from this account\n", document.cluster),
    };
    for row in &document.nodes {
        let version = row.version.as_deref().unwrap_or("-");
        let release = row.release.as_deref().unwrap_or("-");
        let _ = write!(text, "n{}  {version}  {release}", row.id);
        if let Some(next) = row.next.as_deref().filter(|next| *next != release) {
            let _ = write!(text, "  next start: {next}");
        }
        if let Some(reason) = &row.reason {
            let _ = write!(text, "  {}", paint.warn(reason));
        }
        text.push('\n');
    }
    text
}

//! PURE: the differences between configurations, as text.

use std::fmt::Write as _;

use shared::ids::ClusterId;

use super::paint::Paint;
use crate::plan::diff::{Compared, NodeDiff};

/// Returns one line for each node, with the lines of its file that differ below it.
pub fn text(cluster: &str, id: Option<ClusterId>, nodes: &[NodeDiff], paint: Paint) -> String {
    let count = nodes.iter().filter(|node| node.is_any()).count();
    let summary = if count == 0 {
        paint.good("no differences")
    } else {
        paint.warn(&format!("{count} of {} nodes differ", nodes.len()))
    };
    let id = id.map_or_else(String::new, |id| format!("  {}", paint.dim(&id.to_string())));
    let mut text = format!("{}{id}  {summary}\n", paint.bold(cluster));
    for node in nodes {
        let disk = word(node.disk, "no file");
        let running = word(node.running, "not running");
        let _ = write!(text, "n{}  on disk: {disk}  running: {running}", node.id);
        let _ =
            writeln!(text, "{}", node.reason.as_ref().map_or_else(String::new, |why| format!("  ({why})")));
        if let Some(identity) = &node.identity {
            let _ = writeln!(text, "    {} {identity}", paint.bad("!"));
        }
        for line in &node.lines {
            let painted = if line.starts_with('-') { paint.bad(line) } else { paint.good(line) };
            let _ = writeln!(text, "    {painted}");
        }
    }
    text
}

fn word(compared: Compared, missing: &'static str) -> &'static str {
    match compared {
        Compared::Same => "same",
        Compared::Differs => "differs",
        Compared::Missing => missing,
        Compared::Unknown => "unknown",
    }
}

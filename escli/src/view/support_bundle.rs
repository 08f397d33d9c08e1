//! PURE: the content of a support bundle, as text and as a document.

use std::fmt::Write as _;
use std::path::Path;

use serde::Serialize;

use super::paint::Paint;
use crate::output::SCHEMA_VERSION;
use crate::support_bundle::Entry;

/// The document of `support-bundle`.
#[derive(Debug, Serialize)]
pub struct BundleDocument<'a> {
    schema_version: u32,
    cluster: &'a str,
    file: String,
    bytes: u64,
    parts: usize,
    missing: Vec<&'a Entry>,
}

/// Returns the document of the archive at `file`, which has this many bytes.
pub fn document<'a>(cluster: &'a str, file: &Path, bytes: u64, entries: &'a [Entry]) -> BundleDocument<'a> {
    let missing: Vec<_> = entries.iter().filter(|entry| entry.missing.is_some()).collect();
    let (file, parts) = (file.display().to_string(), entries.len() - missing.len());
    BundleDocument { schema_version: SCHEMA_VERSION, cluster, file, bytes, parts, missing }
}

/// Returns what the archive contains, what is missing and why, and what to do before it is passed on.
pub fn text(document: &BundleDocument<'_>, paint: Paint) -> String {
    let BundleDocument { file, bytes, parts, missing, .. } = document;
    let mut text = format!("{} {file}: {parts} parts, {} KiB\n", paint.good("wrote"), bytes.div_ceil(1024));
    for entry in missing {
        let why = entry.missing.as_deref().unwrap_or_default();
        let _ = writeln!(text, "  {} {}: {}", paint.warn("missing"), entry.path, why);
    }
    let _ = writeln!(text, "{} review it before you share it:  tar xzf {file}", paint.good("→"));
    text
}

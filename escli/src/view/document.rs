//! Documents for programs, with the same content as JSON and as YAML.

use serde::Serialize;

use crate::failure::{Exit, Failure};
use crate::output::Format;
use crate::output::SCHEMA_VERSION;

/// Why serialising a document cannot fail.
const PLAIN: &str = "plain structs with string keys always serialise";

/// Returns a document as text, with a final newline.
pub fn text<T: Serialize>(output: Format, document: &T) -> String {
    let mut text = if output == Format::Yaml {
        serde_saphyr::to_string(document).expect(PLAIN)
    } else {
        serde_json::to_string_pretty(document).expect(PLAIN)
    };
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

/// Returns one document of a stream: a line of JSON, or a YAML document.
pub fn item<T: Serialize>(output: Format, document: &T) -> String {
    if output == Format::Yaml {
        return format!("---\n{}", text(output, document));
    }
    serde_json::to_string(document).expect(PLAIN) + "\n"
}

/// The document of an error outside a report.
#[derive(Debug, Serialize)]
struct ErrorDocument<'a> {
    schema_version: u32,
    outcome: Exit,
    exit_code: u8,
    error: &'a Failure,
}

/// Returns the document of an error outside a report.
pub fn failure(output: Format, failure: &Failure) -> String {
    let exit_code = failure.kind.code();
    text(
        output,
        &ErrorDocument { schema_version: SCHEMA_VERSION, outcome: failure.kind, exit_code, error: failure },
    )
}

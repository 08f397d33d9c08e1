//! PURE: events as text and as documents.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use jiff::Timestamp;
use serde::Serialize;

use super::document;
use crate::kafka::records::Event;
use crate::output::{Format, printable};

/// How events are shown.
#[derive(Clone, Debug)]
pub struct Style {
    /// Documents, or text.
    pub output: Format,
    /// What stands between key and value; without it there are no keys.
    pub key_separator: Option<String>,
    /// As they are, whatever that does to a terminal.
    pub is_raw: bool,
}

/// The document of an event, one of a stream.
#[derive(Debug, Serialize)]
struct EventDocument {
    partition: i32,
    offset: i64,
    /// `null` for a time that no calendar has.
    timestamp: Option<String>,
    timestamp_ms: i64,
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_base64: Option<String>,
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
    headers: Vec<HeaderDocument>,
}

#[derive(Debug, Serialize)]
struct HeaderDocument {
    key: String,
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
}

/// Adds an event, with the end of its line, to `out`.
pub fn append(out: &mut Vec<u8>, style: &Style, partition: i32, event: &Event) {
    if style.output.is_machine() {
        let item = document::item(style.output, &document(partition, event));
        out.extend_from_slice(printable::seal(&item).as_bytes());
        return;
    }
    if let Some(separator) = &style.key_separator {
        append_text(out, style, event.key.as_ref());
        out.extend_from_slice(separator.as_bytes());
    }
    append_text(out, style, event.value.as_ref());
    out.push(b'\n');
}

/// What an event without a value has is nothing.
fn append_text(out: &mut Vec<u8>, style: &Style, bytes: Option<&Bytes>) {
    let bytes = bytes.map(|bytes| &bytes[..]).unwrap_or_default();
    if style.is_raw {
        out.extend_from_slice(bytes);
    } else {
        out.extend_from_slice(printable::line(&String::from_utf8_lossy(bytes)).as_bytes());
    }
}

fn document(partition: i32, event: &Event) -> EventDocument {
    let (key, key_base64) = either(event.key.as_ref());
    let (value, value_base64) = either(event.value.as_ref());
    let headers = event.headers.iter().map(|(key, value)| {
        let (value, value_base64) = either(value.as_ref());
        HeaderDocument { key: String::from_utf8_lossy(key).into_owned(), value, value_base64 }
    });
    let time = Timestamp::from_millisecond(event.timestamp).ok();
    EventDocument {
        partition,
        offset: event.offset,
        timestamp: time.map(|time| format!("{time:.3}")),
        timestamp_ms: event.timestamp,
        key,
        key_base64,
        value,
        value_base64,
        headers: headers.collect(),
    }
}

/// Bytes as text, or in base64 where they are not UTF-8.
fn either(bytes: Option<&Bytes>) -> (Option<String>, Option<String>) {
    match bytes.map(|bytes| std::str::from_utf8(bytes).map_err(|_| bytes)) {
        None => (None, None),
        Some(Ok(text)) => (Some(text.to_owned()), None),
        Some(Err(bytes)) => (None, Some(STANDARD.encode(bytes))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn event(key: Option<&'static [u8]>, value: Option<&'static [u8]>) -> Event {
        Event {
            offset: 7,
            timestamp: 1_769_854_530_123,
            key: key.map(Bytes::from_static),
            value: value.map(Bytes::from_static),
            headers: vec![(Bytes::from_static(b"trace"), Some(Bytes::from_static(b"\xff")))],
        }
    }

    fn shown(output: Format, key_separator: Option<&str>, is_raw: bool, event: &Event) -> Vec<u8> {
        let mut out = Vec::new();
        let style = Style { output, key_separator: key_separator.map(str::to_owned), is_raw };
        append(&mut out, &style, 2, event);
        out
    }

    #[test]
    fn an_event_is_a_line_that_does_nothing_to_a_terminal_unless_it_is_to() {
        let nasty = event(Some(b"k"), Some(b"a\nb\x1b[2J\xff"));
        assert_eq!(shown(Format::Table, None, false, &nasty), "a\\x0ab\\x1b[2J\u{fffd}\n".as_bytes());
        assert_eq!(shown(Format::Table, Some(":"), true, &nasty), b"k:a\nb\x1b[2J\xff\n");
        assert_eq!(shown(Format::Table, Some("\t"), false, &event(None, None)), b"\t\n");
    }

    #[test]
    fn a_document_has_everything_and_is_one_line() {
        let text = shown(Format::Json, None, false, &event(Some(b"\xfe"), Some("Z\u{fc}rich\n".as_bytes())));
        assert_eq!(text.iter().filter(|byte| **byte == b'\n').count(), 1);
        let document: Value = serde_json::from_slice(&text).unwrap();
        let expected = json!({
            "partition": 2, "offset": 7, "timestamp": "2026-01-31T10:15:30.123Z", "timestamp_ms": 1_769_854_530_123_i64,
            "key": null, "key_base64": "/g==", "value": "Z\u{fc}rich\n",
            "headers": [{"key": "trace", "value": null, "value_base64": "/w=="}],
        });
        assert_eq!(document, expected);
        let deleted: Value =
            serde_json::from_slice(&shown(Format::Json, None, false, &event(Some(b"k"), None))).unwrap();
        assert_eq!((&deleted["value"], &deleted["value_base64"]), (&Value::Null, &Value::Null));
        let odd = Event { timestamp: i64::MAX, ..event(None, None) };
        let odd: Value = serde_json::from_slice(&shown(Format::Json, None, false, &odd)).unwrap();
        assert_eq!((&odd["timestamp"], &odd["timestamp_ms"]), (&Value::Null, &json!(i64::MAX)));
    }
}

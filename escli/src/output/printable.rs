//! PURE: makes text from nodes, hosts and logs safe to print, so that a terminal shows it and obeys nothing in it.
//!
//! This is done at two places. Where a node's response arrives, [`strings`] also escapes line ends, so that no text of
//! a node can look like a line of escli's own. Where anything is printed, [`seal`] escapes everything except the
//! colours of `view::paint`.

use std::borrow::Cow;

use serde_json::Value;

/// Longest colour sequence that is let through, in bytes between its first and last two characters.
const MAX_PAINT_BYTES: usize = 8;

/// Returns the text as one line: control characters, line ends among them, and characters that change the direction of
/// text are escaped. Tabs stay.
pub fn line(text: &str) -> Cow<'_, str> {
    escape(text, |c, _| c == '\t')
}

/// Returns the text with all such characters escaped, except line ends and the colours of `view::paint` and of tables.
pub fn seal(text: &str) -> Cow<'_, str> {
    escape(text, |c, rest| matches!(c, '\t' | '\n') || (c == '\u{1b}' && paints(rest)))
}

/// Replaces every string in a JSON value by one [`line()`].
pub fn strings(value: &mut Value) {
    match value {
        Value::String(text) => {
            if let Cow::Owned(clean) = line(text) {
                *text = clean;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(strings),
        Value::Object(fields) => fields.values_mut().for_each(strings),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Escapes characters that act on a terminal, except where `stays` returns true. It gets the character and the text
/// after it.
fn escape(text: &str, stays: impl Fn(char, &str) -> bool) -> Cow<'_, str> {
    let harmless = |at: usize, c: char| !acts(c) || stays(c, &text[at + c.len_utf8()..]);
    let Some(first) = text.char_indices().find(|(at, c)| !harmless(*at, *c)) else {
        return Cow::Borrowed(text);
    };
    let mut clean = text[..first.0].to_owned();
    for (at, c) in text[first.0..].char_indices() {
        match u32::from(c) {
            _ if harmless(first.0 + at, c) => clean.push(c),
            code if code < 0x20 => clean.push_str(&format!("\\x{code:02x}")),
            // Escaped as in JSON, which never contains these control characters unescaped.
            code => clean.push_str(&format!("\\u{code:04x}")),
        }
    }
    Cow::Owned(clean)
}

/// Whether a character acts on a terminal, or on the text around it, instead of being shown.
fn acts(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// Whether the text continues as a sequence that only sets one of the 256 colours, sets bold, or resets both.
fn paints(rest: &str) -> bool {
    let Some((code, _)) = rest.strip_prefix('[').and_then(|rest| rest.split_once('m')) else { return false };
    let color = code.strip_prefix("38;5;").is_some_and(|number| number.parse::<u8>().is_ok());
    code.len() <= MAX_PAINT_BYTES && (color || matches!(code, "0" | "1" | "22" | "39"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_acts_is_spelt_out_and_what_is_seen_stays() {
        let table = [
            ("1.4.2", "1.4.2"),
            ("Zürich \u{65e5}\u{672c} a\tb", "Zürich \u{65e5}\u{672c} a\tb"),
            ("\u{1b}[2J\u{1b}]0;owned\u{7}", "\\x1b[2J\\x1b]0;owned\\x07"),
            ("ok\r\n→ rm -rf /", "ok\\x0d\\x0a→ rm -rf /"),
            ("\u{9b}31m\u{7f}", "\\u009b31m\\u007f"),
            ("a\u{202e}b\u{2066}", "a\\u202eb\\u2066"),
            ("\u{1b}[38;5;9mred", "\\x1b[38;5;9mred"),
        ];
        for (text, expected) in table {
            assert_eq!(line(text), expected);
        }
    }

    #[test]
    fn the_seal_lets_own_colours_through_and_no_other_sequence() {
        for own in ["\u{1b}[38;5;10mok\u{1b}[39m\n", "\u{1b}[1mname\u{1b}[0m\t-\n", "plain\n"] {
            assert_eq!(seal(own), own);
        }
        for foreign in [
            "\u{1b}[2J",
            "\u{1b}[8m",
            "\u{1b}]0;x\u{7}",
            "\u{1b}[38;5;256m",
            "\u{1b}[?1049h",
            "\u{1b}",
            "\u{1b}[1",
        ] {
            assert!(!seal(foreign).contains('\u{1b}'), "{foreign:?}");
        }
        assert_eq!(seal("a\rb\u{8}"), "a\\x0db\\x08");
    }

    #[test]
    fn what_paint_and_tables_emit_passes_the_seal() {
        use clap::Parser;
        let cli = crate::cli::Cli::parse_from(["escli", "--color", "always", "stop"]);
        let settings = cli.global.settings(crate::settings::Environment::default());
        let paint = crate::view::out_paint(&settings);
        let seen = crate::overview::tests::healthy(3).overview();
        let text = crate::view::status::text(&seen, true, paint)
            + &crate::view::status::detail(&seen.nodes[0], paint)
            + &(1..9).map(|id| paint.node(id, "n |")).collect::<String>();
        assert!(text.contains('\u{1b}'));
        assert_eq!(seal(&text), text);
    }

    #[test]
    fn all_text_of_an_answer_is_one_line_each_and_a_document_stays_one() {
        let mut value = json!({"a": ["x\ny", {"b": "\u{1b}c"}], "n": 1, "null": null});
        strings(&mut value);
        assert_eq!(value, json!({"a": ["x\\x0ay", {"b": "\\x1bc"}], "n": 1, "null": null}));
        let document = json!({"stdout": "\u{1b}[2J\u{9b}\u{202e}\n"});
        let printed = seal(&document.to_string()).into_owned();
        assert_eq!(serde_json::from_str::<Value>(&printed).unwrap(), document);
    }
}

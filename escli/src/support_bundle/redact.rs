//! PURE: removes secrets from a text: values whose names look like a secret's, logins in URLs, and private keys. When
//! in doubt it removes too much.

/// Parts of names that mark a secret, in lower case.
const SECRET_NAMES: [&str; 15] = [
    "passw",
    "passphrase",
    "pwd",
    "secret",
    "token",
    "credential",
    "api_key",
    "api-key",
    "apikey",
    "access_key",
    "private_key",
    "authorization",
    "bearer",
    "cookie",
    "identity_file",
];
/// The text in place of a secret.
const REDACTED: &str = "[redacted]";
const QUOTES: [char; 2] = ['"', '\''];

/// Returns the text without secrets.
pub fn redact(text: &str) -> String {
    let text = without_keys(text);
    let mut out = String::with_capacity(text.len());
    // Indentation of a name whose value is in the lines below it.
    let mut below: Option<usize> = None;
    for whole in text.split_inclusive('\n') {
        let line = whole.trim_end_matches(['\n', '\r']);
        let indent = line.len() - line.trim_start().len();
        if let Some(name) = below {
            let item = indent == name && line.trim_start().starts_with("- ");
            if line.trim().is_empty() || indent > name || item {
                continue;
            }
        }
        let (shown, opens) = self::line(line);
        out.push_str(&without_logins(&shown));
        out.push_str(&whole[line.len()..]);
        below = opens.then_some(indent);
    }
    out
}

/// Redacts one line; also returns whether a secret value begins on the next line.
fn line(line: &str) -> (String, bool) {
    let (mut out, mut from, mut opens) = (String::new(), 0, false);
    while let Some(found) = next(line, from) {
        out.push_str(&line[from..found.start]);
        out.push_str(REDACTED);
        from = found.end;
        opens = found.opens;
    }
    out.push_str(&line[from..]);
    (out, opens)
}

/// The position of a value to remove.
struct Value {
    start: usize,
    end: usize,
    opens: bool,
}

/// Returns the first secret value after `from`: one behind a colon or an equals sign, or behind `--a-name` or `Bearer`.
fn next(line: &str, from: usize) -> Option<Value> {
    let separators = line[from..].match_indices([':', '=', ' ']).map(|(at, found)| (from + at, found));
    for (at, separator) in separators {
        let before = &line[from..at];
        let (name, outer) = if separator == " " {
            let word = before.rsplit([' ', '"', '\'', ',']).next().unwrap_or_default();
            if !word.starts_with("--") && !word.eq_ignore_ascii_case("bearer") {
                continue;
            }
            (word, None)
        } else {
            name(before)
        };
        if is_secret(name)
            && let Some(value) = value(line, at, separator, outer)
        {
            return Some(value);
        }
    }
    None
}

/// Returns the last word before a separator, and the quote directly before that word if it is still open, as in
/// `"NAME=a b"`.
fn name(before: &str) -> (&str, Option<char>) {
    let before = before.trim_end();
    let closed = before.ends_with(QUOTES);
    let before = before.trim_end_matches(['"', '\'', '\\']);
    let part = |letter: char| letter.is_alphanumeric() || "_-.".contains(letter);
    let start = before.char_indices().rev().take_while(|(_, letter)| part(*letter)).last();
    let start = start.map_or(before.len(), |(at, _)| at);
    let outer = before[..start].chars().next_back().filter(|quote| QUOTES.contains(quote) && !closed);
    (&before[start..], outer)
}

fn is_secret(name: &str) -> bool {
    let name = name.to_lowercase();
    SECRET_NAMES.iter().any(|part| name.contains(part))
}

fn value(line: &str, at: usize, separator: &str, outer: Option<char>) -> Option<Value> {
    let rest = &line[at + 1..];
    let text = rest.trim_start();
    let start = line.len() - text.len();
    let block = separator == ":" && (text.is_empty() || text.starts_with(['|', '>', '[', '{', '&', '!']));
    let length = match quoted(text) {
        Some(length) => length,
        None if block => text.len(),
        None => match (separator, outer) {
            (_, Some(quote)) => text.find(quote).unwrap_or(text.len()),
            (":", None) if line[..at].contains('{') => text.find([',', '}']).unwrap_or(text.len()),
            // In a header, in YAML or in a log, nothing shows where the value ends, so the rest of the line is removed.
            (":", None) => text.len(),
            _ => text.find(char::is_whitespace).unwrap_or(text.len()),
        },
    };
    (length > 0 || block).then_some(Value { start, end: start + length, opens: block })
}

/// Returns the length of the quoted value at the start of `text`. The quotes may be escaped, as in JSON within JSON.
fn quoted(text: &str) -> Option<usize> {
    let slashes = text.len() - text.trim_start_matches('\\').len();
    let quote = text[slashes..].chars().next().filter(|quote| QUOTES.contains(quote))?;
    let mut escapes = 0;
    for (at, letter) in text.char_indices().skip(slashes + 1) {
        match letter {
            '\\' => escapes += 1,
            _ if letter == quote && escapes <= slashes => return Some(at + 1),
            _ => escapes = 0,
        }
    }
    Some(text.len())
}

/// Removes the part before the `@` in `://user:password@host`.
fn without_logins(line: &str) -> String {
    let mut parts = line.split("://");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out.push_str("://");
        let end = part.find(|letter: char| letter.is_whitespace() || "/\"'".contains(letter));
        let authority = &part[..end.unwrap_or(part.len())];
        match authority.rfind('@') {
            Some(at) => {
                out.push_str(REDACTED);
                out.push_str(&part[at..]);
            }
            None => out.push_str(part),
        }
    }
    out
}

/// Removes private keys in PEM, even if only a part is there.
fn without_keys(text: &str) -> String {
    const MARK: &str = "PRIVATE KEY-----";
    let (mut out, mut rest) = (String::new(), text);
    while let Some(at) = rest.find(MARK) {
        let begins = rest[..at].rfind("-----BEGIN ");
        let ends = rest[..at].rfind("-----END ");
        let after = &rest[at + MARK.len()..];
        match (begins, ends) {
            (Some(begin), end) if end.is_none_or(|end| end < begin) => {
                out.push_str(&rest[..begin]);
                out.push_str(REDACTED);
                rest = after.find(MARK).map_or("", |end| &after[end + MARK.len()..]);
            }
            // The beginning of the key was cut off.
            _ => {
                out.push_str(REDACTED);
                rest = after;
            }
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_named_like_a_secret_loses_its_value() {
        let table = [
            ("password: hunter2", "password: [redacted]"),
            ("  # the DB_PASSWORD: hunter2 of ada", "  # the DB_PASSWORD: [redacted]"),
            ("ES_TOKEN=hunter2 RUST_LOG=info", "ES_TOKEN=[redacted] RUST_LOG=info"),
            (
                "Environment=\"A_SECRET=hunter2 hunter2\" \"B=c\"",
                "Environment=\"A_SECRET=[redacted]\" \"B=c\"",
            ),
            (
                r#"{"user": "ada", "api_key": "hunter2\"hunter2", "n": 1}"#,
                r#"{"user": "ada", "api_key": [redacted], "n": 1}"#,
            ),
            (r#"{"text":"a \"token\": \"hunter2\", b"}"#, r#"{"text":"a \"token\": [redacted], b"}"#),
            ("{ passphrase: hunter2, port: 22 }", "{ passphrase: [redacted], port: 22 }"),
            ("Authorization: Basic hunter2 hunter2", "Authorization: [redacted]"),
            ("sent bearer hunter2 to it", "sent bearer [redacted] to it"),
            ("escli --password hunter2 up", "escli --password [redacted] up"),
            ("got https://ada:hunter2@host/x and http://b", "got https://[redacted]@host/x and http://b"),
            ("identity_file: /home/ada/hunter2", "identity_file: [redacted]"),
            ("token='hunter2 hunter2' x", "token=[redacted] x"),
            ("a secret = hunter2", "a secret = [redacted]"),
        ];
        for (text, expected) in table {
            assert_eq!(redact(text), expected);
        }
    }

    #[test]
    fn what_is_no_secret_stays_as_it_is() {
        for text in [
            "2026-01-01T00:00:00Z INFO leader of term 3: n1\n",
            "es_commit_index{node=\"1\"} 17\n",
            "cluster:\n  nodes:\n    - { id: 1, host: 10.0.0.1 }\n",
            "see https://example.org/a@b\n",
            "\n\n",
        ] {
            assert_eq!(redact(text), text);
        }
    }

    #[test]
    fn values_of_several_lines_go_whole() {
        let text = "tokens:\n- hunter2\n- hunter2\na: 1\n  private_key: |\n    hunter2\n\n    hunter2\n  b: 2\n\"secrets\": [\n  \"hunter2\"\n],\n";
        let shown = redact(text);
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(shown.contains("a: 1\n") && shown.contains("  b: 2\n") && shown.contains("],\n"), "{shown}");
    }

    #[test]
    fn private_keys_go_also_when_a_part_is_missing() {
        let (begin, end) = ("-----BEGIN OPENSSH PRIVATE KEY-----", "-----END OPENSSH PRIVATE KEY-----");
        let whole = format!("a\n{begin}\nhunter2\n{end}\nb\n{begin}\nhunter2\n{end}\nc\n");
        assert_eq!(redact(&whole), "a\n[redacted]\nb\n[redacted]\nc\n");
        assert_eq!(redact(&format!("hunter2\n{end}\nb\n")), "[redacted]\nb\n");
        assert_eq!(redact(&format!("a\n{begin}\nhunter2\n")), "a\n[redacted]");
    }
}

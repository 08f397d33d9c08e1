//! Decodes the bytes of a cluster.yaml, or says which encoding they seem to be in.

use super::parse::{Problem, SpecErrors};

/// Largest file that is read, in bytes; far more than any cluster needs.
pub const MAX_BYTES: usize = 1 << 20;

/// The byte order mark, which some editors put in front of UTF-8.
pub const BOM: char = '\u{feff}';

/// Returns the text of a file. `file` is only used in errors.
///
/// # Errors
/// Where the bytes stop being UTF-8, and which encoding they look like.
pub fn decode(file: &str, bytes: Vec<u8>) -> Result<String, SpecErrors> {
    let refused = |at: &[u8], message: String| {
        let begin = at.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let count = |number: usize| u64::try_from(number + 1).unwrap_or(u64::MAX);
        let line = count(at.iter().filter(|byte| **byte == b'\n').count());
        let column = count(String::from_utf8_lossy(&at[begin..]).chars().count());
        SpecErrors { file: file.to_owned(), problems: vec![Problem { line, column, message }] }
    };
    if bytes.len() > MAX_BYTES {
        return Err(refused(
            &[],
            format!("the file is larger than {} KiB; expected a cluster.yaml", MAX_BYTES >> 10),
        ));
    }
    if let Some(encoding) = wide(&bytes) {
        return Err(refused(&[], format!("the file is {encoding}; expected UTF-8: {}", convert(encoding))));
    }
    if let Some(at) = bytes.iter().position(|byte| *byte == 0) {
        return Err(refused(&bytes[..at], "NUL byte; expected text".to_owned()));
    }
    String::from_utf8(bytes).map_err(|error| {
        let (at, bytes) = (error.utf8_error().valid_up_to(), error.as_bytes());
        let byte = bytes[at];
        let advice = convert("WINDOWS-1252");
        let latin = char::from(byte);
        // From 0xc0 on, both code pages have letters. The signs below are not likely in a cluster.yaml.
        let looks = if byte >= 0xc0 { format!(" (in Latin-1 it is \"{latin}\")") } else { String::new() };
        refused(&bytes[..at], format!("the byte 0x{byte:02x}{looks} is not UTF-8; expected UTF-8: {advice}"))
    })
}

fn convert(from: &str) -> String {
    format!("`iconv -f {from} -t UTF-8`, or save it as UTF-8 in your editor")
}

/// Returns the name of the 16-bit or 32-bit encoding that the file seems to be in: it begins with a byte order mark, or
/// has zeros between ASCII characters.
fn wide(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] | [_, 0, 0, 0, ..] | [0, 0, 0, _, ..] => {
            Some("UTF-32")
        }
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Some("UTF-16"),
        [1..=255, 0, 1..=255, 0, ..] => Some("UTF-16LE"),
        [0, 1..=255, 0, 1..=255, ..] => Some("UTF-16BE"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(bytes: &[u8]) -> String {
        decode("f", bytes.to_vec()).unwrap_err().to_string()
    }

    #[test]
    fn what_is_no_utf8_is_named_with_its_place() {
        let latin = refused(b"cluster:\n  # caf\xe9\n");
        assert!(
            latin.starts_with("f:2:8: the byte 0xe9 (in Latin-1 it is \"\u{e9}\") is not UTF-8"),
            "{latin}"
        );
        assert!(latin.contains("iconv -f WINDOWS-1252 -t UTF-8"), "{latin}");
        let cut = refused(b"# \xc3\xbc\n# \xc3\xbc\xff");
        assert!(cut.starts_with("f:2:4: "), "{cut}");
        assert!(refused(b"a: b\n\0").starts_with("f:2:1: NUL byte"), "{}", refused(b"a: b\n\0"));
    }

    #[test]
    fn wide_encodings_are_called_by_their_name_with_and_without_a_mark() {
        let text = "cluster:\n";
        let little: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let big: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
        let table = [
            (little.clone(), "UTF-16LE"),
            (big.clone(), "UTF-16BE"),
            ([&[0xff, 0xfe], little.as_slice()].concat(), "UTF-16"),
            ([&[0xfe, 0xff], big.as_slice()].concat(), "UTF-16"),
            (text.chars().flat_map(|c| u32::from(c).to_le_bytes()).collect(), "UTF-32"),
        ];
        for (bytes, name) in table {
            assert!(
                refused(&bytes).starts_with(&format!("f:1:1: the file is {name}; expected UTF-8")),
                "{name}"
            );
        }
    }

    #[test]
    fn a_mark_in_front_of_utf8_and_any_letters_are_text() {
        for text in ["", "\u{feff}cluster:\n", "# Z\u{fc}rich \u{65e5}\u{672c}\n"] {
            assert_eq!(decode("f", text.as_bytes().to_vec()).as_deref(), Ok(text));
        }
        assert!(refused(&vec![b'#'; MAX_BYTES + 1]).contains("larger than 1024 KiB"));
    }
}

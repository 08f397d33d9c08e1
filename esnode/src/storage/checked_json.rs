//! Small files of JSON that damage cannot change unnoticed: one line of JSON, and one with its CRC32C.

use serde::Serialize;

/// How the line of the checksum begins in one kind of file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CheckedJson {
    pub prefix: &'static str,
}

impl CheckedJson {
    /// Returns the file's content for `value`.
    pub fn encode(self, value: &impl Serialize) -> serde_json::Result<String> {
        Ok(self.seal(&serde_json::to_string(value)?))
    }

    /// Returns the JSON of a file with this content, or what is wrong with the file.
    pub fn open(self, content: &[u8]) -> Result<&str, &'static str> {
        let text = str::from_utf8(content).map_err(|_| "not text")?;
        let (json, _) = text.split_once('\n').ok_or("the checksum is missing")?;
        if text == self.seal(json) { Ok(json) } else { Err("checksum mismatch") }
    }

    pub fn seal(self, json: &str) -> String {
        format!("{json}\n{}{:08x}\n", self.prefix, crc32c::crc32c(json.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_flipped_bit_and_any_cut_is_noticed() {
        let format = CheckedJson { prefix: "crc32c=" };
        let good = format.encode(&["a", "b"]).unwrap();
        assert_eq!(format.open(good.as_bytes()), Ok(r#"["a","b"]"#));
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone().into_bytes();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(format.open(&bad).is_err(), "bit {bit}");
        }
        for length in 0..good.len() {
            assert!(format.open(&good.as_bytes()[..length]).is_err(), "cut to {length}");
        }
    }
}

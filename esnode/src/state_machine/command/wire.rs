//! Texts and bytes inside of commands: a length, and then as many bytes.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Appends a length.
pub fn put_length(out: &mut BytesMut, length: usize) {
    out.put_u32_le(u32::try_from(length).unwrap_or(u32::MAX));
}

/// Appends bytes with their length before them.
pub fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    put_length(out, bytes.len());
    out.put_slice(bytes);
}

/// Takes bytes that have their length before them.
pub fn get_bytes(bytes: &mut Bytes) -> Option<Bytes> {
    let length = usize::try_from(bytes.try_get_u32_le().ok()?).ok()?;
    (length <= bytes.len()).then(|| bytes.split_to(length))
}

/// Takes a text that has its length before it.
pub fn get_text(bytes: &mut Bytes) -> Option<String> {
    String::from_utf8(get_bytes(bytes)?.into()).ok()
}

/// Takes a list that has its length before it. Each element takes bytes, so a false length cannot make this long.
pub fn get_all<T>(bytes: &mut Bytes, get: impl Fn(&mut Bytes) -> Option<T>) -> Option<Vec<T>> {
    let count = bytes.try_get_u32_le().ok()?;
    (0..count).map(|_| get(bytes)).collect()
}

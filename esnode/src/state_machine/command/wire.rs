//! What is inside of commands of several kinds: texts, bytes and lists, each behind its length, and partitions.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::state_machine::TopicId;

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

/// Appends partitions with their number before them.
pub fn put_partitions<'a>(
    out: &mut BytesMut,
    partitions: impl IntoIterator<Item = &'a (TopicId, u32), IntoIter: ExactSizeIterator>,
) {
    let partitions = partitions.into_iter();
    put_length(out, partitions.len());
    for (topic, partition) in partitions {
        out.put_u32_le(*topic);
        out.put_u32_le(*partition);
    }
}

/// Takes partitions that have their number before them.
pub fn get_partitions(bytes: &mut Bytes) -> Option<Vec<(TopicId, u32)>> {
    get_all(bytes, get_partition)
}

/// Takes a partition.
pub fn get_partition(bytes: &mut Bytes) -> Option<(TopicId, u32)> {
    Some((bytes.try_get_u32_le().ok()?, bytes.try_get_u32_le().ok()?))
}

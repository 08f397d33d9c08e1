//! Checks a request's array counts and lengths against the bytes that are there, before the codec sees it.
//!
//! The codec reserves memory for as many elements as an array claims to have; a frame of 20 bytes could claim two
//! thousand million. So each served request's layout is written down here once more, just well enough to walk
//! over it. Knows nothing of what the fields mean.

/// Most array elements and tagged fields in one request. Decoded elements are larger than their bytes on the wire,
/// so this bounds the memory that a request of any size can take.
const MAX_ELEMENTS: usize = 200_000;

/// One field of a request.
#[derive(Debug)]
pub enum Field {
    /// A number, or several in a row: so many bytes.
    Fixed(usize),
    /// A string, or null.
    String,
    /// Opaque bytes, or null.
    Bytes,
    /// An array of numbers, each so many bytes.
    Numbers(usize),
    /// An array of strings.
    Strings,
    /// An array of structs.
    Structs(&'static [Field]),
    /// A struct, or null.
    Optional(&'static [Field]),
    /// Present from this version on.
    Since(i16, &'static Field),
    /// Present in these versions only, both included.
    Between(i16, i16, &'static Field),
}

/// Why a request is not passed on to the codec.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MalformedRequest {
    /// A length or a count points past the end, or is negative.
    #[error("a length or count exceeds the request")]
    Truncated,
    /// More elements than any honest client sends.
    #[error("more than {MAX_ELEMENTS} elements")]
    TooMany,
}

/// Walks over `body`, laid out as `fields` in `version`; `flexible` when lengths are varints and structs end in
/// tagged fields. Bytes after the last field are not looked at. Gives the number of elements and tagged fields.
pub fn check(fields: &[Field], version: i16, flexible: bool, body: &[u8]) -> Result<usize, MalformedRequest> {
    let mut walk = Walk { rest: body, version, flexible, elements: MAX_ELEMENTS };
    walk.structure(fields)?;
    Ok(MAX_ELEMENTS - walk.elements)
}

/// Skips the tagged fields that begin `bytes` and gives what follows.
pub fn skip_tags(bytes: &[u8]) -> Result<&[u8], MalformedRequest> {
    let mut walk = Walk { rest: bytes, version: 0, flexible: true, elements: MAX_ELEMENTS };
    walk.tags()?;
    Ok(walk.rest)
}

struct Walk<'a> {
    rest: &'a [u8],
    version: i16,
    flexible: bool,
    elements: usize,
}

impl Walk<'_> {
    fn structure(&mut self, fields: &[Field]) -> Result<(), MalformedRequest> {
        for field in fields {
            self.field(field)?;
        }
        if self.flexible { self.tags() } else { Ok(()) }
    }

    fn field(&mut self, field: &Field) -> Result<(), MalformedRequest> {
        match field {
            Field::Fixed(size) => self.skip(*size),
            Field::String => self.string(),
            Field::Bytes => {
                let length = if self.flexible { self.compact()? } else { self.int32()? };
                self.skip(length)
            }
            Field::Numbers(size) => {
                let count = self.count()?;
                self.skip(count * size)
            }
            Field::Strings => (0..self.count()?).try_for_each(|_| self.string()),
            Field::Structs(fields) => (0..self.count()?).try_for_each(|_| self.structure(fields)),
            Field::Optional(fields) => match self.take()? {
                // Whatever else it is, the codec takes it for null.
                [1] => self.structure(fields),
                [_] => Ok(()),
            },
            Field::Since(from, field) if self.version >= *from => self.field(field),
            Field::Between(from, to, field) if (*from..=*to).contains(&self.version) => self.field(field),
            Field::Since(..) | Field::Between(..) => Ok(()),
        }
    }

    fn string(&mut self) -> Result<(), MalformedRequest> {
        let length = if self.flexible {
            self.compact()?
        } else {
            match i16::from_be_bytes(self.take()?) {
                -1 => 0,
                length => usize::try_from(length).map_err(|_| MalformedRequest::Truncated)?,
            }
        };
        self.skip(length)
    }

    fn tags(&mut self) -> Result<(), MalformedRequest> {
        let count = self.varint()?;
        self.charge(count)?;
        for _ in 0..count {
            self.varint()?;
            let size = self.varint()?;
            self.skip(size)?;
        }
        Ok(())
    }

    fn count(&mut self) -> Result<usize, MalformedRequest> {
        let count = if self.flexible { self.compact()? } else { self.int32()? };
        if count > self.rest.len() {
            return Err(MalformedRequest::Truncated);
        }
        self.charge(count)?;
        Ok(count)
    }

    fn charge(&mut self, elements: usize) -> Result<(), MalformedRequest> {
        self.elements = self.elements.checked_sub(elements).ok_or(MalformedRequest::TooMany)?;
        Ok(())
    }

    fn int32(&mut self) -> Result<usize, MalformedRequest> {
        match i32::from_be_bytes(self.take()?) {
            -1 => Ok(0),
            length => usize::try_from(length).map_err(|_| MalformedRequest::Truncated),
        }
    }

    /// A length in the flexible encoding: one more than it is, 0 for null.
    fn compact(&mut self) -> Result<usize, MalformedRequest> {
        Ok(self.varint()?.saturating_sub(1))
    }

    /// As the codec reads it: at most five bytes, bits beyond the 32nd dropped.
    fn varint(&mut self) -> Result<usize, MalformedRequest> {
        let mut value = 0u32;
        for shift in 0..5 {
            let [byte] = self.take()?;
            value |= u32::from(byte & 0x7f) << (shift * 7);
            if byte < 0x80 {
                break;
            }
        }
        Ok(value as usize)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], MalformedRequest> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(MalformedRequest::Truncated)?;
        self.rest = rest;
        Ok(*head)
    }

    fn skip(&mut self, bytes: usize) -> Result<(), MalformedRequest> {
        self.rest = self.rest.get(bytes..).ok_or(MalformedRequest::Truncated)?;
        Ok(())
    }
}

//! Kafka's compression codecs, as streams: nothing is held but a block or a window of what comes out.

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;
use lz4_flex::frame::FrameDecoder;
use ruzstd::decoding::StreamingDecoder;

/// Bytes that the records of one batch may take once decompressed: four times the largest batch. A few bytes can say
/// that they are gigabytes.
pub const MAX_DECOMPRESSED: usize = 64 << 20;
/// The bits of a batch's attributes that name the codec.
pub const CODEC: i16 = 0x07;
/// Bytes taken out of a decoder at a time.
const CHUNK: usize = 16 << 10;
/// How a snappy stream begins when it is framed as xerial's library does: the magic, and two versions.
const XERIAL: &[u8] = b"\x82SNAPPY\0";
const XERIAL_HEADER: usize = 16;
/// Three bytes of snappy make at most 64, and what stands before the first is short.
const SNAPPY_RATIO: usize = 22;
const SNAPPY_SLACK: usize = 64;

/// How the records of a batch are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// Not at all.
    None,
    /// RFC 1952.
    Gzip,
    /// In blocks as xerial's library frames them, or one raw block.
    Snappy,
    /// LZ4's frame format.
    Lz4,
    /// RFC 8878.
    Zstd,
}

impl Codec {
    /// The one that a batch's attributes name; `None` for a number that Kafka has given to none.
    pub fn of(attributes: i16) -> Option<Self> {
        match attributes & CODEC {
            0 => Some(Self::None),
            1 => Some(Self::Gzip),
            2 => Some(Self::Snappy),
            3 => Some(Self::Lz4),
            4 => Some(Self::Zstd),
            _ => None,
        }
    }

    /// What `bytes` are when they are decompressed.
    pub fn reader<'a>(self, bytes: &'a [u8]) -> Box<dyn BufRead + 'a> {
        match self {
            Self::None => Box::new(bytes),
            Self::Gzip => Box::new(BufReader::with_capacity(CHUNK, MultiGzDecoder::new(bytes))),
            Self::Snappy => Box::new(Snappy::new(bytes)),
            Self::Lz4 => Box::new(BufReader::with_capacity(CHUNK, FrameDecoder::new(bytes))),
            Self::Zstd => Box::new(BufReader::with_capacity(CHUNK, Zstd { rest: bytes, frame: None })),
        }
    }
}

fn invalid(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// Blocks of snappy.
struct Snappy<'a> {
    rest: &'a [u8],
    framed: bool,
    block: Vec<u8>,
    taken: usize,
}

impl<'a> Snappy<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        let framed = bytes.starts_with(XERIAL);
        let rest = if framed { bytes.get(XERIAL_HEADER..).unwrap_or_default() } else { bytes };
        Self { rest, framed, block: Vec::new(), taken: 0 }
    }

    fn next_block(&mut self) -> io::Result<()> {
        let block = if self.framed {
            let cut = || invalid("a snappy block is cut");
            let (length, rest) = self.rest.split_first_chunk::<4>().ok_or_else(cut)?;
            let length = u32::from_be_bytes(*length) as usize;
            let (block, rest) = rest.split_at_checked(length).ok_or_else(cut)?;
            self.rest = rest;
            block
        } else {
            std::mem::take(&mut self.rest)
        };
        let length = snap::raw::decompress_len(block).map_err(invalid)?;
        // Memory is given for what can come out, not for what is claimed.
        if length > block.len().saturating_mul(SNAPPY_RATIO) + SNAPPY_SLACK {
            return Err(invalid("a snappy block claims more than it can hold"));
        }
        self.block.resize(length, 0);
        self.taken = 0;
        snap::raw::Decoder::new().decompress(block, &mut self.block).map_err(invalid)?;
        Ok(())
    }
}

impl BufRead for Snappy<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.taken == self.block.len() && !self.rest.is_empty() {
            self.next_block()?;
        }
        Ok(&self.block[self.taken..])
    }

    fn consume(&mut self, amount: usize) {
        self.taken += amount;
    }
}

impl Read for Snappy<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(out)?;
        self.consume(read);
        Ok(read)
    }
}

/// Frames of Zstandard, back to back.
struct Zstd<'a> {
    rest: &'a [u8],
    frame: Option<StreamingDecoder<&'a [u8], ruzstd::decoding::FrameDecoder>>,
}

impl Read for Zstd<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.frame.is_none() {
                if self.rest.is_empty() {
                    return Ok(0);
                }
                self.frame = Some(StreamingDecoder::new(self.rest).map_err(invalid)?);
            }
            let Some(frame) = &mut self.frame else { return Ok(0) };
            let read = frame.read(out)?;
            if read > 0 || out.is_empty() {
                return Ok(read);
            }
            self.rest = frame.get_ref();
            let (promised, is) =
                (frame.decoder.get_checksum_from_data(), frame.decoder.get_calculated_checksum());
            self.frame = None;
            if promised.is_some() && promised != is {
                return Err(invalid("a Zstandard frame's checksum does not match"));
            }
        }
    }
}

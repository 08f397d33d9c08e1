//! What happened, in order: a running digest of every event, and the events themselves when someone wants to read.

use std::fmt;

use super::Micros;

/// The run's history. Two runs of the same seed must end with the same digest.
pub struct Trace {
    digest: u64,
    print: bool,
    steps: u64,
}

impl Trace {
    /// An empty history; `print` writes every note to standard error as it is made.
    pub fn new(print: bool) -> Self {
        Self { digest: 0, print, steps: 0 }
    }

    /// One event is handled; `marks` tell it from others.
    pub fn step(&mut self, now: Micros, marks: [u64; 4]) {
        self.steps += 1;
        self.digest = marks.into_iter().fold(mix(self.digest, now), mix);
    }

    /// A line for the reader. Text is made only when someone reads.
    pub fn note(&self, now: Micros, what: fmt::Arguments<'_>) {
        if self.print {
            eprintln!("{:>10}.{:03} ms  {what}", now / 1000, now % 1000);
        }
    }

    /// Events so far.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// The history in one number.
    pub fn digest(&self) -> u64 {
        self.digest
    }
}

/// A digest of `digest` and `value`: fast, and good enough to tell histories and payloads apart.
pub fn mix(digest: u64, value: u64) -> u64 {
    let mixed = (digest.rotate_left(23) ^ value).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed ^ (mixed >> 29)
}

/// A digest of bytes.
pub fn mix_bytes(bytes: &[u8]) -> u64 {
    let mut words = bytes.chunks_exact(8);
    let word = |chunk: &[u8]| chunk.iter().fold(0, |word, byte| (word << 8) | u64::from(*byte));
    let digest = words.by_ref().fold(bytes.len() as u64, |digest, chunk| mix(digest, word(chunk)));
    mix(digest, word(words.remainder()))
}

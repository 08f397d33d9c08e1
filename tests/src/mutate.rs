//! Damages valid inputs, the same way for the same seed.

use fastrand::Rng;

/// Values at the limits of lengths and counts.
const EDGES: [i64; 12] = [0, 1, -1, 2, 0x7f, 0x80, 0xff, 0x7fff, 0xffff, 0x7fff_ffff, 0xffff_ffff, i64::MAX];

/// Valid inputs and a source of randomness.
pub struct Mutator {
    seeds: Vec<Vec<u8>>,
    random: Rng,
}

impl Mutator {
    /// Takes at least one input, none of them empty.
    pub fn new(seeds: Vec<Vec<u8>>, seed: u64) -> Self {
        assert!(!seeds.is_empty() && seeds.iter().all(|seed| !seed.is_empty()), "nothing to damage");
        Self { seeds, random: Rng::with_seed(seed) }
    }

    /// Returns one of the inputs, damaged in one to five places.
    pub fn damaged(&mut self) -> Vec<u8> {
        let mut bytes = self.any_seed().to_vec();
        for _ in 0..self.random.usize(1..6) {
            self.damage(&mut bytes);
            if bytes.is_empty() {
                bytes.push(self.random.u8(..));
            }
        }
        bytes
    }

    fn any_seed(&mut self) -> &[u8] {
        let at = self.random.usize(..self.seeds.len());
        &self.seeds[at]
    }

    fn damage(&mut self, bytes: &mut Vec<u8>) {
        let at = self.random.usize(..bytes.len());
        match self.random.u8(..8) {
            0 => bytes[at] ^= 1 << self.random.u8(..8),
            1 => bytes[at] = self.random.u8(..),
            2 => bytes.truncate(at),
            3 => bytes.insert(at, self.random.u8(..)),
            4 | 5 => self.number(bytes, at),
            6 => {
                // Repeats a part.
                let end = self.random.usize(at..=bytes.len().min(at + 64));
                let part = bytes[at..end].to_vec();
                bytes.splice(at..at, part);
            }
            _ => {
                // Continues like another input.
                let other = self.any_seed().to_vec();
                bytes.truncate(at);
                bytes.extend_from_slice(&other[self.random.usize(..other.len())..]);
            }
        }
    }

    /// Writes one of the edges over one to eight bytes, in either byte order.
    fn number(&mut self, bytes: &mut [u8], at: usize) {
        let edge = EDGES[self.random.usize(..EDGES.len())];
        let width = [1, 2, 4, 8][self.random.usize(..4)];
        let (little, big) = (edge.to_le_bytes(), edge.to_be_bytes());
        let number = if self.random.bool() { &little[..width] } else { &big[8 - width..] };
        let end = bytes.len().min(at + width);
        bytes[at..end].copy_from_slice(&number[..end - at]);
    }
}

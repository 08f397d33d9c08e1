//! A Bloom filter over the partitions of a segment: whether a partition may have batches there.

use bytes::{Buf, Bytes};

use super::PartitionKey;

/// Bits for each partition: one in a hundred that are not there passes.
const BITS: usize = 10;
/// Bits that each partition sets.
const HASHES: u64 = 7;

/// The filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Filter(Box<[u64]>);

impl Filter {
    /// A filter that lets these partitions pass.
    pub fn of(keys: impl ExactSizeIterator<Item = PartitionKey>) -> Self {
        let mut filter = Self(vec![0; (keys.len() * BITS).div_ceil(64)].into());
        for key in keys {
            for bit in filter.bits(key) {
                filter.0[bit / 64] |= 1 << (bit % 64);
            }
        }
        filter
    }

    /// Whether the partition may be there. Never false for one that is.
    pub fn may_have(&self, key: PartitionKey) -> bool {
        !self.0.is_empty() && self.bits(key).all(|bit| self.0[bit / 64] & 1 << (bit % 64) != 0)
    }

    /// The bits of a partition, by double hashing.
    fn bits(&self, (topic, partition): PartitionKey) -> impl Iterator<Item = usize> + use<> {
        let count = self.0.len() as u64 * 64;
        let hash = mix(u64::from(topic) << 32 | u64::from(partition));
        let step = mix(hash) | 1;
        let bit = move |turn: u64| hash.wrapping_add(turn.wrapping_mul(step)) % count;
        (0..HASHES).map(move |turn| usize::try_from(bit(turn)).expect("as many as a slice has bits"))
    }

    /// Returns the encoding.
    pub fn encode(&self) -> Vec<u8> {
        self.0.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    /// Decodes what [`Filter::encode`] returns.
    pub fn decode(mut bytes: Bytes) -> Self {
        Self((0..bytes.len() / 8).map(|_| bytes.get_u64_le()).collect())
    }
}

/// Spreads the bits of a number (the finalizer of SplitMix64).
fn mix(number: u64) -> u64 {
    let number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ number >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lets_its_partitions_pass_and_few_others() {
        let keys = |topic| (0..1000).map(move |partition| (topic, partition));
        let filter = Filter::of(keys(7));
        assert!(keys(7).all(|key| filter.may_have(key)));
        let passing = keys(8).filter(|key| filter.may_have(*key)).count();
        assert!(passing < 30, "{passing} of 1000");
        assert_eq!((Filter::decode(filter.encode().into()), filter.0.len()), (filter.clone(), 157));
        assert!(!Filter::of([].into_iter()).may_have((0, 0)));
    }
}

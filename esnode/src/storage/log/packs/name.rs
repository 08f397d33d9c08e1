//! The names of packs, which say which of them count. Pure.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use crate::batch_index::segment_index::SegmentId;

/// Extension of packs.
pub(super) const EXTENSION: &str = ".pack";

/// The name of a pack: `<first entry>-<last entry>-<generation>.pack`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name {
    /// The entries whose batches it holds.
    pub entries: RangeInclusive<u64>,
    /// One more than that of the packs that it has replaced.
    pub generation: u64,
}

impl fmt::Display for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, last) = (self.entries.start(), self.entries.end());
        write!(formatter, "{first:020}-{last:020}-{:010}{EXTENSION}", self.generation)
    }
}

impl FromStr for Name {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        let numbers = name.strip_suffix(EXTENSION).ok_or(())?;
        let numbers: Vec<u64> = numbers.split('-').map(str::parse).collect::<Result<_, _>>().map_err(drop)?;
        match numbers[..] {
            [first, last, generation] if first <= last => Ok(Self { entries: first..=last, generation }),
            _ => Err(()),
        }
    }
}

impl Name {
    /// Whether this is the name of a pack with such an index.
    pub fn is_of(&self, id: SegmentId, entries: &RangeInclusive<u64>) -> bool {
        id.sequence == 0 && *entries == self.entries
    }
}

/// Whether `all` has every one of `some` entries.
pub(super) fn includes(all: &RangeInclusive<u64>, some: &RangeInclusive<u64>) -> bool {
    all.contains(some.start()) && all.contains(some.end())
}

/// Tells the packs that count from those that others have replaced; both in the order of their entries.
pub(super) fn sort(mut names: Vec<Name>) -> (Vec<Name>, Vec<Name>) {
    // Whatever has replaced a pack comes before it.
    names.sort_by_key(|name| {
        let (first, last) = (*name.entries.start(), *name.entries.end());
        (first, std::cmp::Reverse((last, name.generation)))
    });
    let (mut kept, mut replaced) = (Vec::<Name>::new(), Vec::new());
    for name in names {
        match kept.last() {
            Some(last) if includes(&last.entries, &name.entries) => replaced.push(name),
            _ => kept.push(name),
        }
    }
    (kept, replaced)
}

/// The first pack, of these in the order of their entries, that does not continue the one before it.
pub(super) fn gap(names: &[Name]) -> Option<&Name> {
    let joins = |pair: &[Name]| pair[0].entries.end().checked_add(1) == Some(*pair[1].entries.start());
    names.windows(2).find(|pair| !joins(pair)).map(|pair| &pair[1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_counts() {
        let name = |first, last, generation| Name { entries: first..=last, generation };
        let (kept, replaced) = sort(vec![
            name(1, 4, 1),
            name(5, 9, 1),
            name(1, 9, 2),
            name(10, 12, 1),
            name(10, 12, 2),
            name(13, 14, 1),
        ]);
        assert_eq!(kept, [name(1, 9, 2), name(10, 12, 2), name(13, 14, 1)]);
        assert_eq!(replaced, [name(1, 4, 1), name(5, 9, 1), name(10, 12, 1)]);
        assert_eq!((gap(&kept), gap(&[name(1, 4, 1), name(6, 9, 1)])), (None, Some(&name(6, 9, 1))));
        assert_eq!(gap(&[name(1, u64::MAX, 1), name(6, 9, 1)]), Some(&name(6, 9, 1)));
        assert_eq!(kept[0].to_string(), "00000000000000000001-00000000000000000009-0000000002.pack");
        assert_eq!(kept[0].to_string().parse(), Ok(kept[0].clone()));
        for bad in ["1-2.pack", "2-1-1.pack", "a-2-1.pack", "1-2-3-4.pack", "1-2-3.seg"] {
            assert_eq!(bad.parse::<Name>(), Err(()), "{bad}");
        }
    }
}

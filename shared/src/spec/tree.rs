//! A YAML document in which every key and every value has its position. It knows nothing of clusters.
//!
//! The typed reader stops at its first error, and the public types have no positions. The tree makes up for both: it is
//! compared with the schema as a whole, and later checks find the position of a value by its path. A value that the
//! schema check has refused is [`Value::Unknown`] from then on, so that everything else can still be validated.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::Value as Scalar;
use serde_saphyr::{Location, Spanned};

/// A position in the text: line and column, from 1; both 0 if unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) line: u64,
    pub(super) column: u64,
}

/// A value and its position.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    pub(super) place: Place,
    pub(super) value: Value,
}

/// A scalar, a section, a list, or an unknown value.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Scalar(Scalar),
    List(Vec<Tree>),
    Section(Vec<Entry>),
    /// The value is invalid, or missing although it is required, and a problem was already reported for it.
    Unknown,
}

/// One key of a section with its value.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) place: Place,
    pub(super) value: Tree,
}

impl Tree {
    /// Returns the position of the value at `path` (keys and indexes, joined by dots); `None` if the file does not have
    /// it.
    pub(super) fn find(&self, path: &str) -> Option<Place> {
        let (tree, whole) = self.walk(path);
        whole.then_some(tree.place)
    }

    /// Returns the position of the value at `path`, or, if the file does not have it, of the innermost section around
    /// it.
    pub(super) fn near(&self, path: &str) -> Place {
        self.walk(path).0.place
    }

    /// Returns whether the value at `path`, or a section around it, was already refused. Nothing can be concluded from
    /// it.
    pub(super) fn is_unknown(&self, path: &str) -> bool {
        matches!(self.walk(path).0.value, Value::Unknown)
    }

    /// Converts the value to JSON. Unknown values are replaced by what `stand_in` returns for their key (an empty one
    /// for an item of a list), or left out if it returns `None`.
    pub(super) fn json(&self, key: &str, stand_in: &mut dyn FnMut(&str) -> Option<Scalar>) -> Option<Scalar> {
        Some(match &self.value {
            Value::Unknown => return stand_in(key),
            Value::Scalar(scalar) => scalar.clone(),
            Value::List(items) => items.iter().filter_map(|item| item.json("", stand_in)).collect(),
            Value::Section(entries) => entries
                .iter()
                .filter_map(|entry| Some((entry.key.clone(), entry.value.json(&entry.key, stand_in)?)))
                .collect(),
        })
    }

    fn walk(&self, path: &str) -> (&Self, bool) {
        let mut here = self;
        for step in path.split('.') {
            let next = match &here.value {
                Value::Section(entries) => entries.iter().find(|entry| entry.key == step).map(|e| &e.value),
                Value::List(items) => step.parse().ok().and_then(|index: usize| items.get(index)),
                Value::Scalar(_) | Value::Unknown => None,
            };
            let Some(next) = next else { return (here, false) };
            here = next;
        }
        (here, true)
    }
}

impl From<Location> for Place {
    fn from(at: Location) -> Self {
        Self { line: at.line(), column: at.column() }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Scalar(Scalar::Null) => f.write_str("empty"),
            Value::Scalar(scalar) => scalar.fmt(f),
            Value::List(_) => f.write_str("a list"),
            Value::Section(_) => f.write_str("a section"),
            Value::Unknown => f.write_str("unknown"),
        }
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let Spanned { value, referenced, .. } = Spanned::deserialize(from)?;
        Ok(Self { place: referenced.into(), value })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any YAML value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Scalar(Scalar::Null))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Scalar(value.into()))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Scalar(value.into()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Scalar(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Scalar(value.into()))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Scalar(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = from.next_element()? {
            items.push(item);
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some((key, value)) = from.next_entry::<Spanned<String>, Tree>()? {
            entries.push(Entry { key: key.value, place: key.referenced.into(), value });
        }
        Ok(Value::Section(entries))
    }
}

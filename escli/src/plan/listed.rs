//! Serialises maps with node ids as keys as lists of pairs. In JSON keys are text, and inside a tagged enum serde does
//! not turn them back into numbers.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use shared::ids::NodeId;

/// For `#[serde(with)]`.
///
/// # Errors
/// Those of the serializer.
pub fn serialize<V: Serialize, S: Serializer>(map: &BTreeMap<NodeId, V>, to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(map)
}

/// For `#[serde(with)]`.
///
/// # Errors
/// Those of the deserializer.
pub fn deserialize<'de, V: Deserialize<'de>, D: Deserializer<'de>>(
    from: D,
) -> Result<BTreeMap<NodeId, V>, D::Error> {
    Ok(Vec::<(NodeId, V)>::deserialize(from)?.into_iter().collect())
}

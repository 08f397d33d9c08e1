//! The assignors that members can do.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// An assignor that a member can do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Protocol {
    /// Its name: `range`, `cooperative-sticky`.
    pub name: String,
    /// What the member says of itself to whoever assigns by it. Opaque here.
    pub metadata: Bytes,
}

impl Protocol {
    /// Bytes that it takes, about.
    pub(super) fn bytes(&self) -> usize {
        self.name.len() + self.metadata.len()
    }
}

//! What `esnode` and `escli` agree on: identities, versions, `cluster.yaml`, the admin API's messages and the codecs
//! of record batches.
//!
//! Nothing here touches a file, a socket, a clock or a terminal: both programs bring those themselves.

pub mod api;
pub mod backup;
pub mod codec;
pub mod hex;
pub mod ids;
pub mod spec;
pub mod verified;
pub mod version;

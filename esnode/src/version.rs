//! What this binary is, and which protocols and on-disk formats it speaks.

use shared::version::{BuildInfo, Range};

/// Peer protocol versions.
pub const PROTOCOL: Range = Range { min: 1, max: 1 };
/// On-disk format versions.
pub const FORMAT: Range = Range { min: 1, max: 1 };

/// The answer of `esnode --version --json`.
pub fn build_info() -> BuildInfo {
    BuildInfo {
        version: env!("STAMPED_VERSION").to_owned(),
        build: env!("STAMPED_BUILD").to_owned(),
        protocol: PROTOCOL,
        format: FORMAT,
    }
}

/// The answer of `esnode --version`, with `json` of `esnode --version --json`.
pub fn describe(json: bool) -> String {
    let info = build_info();
    if json {
        serde_json::to_string(&info).expect("plain structs with string keys always serialise")
    } else {
        format!("esnode {} ({})", info.version, info.build)
    }
}

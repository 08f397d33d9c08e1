//! The version of this program, and which versions of protocol and on-disk format it supports.

use shared::version::{BuildInfo, Range};

/// Peer protocol versions that this binary speaks.
pub const PROTOCOL: Range = Range { min: 2, max: 2 };
/// On-disk format versions that this binary reads. It writes the one that is active in the cluster, which is
/// raised once every member reads the next.
pub const FORMAT: Range = Range { min: 1, max: NEWEST_FORMAT };
/// 4, unless set otherwise for tests. Version 5 only differs from 4 by its number.
const NEWEST_FORMAT: u16 = match option_env!("ESNODE_FORMAT_MAX") {
    None => 4,
    Some(text) => match u16::from_str_radix(text, 10) {
        Ok(version) if version >= 1 => version,
        _ => panic!("ESNODE_FORMAT_MAX is no format version"),
    },
};

/// The release version: `ESNODE_VERSION` at build time, else the crate's.
pub const VERSION: &str = env!("ESNODE_VERSION");

/// Returns everything that distinguishes two builds.
pub fn build_info() -> BuildInfo {
    BuildInfo {
        version: VERSION.to_owned(),
        build: env!("ESNODE_BUILD").to_owned(),
        protocol: PROTOCOL,
        format: FORMAT,
    }
}

/// Returns the output of `esnode --version`; with `json`, that of `esnode --version --json`.
pub fn describe(json: bool) -> String {
    let info = build_info();
    if json {
        serde_json::to_string(&info).expect("plain structs with string keys always serialise")
    } else {
        format!("esnode {} ({})", info.version, info.build)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_names_its_version_commit_and_profile() {
        let info = build_info();
        assert!(info.version.starts_with(|first: char| first.is_ascii_digit()), "{}", info.version);
        let (commit, profile) = info.build.split_once(' ').unwrap();
        assert!(commit == "unknown" || commit.len() >= 7, "{commit}");
        assert!(["debug", "playground", "release"].contains(&profile), "{profile}");
    }
}

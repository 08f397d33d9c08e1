//! PURE: the keys of cluster.yaml, for `escli explain`.

use shared::spec::{Key, keys};

/// Returns the key at `path` (with dots, from the top) and all keys below it; every key if `path` is empty.
pub fn keys_below(path: &str) -> Vec<Key> {
    let is_below = |key: &str| match key.strip_prefix(path) {
        Some(rest) => path.is_empty() || rest.is_empty() || rest.starts_with(['.', '[']),
        None => false,
    };
    keys().into_iter().filter(|key| is_below(&key.path)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_has_its_keys_and_no_others() {
        let found = keys_below("cluster.raft");
        assert!(
            found.len() == 5 && found.iter().all(|key| key.path.starts_with("cluster.raft")),
            "{found:?}"
        );
        assert!(keys_below("").len() > found.len());
        assert!(keys_below("cluster.raf").is_empty());
    }
}

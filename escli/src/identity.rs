//! PURE: what a node's data directory says of itself, which is JSON in the first line of its file `identity`, and what
//! makes it say something else.

use serde::Deserialize;
use shared::ids::{ClusterId, NodeId};

/// The file's name in the data directory.
pub const FILE: &str = "identity";

#[derive(Deserialize)]
struct Identity {
    cluster_id: Option<ClusterId>,
}

/// The cluster that the directory belongs to, if `text` says so.
pub fn cluster_of(text: &str) -> Option<ClusterId> {
    serde_json::from_str::<Identity>(text.lines().next()?).ok()?.cluster_id
}

/// What esnode is called with, beside node and configuration, to make the log of a data directory that of `cluster`.
pub fn rebuild(cluster: ClusterId, members: &[NodeId]) -> [String; 3] {
    let members: Vec<String> = members.iter().map(NodeId::to_string).collect();
    ["rebuild".to_owned(), format!("--cluster-id={}", cluster.0), format!("--members={}", members.join(","))]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_names_the_cluster_once_there_is_one() {
        let id = "6f1c1d70-2f3a-4c0e-9d55-0a6f4f2b7c11";
        let text = format!("{{\"format\":1,\"cluster_id\":\"{id}\",\"fresh\":false}}\ncrc32c=00000000\n");
        assert_eq!(cluster_of(&text).map(|cluster| cluster.0.to_string()).as_deref(), Some(id));
        for none in ["", "{\"cluster_id\":null}\n", "nonsense"] {
            assert_eq!(cluster_of(none), None, "{none}");
        }
    }
}

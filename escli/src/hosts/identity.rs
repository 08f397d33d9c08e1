//! PURE: reads the identity of a node's data directory, which is JSON in the first line of the file `identity`, and the
//! owner of a node's cluster.yaml; and has the arguments of `esnode recover`, which changes the identity.

use std::path::PathBuf;

use serde::Deserialize;
use shared::backup;
use shared::ids::{ClusterId, NodeId};

use crate::plan::Action;
use crate::plan::claims::{Deployed, Store};

/// Name of the identity file in the data directory.
pub const FILE: &str = "identity";

/// The part of a node's cluster.yaml that says whose it is. It can also be read from a file of another version, which
/// has other keys.
#[derive(Deserialize)]
struct File {
    cluster: Cluster,
}

#[derive(Deserialize)]
struct Cluster {
    name: Option<String>,
    node_id: Option<NodeId>,
    storage: Option<Storage>,
}

#[derive(Deserialize)]
struct Storage {
    data_dir: Option<PathBuf>,
}

/// Parses the content of the identity file; `None` if it is none.
pub fn store(text: &str) -> Option<Store> {
    serde_json::from_str(text.lines().next()?).ok()
}

/// Parses the `text` of a node's cluster.yaml at `path`: which node of which cluster it is for, and its data directory,
/// if it names one. `None` if the text is not a cluster.yaml.
pub fn deployed(path: &str, text: &str) -> Option<(Deployed, Option<PathBuf>)> {
    let Cluster { name, node_id, storage } = serde_saphyr::from_str::<File>(text).ok()?.cluster;
    let file = Deployed { path: path.to_owned(), cluster: name, node: node_id, elsewhere: None };
    Some((file, storage.and_then(|storage| storage.data_dir)))
}

/// Returns the cluster in the content of an identity file.
fn cluster_of(text: &str) -> Option<ClusterId> {
    store(text)?.cluster
}

/// Returns whether the data directory is in the state that `action` leads to; `None` for actions on anything else.
/// `identity` is the content of its identity file, and `sum` that of its file with a backup's checksum.
pub fn has(action: &Action, identity: &str, sum: &str) -> Option<bool> {
    match action {
        Action::Recover { cluster, .. } => Some(cluster_of(identity) == Some(*cluster)),
        // After a recovery, nothing shows from which backup the log came.
        Action::PlaceBackup { sum: wanted, cluster, .. } => {
            Some(cluster_of(identity) == Some(*cluster) || sum.trim_end() == backup::sum(wanted).trim_end())
        }
        _ => None,
    }
}

/// Returns the arguments that make esnode recover a data directory for `cluster`, except those for node and
/// configuration.
pub fn recover(cluster: ClusterId, members: &[NodeId]) -> [String; 3] {
    let members: Vec<String> = members.iter().map(NodeId::to_string).collect();
    ["recover".to_owned(), format!("--cluster-id={}", cluster.0), format!("--members={}", members.join(","))]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_is_there_until_it_is_the_nodes_own_log() {
        let cluster = ClusterId("6f1c1d70-2f3a-4c0e-9d55-0a6f4f2b7c11".parse().unwrap());
        let (source, sum) = ("/b.tar".into(), "ab".repeat(32));
        let place = Action::PlaceBackup { source, sum: sum.clone(), bytes: 1, cluster };
        let own = Action::Recover { binary: "/esnode".into(), cluster, members: vec![1] };
        let identity = format!("{{\"node_id\":1,\"cluster_id\":\"{}\"}}\n", cluster.0);
        let both = |identity: &str, sum: &str| (has(&place, identity, sum), has(&own, identity, sum));
        assert_eq!(both("", ""), (Some(false), Some(false)));
        assert_eq!(both("", &backup::sum("other")), (Some(false), Some(false)));
        assert_eq!(both("", &backup::sum(&sum)), (Some(true), Some(false)));
        assert_eq!(both(&identity, ""), (Some(true), Some(true)));
        assert_eq!(has(&Action::Wipe, "", ""), None);
    }

    #[test]
    fn the_first_line_names_the_cluster_once_there_is_one() {
        let id = "6f1c1d70-2f3a-4c0e-9d55-0a6f4f2b7c11";
        let text = format!(
            "{{\"format\":1,\"node_id\":2,\"cluster_id\":\"{id}\",\"fresh\":false}}\ncrc32c=00000000\n"
        );
        assert_eq!(cluster_of(&text).map(|cluster| cluster.0.to_string()).as_deref(), Some(id));
        for none in ["", "{\"node_id\":2,\"cluster_id\":null}\n", "nonsense"] {
            assert_eq!(cluster_of(none), None, "{none}");
        }
    }

    #[test]
    fn a_file_of_another_version_says_whose_it_is_too() {
        let text = "cluster:\n  name: lab\n  node_id: 2\n  colour: blue\n  nodes: []\n  storage:\n    data_dir: /d\nwhat: 1\n";
        let (file, data) = deployed("/c", text).unwrap();
        assert_eq!((file.cluster.as_deref(), file.node, data), (Some("lab"), Some(2), Some("/d".into())));
        let (bare, data) = deployed("/c", "cluster:\n  nodes: []\n").unwrap();
        assert_eq!((bare.cluster, bare.node, data), (None, None, None));
        assert_eq!(deployed("/c", "half of a fi"), None);
    }
}

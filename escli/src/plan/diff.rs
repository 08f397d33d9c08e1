//! Compares three configurations of a node: the one that is wanted, the one on its host's disk, and the one that it
//! runs with.

use serde::Serialize;
use shared::ids::NodeId;

use super::desired::{DesiredFiles, hash_of};
use super::facts::{HostInspection, NodeFacts};

/// The differences of one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NodeDiff {
    /// Its id.
    pub id: NodeId,
    /// The file on its host, compared with the wanted one.
    pub disk: Compared,
    /// The configuration of its process, compared with the wanted one.
    pub running: Compared,
    /// The lines in which the file differs: `-` on disk, `+` wanted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<String>,
    /// Which node or cluster the host belongs to, if it is not the one of cluster.yaml.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// Why something is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The result of a comparison with the wanted configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Compared {
    /// Both are the same.
    Same,
    /// They differ.
    Differs,
    /// There is no file, or no process.
    Missing,
    /// The host or node could not be asked.
    Unknown,
}

impl NodeDiff {
    /// Returns whether it is anything but the same.
    pub fn is_any(&self) -> bool {
        self.identity.is_some() || self.disk != Compared::Same || self.running != Compared::Same
    }
}

/// Compares one node's configurations. `disk` is the text of the file on its host, or why it could not be read.
pub fn diff(
    id: NodeId,
    wanted: &DesiredFiles,
    node: &NodeFacts,
    disk: Result<Option<&str>, &str>,
) -> NodeDiff {
    let (text, hash) = (wanted.text(id).unwrap_or_default(), wanted.hash(id).unwrap_or_default());
    let mut reason = None;
    let (on_disk, lines) = match disk {
        Err(why) => {
            reason = Some(why.to_owned());
            (Compared::Unknown, Vec::new())
        }
        Ok(None) => (Compared::Missing, Vec::new()),
        Ok(Some(found)) if hash_of(found).as_deref() == Some(hash) => (Compared::Same, Vec::new()),
        Ok(Some(found)) => (Compared::Differs, changed(found, text)),
    };
    let running = match (node.status(), &node.host) {
        (Some(status), _) if wanted.is_run_by(status) => Compared::Same,
        (Some(_), _) => Compared::Differs,
        (None, HostInspection::Seen(host)) if !host.runs() => Compared::Missing,
        (None, _) => {
            reason = reason.or(Some("it does not answer on its admin port".to_owned()));
            Compared::Unknown
        }
    };
    NodeDiff { id, disk: on_disk, running, lines, identity: None, reason }
}

/// Returns the lines that only one of the texts has, in order: those of `old` with `-`, those of `new` with `+`.
pub fn changed(old: &str, new: &str) -> Vec<String> {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    // Lengths of the longest common subsequences. The files have about fifty lines, so a table of all pairs is small.
    let mut common = vec![vec![0_usize; new.len() + 1]; old.len() + 1];
    for (i, before) in old.iter().enumerate().rev() {
        for (j, after) in new.iter().enumerate().rev() {
            common[i][j] = if before == after {
                common[i + 1][j + 1] + 1
            } else {
                common[i + 1][j].max(common[i][j + 1])
            };
        }
    }
    let (mut i, mut j, mut found) = (0, 0, Vec::new());
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            (i, j) = (i + 1, j + 1);
        } else if j == new.len() || (i < old.len() && common[i + 1][j] >= common[i][j + 1]) {
            found.push(format!("-{}", old[i]));
            i += 1;
        } else {
            found.push(format!("+{}", new[j]));
            j += 1;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_told() {
        assert_eq!(changed("a\nb\nc\n", "a\nb\nc\n"), Vec::<String>::new());
        assert_eq!(changed("a\nb\nc\n", "a\nx\nc\nd\n"), ["-b", "+x", "+d"]);
        assert_eq!(changed("", "a\n"), ["+a"]);
        assert_eq!(changed("a\n", ""), ["-a"]);
    }
}

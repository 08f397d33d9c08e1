//! PURE: nodes come into a cluster.yaml and go from it, and everything else in it stays as its author wrote it: comments,
//! order, blank lines.
//!
//! Knows the ways in which people write the list of nodes, one item after the other. What it makes is read again and
//! compared with what it should say, so that a file that it does not understand is refused and never spoilt.

use std::ops::Range;

use shared::ids::NodeId;
use shared::spec::{self, ClusterFile, Node};

/// Why a text was not edited.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// The list of nodes is written in a way that is not understood.
    #[error("the list of nodes is written in a way that escli does not edit")]
    Unknown,
    /// What would come out makes no sense.
    #[error("{0}")]
    Senseless(String),
}

/// The text with the node as the last one.
///
/// # Errors
/// When the text cannot be edited, or the node does not go with the others.
pub fn with_node(text: &str, node: &Node) -> Result<String, EditError> {
    let mut wanted = parse(text)?;
    wanted.cluster.nodes.push(node.clone());
    let list = List::of(text).ok_or(EditError::Unknown)?;
    let last = list.items.last().ok_or(EditError::Unknown)?;
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let added = list.written_like(&lines[last.clone()], node).ok_or(EditError::Unknown)?;
    lines.splice(last.end..last.end, added);
    proved(text, &lines, &wanted)
}

/// The text without the node.
///
/// # Errors
/// When the text cannot be edited, or makes no sense without the node.
pub fn without_node(text: &str, id: NodeId) -> Result<String, EditError> {
    let mut wanted = parse(text)?;
    let index = wanted.cluster.nodes.iter().position(|node| node.id == id).ok_or(EditError::Unknown)?;
    wanted.cluster.nodes.remove(index);
    let list = List::of(text).ok_or(EditError::Unknown)?;
    let item = list.items.get(index).cloned().ok_or(EditError::Unknown)?;
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.drain(item);
    proved(text, &lines, &wanted)
}

/// The lines as a text, if that says what is wanted.
fn proved(before: &str, lines: &[String], wanted: &ClusterFile) -> Result<String, EditError> {
    let mut text = lines.join("\n");
    if before.ends_with('\n') {
        text.push('\n');
    }
    let made = parse(&text)?;
    if made == *wanted { Ok(text) } else { Err(EditError::Unknown) }
}

fn parse(text: &str) -> Result<ClusterFile, EditError> {
    spec::parse("cluster.yaml", text).map_err(|error| {
        let first = error.problems.first().map_or_else(String::new, |problem| problem.message.clone());
        EditError::Senseless(first)
    })
}

/// The list under `nodes:`: where it stands, and the lines of each item.
struct List {
    column: usize,
    items: Vec<Range<usize>>,
}

impl List {
    fn of(text: &str) -> Option<Self> {
        let lines: Vec<&str> = text.lines().collect();
        let mut below_cluster =
            lines.iter().enumerate().skip_while(|(_, line)| !line.starts_with("cluster:"));
        let (key, line) = below_cluster.find(|(_, line)| bare(line).trim() == "nodes:")?;
        let key_column = indent(line);
        let is_item = |line: &str| bare(line).trim_start().starts_with("- ");
        let mut column = None;
        let mut items: Vec<Range<usize>> = Vec::new();
        for (number, line) in lines.iter().enumerate().skip(key + 1) {
            if bare(line).trim().is_empty() {
                continue;
            }
            let at = indent(line);
            let column = *column.get_or_insert(at);
            if at == column && is_item(line) && column >= key_column {
                items.push(number..number + 1);
            } else if at > column {
                items.last_mut()?.end = number + 1;
            } else {
                break;
            }
        }
        Some(Self { column: column?, items })
    }

    /// The node, written as the item in `like` is: in braces or line by line, with the keys that that one has.
    fn written_like(&self, like: &[String], node: &Node) -> Option<Vec<String>> {
        let first = like.first()?;
        let says = |key: &str| like.iter().any(|line| bare(line).contains(&format!("{key}:")));
        let scalar = |value: &serde_json::Value| match value.as_str() {
            Some(text) if plain(text) => text.to_owned(),
            _ => value.to_string(),
        };
        let mut keys =
            vec![format!("id: {}", node.id), format!("host: {}", scalar(&node.host.clone().into()))];
        let usual = Node::at(node.id, "");
        let ports = [
            ("client_port", node.client_port, usual.client_port),
            ("cluster_port", node.cluster_port, usual.cluster_port),
            ("http_port", node.http_port, usual.http_port),
        ];
        keys.extend(
            ports
                .iter()
                .filter(|(key, port, default)| port != default || says(key))
                .map(|(key, port, _)| format!("{key}: {port}")),
        );
        let names = [("bind", &node.bind), ("advertised_host", &node.advertised_host)];
        keys.extend(names.iter().filter_map(|(key, name)| {
            let name = name.as_ref()?;
            Some(format!("{key}: {}", scalar(&name.clone().into())))
        }));
        let dash = " ".repeat(self.column);
        if first.trim_start().trim_start_matches('-').trim_start().starts_with('{') {
            return Some(vec![format!("{dash}- {{ {} }}", keys.join(", "))]);
        }
        let mut keys = keys.into_iter();
        let mut written = vec![format!("{dash}- {}", keys.next()?)];
        written.extend(keys.map(|key| format!("{dash}  {key}")));
        Some(written)
    }
}

/// Needs no quotes, also inside braces.
fn plain(text: &str) -> bool {
    let begins = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    begins && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
}

/// A line without its comment. A quoted `#` is taken for one, which at worst makes a text that is not edited.
fn bare(line: &str) -> &str {
    let begin = if line.starts_with('#') { Some(0) } else { line.find(" #") };
    begin.map_or(line, |at| &line[..at])
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::starter;

    fn node(id: NodeId) -> Node {
        Node::at(id, format!("10.0.0.{id}"))
    }

    const BLOCK: &str = "\
# Ours.
cluster:
  name: orders   # the name
  nodes:
    # rack 1
    - id: 1
      host: 10.0.0.1
      client_port: 9000     # Client connections

    # rack 2
    - id: 2
      host: 10.0.0.2
      client_port: 9000

    - id: 3
      host: 10.0.0.3
      client_port: 9000

  # Timing
  raft:
    heartbeat_interval: 50
";

    #[test]
    fn what_was_added_goes_again_and_nothing_else_moves() {
        let tight = "cluster:\n  name: a\n  nodes:\n  - {id: 1, host: a}\n  - {id: 2, host: b} # two\n  - { id: 3, host: c }";
        let local = starter::local_text(3, Some(20_000), None);
        let hosts = starter::hosts_text("orders", &["a", "b", "c"], None);
        for text in [BLOCK, tight, &local, &hosts] {
            let more = with_node(text, &node(4)).unwrap();
            let before: Vec<_> = text.lines().collect();
            let added: Vec<_> = more.lines().filter(|line| !before.contains(line)).collect();
            assert!(added[0].contains("- ") && added[0].contains("id: 4"), "{more}");
            assert_eq!(without_node(&more, 4).unwrap(), text);
        }
        let more = with_node(BLOCK, &node(4)).unwrap();
        let added = "      client_port: 9000\n    - id: 4\n      host: 10.0.0.4\n      client_port: 9000\n\n  # Timing";
        assert!(more.contains(added), "{more}");
    }

    #[test]
    fn the_ports_that_matter_are_written() {
        let mut other = node(4);
        other.cluster_port = 9200;
        other.advertised_host = Some("n4.example".to_owned());
        let text = starter::hosts_text("orders", &["a", "b", "c"], None);
        let more = with_node(&text, &other).unwrap();
        assert!(
            more.contains("- { id: 4, host: 10.0.0.4, cluster_port: 9200, advertised_host: n4.example }"),
            "{more}"
        );
    }

    #[test]
    fn what_is_not_understood_or_makes_no_sense_is_refused() {
        let flow = "cluster:\n  name: a\n  nodes: [{id: 1, host: a}, {id: 2, host: b}]\n";
        assert_eq!(with_node(flow, &node(4)), Err(EditError::Unknown));
        assert_eq!(without_node(flow, 2), Err(EditError::Unknown));
        assert_eq!(without_node(BLOCK, 9), Err(EditError::Unknown));
        assert!(matches!(with_node(BLOCK, &node(3)), Err(EditError::Senseless(_))));
        let mut taken = node(4);
        taken.host = "10.0.0.3".to_owned();
        assert!(matches!(with_node(BLOCK, &taken), Err(EditError::Senseless(_))));
    }

    #[test]
    fn a_node_in_the_middle_goes_without_its_neighbours() {
        let less = without_node(BLOCK, 2).unwrap();
        assert!(less.contains("    # rack 2\n\n    - id: 3\n") && !less.contains("10.0.0.2"), "{less}");
    }
}

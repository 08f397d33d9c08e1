//! PURE: adds nodes to the text of a cluster.yaml, and removes them. Everything else in the text stays as its author
//! wrote it: comments, order, blank lines, line ends, and a byte order mark.
//!
//! The list of nodes must be written one item after the other, in one of the usual forms. The edited text is parsed and
//! compared with the intended result; a file in an unknown form is refused, never damaged.

use std::ops::Range;

use shared::ids::NodeId;
use shared::spec::{self, ClusterFile, Node, Reader};

/// Why a text was not edited.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// The list of nodes has a form that is not supported.
    #[error("escli cannot edit the list of nodes in the form in which it is written")]
    Unknown,
    /// The edited text would be invalid, for this reason.
    #[error("{0}")]
    Invalid(String),
}

/// Returns the text with `node` added as the last one.
///
/// # Errors
/// If the text cannot be edited, or the node conflicts with another one.
pub fn with_node(text: &str, node: &Node) -> Result<String, EditError> {
    let mut wanted = parse(text)?;
    wanted.cluster.nodes.push(node.clone());
    let mut lines = Lines::of(text);
    let list = List::of(&lines.bare()).ok_or(EditError::Unknown)?;
    let last = list.items.last().ok_or(EditError::Unknown)?;
    let added = list.written_like(&lines.bare()[last.clone()], node).ok_or(EditError::Unknown)?;
    lines.insert(list.end, added);
    proved(&lines, &wanted)
}

/// Returns the text without the node `id`.
///
/// # Errors
/// If the text cannot be edited, or is invalid without the node.
pub fn without_node(text: &str, id: NodeId) -> Result<String, EditError> {
    let mut wanted = parse(text)?;
    let index = wanted.cluster.nodes.iter().position(|node| node.id == id).ok_or(EditError::Unknown)?;
    wanted.cluster.nodes.remove(index);
    let mut lines = Lines::of(text);
    let list = List::of(&lines.bare()).ok_or(EditError::Unknown)?;
    let item = list.items.get(index).cloned().ok_or(EditError::Unknown)?;
    lines.remove(item);
    proved(&lines, &wanted)
}

/// Joins the lines, and returns the text if it parses to `wanted`.
fn proved(lines: &Lines<'_>, wanted: &ClusterFile) -> Result<String, EditError> {
    let text = lines.text();
    let made = parse(&text)?;
    if made == *wanted { Ok(text) } else { Err(EditError::Unknown) }
}

/// A text as lines, with everything needed to join them again unchanged.
struct Lines<'a> {
    mark: &'a str,
    /// Each line, with its line end.
    lines: Vec<String>,
    /// The line end that this text uses.
    end: &'static str,
    /// Whether the last line has a line end.
    is_ended: bool,
}

impl<'a> Lines<'a> {
    fn of(text: &'a str) -> Self {
        let (mark, rest) = text.split_at(if text.starts_with(spec::BOM) { spec::BOM.len_utf8() } else { 0 });
        let lines: Vec<String> = rest.split_inclusive('\n').map(str::to_owned).collect();
        let end = if lines.first().is_some_and(|line| line.ends_with("\r\n")) { "\r\n" } else { "\n" };
        Self { mark, lines, end, is_ended: rest.ends_with('\n') }
    }

    /// The lines without their line ends.
    fn bare(&self) -> Vec<&str> {
        self.lines.iter().map(|line| line.trim_end_matches(['\r', '\n'])).collect()
    }

    fn insert(&mut self, at: usize, added: Vec<String>) {
        if let Some(before) = at.checked_sub(1).and_then(|before| self.lines.get_mut(before))
            && !before.ends_with('\n')
        {
            before.push_str(self.end);
        }
        let end = self.end;
        self.lines.splice(at..at, added.into_iter().map(|line| line + end));
    }

    fn remove(&mut self, lines: Range<usize>) {
        self.lines.drain(lines);
    }

    fn text(&self) -> String {
        let text = self.lines.concat();
        let whole = if self.is_ended { &text } else { text.trim_end_matches(['\r', '\n']) };
        format!("{}{whole}", self.mark)
    }
}

fn parse(text: &str) -> Result<ClusterFile, EditError> {
    spec::parse_as(Reader::Operator, "cluster.yaml", text).map_err(|error| {
        let first = error.problems.first().map_or_else(String::new, |problem| problem.message.clone());
        EditError::Invalid(first)
    })
}

/// The position of the list under `nodes:`, and the lines of each item.
struct List {
    column: usize,
    items: Vec<Range<usize>>,
    /// The line after the last item and the comments that belong to it.
    end: usize,
}

impl List {
    fn of(lines: &[&str]) -> Option<Self> {
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
        let (column, last) = (column?, items.last()?.end);
        // If the dash is in the same column as the key, a comment in that column belongs to what follows.
        let least = if column > key_column { column } else { column + 1 };
        let below = lines.iter().enumerate().skip(last).take_while(|(_, line)| bare(line).trim().is_empty());
        let comments = below.filter(|(_, line)| !line.trim().is_empty() && indent(line) >= least);
        let end = comments.last().map_or(last, |(number, _)| number + 1);
        Some(Self { column, items, end })
    }

    /// Returns the lines for `node`, in the form of the item `like`: in braces or one key a line, and with the same
    /// keys.
    fn written_like(&self, like: &[&str], node: &Node) -> Option<Vec<String>> {
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

/// Whether the text needs no quotes in YAML, even inside braces.
fn plain(text: &str) -> bool {
    let begins = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    begins && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
}

/// Returns a line without its comment. A `#` in quotes also counts as one; at worst the text is then refused.
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
    use crate::cluster_file::template;

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
        let local = template::local_text(3, Some(20_000), None);
        let hosts = template::hosts_text("orders", &["a", "b", "c"], None);
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
        let text = template::hosts_text("orders", &["a", "b", "c"], None);
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
        assert!(matches!(with_node(BLOCK, &node(3)), Err(EditError::Invalid(_))));
        let mut taken = node(4);
        taken.host = "10.0.0.3".to_owned();
        assert!(matches!(with_node(BLOCK, &taken), Err(EditError::Invalid(_))));
    }

    #[test]
    fn a_comment_under_the_last_node_stays_there() {
        let text = BLOCK.replace(
            "      host: 10.0.0.3\n      client_port: 9000\n",
            "      host: 10.0.0.3\n      client_port: 9000\n      # the spare one\n    # rack 3\n",
        );
        let more = with_node(&text, &node(4)).unwrap();
        assert!(more.contains("      # the spare one\n    # rack 3\n    - id: 4\n"), "{more}");
        assert!(more.contains("      client_port: 9000\n\n  # Timing\n  raft:"), "{more}");
        assert_eq!(without_node(&more, 4).unwrap(), text);
        let tight =
            "cluster:\n  nodes:\n  - {id: 1, host: a}\n    # of 1\n  # Timing\n  raft: {rpc_timeout: 99}\n";
        let more = with_node(tight, &node(4)).unwrap();
        assert!(more.contains("    # of 1\n  - { id: 4, host: 10.0.0.4 }\n  # Timing\n"), "{more}");
        let end = format!("{}\n    # no more", "cluster:\n  nodes:\n    - {id: 1, host: a}");
        let more = with_node(&end, &node(4)).unwrap();
        assert!(more.ends_with("    # no more\n    - { id: 4, host: 10.0.0.4 }"), "{more}");
    }

    #[test]
    fn ends_of_lines_and_a_byte_order_mark_stay() {
        let windows = BLOCK.replace('\n', "\r\n");
        let marked = format!("\u{feff}{BLOCK}");
        // Somebody has edited one line elsewhere.
        let mixed = windows.replacen("# the name\r\n", "# the name\n", 1);
        for text in [&windows, &marked, &format!("\u{feff}{windows}"), &mixed] {
            let more = with_node(text, &node(4)).unwrap();
            assert_eq!(
                more.matches('\r').count(),
                text.matches('\r').count() + if text == &marked { 0 } else { 3 }
            );
            assert_eq!(without_node(&more, 4).unwrap(), *text);
            assert_eq!(without_node(text, 3).unwrap().starts_with('\u{feff}'), text.starts_with('\u{feff}'));
        }
    }

    #[test]
    fn a_node_in_the_middle_goes_without_its_neighbours() {
        let less = without_node(BLOCK, 2).unwrap();
        assert!(less.contains("    # rack 2\n\n    - id: 3\n") && !less.contains("10.0.0.2"), "{less}");
    }
}

//! PURE: the state of a cluster as text.

use std::fmt::Write as _;

use comfy_table::{Cell, CellAlignment, Color};
use shared::api::{ConsumerGroup, ConsumerGroups};

use super::paint::Paint;
use super::table::{self, NOTHING, number};
use crate::overview::{ConfigState, DisplayRole, Liveness, NodeRow, Overview};

/// Returns the first line, e.g. `orders-prod  HEALTHY  3/3 voters · tolerates 1 · leader n1 · term 12 · v1.4.2`.
pub fn headline(seen: &Overview, paint: Paint) -> String {
    let mut parts = vec![format!("{}/{} voters", seen.voters_up, seen.voters)];
    if seen.is_reachable() {
        parts.push(format!("tolerates {}", seen.tolerates));
        parts.push(seen.leader.map_or_else(|| "no leader".to_owned(), |id| format!("leader n{id}")));
        parts.extend(seen.term.map(|term| format!("term {term}")));
    }
    if !seen.versions.is_empty() {
        let versions: Vec<_> = seen.versions.iter().map(|version| format!("v{version}")).collect();
        parts.push(versions.join(", "));
    }
    format!("{}  {}  {}", paint.bold(&seen.cluster), paint.verdict(seen.health), parts.join(" · "))
}

/// Returns the first line, a table with one row for each node, reasons and notices, and if `wide` the consumer groups.
pub fn text(seen: &Overview, wide: bool, paint: Paint) -> String {
    let id = seen.cluster_id.filter(|_| wide).map_or_else(String::new, |id| format!(" · id {id}"));
    let mut text = format!("{}{id}\n{}\n", headline(seen, paint), table(seen, wide, paint));
    let silent = |line: &String| {
        // The row of a node that does not answer already says so.
        seen.nodes
            .iter()
            .any(|node| node.reason.is_some() && line.starts_with(&format!("n{} does not answer", node.id)))
    };
    let ill = seen.reasons.iter().filter(|line| !seen.health_is_good() && !silent(line));
    for line in ill {
        let _ = writeln!(text, "{} {line}", paint.bad("!"));
    }
    notices(&mut text, seen, paint);
    if let Some(found) = seen.groups.as_ref().filter(|found| wide && found.total > 0) {
        text.push_str(&groups(found, paint));
    }
    text
}

/// Returns a table with one row for each consumer group that is reported.
fn groups(found: &ConsumerGroups, paint: Paint) -> String {
    let row = |group: &ConsumerGroup| {
        let numbers = [group.members, group.lag, group.max_lag].map(|value| number(Some(value)));
        [Cell::new(&group.name), Cell::new(&group.state)].into_iter().chain(numbers).collect()
    };
    let header = vec!["GROUP", "STATE", "MEMBERS", "LAG", "MAX LAG"];
    let mut text = format!("{}\n", table::text(header, found.groups.iter().map(row), paint));
    if found.left_off > 0 {
        let _ = writeln!(text, "{}", more_groups(found.left_off));
    }
    text
}

/// Returns a line for this many groups that are not shown.
pub fn more_groups(count: u64) -> String {
    format!("and {count} more {}", if count == 1 { "group" } else { "groups" })
}

/// Returns the verdict with all its reasons.
pub fn health(seen: &Overview, paint: Paint) -> String {
    let mut text = format!("{}\n", headline(seen, paint));
    let mark = if seen.health_is_good() { paint.good("ok") } else { paint.bad("!") };
    for line in &seen.reasons {
        let _ = writeln!(text, "{mark} {line}");
    }
    notices(&mut text, seen, paint);
    text
}

fn notices(text: &mut String, seen: &Overview, paint: Paint) {
    for line in &seen.notices {
        let _ = writeln!(text, "{} {line}", paint.dim("note:"));
    }
}

/// Returns everything that is known of one node.
pub fn detail(node: &NodeRow, paint: Paint) -> String {
    let state = cell(node.state, paint);
    let mut text =
        format!("{}  {}  {state}  {}\n", paint.bold(&format!("n{}", node.id)), role(node), node.host);
    let number = |value: Option<u64>| value.map(|value| value.to_string());
    let lines = [
        ("why", node.reason.clone()),
        ("version", node.version.clone()),
        ("started", node.started_at.clone()),
        ("term", number(node.term)),
        ("commit", number(node.commit_index)),
        ("applied", number(node.applied_index)),
        ("match", number(node.match_index)),
        ("lag", number(node.lag)),
        ("contact", node.contact_ms.map(|ms| format!("{ms} ms"))),
        ("config", node.config.map(|config| config_text(config).to_owned())),
        ("wal_sync", node.wal_sync.map(|on| on.to_string())),
        (
            "ports",
            Some(format!(
                "clients {}, nodes {}, admin {}",
                node.client_port, node.cluster_port, node.http_port
            )),
        ),
    ];
    for (name, value) in lines {
        if let Some(value) = value {
            let _ = writeln!(text, "  {} {value}", paint.dim(&format!("{name:<9}")));
        }
    }
    text
}

fn table(seen: &Overview, wide: bool, paint: Paint) -> String {
    let mut header = vec!["NODE", "ROLE", "HOST", "STATE", "VERSION", "APPLIED", "LAG", "CONTACT", "CONFIG"];
    if wide {
        header.extend(["TERM", "COMMIT", "MATCH", "CLIENTS", "NODES", "ADMIN", "STARTED"]);
    }
    header.push("");
    table::text(header, seen.nodes.iter().map(|node| row(node, wide)), paint)
}

fn row(node: &NodeRow, wide: bool) -> Vec<Cell> {
    let text = |value: Option<&str>| Cell::new(value.unwrap_or(NOTHING));
    let contact = node.contact_ms.map(|ms| format!("{ms} ms"));
    let mut cells = vec![
        Cell::new(node.id),
        Cell::new(role(node)),
        Cell::new(&node.host),
        Cell::new(state(node.state)).fg(color(node.state)),
        text(node.version.as_deref()),
        number(node.applied_index),
        number(node.lag),
        text(contact.as_deref()),
        match node.config {
            None => Cell::new(NOTHING),
            Some(ConfigState::InSync) => Cell::new(config_text(ConfigState::InSync)),
            Some(config) => Cell::new(config_text(config)).fg(Color::DarkYellow),
        },
    ];
    if wide {
        let port = |port: u16| Cell::new(port).set_alignment(CellAlignment::Right);
        cells.extend([number(node.term), number(node.commit_index), number(node.match_index)]);
        cells.extend([port(node.client_port), port(node.cluster_port), port(node.http_port)]);
        cells.push(text(node.started_at.as_deref()));
    }
    cells.push(Cell::new(node.reason.as_deref().unwrap_or_default()));
    cells
}

/// Returns a node's role in one word.
pub fn role(node: &NodeRow) -> &'static str {
    match node.role {
        None | Some(DisplayRole::None) => NOTHING,
        Some(DisplayRole::Leader) => "leader",
        Some(DisplayRole::Follower) => "follower",
        Some(DisplayRole::Candidate) => "candidate",
        Some(DisplayRole::Learner) => "learner",
    }
}

/// Returns in one word whether a node answers.
pub fn state(state: Liveness) -> &'static str {
    match state {
        Liveness::Up => "up",
        Liveness::Joining => "joining",
        Liveness::Unreachable => "unreachable",
    }
}

/// Returns in a few words whether a node runs with its configuration.
pub fn config_text(config: ConfigState) -> &'static str {
    match config {
        ConfigState::InSync => "in sync",
        ConfigState::RestartNeeded => "restart needed",
    }
}

fn color(state: Liveness) -> Color {
    match state {
        Liveness::Up => Color::DarkGreen,
        Liveness::Joining => Color::DarkYellow,
        Liveness::Unreachable => Color::DarkRed,
    }
}

fn cell(word: Liveness, paint: Paint) -> String {
    match word {
        Liveness::Up => paint.good(state(word)),
        Liveness::Joining => paint.warn(state(word)),
        Liveness::Unreachable => paint.bad(state(word)),
    }
}

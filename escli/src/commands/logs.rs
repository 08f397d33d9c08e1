//! `escli logs`: prints the nodes' logs, merged by time.

use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use serde::Serialize;
use shared::ids::NodeId;

use super::probe::local_layout;
use super::target::Target;
use crate::cli::logs::Args;
use crate::cluster_file::{self, Loaded};
use crate::engine::ports::Hosts;
use crate::failure::{Exit, Failure};
use crate::hosts::local::tail::Tail;
use crate::hosts::ssh::StreamEvent;
use crate::output::printable;
use crate::plan::up::targets;
use crate::settings::Settings;
use crate::view::{self, document, paint::Paint};

/// Time between two checks of the files for new lines.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// One line of one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Line {
    node: NodeId,
    line: String,
}

/// Prints the last lines of the nodes' logs; with `--follow` also every new one.
///
/// # Errors
/// [`Exit::Usage`] if the cluster.yaml or an argument is invalid; if no node has a log here, or a file cannot be read.
pub async fn run(settings: &Settings, args: &Args) -> Result<Exit, Failure> {
    let loaded = cluster_file::load(settings)?;
    if !loaded.spec.is_local() {
        return remote(settings, args).await;
    }
    let mut tails = Vec::new();
    let mut first = Vec::new();
    for (id, path) in files(&loaded, &args.nodes)? {
        let unreadable = |error| Failure::failed(format!("cannot read the log of node {id}: {error}"));
        let (lines, tail) = Tail::open(path, args.lines).map_err(unreadable)?;
        first.push((id, lines));
        tails.push((id, tail));
    }
    let printer = Printer { settings, is_raw: args.raw };
    let mut read = printer.print(&merge(first));
    if !args.follow {
        return Ok(Exit::Ok);
    }
    while read {
        tokio::time::sleep(POLL_INTERVAL).await;
        let mut more = Vec::new();
        for (id, tail) in &mut tails {
            let lines = tail.more();
            let unreadable = |error| Failure::failed(format!("cannot read the log of node {id}: {error}"));
            more.push((*id, lines.map_err(unreadable)?));
        }
        read = printer.print(&merge(more));
    }
    Ok(Exit::Ok)
}

/// As [`run`], for nodes on hosts of their own.
async fn remote(settings: &Settings, args: &Args) -> Result<Exit, Failure> {
    let printer = Printer { settings, is_raw: args.raw };
    let target = Target::open(settings)?;
    let ids = targets(&target.spec, &args.nodes)?;
    let Some(hosts) = target.hosts.remote() else { return Ok(Exit::Ok) };
    if !args.follow {
        let reads = ids.into_iter().map(|id| async move { (id, hosts.log_tail(id, args.lines).await) });
        let reads: Vec<_> = stream::iter(reads).buffered(settings.concurrency).collect().await;
        let (mut read, mut exit) = (Vec::new(), Exit::Ok);
        for (id, lines) in reads {
            match lines {
                Ok(lines) => read.push((id, lines)),
                // The logs of the other nodes are still of use.
                Err(error) => {
                    exit = Exit::Unreachable;
                    view::warn(settings, &Failure::from(error));
                }
            }
        }
        printer.print(&merge(read));
        return Ok(exit);
    }
    let mut follows = Vec::new();
    for id in ids {
        let lines = hosts.follow(id, args.lines).await?;
        follows.push(Box::pin(stream::unfold(lines, move |mut lines| async move {
            lines.next().await.map(|said| ((id, said), lines))
        })));
    }
    let mut follows = stream::select_all(follows);
    while let Some((node, said)) = follows.next().await {
        match said.map_err(|error| Failure::new(Exit::Unreachable, format!("node {node}: {error}")))? {
            StreamEvent::Line(_, line) if !printer.print(&[Line { node, line: line.clone() }]) => break,
            StreamEvent::Line(..) | StreamEvent::Ended(_) => {}
        }
    }
    Ok(Exit::Ok)
}

/// Returns the log files of the nodes that are named, or of all nodes.
fn files(loaded: &Loaded, only: &[NodeId]) -> Result<Vec<(NodeId, std::path::PathBuf)>, Failure> {
    let layout = local_layout(&loaded.source).ok_or_else(|| {
        Failure::usage(
            "the logs of a local cluster are beside its cluster.yaml, which cannot be standard input",
        )
        .hint("name the file:  escli -c path/to/cluster.yaml logs")
    })?;
    if let Some(id) = only.iter().find(|id| loaded.spec.node(**id).is_none()) {
        return Err(Failure::usage(format!("there is no node {id} in {}", loaded.source.name())));
    }
    let ids = loaded.spec.cluster.nodes.iter().map(|node| node.id);
    let ids = ids.filter(|id| only.is_empty() || only.contains(id));
    let files: Vec<_> = ids.map(|id| (id, layout.log(id))).collect();
    if files.iter().all(|(_, path)| !path.exists()) {
        let folder = layout.dir().display();
        return Err(Failure::failed(format!("there are no logs in {folder}"))
            .hint("start the nodes of a local cluster:  escli up --local")
            .hint("logs of a remote node:               journalctl -u eventstream"));
    }
    Ok(files)
}

/// Merges the lines of all nodes by the time at their beginning. A line without a time belongs to the line before it.
/// The lines of one node keep their order, even if its clock went back.
fn merge(nodes: Vec<(NodeId, Vec<String>)>) -> Vec<Line> {
    let mut all = Vec::new();
    for (node, lines) in nodes {
        let mut time = String::new();
        for line in lines {
            if let Some(own) = time_of(&line).filter(|own| *own > time.as_str()) {
                time = own.to_owned();
            }
            all.push((time.clone(), Line { node, line }));
        }
    }
    all.sort_by(|(before, _), (after, _)| before.cmp(after));
    all.into_iter().map(|(_, line)| line).collect()
}

/// Returns the time at the beginning of a line, in RFC 3339 and UTC; `None` if there is none. Times with the same
/// precision sort as text.
fn time_of(line: &str) -> Option<&str> {
    let time = line.split(' ').next()?;
    let looks = time.len() >= 20 && time.ends_with('Z') && time.as_bytes().get(10) == Some(&b'T');
    looks.then_some(time)
}

/// Prints lines in the format that was asked for.
struct Printer<'a> {
    settings: &'a Settings,
    is_raw: bool,
}

impl Printer<'_> {
    /// Prints the lines; returns `false` if standard output is closed.
    fn print(&self, lines: &[Line]) -> bool {
        let paint = view::out_paint(self.settings);
        let is_machine = self.settings.output.is_machine();
        let one = |line: &Line| match is_machine {
            true => document::item(self.settings.output, line),
            false => labelled(line, self.is_raw, paint),
        };
        let text: String = lines.iter().map(one).collect();
        let put = if self.is_raw && !is_machine { view::put_raw } else { view::put };
        text.is_empty() || put(&text)
    }
}

fn labelled(Line { node, line }: &Line, is_raw: bool, paint: Paint) -> String {
    let line = if is_raw { line.into() } else { printable::line(line) };
    format!("{} {line}\n", paint.node(*node, &format!("n{node} |")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_does_nothing_to_a_terminal_unless_it_is_to() {
        let line = Line { node: 2, line: "\u{1b}[2Jall is \u{1b}[38;5;10mwell\r".to_owned() };
        assert_eq!(labelled(&line, false, Paint::default()), "n2 | \\x1b[2Jall is \\x1b[38;5;10mwell\\x0d\n");
        assert_eq!(labelled(&line, true, Paint::default()), format!("n2 | {}\n", line.line));
    }

    #[test]
    fn lines_are_merged_by_time_and_keep_their_order() {
        let lines = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect();
        let merged = merge(vec![
            (1, lines(&["2026-01-01T00:00:01.000000Z a", "  more of a", "2026-01-01T00:00:03.000000Z c"])),
            (2, lines(&["2026-01-01T00:00:02.000000Z b", "2026-01-01T00:00:01.500000Z clock went back"])),
        ]);
        let seen: Vec<_> =
            merged.iter().map(|line| (line.node, line.line.split_once(' ').unwrap().1)).collect();
        assert_eq!(seen, [(1, "a"), (1, " more of a"), (2, "b"), (2, "clock went back"), (1, "c")]);
    }
}

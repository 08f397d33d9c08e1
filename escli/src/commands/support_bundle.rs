//! `escli support-bundle`: collects in one archive what somebody needs to find a fault.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use futures_util::stream::{self, StreamExt};
use jiff::Timestamp;
use serde::Serialize;
use shared::ids::NodeId;
use shared::spec;

use super::target::Target;
use super::{binary, diff};
use crate::cli::support_bundle::Args;
use crate::engine::interrupt::Interrupt;
use crate::engine::ports::{Cluster, Hosts, PortError};
use crate::failure::{Exit, Failure};
use crate::hosts::evidence::Evidence;
use crate::output::Format;
use crate::overview::overview;
use crate::plan::facts::{ApiAnswer, Facts, HostInspection};
use crate::plan::preflight::preflight;
use crate::plan::provision::Remote;
use crate::plan::request::Request;
use crate::plan::up::{UpOptions, targets};
use crate::settings::Settings;
use crate::support_bundle::{Archive, Entry};
use crate::view::{self, document};

/// Number of journals in the archive: the newest.
const JOURNALS: usize = 20;

/// One file of the archive: its path, and its text or the reason why there is none.
type Part = (String, Result<String, String>);

/// Creates the archive.
///
/// # Errors
/// [`Exit::Usage`] if the cluster.yaml or an argument is invalid; if the archive exists or cannot be written; after
/// `--timeout` or Ctrl-C.
pub async fn run(settings: &Settings, args: &Args) -> Result<Exit, Failure> {
    let mut target = Target::open(settings)?;
    let binary = binary::find(settings, None, target.named_binary()).unwrap_or_default();
    // The program is only compared with the installed one, not copied to any host.
    let remote = target.provide(binary.as_deref(), true)?;
    let now = Timestamp::now();
    let folder = format!("eventstream-{}-{}", target.name(), now.strftime("%Y%m%dT%H%M%SZ"));
    let path = args.file.clone().unwrap_or_else(|| PathBuf::from(format!("{folder}.tar.gz")));
    let path = settings.env.path(&path);
    if settings.dry_run {
        view::remark(settings, &format!("would write {}", path.display()));
        return Ok(Exit::Ok);
    }
    let seconds = u64::try_from(now.as_second()).unwrap_or_default();
    let archive = Archive::create(&path, &folder, seconds).map_err(|error| not_created(&path, &error))?;
    let interrupt =
        Interrupt::listen().map_err(|error| Failure::failed(format!("cannot listen for Ctrl-C: {error}")))?;
    let filled = tokio::select! {
        filled = fill(settings, &target, remote, binary, args.lines, archive) =>
            filled.map_err(|error| Failure::failed(format!("cannot write {}: {error}", path.display()))),
        () = interrupt.reached(1) => Err(Failure::new(Exit::Interrupted, "interrupted; no archive was kept")),
        () = tokio::time::sleep(settings.timeout) =>
            Err(Failure::new(Exit::Timeout, "--timeout passed; no archive was kept")),
    };
    let entries = filled.inspect_err(|_| {
        // An incomplete archive is of no use.
        let _ = fs::remove_file(&path);
    })?;
    let bytes = fs::metadata(&path).map_or(0, |found| found.len());
    let document = view::support_bundle::document(target.name(), &path, bytes, &entries);
    view::show(settings, &document, |paint| view::support_bundle::text(&document, paint));
    Ok(Exit::Ok)
}

fn not_created(path: &Path, error: &io::Error) -> Failure {
    let path = path.display();
    if error.kind() == io::ErrorKind::AlreadyExists {
        return Failure::new(Exit::Refused, format!("{path} already exists; nothing was written"))
            .hint("write elsewhere:  escli support-bundle --file ANOTHER.tar.gz");
    }
    Failure::failed(format!("cannot write {path}: {error}"))
        .hint("write elsewhere:  escli support-bundle --file PLACE/NAME.tar.gz")
}

async fn fill(
    settings: &Settings,
    target: &Target,
    remote: Option<Remote>,
    binary: Option<PathBuf>,
    lines: usize,
    mut archive: Archive,
) -> io::Result<Vec<Entry>> {
    // The file is rendered anew, because comments may hold passwords.
    archive.add("cluster.yaml", Ok(target.spec.to_yaml()))?;
    archive.add("escli.json", Ok(called(settings)))?;
    for (path, part) in journals(settings, target) {
        archive.add(&path, part)?;
    }
    let peers = remote.is_some();
    let facts = target.inspect(settings, peers).await;
    for (path, part) in verdicts(target, remote, binary, &facts).await {
        archive.add(&path, part)?;
    }
    let ids: Vec<_> = target.spec.cluster.nodes.iter().map(|node| node.id).collect();
    let asked = ids.into_iter().map(|id| node(target, &facts, id, lines));
    let mut answers = stream::iter(asked).buffered(settings.concurrency);
    while let Some(parts) = answers.next().await {
        for (path, part) in parts {
            archive.add(&path, part)?;
        }
    }
    archive.finish()
}

/// Returns the command line, its user and this machine.
fn called(settings: &Settings) -> String {
    let words: Vec<_> = std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    json(&serde_json::json!({
        "version": env!("CARGO_PKG_VERSION"),
        "command": words.join(" "),
        "who": settings.env.who,
        "at": format!("{:.0}", Timestamp::now()),
        "os": std::env::consts::OS,
        "arch": std::env::consts::ARCH,
    }))
}

fn json<T: Serialize>(document: &T) -> String {
    document::text(Format::Json, document)
}

/// Returns the journals of the newest operations.
fn journals(settings: &Settings, target: &Target) -> Vec<Part> {
    let folder = settings.env.state_dir.join(target.name());
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) => {
            return vec![("journal".to_owned(), Err(format!("{}: {error}", folder.display())))];
        }
    };
    let paths = entries.flatten().map(|entry| entry.path());
    let mut paths: Vec<_> =
        paths.filter(|path| path.extension().is_some_and(|extension| extension == "jsonl")).collect();
    paths.sort();
    let newest = paths.iter().rev().take(JOURNALS);
    let part = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        (format!("journal/{name}"), fs::read_to_string(path).map_err(|error| error.to_string()))
    };
    newest.map(part).collect()
}

/// Returns the output of `status`, `plan`, `diff` and `check`.
async fn verdicts(
    target: &Target,
    remote: Option<Remote>,
    binary: Option<PathBuf>,
    facts: &Facts,
) -> Vec<Part> {
    let (spec, wanted) = (&target.spec, target.wanted());
    let ids: Vec<_> = spec.cluster.nodes.iter().map(|node| node.id).collect();
    let findings = remote.as_ref().map(|remote| {
        let found = preflight(spec, &remote.layout, remote.program.as_ref(), facts, &ids);
        json(&view::check::document(target.name(), &found, None))
    });
    let local = || "all nodes run on one machine: there is nothing to check".to_owned();
    let options = UpOptions { operation: "up".to_owned(), remote, binary, ..UpOptions::default() };
    let plan = match Request::Up(Box::new(options)).plan(spec, wanted, facts) {
        Ok(plan) => json(&view::plan::document(&plan)),
        Err(refusal) => json(&refusal),
    };
    let differences = match targets(spec, &[]) {
        Ok(ids) => Ok(json(&diff::compare(target, &ids, facts).await)),
        Err(refusal) => Err(refusal.message),
    };
    let part = |name: &str, text| (name.to_owned(), text);
    vec![
        part("status.json", Ok(json(&overview(spec, facts, wanted)))),
        part("plan.json", Ok(plan)),
        part("diff.json", differences),
        part("check.json", findings.ok_or_else(local)),
    ]
}

/// Returns what one node and its host report, or why they do not.
async fn node(target: &Target, facts: &Facts, id: NodeId, lines: usize) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut add = |name: &str, part| parts.push((format!("nodes/n{id}/{name}"), part));
    let (host, api) = silent(facts, id);
    if host.is_some() || api.is_some() {
        let why = [&host, &api].into_iter().flatten().map(|why| format!("{why}\n"));
        add("unreachable.txt", Ok(why.collect()));
    }
    let hosts = &target.hosts;
    let unless = |silent: &Option<String>| silent.clone().map_or(Ok(()), Err);
    match unless(&host) {
        Ok(()) => {
            add("cluster.yaml", hosts.read_config(id).await.map_err(said).and_then(own_file));
            add(
                "log.txt",
                hosts.log_tail(id, lines).await.map_err(said).map(|lines| lines.join("\n") + "\n"),
            );
            for what in Evidence::ALL {
                add(what.file(), hosts.evidence(id, what).await.map_err(said));
            }
        }
        Err(why) => {
            let files = Evidence::ALL.map(Evidence::file);
            for name in ["cluster.yaml", "log.txt"].into_iter().chain(files) {
                add(name, Err(why.clone()));
            }
        }
    }
    match unless(&api) {
        Ok(()) => {
            add("metrics.txt", target.cluster.metrics(id).await.map_err(said));
            add("status.json", target.cluster.status(id).await.map_err(said).map(|status| json(&status)));
        }
        Err(why) => {
            add("metrics.txt", Err(why.clone()));
            add("status.json", Err(why));
        }
    }
    parts
}

/// Returns why the node's host, and why its admin API, did not answer.
fn silent(facts: &Facts, id: NodeId) -> (Option<String>, Option<String>) {
    let Some(node) = facts.nodes.get(&id) else { return (None, None) };
    let host = match &node.host {
        HostInspection::Unreachable { reason, details, .. } => {
            Some([std::slice::from_ref(reason), details].concat().join("; "))
        }
        HostInspection::NotAsked | HostInspection::Seen(_) => None,
    };
    let api = match &node.api {
        ApiAnswer::Silent { reason, .. } => Some(reason.clone()),
        ApiAnswer::Status(_) => None,
    };
    (host, api)
}

fn said(error: PortError) -> String {
    let Failure { message, details, .. } = error.into();
    [vec![message], details].concat().join("; ")
}

/// Returns the node's configuration file without comments; unchanged if it is invalid.
fn own_file(text: Option<String>) -> Result<String, String> {
    let text = text.ok_or("there is none")?;
    Ok(spec::parse("cluster.yaml", &text).map_or(text, |file| file.to_yaml()))
}

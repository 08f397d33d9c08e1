//! Candidates for shell completion, from the cluster.yaml that the command being typed would use.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap_complete::CompletionCandidate;
use shared::spec;

use crate::admin_client::connect::Way;
use crate::cluster_file::{self, Loaded, Source};
use crate::engine::past;
use crate::hosts::ssh::{NoPrompt, Passphrases};
use crate::kafka::client::Limits;
use crate::kafka::dial::Dialer;
use crate::kafka::groups::GroupListing;
use crate::kafka::transactions::TransactionListing;
use crate::kafka::{KafkaClient, KafkaError};
use crate::settings::Environment;

/// How long a shell waits for candidates that only the cluster knows.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);

/// Returns the ids of the nodes, each with its host; nothing when there is no valid cluster.yaml.
pub fn node_ids() -> Vec<CompletionCandidate> {
    let Some(loaded) = loaded() else { return Vec::new() };
    let nodes = loaded.spec.cluster.nodes.iter();
    nodes
        .map(|node| CompletionCandidate::new(node.id.to_string()).help(Some(node.host.clone().into())))
        .collect()
}

/// Returns the cluster.yaml that the command being typed would use.
fn loaded() -> Option<Loaded> {
    // A shell runs `escli -- WORDS`, so the words typed so far are this process's own arguments.
    let config = config_of(&std::env::args_os().collect::<Vec<_>>());
    let env = Environment::of_process();
    let config = config.map(|path| env.expanded(&path));
    // Standard input belongs to the shell.
    let found = cluster_file::find(config.as_deref(), &env).ok().filter(|source| *source != Source::Stdin);
    found.and_then(|source| cluster_file::load_from(source).ok())
}

/// Returns the keys of cluster.yaml.
pub fn keys() -> Vec<CompletionCandidate> {
    let key = |key: spec::Key| CompletionCandidate::new(key.path).help(Some(key.about.into()));
    spec::keys().into_iter().map(key).collect()
}

/// Returns the ids of past operations, newest first.
pub fn operations() -> Vec<CompletionCandidate> {
    let state = Environment::of_process().state_dir;
    let Ok((found, _)) = past::all(&state) else { return Vec::new() };
    let help = |past: &past::PastOperation| {
        format!("{} {}, {}", past.plan.operation, past.plan.cluster, past.end.word())
    };
    found.iter().rev().map(|past| CompletionCandidate::new(&past.id).help(Some(help(past).into()))).collect()
}

/// Returns the names of the topics; nothing when the cluster does not answer at once.
pub fn topics() -> Vec<CompletionCandidate> {
    let names = asked(async |client| client.topics(None).await);
    names.into_iter().flatten().map(|topic| CompletionCandidate::new(topic.name)).collect()
}

/// Returns the names of the consumer groups, each with its state; nothing when the cluster does not answer at once.
pub fn groups() -> Vec<CompletionCandidate> {
    let groups = asked(async |client| client.groups().await);
    let candidate = |group: GroupListing| CompletionCandidate::new(group.name).help(Some(group.state.into()));
    groups.into_iter().flatten().map(candidate).collect()
}

/// Returns the transactional ids, each with its state; nothing when the cluster does not answer at once.
pub fn transactions() -> Vec<CompletionCandidate> {
    let listed = asked(async |client| client.transactions().await);
    let candidate =
        |each: TransactionListing| CompletionCandidate::new(each.id).help(Some(each.state.into()));
    listed.into_iter().flatten().map(candidate).collect()
}

/// Asks the cluster that the command being typed would use.
fn asked<T>(question: impl AsyncFnOnce(&mut KafkaClient) -> Result<T, KafkaError>) -> Option<T> {
    let spec = loaded()?.spec;
    // A shell that waits for a word does not log in anywhere.
    let passphrases = Arc::new(Passphrases::new(NoPrompt));
    let limits = Limits { answer: ANSWER_LIMIT, call: ANSWER_LIMIT };
    let mut client = KafkaClient::new(Dialer::by(&spec, &passphrases, |_| Way::Direct), limits);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    // Whoever types waits for it.
    runtime.block_on(async { tokio::time::timeout(ANSWER_LIMIT, question(&mut client)).await }).ok()?.ok()
}

/// Returns the conditions of `watch --until`.
pub fn states() -> Vec<CompletionCandidate> {
    let states = [
        ("healthy", "the verdict is HEALTHY"),
        ("leader", "there is a leader that a majority follows"),
        ("caught-up", "every node has applied everything that is committed now"),
        ("version=", "every node runs this version"),
    ];
    states.map(|(state, help)| CompletionCandidate::new(state).help(Some(help.into()))).into()
}

/// Returns the value of `-c` or `--config` on a command line that may be incomplete.
fn config_of(words: &[OsString]) -> Option<PathBuf> {
    let after = words.iter().zip(words.iter().skip(1));
    let apart =
        after.filter(|(word, _)| *word == "-c" || *word == "--config").map(|(_, value)| value.as_os_str());
    let joined = words.iter().filter_map(|word| {
        let text = word.to_str()?;
        text.strip_prefix("--config=").or_else(|| text.strip_prefix("-c").filter(|rest| !rest.is_empty()))
    });
    apart.chain(joined.map(OsStr::new)).last().map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_named_on_the_line_is_found_however_it_is_named() {
        let table = [
            ("escli -- escli -c a.yaml stop", Some("a.yaml")),
            ("escli -- escli stop --config a.yaml", Some("a.yaml")),
            ("escli -- escli --config=a.yaml stop", Some("a.yaml")),
            ("escli -- escli -ca.yaml stop", Some("a.yaml")),
            ("escli -- escli stop", None),
            ("escli -- escli stop -c", None),
        ];
        for (line, file) in table {
            let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            assert_eq!(config_of(&words), file.map(PathBuf::from), "{line}");
        }
    }
}

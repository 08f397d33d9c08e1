//! PURE: evaluates the four documented alerts from several samples. An alert that needs a longer window than the
//! samples cover is reported as not evaluated, never as ok.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use shared::ids::NodeId;

use super::metrics::Figures;
use crate::plan::agreement::LAG_LIMIT;

/// How long the commit index may stand still while entries wait to be committed.
pub const STUCK: Duration = Duration::from_secs(30);
/// The time over which elections are counted.
pub const RATE: Duration = Duration::from_secs(60);

/// The metrics of all nodes at one moment.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// Time since the first sample.
    pub at: Duration,
    /// The metrics of each node of cluster.yaml, or why there are none.
    pub nodes: BTreeMap<NodeId, Result<Figures, String>>,
}

/// The result of one alert.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Alert {
    /// The alert in a few words, e.g. `write failure`.
    pub name: &'static str,
    /// The condition in terms of metrics.
    pub condition: &'static str,
    /// Whether the alert fires.
    pub state: AlertState,
    /// The values that the result is based on; never empty.
    pub findings: Vec<String>,
}

/// Whether an alert fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertState {
    /// The condition does not hold.
    Ok,
    /// The condition holds.
    Firing,
    /// The samples do not cover the window that the alert needs.
    NotEvaluated,
}

/// Evaluates the samples, which are in order of time.
pub fn evaluate(samples: &[Sample]) -> Vec<Alert> {
    let Some(newest) = samples.last() else { return Vec::new() };
    let span = newest.at.saturating_sub(samples.first().map_or(newest.at, |first| first.at));
    vec![node_down(newest), slow_follower(newest), unstable(samples, span), write_failure(samples, newest)]
}

fn alert(name: &'static str, condition: &'static str, state: AlertState, findings: Vec<String>) -> Alert {
    Alert { name, condition, state, findings }
}

fn firing(findings: &[String]) -> AlertState {
    if findings.is_empty() { AlertState::Ok } else { AlertState::Firing }
}

impl Sample {
    fn figures(&self) -> impl Iterator<Item = (NodeId, &Figures)> {
        self.nodes.iter().filter_map(|(id, said)| Some((*id, said.as_ref().ok()?)))
    }

    /// Returns the node that says it leads, with its metrics; `None` if none does.
    fn head(&self) -> Option<(NodeId, &Figures)> {
        self.figures().filter(|(_, figures)| figures.leads).max_by_key(|(_, figures)| figures.commit)
    }

    fn commit(&self) -> Option<u64> {
        self.figures().map(|(_, figures)| figures.commit).max()
    }
}

fn node_down(newest: &Sample) -> Alert {
    let mut findings = Vec::new();
    for (id, said) in &newest.nodes {
        match said {
            Err(reason) => findings.push(format!("n{id} does not answer: {reason}")),
            Ok(figures) if figures.peers_connected + 1 < figures.cluster_size => findings.push(format!(
                "n{id} is connected to {} of {} others",
                figures.peers_connected,
                figures.cluster_size.saturating_sub(1)
            )),
            Ok(_) => {}
        }
    }
    let state = firing(&findings);
    if state == AlertState::Ok {
        findings.push(format!("{} nodes answer and are connected to all others", newest.nodes.len()));
    }
    alert("node down", "raft_peers_connected < cluster_size - 1", state, findings)
}

fn slow_follower(newest: &Sample) -> Alert {
    let slow = newest.figures().filter(|(_, figures)| figures.lag > LAG_LIMIT);
    let line = |(id, figures): (NodeId, &Figures)| {
        let lag = figures.lag;
        if figures.leads {
            format!("n{id}, the leader, has a follower that is {lag} entries behind")
        } else {
            format!("n{id} is {lag} entries behind")
        }
    };
    let mut findings: Vec<String> = slow.map(line).collect();
    let mut state = firing(&findings);
    if state == AlertState::Ok {
        let lag = newest.figures().map(|(_, figures)| figures.lag).max();
        if newest.head().is_none() {
            // Only the leader knows the other nodes' lag.
            state = AlertState::NotEvaluated;
            findings
                .push("no node that answers is the leader: the lag of the others is not known".to_owned());
        } else {
            findings.push(format!("the largest lag is {} entries", lag.unwrap_or_default()));
        }
    }
    alert("slow follower", "raft_replication_lag > 100", state, findings)
}

/// Counts the elections between two samples. A restarted process counts from 0 again.
fn elections(samples: &[Sample]) -> u64 {
    let mut last: BTreeMap<NodeId, u64> = BTreeMap::new();
    let mut count = 0;
    for sample in samples {
        for (id, figures) in sample.figures() {
            if let Some(before) = last.insert(id, figures.elections) {
                count += figures.elections.checked_sub(before).unwrap_or(figures.elections);
            }
        }
    }
    count
}

fn unstable(samples: &[Sample], span: Duration) -> Alert {
    let (name, condition) = ("unstable", "raft_elections_total rate > 1/min");
    let count = elections(samples);
    let seen = format!("{count} elections in {}", time(span));
    let minute = RATE.as_millis();
    // In less than a minute, more than one election already is a rate of more than one per minute.
    let fires = if span < RATE { count > 1 } else { u128::from(count) * minute > span.as_millis() };
    if fires {
        return alert(name, condition, AlertState::Firing, vec![seen]);
    }
    if span < RATE {
        let text = format!("{seen}; not evaluated: the window is too short, {} are required", time(RATE));
        return alert(name, condition, AlertState::NotEvaluated, vec![text]);
    }
    alert(name, condition, AlertState::Ok, vec![seen])
}

/// Whether entries wait to be committed, or there is no leader to commit any. The index of an idle cluster stands still
/// too, but nothing waits.
fn waits(sample: &Sample) -> bool {
    sample.head().is_none_or(|(_, head)| head.last > head.commit)
}

fn write_failure(samples: &[Sample], newest: &Sample) -> Alert {
    let (name, condition) = ("write failure", "raft_commit_index stuck for > 30s");
    if let Some((id, _)) = newest.figures().find(|(_, figures)| figures.refuses) {
        let text = format!("n{id}, the leader, refuses events: too many disks are almost full");
        return alert(name, condition, AlertState::Firing, vec![text]);
    }
    // The latest samples at which something waited and the index was the same.
    let standing =
        samples.iter().rev().take_while(|sample| waits(sample) && sample.commit() == newest.commit());
    let since = standing.last().map(|sample| newest.at.saturating_sub(sample.at));
    let commit = newest.commit().map_or_else(|| "unknown".to_owned(), |commit| commit.to_string());
    let why = if newest.head().is_none() { "no node that answers is the leader" } else { "entries wait" };
    match since {
        None => {
            let text = format!("no entries wait to be committed; the commit index is {commit}");
            alert(name, condition, AlertState::Ok, vec![text])
        }
        Some(since) if since > STUCK => {
            let text = format!("the commit index has been at {commit} for {}; {why}", time(since));
            alert(name, condition, AlertState::Firing, vec![text])
        }
        Some(since) if samples.len() > 1 && since < newest.at.saturating_sub(samples[0].at) => {
            let text = format!("the commit index moved within the window; it is {commit}");
            alert(name, condition, AlertState::Ok, vec![text])
        }
        Some(since) => {
            let text = format!(
                "the commit index has been at {commit} for {}, and {why}; not evaluated: the window is too short, more than {} are required",
                time(since),
                time(STUCK)
            );
            alert(name, condition, AlertState::NotEvaluated, vec![text])
        }
    }
}

fn time(span: Duration) -> String {
    format!("{:.1} s", span.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(leads: bool) -> Figures {
        Figures {
            cluster_size: 3,
            peers_connected: 2,
            lag: 0,
            elections: 5,
            commit: 10,
            last: 10,
            leader: Some(1),
            leads,
            refuses: false,
        }
    }

    /// One sample a second for `seconds`; `change` is given the second, the node and its figures.
    fn samples(seconds: u64, change: impl Fn(u64, NodeId, &mut Figures)) -> Vec<Sample> {
        let one = |at: u64| {
            let nodes = (1..=3).map(|id| {
                let mut figures = figures(id == 1);
                change(at, id, &mut figures);
                (id, Ok(figures))
            });
            Sample { at: Duration::from_secs(at), nodes: nodes.collect() }
        };
        (0..=seconds).map(one).collect()
    }

    fn states(samples: &[Sample]) -> [AlertState; 4] {
        let alerts = evaluate(samples);
        assert!(alerts.iter().all(|alert| !alert.findings.is_empty()), "{alerts:?}");
        [0, 1, 2, 3].map(|at| alerts[at].state)
    }

    use AlertState::{Firing, NotEvaluated, Ok as Fine};

    #[test]
    fn an_idle_cluster_is_fine_and_only_a_minute_tells_of_its_elections() {
        assert_eq!(states(&samples(5, |_, _, _| ())), [Fine, Fine, NotEvaluated, Fine]);
        assert_eq!(states(&samples(60, |_, _, _| ())), [Fine; 4]);
    }

    #[test]
    fn a_silent_node_is_a_finding() {
        let mut samples = samples(60, |_, _, _| ());
        samples.last_mut().unwrap().nodes.insert(3, Err("connection refused :8080".to_owned()));
        let alerts = evaluate(&samples);
        assert_eq!(alerts[0].state, Firing);
        assert_eq!(alerts[0].findings, ["n3 does not answer: connection refused :8080"]);
        let cut =
            super::tests::samples(60, |_, id, figures| figures.peers_connected = if id == 2 { 1 } else { 2 });
        assert_eq!(evaluate(&cut)[0].findings, ["n2 is connected to 1 of 2 others"]);
    }

    #[test]
    fn lag_has_its_limit_and_only_a_leader_knows_it() {
        let lag = |lag| samples(60, move |_, id, figures| figures.lag = if id == 1 { lag } else { 0 });
        assert_eq!(states(&lag(100))[1], Fine);
        assert_eq!(states(&lag(101))[1], Firing);
        assert_eq!(states(&samples(60, |_, _, figures| figures.leads = false))[1], NotEvaluated);
    }

    #[test]
    fn two_elections_in_any_window_fire_and_one_takes_a_minute_to_tell() {
        let begun = |seconds, count| {
            samples(seconds, move |at, id, figures| {
                figures.elections += if id == 2 && at > seconds / 2 { count } else { 0 };
            })
        };
        assert_eq!(states(&begun(5, 2))[2], Firing);
        assert_eq!(states(&begun(5, 1))[2], NotEvaluated);
        assert_eq!(states(&begun(60, 1))[2], Fine);
        assert_eq!(states(&begun(60, 2))[2], Firing);
        assert_eq!(states(&begun(120, 2))[2], Fine);
        let restarted = samples(60, |at, id, figures| {
            figures.elections = if id == 2 && at > 30 { 1 } else { 5 };
        });
        assert_eq!(states(&restarted)[2], Fine, "a counter that begins anew is no election less");
    }

    #[test]
    fn events_that_are_refused_are_a_write_failure_at_once() {
        let samples = samples(1, |_, id, figures| figures.refuses = id == 1);
        assert_eq!(states(&samples)[3], Firing);
        assert!(evaluate(&samples)[3].findings[0].contains("n1, the leader, refuses events"));
    }

    #[test]
    fn a_commit_index_that_stands_still_is_a_failure_only_while_something_waits() {
        let waiting = |seconds| samples(seconds, |_, _, figures| figures.last = 11);
        assert_eq!(states(&waiting(31))[3], Firing);
        assert_eq!(states(&waiting(30))[3], NotEvaluated, "more than 30 s");
        assert_eq!(states(&waiting(5))[3], NotEvaluated);
        let busy = samples(5, |at, _, figures| (figures.commit, figures.last) = (at, at + 1));
        assert_eq!(states(&busy)[3], Fine, "it moves");
        let leaderless = samples(31, |_, _, figures| (figures.leads, figures.leader) = (false, None));
        assert_eq!(states(&leaderless)[3], Firing);
        let nobody: Vec<Sample> = leaderless
            .into_iter()
            .map(|sample| Sample {
                nodes: sample.nodes.into_keys().map(|id| (id, Err("gone".to_owned()))).collect(),
                ..sample
            })
            .collect();
        assert_eq!(states(&nobody), [Firing, NotEvaluated, NotEvaluated, Firing]);
    }
}

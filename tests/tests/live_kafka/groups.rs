//! Consumer groups of real clients, while leaders die and hand over.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::client::Client;
use tests::cluster::Cluster;

/// Limit of the time in which no member gets an event while a leader dies or hands over, in ms.
const GAP_MS: u64 = 3000;

/// How long a member of the consumer protocol may be silent.
const SESSION: Duration = Duration::from_secs(45);

/// Members that subscribe by a pattern, before there is a topic that it matches.
const PATTERN: &str = "confluent-pattern";

/// A cluster with a topic of six partitions.
fn with_topic(name: &str) -> Result<Cluster> {
    let cluster = Cluster::ready(3)?;
    let leader = cluster.wait_ready()?;
    let code = Client::connect(cluster.kafka(leader), Duration::from_secs(5))?.create_topic(name, 6)?;
    ensure!(code == 0, "no topic: error code {code}");
    Ok(cluster)
}

/// Clients in Python, of a kind whose name their topic and group have.
fn clients(script: &str, kind: &str, cluster: &Cluster) -> Command {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut command = Command::new(root.join("target/venv/bin/python"));
    command.arg(root.join("tests/clients").join(script)).args([kind, &cluster.bootstrap(), kind]);
    command
}

/// Lets a group read while `trouble` happens. Returns what it has to tell in the end.
fn through(library: &str, trouble: impl FnOnce(&mut Cluster) -> Result<()>) -> Result<Value> {
    let mut cluster = if library == PATTERN { Cluster::ready(3)? } else { with_topic(library)? };
    let mut group = clients("groups.py", library, &cluster)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run Python; `tests/setup.sh` installs what it needs")?;
    let mut said = BufReader::new(group.stdout.take().context("its output")?).lines();
    ensure!(said.next().context("it ended")?? == "ready");
    trouble(&mut cluster)?;
    drop(group.stdin.take());
    let told: Value = serde_json::from_str(&said.next().context("it ended")??)?;
    ensure!(group.wait()?.success(), "{told}");
    println!("{library}: {told}");
    Ok(told)
}

/// Nothing is lost, and no member has to join again or hears of an error.
fn undisturbed(told: &Value) -> Result<()> {
    ensure!(told["lost"] == 0 && told["written"].as_u64() > Some(100), "{told}");
    ensure!(told["assignments"] == json!([]), "the group was assigned anew: {told}");
    ensure!(told["errors"] == json!([]), "{told}");
    ensure!(told["gap"].as_u64().is_some_and(|gap| gap <= GAP_MS), "nobody read for too long: {told}");
    Ok(())
}

/// What an administrator is told of a group to which the cluster assigns.
fn of_the_consumer_protocol(group: &Value) -> Result<()> {
    ensure!(group["listed"] == json!(["CONSUMER", "STABLE"]) && group["type"] == "CONSUMER", "{group}");
    ensure!(group["assignor"] == "uniform" && group["partitions"] == json!([2, 2, 2]), "{group}");
    Ok(())
}

fn kill_leader(cluster: &mut Cluster) -> Result<()> {
    std::thread::sleep(Duration::from_secs(1));
    let leader = cluster.wait_ready()?;
    cluster.kill(leader)?;
    std::thread::sleep(Duration::from_secs(4));
    cluster.launch(leader)?;
    cluster.wait_ready()?;
    std::thread::sleep(Duration::from_secs(1));
    Ok(())
}

/// Stops each node and starts it again, as an upgrade does.
fn restart_all(cluster: &mut Cluster) -> Result<()> {
    for node in cluster.ids() {
        cluster.stop(node)?;
        cluster.launch(node)?;
        cluster.wait_ready()?;
        std::thread::sleep(Duration::from_secs(1));
    }
    Ok(())
}

#[test]
fn a_group_of_librdkafka_reads_on_when_its_leader_dies() -> Result<()> {
    undisturbed(&through("confluent", kill_leader)?)
}

#[test]
fn a_group_of_the_consumer_protocol_reads_on_when_its_leader_dies() -> Result<()> {
    let told = through("confluent-consumer", kill_leader)?;
    of_the_consumer_protocol(&told["described"])?;
    undisturbed(&told)
}

#[test]
fn a_group_finds_the_topics_that_its_pattern_matches_and_reads_on_when_its_leader_dies() -> Result<()> {
    undisturbed(&through(PATTERN, kill_leader)?)
}

#[test]
fn a_group_of_kafka_python_reads_on_when_its_leader_dies() -> Result<()> {
    undisturbed(&through("kafka-python", kill_leader)?)
}

#[test]
fn a_group_of_java_reads_on_when_its_leader_dies() -> Result<()> {
    undisturbed(&through("java", kill_leader)?)
}

#[test]
fn a_group_of_java_of_the_consumer_protocol_reads_on_when_its_leader_dies() -> Result<()> {
    let told = through("java-consumer", kill_leader)?;
    of_the_consumer_protocol(&told["described"])?;
    undisturbed(&told)
}

#[test]
fn a_group_of_rdkafka_reads_on_when_its_leader_dies() -> Result<()> {
    undisturbed(&through("rdkafka", kill_leader)?)
}

#[test]
fn a_group_reads_on_while_each_node_starts_again() -> Result<()> {
    undisturbed(&through("confluent", restart_all)?)
}

#[test]
fn a_group_of_the_consumer_protocol_reads_on_while_each_node_starts_again() -> Result<()> {
    undisturbed(&through("confluent-consumer", restart_all)?)
}

#[test]
fn members_of_the_consumer_protocol_stay_for_longer_than_a_session_of_a_new_leader() -> Result<()> {
    undisturbed(&through("confluent-consumer", |cluster| {
        kill_leader(cluster)?;
        std::thread::sleep(SESSION + Duration::from_secs(2));
        Ok(())
    })?)
}

#[test]
fn what_a_silent_member_of_the_consumer_protocol_read_is_read_by_others_after_its_session() -> Result<()> {
    let told = through("confluent-consumer", |cluster| {
        let mut silent =
            clients("silent.py", "confluent-consumer", cluster).stdout(Stdio::piped()).spawn()?;
        let mut said = BufReader::new(silent.stdout.take().context("its output")?).lines();
        let ready = said.next().context("it ended")??;
        silent.kill()?;
        silent.wait()?;
        ensure!(ready == "ready", "{ready}");
        // The others hear of it by their next heartbeats.
        std::thread::sleep(SESSION + Duration::from_secs(7));
        Ok(())
    })?;
    ensure!(told["lost"] == 0 && told["errors"] == json!([]), "{told}");
    ensure!(told["assignments"] != json!([]), "nobody else was assigned anything: {told}");
    Ok(())
}

/// A group goes over from the classic protocol, with this assignor, to the consumer protocol and back, member by member.
fn migrates(assignor: &str) -> Result<()> {
    let cluster = with_topic(assignor)?;
    let output = clients("migration.py", assignor, &cluster).output()?;
    let (told, errors) = (String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?);
    println!("{assignor}: {told}{errors}");
    ensure!(output.status.success(), "{errors}");
    let told: Value = serde_json::from_str(&told)?;
    let (consumer, classic) = ("CONSUMER", "CLASSIC");
    ensure!(told["types"] == json!([consumer, consumer, consumer, consumer, consumer, classic]), "{told}");
    ensure!(told["lost"] == 0 && told["written"].as_u64() > Some(100), "{told}");
    ensure!(told["twice"] == json!([]) && told["errors"] == json!([]), "{told}");
    Ok(())
}

#[test]
fn a_group_whose_members_give_up_all_to_join_goes_over_to_the_consumer_protocol_and_back() -> Result<()> {
    migrates("range")
}

#[test]
fn a_group_whose_members_keep_what_they_may_goes_over_to_the_consumer_protocol_and_back() -> Result<()> {
    migrates("cooperative-sticky")
}

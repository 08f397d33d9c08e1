//! Limits of connections and file descriptors.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tests::cli::script;
use tests::client::Client;
use tests::cluster::Cluster;
use tests::hostile::{is_closed, many_clients};
use tests::programs::binary;

use super::{LIMIT, under_attack};

#[test]
fn connections_above_the_limit_are_refused_and_the_others_served() -> Result<()> {
    let extra = "network:\n  max_connections: 100\n";
    let cluster = Cluster::start_with(1, extra, &binary("esnode"))?;
    cluster.wait_ready()?;
    under_attack(&cluster, "many-clients", || {
        let mut opened = [cluster.kafka(1), cluster.admin(1), cluster.peer(1)].map(|to| (to, Vec::new()));
        for (address, connections) in &mut opened {
            let began = Instant::now();
            *connections = many_clients(*address, 1500)?;
            println!("{address}: 1500 connections in {:.1?}", began.elapsed());
        }
        std::thread::sleep(Duration::from_secs(2));
        for (address, connections) in &mut opened {
            let open = connections.iter_mut().filter_map(|stream| (!is_closed(stream)).then_some(())).count();
            println!("{address}: {open} of 1500 are open");
            ensure!(open <= 100, "{open} connections are open on {address}");
        }
        Ok(())
    })?;
    let told = cluster.log(1);
    ensure!(told.contains("Kafka clients were turned away"), "the log does not mention it: {told}");
    ensure!(told.contains("admin connections were refused"), "the log does not mention it: {told}");
    ensure!(told.lines().count() < 60, "strangers fill the log: {told}");
    let (code, metrics) = cluster.get(1, "/metrics")?;
    let refused =
        metrics.lines().find_map(|line| line.strip_prefix("eventstream_kafka_connections_refused_total "));
    ensure!(
        code == 200 && refused.is_some_and(|count| count.parse::<f64>().is_ok_and(|count| count > 1000.0))
    );
    Ok(())
}

/// Without file descriptors the next segment could not be opened, which would look like a failed disk.
#[test]
fn connections_leave_file_descriptors_to_the_log() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let limited = dir.path().join("esnode");
    script(&limited, &format!("ulimit -n 600\nexec {} \"$@\"", binary("esnode").display()))?;
    let cluster = Cluster::start_with(1, "", &limited)?;
    cluster.wait_ready()?;
    let mut client = Client::connect(cluster.kafka(1), LIMIT)?;
    ensure!(client.create_topic("t", 1)? == 0);
    let _held: Vec<Vec<TcpStream>> = [cluster.kafka(1), cluster.peer(1)]
        .into_iter()
        .map(|to| many_clients(to, 700))
        .collect::<Result<_>>()?;
    // Several segments' worth.
    let event = vec![b'x'; 900 << 10];
    for _ in 0..30 {
        ensure!(client.produce("t", 0, &event)?.is_ok());
    }
    let files = std::fs::read_dir(cluster.data_dir(1).join("log"))?.count();
    ensure!(files > 2, "the log did not grow beyond its first segment: {files} files");
    ensure!(cluster.log(1).contains("may open 600 files only"), "{}", cluster.log(1));
    Ok(())
}

//! Every command that changes something refuses nodes that do not belong to the cluster.yaml, says whose they
//! are, and changes nothing.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::cli::{CliRunner, path, text};
use tests::programs::binary;
use tests::sshd::SshLab;

/// Commands that change nothing; all others must refuse.
const LOOKS: [&str; 21] = [
    "alerts",
    "check",
    "completions",
    "consume",
    "diff",
    "explain",
    "health",
    "help",
    "history",
    "init",
    "logs",
    "man",
    "monitoring",
    "render",
    "status",
    "support-bundle",
    "transaction",
    "validate",
    "verify",
    "version",
    "watch",
];

/// Every other command, as it is called for node 1 of a cluster that the file calls `staging`.
fn changing(esnode: &str, backup: &str) -> Vec<(String, Vec<String>)> {
    let names =
        escli::command().get_subcommands().map(|command| command.get_name().to_owned()).collect::<Vec<_>>();
    let rest = |name: &str| -> String {
        match name {
            "up" | "start" | "stop" | "restart" | "reload" | "transfer-leader" | "plan" => String::new(),
            "down" => "--purge-data --yes --confirm staging".to_owned(),
            "upgrade" => format!("--binary {esnode}"),
            "add-node" => "9 --host 127.0.0.9".to_owned(),
            "remove-node" => "1 --purge --force --yes --confirm staging".to_owned(),
            "replace-node" => "1 9 --host 127.0.0.9 --yes".to_owned(),
            "recover" => "--survivor 1 --lost 2 --yes --confirm recover-staging-from-1".to_owned(),
            "restore" => format!("{backup} --yes"),
            "backup" => "--node 1".to_owned(),
            "topic" => "delete orders --yes".to_owned(),
            "produce" => "orders".to_owned(),
            "group" => "delete billing --yes".to_owned(),
            "exec" => "-- touch /tmp/eventstream-was-here".to_owned(),
            other => panic!("how is {other} called, or does it change nothing?"),
        }
    };
    let changing = names.into_iter().filter(|name| !LOOKS.contains(&name.as_str()));
    let calls = changing.map(|name| {
        let line = format!("{name} {}", rest(&name));
        let words = line.split_whitespace().map(str::to_owned);
        (name.clone(), words.collect())
    });
    calls.chain([("check".to_owned(), vec!["check".to_owned(), "--fix".to_owned()])]).collect()
}

/// Returns every file below `dir` with its content, without logs and data, which a running node writes.
fn files(dir: &Path) -> Result<BTreeMap<PathBuf, Vec<u8>>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_owned();
        if path.is_dir() && !["data", "raft", "run", "state"].iter().any(|own| name == *own) {
            found.extend(files(&path)?);
        } else if path.is_file() && name != "log" {
            found.insert(path.clone(), fs::read(&path)?);
        }
    }
    Ok(found)
}

/// Writes a changed copy of a cluster.yaml beside it.
fn variant(cli: &CliRunner, of: &Path, name: &str, changes: &[(&str, &str)]) -> Result<PathBuf> {
    let mut text = fs::read_to_string(of)?;
    for (from, to) in changes {
        ensure!(text.contains(from), "no {from} in {text}");
        text = text.replacen(from, to, 1);
    }
    let file = of.parent().unwrap_or(cli.dir.path()).join(name);
    fs::write(&file, text)?;
    Ok(file)
}

/// Checks that this is refused with exit code 3 and the reason `why`. Returns the output.
fn refused(cli: &CliRunner, file: &Path, args: &[&str], why: &str) -> Result<String> {
    let args = [&["-c", path(file)], args].concat();
    let output = cli.escli(&args)?;
    let said = text(&output.stderr) + &text(&output.stdout);
    ensure!(output.status.code() == Some(3), "{args:?}: {:?}: {said}", output.status);
    ensure!(said.contains(why), "{args:?}: {why:?} is not in: {said}");
    Ok(said)
}

fn every_change_is_refused(
    cli: &CliRunner,
    file: &Path,
    backup: &Path,
    skip: &[&str],
    why: &str,
) -> Result<()> {
    let before = files(cli.dir.path())?;
    for (name, args) in changing(binary("esnode").to_str().context("a path")?, path(backup)) {
        if skip.contains(&name.as_str()) {
            continue;
        }
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        // These only ask the admin port, which names its cluster too.
        let why = if ["backup", "topic", "produce", "group"].contains(&name.as_str()) {
            "answers as node 1 of "
        } else {
            why
        };
        refused(cli, file, &args, why).with_context(|| name.clone())?;
        ensure!(files(cli.dir.path())? == before, "{name} changed something");
    }
    Ok(())
}

#[test]
fn a_file_with_another_cluster_name_changes_nothing() -> Result<()> {
    let cli = CliRunner::with_cluster(3)?;
    let own = cli.cluster().join("cluster.yaml");
    let backup = cli.dir.path().join("backup.tar");
    ensure!(cli.escli(&["-c", path(&own), "backup", path(&backup)])?.status.success());
    let staging = variant(&cli, &own, "staging.yaml", &[("name: local", "name: staging")])?;
    let before = cli.pids(1..=3)?;
    let n1 = cli.cluster().join("n1").canonicalize()?;
    let why = format!("{} is node 1 of local, not of staging", n1.display());
    // exec and check have no host here.
    every_change_is_refused(&cli, &staging, &backup, &["exec", "check"], &why)?;
    ensure!(cli.pids(1..=3)? == before, "a node was started or stopped");

    let (code, diff) = cli.json(&["-c", path(&staging), "diff"])?;
    ensure!(code == 11 && diff["nodes"][0]["identity"].to_string().contains("node 1 of local"), "{diff:#}");
    let (_, status) = cli.json(&["-c", path(&staging), "status"])?;
    ensure!(status["nodes"][0]["reason"] == "answers as node 1 of local", "{status:#}");

    let (code, status) = cli.json(&["-c", path(&own), "status"])?;
    ensure!(code == 0 && status["health"] == "HEALTHY", "{status:#}");
    let (_, diff) = cli.json(&["-c", path(&own), "diff"])?;
    ensure!(diff["cluster_id"] == status["cluster_id"] && diff["cluster_id"].is_string(), "{diff:#}");
    // Its cluster is known while it is stopped, too.
    ensure!(cli.escli(&["-c", path(&own), "down"])?.status.success());
    refused(&cli, &staging, &["up"], &why)?;
    refused(&cli, &staging, &["down", "--purge-data", "--yes", "--confirm", "staging"], &why)?;
    let (_, status) = cli.json(&["-c", path(&own), "status"])?;
    ensure!(status["cluster_id"] == diff["cluster_id"], "it is remembered: {status:#}");
    Ok(())
}

#[test]
fn a_local_cluster_with_empty_disks_is_not_bootstrapped_again() -> Result<()> {
    let cli = CliRunner::with_cluster(3)?;
    let own = cli.cluster().join("cluster.yaml");
    let id = cli.json(&["status"])?.1["cluster_id"].clone();
    ensure!(cli.escli(&["-c", path(&own), "down"])?.status.success());
    for node in 1..=3 {
        fs::remove_dir_all(cli.cluster().join(format!("n{node}/data")))?;
    }
    let why = id.as_str().context("an id")?;
    for command in ["up", "start"] {
        refused(&cli, &own, &[command], why)?;
    }
    let purged = cli.escli(&["-c", path(&own), "down", "--purge-data", "--yes", "--confirm", "local"])?;
    ensure!(purged.status.success(), "{}", text(&purged.stderr));
    let (code, report) = cli.up()?;
    ensure!(code == 0, "{report:#}");
    ensure!(cli.json(&["status"])?.1["cluster_id"] != id, "a new one");
    Ok(())
}

#[test]
fn a_copy_of_a_local_clusters_folder_is_refused() -> Result<()> {
    let cli = CliRunner::with_cluster(3)?;
    let own = cli.cluster().join("cluster.yaml");
    ensure!(cli.escli(&["-c", path(&own), "down"])?.status.success());
    let copy = cli.dir.path().join("copy");
    let copied = std::process::Command::new("cp").arg("-r").arg(cli.cluster()).arg(&copy).status()?;
    ensure!(copied.success());
    let moved = cli.dir.path().join("moved");
    let run = || -> Result<()> {
        let said = refused(&cli, &copy.join("cluster.yaml"), &["up"], "has its data in")?;
        let old = cli.cluster().canonicalize()?.join("n1/data");
        let new = copy.canonicalize()?.join("n1/data");
        ensure!(said.contains(path(&old)) && said.contains(path(&new)), "both are named: {said}");
        // A folder that was moved is still the cluster.
        fs::remove_dir_all(cli.cluster())?;
        fs::rename(&copy, &moved)?;
        let up = cli.escli(&["-c", path(&moved.join("cluster.yaml")), "up"])?;
        ensure!(up.status.success(), "{}", text(&up.stderr));
        Ok(())
    };
    let ended = run();
    // No node may survive the test.
    for dir in [&copy, &moved] {
        let _ = cli.escli(&["-c", path(&dir.join("cluster.yaml")), "down"]);
    }
    ended
}

/// Writes the cluster.yaml of a cluster of one node, whose host is this machine.
fn on_a_host(lab: &mut SshLab, cli: &CliRunner) -> Result<PathBuf> {
    let address = lab.at(0).address;
    let text = format!(
        "cluster:\n  name: orders\n  nodes:\n    - {{ id: 1, host: {}, client_port: {}, cluster_port: {}, http_port: {} }}\n  \
         storage:\n    data_dir: {}\ndeploy:\n  privilege: none\n  service: process\n  install_dir: {}\n  ssh:\n    \
         user: {}\n    port: {}\n    identity_file: {}\n    known_hosts: {}\n",
        address.ip(),
        cli.base,
        cli.base + 100,
        cli.base + 200,
        lab.path("data/raft").display(),
        lab.path("opt").display(),
        lab.user(),
        address.port(),
        lab.path("id_ed25519").display(),
        lab.path("known_hosts").display(),
    );
    let file = cli.dir.path().join("orders.yaml");
    fs::write(&file, text)?;
    Ok(file)
}

/// Returns all files on the host, without those that its node writes.
fn deployed(lab: &SshLab) -> Result<BTreeMap<PathBuf, Vec<u8>>> {
    files(&lab.path("opt"))
}

#[test]
fn a_host_is_changed_only_as_the_node_that_it_is() -> Result<()> {
    let (mut lab, cli) = (SshLab::start(1)?, CliRunner::new()?);
    let orders = on_a_host(&mut lab, &cli)?;
    let up = cli.escli(&["-c", path(&orders), "up"])?;
    ensure!(up.status.success(), "{}", text(&up.stderr));
    let run = || -> Result<()> {
        let host = lab.path("data/raft");
        let before = deployed(&lab)?;
        let backup = cli.dir.path().join("backup.tar");
        let taken = cli.escli(&["-c", path(&orders), "backup", path(&backup)])?;
        ensure!(taken.status.success(), "{}", text(&taken.stderr));
        let ip = lab_ip(&orders)?;

        // A file of another cluster names the host.
        let staging = variant(&cli, &orders, "staging.yaml", &[("name: orders", "name: staging")])?;
        let why = format!("{ip} is node 1 of orders, not of staging");
        // recover and remove-node need a second node.
        every_change_is_refused(&cli, &staging, &backup, &["recover", "remove-node"], &why)?;
        let (code, check) = cli.json(&["-c", path(&staging), "check"])?;
        ensure!(code == 3 && finding(&check, "identity").to_string().contains(&why), "{check:#}");

        // Another id of the same cluster.
        let second = variant(&cli, &orders, "second.yaml", &[("id: 1", "id: 2")])?;
        for args in [
            &["up"][..],
            &["stop"],
            &["exec", "--", "true"],
            &["down", "--purge-data", "--yes", "--confirm", "orders"],
        ] {
            refused(&cli, &second, args, &format!("{ip} is node 1 of orders, not node 2"))?;
        }

        // Another data directory, while the node runs and while it is stopped.
        let data = format!("data_dir: {}", host.display());
        let elsewhere = variant(&cli, &orders, "elsewhere.yaml", &[(&data, &format!("{data}-new"))])?;
        let why = format!("{ip} has its data in {old}, not in {old}-new", old = host.display());
        refused(&cli, &elsewhere, &["up"], &why)?;
        ensure!(cli.escli(&["-c", path(&orders), "down"])?.status.success());
        for args in [&["up"][..], &["start"], &["down", "--purge-data", "--yes", "--confirm", "orders"]] {
            refused(&cli, &elsewhere, args, &why)?;
        }
        ensure!(deployed(&lab)?.len() == before.len() && host.join("identity").exists());
        // Once the directory is moved as the hint says, the node starts.
        fs::rename(&host, host.with_file_name("raft-new"))?;
        let moved = cli.escli(&["-c", path(&elsewhere), "up"])?;
        ensure!(moved.status.success(), "{}", text(&moved.stderr));

        // The same name, but not the cluster that was brought up with this file.
        let memory = fs::read_dir(cli.dir.path().join("state/eventstream/orders"))?;
        let kept = memory
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|e| e == "cluster"));
        for path in kept {
            fs::write(path, "6f1c1d70-2f3a-4c0e-9d55-0a6f4f2b7c11\n")?;
        }
        refused(&cli, &elsewhere, &["stop"], "orders is 6f1c1d70-2f3a-4c0e-9d55-0a6f4f2b7c11")?;
        let (_, status) = cli.json(&["-c", path(&elsewhere), "health"])?;
        ensure!(status["reasons"].to_string().contains("belongs to another cluster"), "{status:#}");
        Ok(())
    };
    let ended = run();
    // No node may survive the test.
    if let Ok(pid) = fs::read_to_string(lab.path("opt/run/pid")) {
        let pid = pid.trim().parse().ok().and_then(rustix::process::Pid::from_raw);
        pid.map(|pid| rustix::process::kill_process(pid, rustix::process::Signal::KILL));
    }
    ended
}

fn lab_ip(file: &Path) -> Result<String> {
    let text = fs::read_to_string(file)?;
    let host = text.split("host: ").nth(1).and_then(|rest| rest.split(',').next());
    Ok(host.context("a host")?.to_owned())
}

fn finding(check: &Value, name: &str) -> Value {
    let findings = check["findings"].as_array().cloned().unwrap_or_default();
    findings.into_iter().find(|finding| finding["check"] == name).unwrap_or_default()
}

#[test]
fn two_nodes_on_one_host_are_refused_with_the_lines_of_both() -> Result<()> {
    let cli = CliRunner::new()?;
    let file = cli.dir.path().join("cluster.yaml");
    let text_of = "cluster:\n  nodes:\n    - { id: 1, host: 127.0.0.9 }\n    - { id: 2, host: 127.0.0.9, client_port: 9001, \
                   cluster_port: 9101, http_port: 8081 }\n";
    fs::write(&file, text_of)?;
    for command in ["validate", "up", "check"] {
        let output = cli.escli(&[command])?;
        let said = text(&output.stdout) + &text(&output.stderr);
        ensure!(output.status.code() == Some(2), "{command}: {said}");
        ensure!(said.contains(":4:22: node 2 is on 127.0.0.9, like node 1 on line 3"), "{command}: {said}");
    }
    Ok(())
}

//! `escli support-bundle`: what is in it, how it explains what is missing, and what must never be in it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::cli::{CliRunner, path, text};

/// A secret, put where operators keep such things and where programs log them.
const SECRET: &str = "hunter2-correct-horse";

/// Returns the archive in a folder.
fn archive(folder: &Path) -> Result<PathBuf> {
    let paths = fs::read_dir(folder)?.flatten().map(|entry| entry.path());
    let mut archives = paths.filter(|path| path.to_string_lossy().ends_with(".tar.gz"));
    archives.next().context("no archive")
}

/// Returns every file of the archive by its path below the top folder.
fn unpacked(archive: &Path) -> Result<BTreeMap<String, String>> {
    let dir = tempfile::tempdir()?;
    let status = Command::new("tar").arg("xzf").arg(archive).arg("-C").arg(dir.path()).status()?;
    ensure!(status.success(), "tar cannot read it");
    let top = fs::read_dir(dir.path())?.next().context("a folder")??.path();
    let mut files = BTreeMap::new();
    let mut folders = vec![top.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(&top)?.display().to_string();
                files.insert(name, fs::read_to_string(&path)?);
            }
        }
    }
    Ok(files)
}

#[test]
fn a_support_bundle_has_all_evidence_and_no_secrets() -> Result<()> {
    let cli = CliRunner::with_cluster(3)?;
    ensure!(cli.escli(&["stop", "3"])?.status.success());
    let plant = |file: &str, line: &str| -> Result<()> {
        let file = cli.cluster().join(file);
        let before = fs::read_to_string(&file)?;
        Ok(fs::write(file, before + line)?)
    };
    plant("cluster.yaml", &format!("# the disk's key is {SECRET}\n"))?;
    plant("n1/cluster.yaml", &format!("# ask ada, or type {SECRET}\n"))?;
    plant(
        "n1/log",
        &format!("started with ES_PASSWORD={SECRET} HOME=/root\nhttp://ada:{SECRET}@proxy:3128\n"),
    )?;

    let output = cli.escli(&["support-bundle"])?;
    ensure!(output.status.code() == Some(0), "{}", text(&output.stderr));
    let archive = archive(cli.dir.path())?;
    let name = archive.file_name().context("a name")?.to_string_lossy().into_owned();
    ensure!(name.starts_with("eventstream-local-2") && name.ends_with("Z.tar.gz"), "{name}");
    ensure!(
        fs::metadata(&archive)?.permissions().mode() & 0o777 == 0o600,
        "the archive is readable by others"
    );
    let files = unpacked(&archive)?;
    for (file, text) in &files {
        ensure!(!text.contains(SECRET), "{file} has it:\n{text}");
    }
    let says = |file: &str, wanted: &str| -> Result<()> {
        let text = files.get(file).with_context(|| format!("no {file} in {:?}", files.keys()))?;
        ensure!(text.contains(wanted), "{file} does not say {wanted:?}: {text}");
        Ok(())
    };
    says("nodes/n1/log.txt", "ES_PASSWORD=[redacted] HOME=/root")?;
    says("cluster.yaml", "client_port")?;
    says("escli.json", "support-bundle")?;
    says("status.json", "\"DEGRADED\"")?;
    says("plan.json", "n3.start")?;
    says("diff.json", "\"running\": \"missing\"")?;
    says("nodes/n1/cluster.yaml", "node_id: 1")?;
    says("nodes/n1/version.json", "\"version\"")?;
    says("nodes/n1/service.txt", "esnode")?;
    says("nodes/n1/machine.txt", "MemTotal")?;
    says("nodes/n1/machine.txt", "Filesystem")?;
    says("nodes/n1/metrics.txt", "# HELP")?;
    says("nodes/n1/status.json", "\"term\"")?;
    says("nodes/n3/log.txt", "INFO")?;
    says("nodes/n3/unreachable.txt", "connection refused")?;
    ensure!(files.keys().any(|name| name.starts_with("journal/") && name.contains("-up-")), "no journal");

    let manifest: Value = serde_json::from_str(&files["manifest.json"])?;
    let entries = manifest["entries"].as_array().context("entries")?;
    for entry in entries {
        let there = files.get(entry["path"].as_str().context("a path")?);
        let size = there.map(|text| text.len() as u64);
        let reason = entry["missing"].as_str().filter(|why| !why.is_empty());
        ensure!(there.is_some() != reason.is_some(), "neither there nor explained: {entry:#}");
        ensure!(size.is_none() || entry["bytes"].as_u64() == size, "{entry:#}");
    }
    let missing =
        |path: &str| entries.iter().find(|entry| entry["path"] == path).map(|entry| &entry["missing"]);
    ensure!(
        missing("nodes/n3/metrics.txt").is_some_and(|why| why.to_string().contains("connection refused"))
    );
    ensure!(entries.len() + 1 >= files.len(), "the manifest names every part");
    Ok(())
}

#[test]
fn a_support_bundle_overwrites_nothing() -> Result<()> {
    let cli = CliRunner::new()?;
    fs::create_dir(cli.cluster())?;
    let cluster = cli.cluster().join("cluster.yaml");
    let base = cli.base;
    fs::write(
        &cluster,
        format!(
            "cluster:\n  name: none\n  nodes:\n    - {{ id: 1, host: 127.0.0.1, client_port: {base}, cluster_port: {}, \
             http_port: {} }}\ndeploy:\n  transport: local\n",
            base + 1,
            base + 2
        ),
    )?;
    let file = cli.dir.path().join("mine.tar.gz");
    let args = ["-c", path(&cluster), "support-bundle", "--file", path(&file)];
    let (code, first) = cli.json(&args)?;
    ensure!(code == 0 && first["file"] == path(&file), "nodes that do not run must be no failure: {first:#}");
    ensure!(first["missing"].as_array().is_some_and(|missing| !missing.is_empty()), "{first:#}");
    let before = fs::read(&file)?;
    let (code, second) = cli.json(&args)?;
    ensure!(code == 3 && second.to_string().contains("already exists"), "{second:#}");
    ensure!(fs::read(&file)? == before, "it was overwritten");
    Ok(())
}

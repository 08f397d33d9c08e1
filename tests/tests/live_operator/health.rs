//! `escli status`, `health` and `watch` for nodes that escli did not start.

use anyhow::{Result, ensure};
use tests::cli::{CliRunner, path, text};
use tests::cluster::Cluster;

#[test]
fn a_cluster_is_healthy_then_degraded_then_unavailable() -> Result<()> {
    let mut cluster = Cluster::ready(3)?;
    let (cli, file) = (CliRunner::new()?, cluster.config(1));
    let about = |args: &[&'static str]| [&["-c", path(&file)], args].concat();
    let watched = cli.escli(&about(&["watch", "--until", "healthy", "--timeout", "10s", "-o", "json"]))?;
    ensure!(watched.status.success(), "{}", text(&watched.stderr));
    let status = text(&cli.escli(&about(&["status"]))?.stdout);
    ensure!(status.starts_with("test  HEALTHY  3/3 voters · tolerates 1 · leader n"), "{status}");

    let leader = cluster.wait_leader()?;
    let followers: Vec<_> = cluster.ids().into_iter().filter(|id| *id != leader).collect();
    for (gone, verdict) in followers.into_iter().zip(["DEGRADED", "UNAVAILABLE"]) {
        cluster.kill(gone)?;
        let (code, health) = cluster.wait(verdict, |_| {
            cli.json(&about(&["health"])).ok().filter(|(_, health)| health["health"] == verdict)
        })?;
        let reasons = health["reasons"].to_string();
        ensure!(code == 10, "{health:#}");
        ensure!(reasons.contains(&format!("n{gone} does not answer: connection refused :8080")), "{reasons}");
        ensure!(cli.escli(&about(&["status"]))?.status.success(), "the others can still be shown");
        let one = gone.to_string();
        let args = [about(&["status", "--node"]), vec![one.as_str()]].concat();
        ensure!(cli.escli(&args)?.status.code() == Some(7));
    }
    Ok(())
}

//! `escli check --fix` as root on Linux hosts: users, owners and modes.
//!
//! Needs what `tests/lab/lab.sh` needs; fails without it, unless `SKIP=lab`.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::cli::CliSession;
use tests::lab::Lab;

fn ids(report: &Value) -> Vec<&str> {
    report["steps"].as_array().into_iter().flatten().filter_map(|step| step["id"].as_str()).collect()
}

/// Returns the checks that are not ok, each with its node.
fn problems(document: &Value) -> Vec<(u64, &str)> {
    let findings = document["findings"].as_array().into_iter().flatten();
    let problems = findings.filter(|finding| finding["level"] != "ok");
    problems.filter_map(|finding| Some((finding["node"].as_u64()?, finding["check"].as_str()?))).collect()
}

#[test]
fn users_owners_and_modes_are_fixed_and_nothing_else() -> Result<()> {
    let Some(lab) = Lab::bare(3)? else { return Ok(()) };
    let locked = CliSession::new(&lab, "pwadmin", "")?;
    let (code, document) = locked.json(&["check", "--fix"])?;
    ensure!(code == 3 && ids(&document["fix"]).is_empty(), "{document:#}");
    locked.check_bare()?;

    let operator = CliSession::new(&lab, "admin", "")?;
    lab.cut_power(&[3])?;
    let (code, document) = operator.json(&["check", "--fix", "--ssh-timeout", "2s"])?;
    let expected = ["n1.user", "n2.user", "n1.dirs", "n2.dirs"];
    ensure!(code == 3 && ids(&document["fix"]) == expected, "one host is off: {document:#}");
    ensure!(problems(&document).contains(&(3, "reach")), "{document:#}");
    lab.boot_host(3)?;
    operator.up()?;

    // As if somebody had copied the data as root while the node was down.
    ensure!(operator.escli(&["stop", "2", "--yes"])?.status.success());
    let data = "/var/lib/eventstream/raft";
    lab.exec(2, &["sh", "-ec", &format!("chown root:root {data}; chmod 755 {data}")])?;
    let (code, document) = operator.json(&["check"])?;
    ensure!(code == 0 && problems(&document) == [(2, "dirs")], "{document:#}");
    let (code, document) = operator.json(&["check", "--fix"])?;
    ensure!(
        code == 0 && ids(&document["fix"]) == ["n2.dirs"] && problems(&document).is_empty(),
        "{document:#}"
    );
    let found = lab.exec(2, &["stat", "-c", "%U %G %a", data])?;
    ensure!(found.trim() == "eventstream eventstream 700", "{found}");
    let journal = operator.journals()?.into_iter().rfind(|path| path.to_string_lossy().contains("-check-"));
    let journal = std::fs::read_to_string(journal.context("no journal")?)?;
    ensure!(journal.contains("n2.dirs"), "{journal}");
    operator.up().map(drop)
}

//! `escli verify` on stopped nodes.

use std::fs::File;
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::cli::{CliRunner, text};
use tests::client::Client;

#[test]
fn a_stopped_node_is_verified_and_a_running_one_is_not() -> Result<()> {
    let place = CliRunner::new()?;
    ensure!(place.up()?.0 == 0);
    let leader = place.json(&["status"])?.1["leader"].as_u64().context("a leader")?;
    let address = SocketAddr::from(([127, 0, 0, 1], place.base + u16::try_from(leader)? - 1));
    let mut client = Client::connect(address, Duration::from_secs(5))?;
    ensure!(client.create_topic("t", 1)? == 0);
    for turn in 0..50 {
        ensure!(client.produce("t", 0, format!("event {turn}").as_bytes())?.is_ok());
    }
    let refused = place.escli(&["verify", "2"])?;
    let said = text(&refused.stderr);
    ensure!(refused.status.code() == Some(3) && said.contains("node 2 runs"), "{said}");
    ensure!(said.contains("escli stop 2"), "{said}");

    ensure!(place.escli(&["stop", "2"])?.status.success());
    let (code, whole) = place.json(&["verify", "2"])?;
    let node = &whole["verified"][0];
    ensure!(code == 0 && whole["ok"] == true && node["last_index"].as_u64() > Some(50), "{whole:#}");

    let log = place.cluster().join("n2/data/log");
    let segment = std::fs::read_dir(&log)?.flatten().map(|entry| entry.path());
    let segment =
        segment.filter(|path| path.extension().is_some_and(|end| end == "seg")).min().context("a segment")?;
    let file = File::options().read(true).write(true).open(&segment)?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, 2000)?;
    file.write_all_at(&[byte[0] ^ 1], 2000)?;
    let (code, damaged) = place.json(&["verify", "2"])?;
    let finding = &damaged["verified"][0]["findings"][0];
    ensure!(code == 1 && damaged["ok"] == false && finding["harmless"] == false, "{damaged:#}");
    let name = segment.file_name().context("a name")?.to_string_lossy().into_owned();
    ensure!(
        finding["file"] == format!("log/{name}") && finding["offset"].as_u64() <= Some(2000),
        "{damaged:#}"
    );
    let shown = text(&place.escli(&["verify", "2"])?.stdout);
    ensure!(shown.contains("DAMAGED") && shown.contains("escli replace-node"), "{shown}");

    file.write_all_at(&byte, 2000)?;
    ensure!(place.json(&["verify", "2"])?.0 == 0, "looking has changed something");
    ensure!(place.escli(&["start", "2"])?.status.success());
    Ok(())
}

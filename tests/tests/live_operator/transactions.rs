//! `escli transaction` and `escli consume --isolation` beside transactions under way.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tests::cli::CliRunner;

/// A producer with a transaction under way, in which it has written its id to partition 0 of `orders`.
struct Transaction(Child);

impl Transaction {
    fn begin(cli: &CliRunner, id: &str) -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut child = Command::new(root.join("target/venv/bin/python"))
            .arg(root.join("tests/clients/transaction.py"))
            .args([id, &cli.kafka(1).to_string(), "orders"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot run Python; `tests/setup.sh` installs what it needs")?;
        let mut said = BufReader::new(child.stdout.take().context("its output")?).lines();
        ensure!(said.next().context("it ended")?? == "open");
        Ok(Self(child))
    }

    fn end(mut self, how: &str) -> Result<()> {
        self.0.stdin.take().context("its input")?.write_all(format!("{how}\n").as_bytes())?;
        ensure!(self.0.wait()?.success());
        Ok(())
    }
}

/// The events of `orders` that escli prints.
fn read(cli: &CliRunner, isolation: &[&str]) -> Result<String> {
    let output = cli.command(&[&["consume", "orders"], isolation].concat()).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

#[test]
fn an_operator_sees_what_committed_readers_wait_for() -> Result<()> {
    let cli = CliRunner::with_cluster(1)?;
    let (code, created) = cli.json(&["topic", "create", "orders", "--partitions", "1"])?;
    ensure!(code == 0, "{created:#}");
    let committed: &[&str] = &["--isolation", "read_committed"];
    Transaction::begin(&cli, "first")?.end("commit")?;
    Transaction::begin(&cli, "second")?.end("abort")?;
    let third = Transaction::begin(&cli, "third")?;
    Transaction::begin(&cli, "fourth")?.end("commit")?;
    ensure!(read(&cli, &[])? == "first\nsecond\nthird\nfourth\n");
    ensure!(read(&cli, committed)? == "first\n", "nobody knows yet what is behind the third");
    let (_, listed) = cli.json(&["transaction", "list"])?;
    let state = |id: &str, state: &str| {
        let rows = listed["transactions"].as_array().into_iter().flatten();
        let mut rows = rows.filter(|row| row["id"] == id);
        rows.any(|row| row["state"] == state)
    };
    ensure!(state("first", "CompleteCommit") && state("second", "CompleteAbort"), "{listed:#}");
    ensure!(state("third", "Ongoing"), "{listed:#}");
    let (_, described) = cli.json(&["transaction", "describe", "third", "first"])?;
    let both = &described["transactions"];
    ensure!(both[0]["partitions"] == json!([{"topic": "orders", "partition": 0}]), "{described:#}");
    ensure!(both[0]["began_ms"].is_i64() && both[1]["began_ms"].is_null(), "{described:#}");
    let (code, unknown) = cli.json(&["transaction", "describe", "fifth"])?;
    ensure!(code == 1 && unknown.to_string().contains("there is no transactional id fifth"), "{unknown:#}");
    third.end("commit")?;
    ensure!(read(&cli, committed)? == "first\nthird\nfourth\n");
    Ok(())
}

#[test]
fn what_is_before_the_offset_to_begin_at_is_not_shown_when_its_transaction_is_committed() -> Result<()> {
    let cli = CliRunner::with_cluster(1)?;
    let (code, created) = cli.json(&["topic", "create", "orders", "--partitions", "2"])?;
    ensure!(code == 0, "{created:#}");
    let first = Transaction::begin(&cli, "first")?;
    Transaction::begin(&cli, "second")?.end("commit")?;
    let mut produce = cli.command(&["produce", "orders", "--partition", "1"]);
    let mut produce = produce.stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
    produce.stdin.take().context("its input")?.write_all(b"zero\none\n")?;
    ensure!(produce.wait()?.success());
    let args = ["consume", "orders", "--from", "1", "--follow", "--count", "2"];
    let mut consume = cli.command(&[&args[..], &["--isolation", "read_committed"]].concat());
    let mut consume = consume.stdout(Stdio::piped()).spawn()?;
    let mut shown = BufReader::new(consume.stdout.take().context("its output")?).lines();
    ensure!(shown.next().context("it ended")?? == "one", "where to begin is known now");
    first.end("commit")?;
    let next = shown.next().context("it ended")??;
    ensure!(next == "second", "{next}");
    ensure!(consume.wait()?.success());
    Ok(())
}

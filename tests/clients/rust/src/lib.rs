//! What the clients share: they read calls and write answers, as tests/clients/remote.py says.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Write};
use std::sync::Arc;
use std::{env, process, thread};

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::{Value, json};

/// Settings of a producer or consumer, by Kafka's names.
pub type Settings = BTreeMap<String, String>;

#[derive(Deserialize)]
struct Call {
    id: u64,
    call: String,
    with: Value,
}

/// Performs the calls on standard input, each in a thread of its own, until there are no more.
///
/// # Errors
/// Something other than a call was read.
pub fn serve(perform: impl Fn(&str, Value) -> Result<Value> + Send + Sync + 'static) -> Result<()> {
    let perform = Arc::new(perform);
    for line in io::stdin().lock().lines() {
        let Call { id, call, with } = serde_json::from_str(&line?)?;
        let perform = Arc::clone(&perform);
        thread::spawn(move || {
            let answer = match perform(&call, with) {
                Ok(answer) => json!({"id": id, "answer": answer}),
                Err(error) => json!({"id": id, "error": format!("{error:#}")}),
            };
            writeln!(io::stdout(), "{answer}")
        });
    }
    // Whoever asked is gone, maybe killed: no member leaves its group, and no transaction is aborted.
    process::exit(0)
}

/// Returns the nodes' addresses, the only argument.
///
/// # Errors
/// There is none.
pub fn bootstrap() -> Result<String> {
    env::args().nth(1).context("usage: PROGRAM BOOTSTRAP")
}

/// Returns the version of a crate that this package depends on.
#[must_use]
pub fn version(name: &str) -> &'static str {
    let lock = include_str!("../Cargo.lock");
    let package = lock.split_once(&format!("name = \"{name}\"\nversion = \"")).map_or("", |(_, rest)| rest);
    package.split_once('"').map_or("", |(version, _)| version)
}

//! What nodes use that nobody uses.

use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;

use crate::{cluster, process};

const SECONDS: u64 = 20;

/// Prints each node's share of one core.
pub fn measure(share: usize) -> Result<()> {
    let (cluster, _) = cluster()?;
    sleep(Duration::from_secs(1));
    let used = || -> Result<Vec<f64>> {
        cluster.ids().into_iter().map(|id| process::cpu_of(cluster.os_pid(id))).collect()
    };
    let before = used()?;
    let seconds = SECONDS.div_ceil(share as u64);
    sleep(Duration::from_secs(seconds));
    let each = used()?.into_iter().zip(before).map(|(now, before)| (now - before) * 100.0 / seconds as f64);
    let each: Vec<_> = each.map(|percent| format!("{percent:.2} %")).collect();
    println!("idle for {seconds} s: {} of a core; RSS {} MiB", each.join(", "), process::memory(&cluster)?);
    Ok(())
}

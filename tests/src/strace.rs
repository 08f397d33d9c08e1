//! Faults at the border between a process and the system: calls that fail, or take long, as `strace` injects them.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::cluster::PATIENCE;

/// A running `strace`; the process is let go when this is dropped.
pub struct Fault {
    tracer: Child,
}

impl Fault {
    /// From now on these system calls of process `pid` go wrong, e.g. `"fdatasync"`, `"error=EIO:when=1"`.
    pub fn inject(pid: u32, calls: &str, how: &str) -> Result<Self> {
        let tracer = Command::new("strace")
            .args(["-f", "-q", "-o", "/dev/null", "-e", &format!("trace={calls}")])
            .args(["-e", &format!("inject={calls}:{how}"), "-p", &pid.to_string()])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("CANNOT INJECT FAULTS HERE: there is no strace; `make test` installs it")?;
        let fault = Self { tracer };
        let deadline = Instant::now() + PATIENCE;
        while !is_traced(pid) {
            ensure!(
                Instant::now() < deadline,
                "CANNOT INJECT FAULTS HERE: strace does not get hold of {pid}"
            );
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(fault)
    }
}

impl Drop for Fault {
    fn drop(&mut self) {
        // However it ends, the kernel lets the traced process go on.
        let _ = self.tracer.kill();
        let _ = self.tracer.wait();
    }
}

/// Every thread has a tracer.
fn is_traced(pid: u32) -> bool {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return false };
    tasks.flatten().all(|task| {
        let status = std::fs::read_to_string(task.path().join("status")).unwrap_or_default();
        status.lines().any(|line| line.strip_prefix("TracerPid:").is_some_and(|tracer| tracer.trim() != "0"))
    })
}

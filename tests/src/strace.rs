//! Faults in system calls, injected by `strace`: calls that fail or take long.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::cluster::MAX_WAIT;

/// A running `strace`; on drop the process goes on without faults.
pub struct Fault {
    tracer: Child,
}

impl Fault {
    /// Injects a fault into these system calls of process `pid`, e.g. `"fdatasync"`, `"error=EIO:when=1"`.
    pub fn inject(pid: u32, calls: &str, how: &str) -> Result<Self> {
        let tracer = Command::new("strace")
            .args(["-f", "-q", "-o", "/dev/null", "-e", &format!("trace={calls}")])
            .args(["-e", &format!("inject={calls}:{how}"), "-p", &pid.to_string()])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("faults cannot be injected here: there is no strace; `make test` installs it")?;
        let fault = Self { tracer };
        let deadline = Instant::now() + MAX_WAIT;
        while !is_traced(pid) {
            ensure!(
                Instant::now() < deadline,
                "faults cannot be injected here: strace cannot attach to {pid}"
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

/// Returns whether every thread has a tracer.
fn is_traced(pid: u32) -> bool {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return false };
    tasks.flatten().all(|task| {
        let status = std::fs::read_to_string(task.path().join("status")).unwrap_or_default();
        status.lines().any(|line| line.strip_prefix("TracerPid:").is_some_and(|tracer| tracer.trim() != "0"))
    })
}

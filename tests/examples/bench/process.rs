//! What the system says of a process and of the machine.

use std::fs;

use anyhow::{Context, Result};
use tests::cluster::Cluster;

/// CPU seconds used so far by all nodes together (proc(5): ticks of 10 ms).
pub fn cpu_seconds(cluster: &Cluster) -> Result<f64> {
    cluster.ids().into_iter().map(|id| cpu_of(cluster.os_pid(id))).sum()
}

/// CPU seconds of one process.
pub fn cpu_of(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<_> = stat.rsplit(')').next().context("a stat line")?.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    Ok(ticks as f64 / 100.0)
}

/// Bytes that a process has read so far, from files and connections (proc(5): rchar).
pub fn bytes_read(pid: u32) -> Result<u64> {
    let io = fs::read_to_string(format!("/proc/{pid}/io"))?;
    Ok(io.split_whitespace().nth(1).context("rchar")?.parse()?)
}

/// Resident memory of each node, in MiB.
pub fn memory(cluster: &Cluster) -> Result<String> {
    let each: Result<Vec<_>> = cluster.ids().into_iter().map(|id| rss_mib(cluster.os_pid(id))).collect();
    Ok(each?.iter().map(u64::to_string).collect::<Vec<_>>().join(", "))
}

fn rss_mib(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    Ok(line.split_whitespace().next().context("a number of kB")?.parse::<u64>()? / 1024)
}

/// Processor, cores and memory.
pub fn machine() -> Result<String> {
    let cpus = fs::read_to_string("/proc/cpuinfo")?;
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown");
    let memory = fs::read_to_string("/proc/meminfo")?;
    let kib = memory.split_whitespace().nth(1).context("MemTotal")?.parse::<u64>()?;
    let cores = std::thread::available_parallelism()?;
    Ok(format!("machine: {cores} cores of {}, {} GiB", model.trim_start_matches([' ', '\t', ':']), kib >> 20))
}

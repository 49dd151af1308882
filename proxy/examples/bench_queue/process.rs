//! What the kernel knows about a process: CPU time and memory.

use anyhow::Context as _;

/// Clock ticks per second of `/proc`; 100 on every Linux.
const TICKS_PER_S: f64 = 100.0;

/// CPU seconds (user and system, all threads) that a process has used so far.
pub fn cpu_s(pid: u32) -> anyhow::Result<f64> {
    let stat =
        std::fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("process {pid} is gone"))?;
    // The name is in brackets and may hold anything; fields 14 and 15 of the rest are utime and stime.
    let (_, rest) = stat.rsplit_once(')').context("odd /proc/PID/stat")?;
    let ticks: f64 = rest.split_ascii_whitespace().skip(11).take(2).filter_map(|t| t.parse::<f64>().ok()).sum();
    Ok(ticks / TICKS_PER_S)
}

/// CPU seconds of several processes.
pub fn cpu_of(pids: &[u32]) -> anyhow::Result<f64> {
    pids.iter().map(|pid| cpu_s(*pid)).sum()
}

/// Resident memory in bytes.
pub fn resident_bytes(pid: u32) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib * 1_024)
}

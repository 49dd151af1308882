//! What the kernel knows about processes: CPU time, by `/proc`.

use anyhow::Context as _;
use std::collections::BTreeMap;

/// Clock ticks per second of `/proc`; 100 on every Linux.
const TICKS_PER_S: f64 = 100.0;

/// CPU seconds by process name.
pub type Cpu = BTreeMap<&'static str, f64>;

/// The fields of `/proc/PID/stat` behind the name.
fn stat(pid: u32) -> anyhow::Result<Vec<String>> {
    let stat =
        std::fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("process {pid} is gone"))?;
    // The name is in brackets and may hold anything.
    let (_, rest) = stat.rsplit_once(')').context("odd /proc/PID/stat")?;
    Ok(rest.split_ascii_whitespace().map(str::to_owned).collect())
}

fn ticks(fields: &[String], range: std::ops::Range<usize>) -> f64 {
    fields.get(range).unwrap_or_default().iter().filter_map(|field| field.parse::<f64>().ok()).sum::<f64>()
        / TICKS_PER_S
}

/// CPU seconds of a process, its threads, and all its children: those that run, and those that have ended.
pub fn cpu_s(pid: u32) -> anyhow::Result<f64> {
    let own = stat(pid)?;
    let mut used = ticks(&own, 11..15);
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let Some(other) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // It may end while we look; then its time is the parent's in the next look.
        let Ok(fields) = stat(other) else { continue };
        if fields.get(1).and_then(|parent| parent.parse().ok()) == Some(pid) {
            used += ticks(&fields, 11..13);
        }
    }
    Ok(used)
}

/// CPU seconds of each.
pub fn cpu_of(processes: &[(&'static str, u32)]) -> anyhow::Result<Cpu> {
    processes.iter().map(|(name, pid)| Ok((*name, cpu_s(*pid)?))).collect()
}

/// What was used between two looks.
pub fn between(before: &Cpu, after: &Cpu) -> Cpu {
    after.iter().map(|(name, used)| (*name, used - before.get(name).copied().unwrap_or(0.0))).collect()
}

//! The nemesis strikes: each planned fault at its moment, with its end, both written into the log of the run.

use crate::collect;
use crate::evidence::Act;
use crate::history::Zero;
use crate::house::House;
use crate::house::child::{Files, Process};
use crate::house::config::HOLD_TTL_MS;
use crate::nemesis::{Fault, Harm, Planned};
use anyhow::Context as _;
use rustix::process::Signal;
use serde_json::json;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;
use tokio::sync::mpsc;

/// Longest wait for a role to come to a fail point, in ms.
const STAND_MS: u64 = 7_000;
/// The same where a hold must have lived its life first: that, a slow start of the crowd, and some rounds.
const STAND_AT_EXPIRY_MS: u64 = HOLD_TTL_MS.unsigned_abs() + 5_000;
/// Largest piece of a filler, in bytes; the last bytes are taken one by one below it.
const FILL_BYTES: usize = 64 * 1024;

/// Strikes with everything that is planned. Ends when the last fault has ended.
pub async fn strike(house: &House, planned: &[Planned], zero: Zero, acts: &mpsc::UnboundedSender<Act>) {
    let all = planned.iter().map(|planned| async move {
        tokio::time::sleep(Duration::from_millis(planned.at_ms)).await;
        let t0 = zero.us();
        let (what, whom) = name(&planned.fault);
        let done = one(house, &planned.fault).await;
        let detail = match done {
            Ok(detail) => detail,
            Err(error) => format!("skipped: {error:#}"),
        };
        // What did not happen excuses nothing.
        let what = if detail.starts_with("skipped") { "skipped" } else { what };
        let _ = acts.send(Act { what: what.to_owned(), whom: whom.to_owned(), t0, t1: zero.us(), detail });
    });
    futures::future::join_all(all).await;
}

/// What the log calls it.
fn name(fault: &Fault) -> (&'static str, &'static str) {
    match fault {
        Fault::Kill { whom, .. } => ("kill", whom),
        Fault::Pause { whom, .. } => ("pause", whom),
        Fault::Hop { hop, .. } => ("proxy", hop),
        Fault::FailPoint { role, .. } => ("failpoint", role),
        Fault::KillAt { victim, .. } => ("kill", victim),
        Fault::Clock { whom, .. } => ("clock", whom),
        Fault::FlushAll | Fault::RedisEmpty { .. } | Fault::RedisOldCopy { .. } | Fault::ScriptFlush => {
            ("redis", "redis")
        }
        Fault::ClientKill { store } => ("clients", store),
        Fault::Provider { .. } => ("provider", "payment-simulator"),
        Fault::DiskFull { store, .. } => ("disk_full", store),
    }
}

async fn rest(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

async fn one(house: &House, fault: &Fault) -> anyhow::Result<String> {
    match fault {
        Fault::Kill { whom, down_ms } => kill(house.process(whom)?, *down_ms).await,
        Fault::RedisEmpty { down_ms } => {
            let redis = house.process("redis")?;
            redis.next_files(Files::None);
            kill(redis, *down_ms).await.map(|how| format!("back with nothing; {how}"))
        }
        Fault::RedisOldCopy { old_ms, down_ms } => {
            let redis = house.process("redis")?;
            let copy = house.copy_redis()?;
            rest(*old_ms).await;
            redis.next_files(Files::Copy(copy));
            kill(redis, *down_ms).await.map(|how| format!("back as it was {old_ms} ms before; {how}"))
        }
        Fault::Pause { whom, for_ms } => {
            let process = house.process(whom)?;
            let runs = process.pause();
            rest(*for_ms).await;
            process.go_on();
            anyhow::ensure!(runs, "it did not run just now");
            Ok(format!("{for_ms} ms"))
        }
        Fault::Hop { hop, harm, for_ms } => {
            let proxy = house.hops.get(hop).context("no such hop")?;
            match harm {
                Harm::Cut => proxy.cut(),
                Harm::SwallowReplies => proxy.swallow(3, b""),
                harm => proxy.set(harm.toxics()),
            }
            rest(*for_ms).await;
            proxy.heal();
            Ok(format!("{harm:?} for {for_ms} ms, {} replies swallowed", proxy.swallowed()))
        }
        // Armed when the role was started; its death is in the log as an exit.
        Fault::FailPoint { point, hit, .. } => Ok(format!("{point} at hit {hit}")),
        Fault::KillAt { role, point, hit, victim } => {
            let role = house.process(role)?;
            let stands = async {
                while !role.stands() {
                    rest(2).await;
                }
            };
            let longest_ms = if point.starts_with("X2") { STAND_AT_EXPIRY_MS } else { STAND_MS };
            let waited = tokio::time::timeout(Duration::from_millis(longest_ms), stands).await;
            if waited.is_err() {
                role.keep_awake();
                anyhow::bail!("{point} was not reached at hit {hit}");
            }
            let killed = kill(house.process(victim)?, 100).await;
            role.signal(Signal::CONT);
            killed.map(|how| format!("while {} stood at {point}, hit {hit}; {how}", role.name()))
        }
        Fault::Clock { whom, ahead_ms, for_ms } => {
            let clock = house.process(whom)?.clock().context("no C compiler, so no clock shim")?;
            clock.set_ms(*ahead_ms)?;
            rest(*for_ms).await;
            clock.set_ms(0)?;
            Ok(format!("{ahead_ms} ms for {for_ms} ms"))
        }
        Fault::FlushAll => command(house, "FLUSHALL", &[]).await,
        Fault::ScriptFlush => command(house, "SCRIPT", &["FLUSH", "SYNC"]).await,
        Fault::ClientKill { store: "redis" } => command(house, "CLIENT", &["KILL", "TYPE", "normal"]).await,
        Fault::ClientKill { .. } => {
            let sql = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE pid <> pg_backend_pid()
                       AND backend_type = 'client backend'";
            let killed: i64 = collect::postgres(house).await?.query_one(sql, &[]).await?.try_get(0)?;
            Ok(format!("{killed} sessions"))
        }
        Fault::Provider { endpoint, fault, times } => {
            let url = format!("http://{}/_control/faults", house.addresses.simulator_admin);
            let rule = json!({ "endpoint": endpoint, "fault": fault, "times": times });
            reqwest::Client::new().post(url).json(&rule).send().await?.error_for_status()?;
            Ok(format!("{endpoint} {fault} × {times}"))
        }
        Fault::DiskFull { store, for_ms } => {
            anyhow::ensure!(house.small_disks, "no small file systems (not root)");
            let filler = house.filler(store);
            let filled = fill(&filler)?;
            rest(*for_ms).await;
            std::fs::remove_file(&filler)?;
            Ok(format!("{filled} bytes for {for_ms} ms"))
        }
    }
}

async fn kill(process: &Process, down_ms: u64) -> anyhow::Result<String> {
    let ran = process.kill();
    rest(down_ms).await;
    process.allow();
    anyhow::ensure!(ran, "it did not run just now");
    Ok(format!("away for {down_ms} ms"))
}

async fn command(house: &House, verb: &'static str, args: &[&str]) -> anyhow::Result<String> {
    let redis = collect::redis(house).await?;
    let said = redis.command(verb, args).await;
    redis.close().await;
    Ok(format!("{verb}: {said:?}"))
}

/// Writes until nothing more fits. Answers how many bytes that took.
fn fill(path: &Path) -> anyhow::Result<usize> {
    let mut file = std::fs::File::create(path)?;
    let (mut piece, mut filled) = (vec![0_u8; FILL_BYTES], 0);
    while !piece.is_empty() {
        match file.write(&piece) {
            Ok(written) if written > 0 => filled += written,
            _ => piece.truncate(piece.len() / 2),
        }
    }
    Ok(filled)
}

/// Repairs everything that may still be broken.
pub async fn heal(house: &House) {
    for proxy in house.hops.values() {
        proxy.heal();
    }
    for store in ["redis", "postgres"] {
        let _ = std::fs::remove_file(house.filler(store));
    }
    for process in house.processes.values() {
        process.signal(Signal::CONT);
        process.keep_awake();
        if let Some(clock) = process.clock() {
            let _ = clock.set_ms(0);
        }
        process.allow();
    }
    let url = format!("http://{}/_control/faults", house.addresses.simulator_admin);
    let _ = reqwest::Client::new().delete(url).send().await;
}

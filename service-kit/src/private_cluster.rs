//! A private Redis Cluster of three masters on loopback ports, for tests: as [`crate::private_store`], but a cluster
//! needs TCP. It has no replicas, and a dead master does not stop the others (`cluster-require-full-coverage no`),
//! as a cluster behind Floodgate should be set up.

use crate::private_store::{bound_command, find_program, spawn_bound, terminate};
use crate::redis::RedisConfig;
use anyhow::{Context as _, bail};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::Child;

/// Masters of the cluster.
pub const MASTERS: usize = 3;
/// Longest wait for the cluster to be whole, in milliseconds.
const READY_TIMEOUT_MS: u64 = 30_000;
/// Time between two looks, in milliseconds.
const LOOK_MS: u64 = 20;
/// Silence after which a master counts as dead, in milliseconds.
const NODE_TIMEOUT_MS: u64 = 1_000;
/// Ports to choose from, and how often to try.
const PORT_MIN: u16 = 15_000;
const PORT_MAX: u16 = 31_999;
const TRIES_MAX: usize = 1_000;
/// Slots of a cluster.
const SLOTS: usize = 16_384;

#[derive(Debug)]
struct Master {
    child: Child,
    dir: PathBuf,
    port: u16,
    bus: u16,
}

/// A running private cluster. All of it ends when it is dropped.
#[derive(Debug)]
pub struct PrivateCluster {
    masters: Vec<Master>,
}

impl PrivateCluster {
    /// Starts three masters in `dir` (made if missing), joins them and waits until all slots are served.
    ///
    /// # Errors
    /// When the program is missing or the cluster is not whole in time.
    pub async fn start(dir: &Path) -> anyhow::Result<Self> {
        let mut masters = Vec::with_capacity(MASTERS);
        for i in 0..MASTERS {
            let dir = dir.join(format!("master-{i}"));
            std::fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
            let (port, bus) = two_free_ports()?;
            masters.push(Master { child: start_master(&dir, port, bus).await?, dir, port, bus });
        }
        let mut cluster = Self { masters };
        for i in 0..MASTERS {
            let (first, last) = (i * SLOTS / MASTERS, (i + 1) * SLOTS / MASTERS - 1);
            cluster.until(i, "PING", |reply| reply.starts_with("+PONG")).await?;
            cluster.ask(i, &format!("CLUSTER SET-CONFIG-EPOCH {}", i + 1)).await?;
            cluster.ask(i, &format!("CLUSTER ADDSLOTSRANGE {first} {last}")).await?;
        }
        for i in 1..MASTERS {
            let Some(Master { port, bus, .. }) = cluster.masters.get(i) else { bail!("no master {i}") };
            let meet = format!("CLUSTER MEET 127.0.0.1 {port} {bus}");
            cluster.ask(0, &meet).await?;
        }
        cluster.until_whole().await?;
        Ok(cluster)
    }

    /// Waits until every master knows that every slot is served.
    ///
    /// # Errors
    /// When that takes too long.
    pub async fn until_whole(&mut self) -> anyhow::Result<()> {
        let whole = |info: &str| {
            ["cluster_state:ok", "cluster_slots_ok:16384", "cluster_size:3", "cluster_known_nodes:3"]
                .iter()
                .all(|line| info.contains(line))
        };
        for i in 0..MASTERS {
            self.until(i, "CLUSTER INFO", whole).await?;
        }
        Ok(())
    }

    /// Settings for [`crate::redis::Redis::connect`], naming all masters.
    pub fn config(&self) -> RedisConfig {
        RedisConfig { url: self.url(), connections: 2, command_timeout_ms: 2_000 }
    }

    /// `redis-cluster://…`
    pub fn url(&self) -> String {
        let mut hosts = self.masters.iter().map(|m| format!("127.0.0.1:{}", m.port));
        let first = hosts.next().unwrap_or_default();
        let rest: Vec<String> = hosts.map(|host| format!("node={host}")).collect();
        format!("redis-cluster://{first}?{}", rest.join("&"))
    }

    /// Which master (from 0) a key belongs to, as the slots were given out at the start.
    ///
    /// # Errors
    /// When no master answers.
    pub async fn owner_of(&self, key: &str) -> anyhow::Result<usize> {
        for i in 0..MASTERS {
            if let Ok(reply) = self.ask(i, &format!("CLUSTER KEYSLOT {key}")).await {
                let slot: usize = reply.trim_start_matches(':').lines().next().unwrap_or("").parse()?;
                return Ok((0..MASTERS).find(|i| slot < (i + 1) * SLOTS / MASTERS).unwrap_or(0));
            }
        }
        bail!("no master of the cluster answers")
    }

    /// Ends one master as a crash would (SIGKILL) with everything on its disk, waits until it is gone and until the
    /// others say so. While the disk is busy Redis holds writes back for up to two seconds; a master that came back
    /// older by a random bit would be another test.
    ///
    /// # Errors
    /// When there is no such master, or the others do not notice in time.
    pub async fn kill(&mut self, master: usize) -> anyhow::Result<()> {
        self.ask(master, "CONFIG SET appendfsync always").await?;
        let written = |info: &str| info.contains("aof_buffer_length:0") && info.contains("aof_pending_bio_fsync:0");
        self.until(master, "INFO persistence", written).await?;
        let Some(dead) = self.masters.get_mut(master) else { bail!("no master {master}") };
        dead.child.kill().await?;
        for i in (0..MASTERS).filter(|i| *i != master) {
            self.until(i, "CLUSTER INFO", |info| !info.contains("cluster_slots_fail:0")).await?;
        }
        Ok(())
    }

    /// Starts a killed master again on its old data and port, and waits until the cluster is whole.
    ///
    /// # Errors
    /// When it does not start or is not taken back in time.
    pub async fn start_again(&mut self, master: usize) -> anyhow::Result<()> {
        let Some(dead) = self.masters.get_mut(master) else { bail!("no master {master}") };
        dead.child = start_master(&dead.dir, dead.port, dead.bus).await?;
        self.until(master, "PING", |reply| reply.starts_with("+PONG")).await?;
        self.until_whole().await
    }

    /// Moves the slot of `key`, with everything in it, to another master.
    ///
    /// # Errors
    /// When a master refuses a step.
    pub async fn move_slot_of(&self, key: &str, to: usize) -> anyhow::Result<()> {
        let slot = self.ask(to, &format!("CLUSTER KEYSLOT {key}")).await?;
        let slot = slot.trim_start_matches(':').lines().next().unwrap_or("0").to_owned();
        let from = self.owner_of(key).await?;
        let (source, target) = (self.id_of(from).await?, self.id_of(to).await?);
        let Some(Master { port, .. }) = self.masters.get(to) else { bail!("no master {to}") };
        self.ask(to, &format!("CLUSTER SETSLOT {slot} IMPORTING {source}")).await?;
        self.ask(from, &format!("CLUSTER SETSLOT {slot} MIGRATING {target}")).await?;
        let listed = self.ask(from, &format!("CLUSTER GETKEYSINSLOT {slot} 1000")).await?;
        let keys: Vec<&str> = listed.lines().filter(|l| l.contains('{')).collect();
        if !keys.is_empty() {
            self.ask(from, &format!("MIGRATE 127.0.0.1 {port} \"\" 0 5000 KEYS {}", keys.join(" "))).await?;
        }
        self.ask(to, &format!("CLUSTER SETSLOT {slot} NODE {target}")).await?;
        self.ask(from, &format!("CLUSTER SETSLOT {slot} NODE {target}")).await?;
        Ok(())
    }

    async fn id_of(&self, master: usize) -> anyhow::Result<String> {
        let reply = self.ask(master, "CLUSTER MYID").await?;
        Ok(reply.lines().nth(1).context("a master without an id")?.to_owned())
    }

    /// Stops all masters in order.
    pub async fn stop(mut self) {
        for master in &mut self.masters {
            terminate(&mut master.child, "TERM").await;
        }
    }

    async fn until(&mut self, master: usize, command: &str, good: impl Fn(&str) -> bool) -> anyhow::Result<()> {
        let deadline = crate::clock::monotonic() + Duration::from_millis(READY_TIMEOUT_MS);
        let mut last = String::new();
        loop {
            match self.ask(master, command).await {
                Ok(reply) if good(&reply) => return Ok(()),
                Ok(reply) => last = reply,
                Err(error) => last = format!("{last}\n{error:#}"),
            }
            let Some(asked) = self.masters.get_mut(master) else { bail!("no master {master}") };
            if let Some(status) = asked.child.try_wait()? {
                bail!("a master of the cluster ended with {status}; see {}", asked.dir.join("redis.log").display());
            }
            if crate::clock::monotonic() > deadline {
                bail!("the cluster did not become what `{command}` should say; it says: {last}");
            }
            tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
        }
    }

    /// One inline command and the beginning of its reply.
    async fn ask(&self, master: usize, command: &str) -> anyhow::Result<String> {
        let Some(Master { port, .. }) = self.masters.get(master) else { bail!("no master {master}") };
        let asked = async {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, *port)).await?;
            stream.write_all(format!("{command}\r\nQUIT\r\n").as_bytes()).await?;
            let mut reply = String::new();
            stream.read_to_string(&mut reply).await?;
            anyhow::Ok(reply)
        };
        let reply = tokio::time::timeout(Duration::from_secs(2), asked).await.context("a master is silent")??;
        if reply.starts_with('-') {
            bail!("{command}: {}", reply.trim_end());
        }
        Ok(reply)
    }
}

async fn start_master(dir: &Path, port: u16, bus: u16) -> anyhow::Result<Child> {
    let program = find_program("redis-server", "FLOODGATE_REDIS_SERVER", "redis-server")?;
    let log = std::fs::File::options().create(true).append(true).open(dir.join("redis.log"))?;
    let mut command = bound_command(&program);
    command
        .args(["--port", &port.to_string(), "--cluster-port", &bus.to_string(), "--bind", "127.0.0.1"])
        .args(["--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf"])
        .args(["--cluster-node-timeout", &NODE_TIMEOUT_MS.to_string(), "--cluster-require-full-coverage", "no"])
        .args(["--save", "", "--appendonly", "yes", "--appendfsync", "everysec", "--maxmemory-policy", "noeviction"])
        .args(["--daemonize", "no", "--dir"])
        .arg(dir)
        .current_dir(dir)
        .stdout(log.try_clone()?)
        .stderr(log);
    spawn_bound(command).await.context("start redis-server")
}

/// Two ports that were free a moment ago, below those that Linux gives to outgoing connections (from 32,768 on): a
/// killed master must find them free when it starts again.
fn two_free_ports() -> anyhow::Result<(u16, u16)> {
    for _ in 0..TRIES_MAX {
        let port = PORT_MIN + rand::random::<u16>() % (PORT_MAX - PORT_MIN);
        let free = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
        if let (Ok(_), Ok(_)) = (free(port), free(port + 1)) {
            return Ok((port, port + 1));
        }
    }
    bail!("no two free ports between {PORT_MIN} and {PORT_MAX}")
}

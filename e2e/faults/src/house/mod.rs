//! The house: private stores and every role as processes of their own, with a proxy in each hop between them.
//!
//! It is not the launcher of `floodgate up`: here every role gets its own addresses, clock and fail points, and is
//! started again only when the nemesis allows it. Everything lives in a scratch folder; nothing outlives this process.

pub mod child;
pub mod config;
pub mod template;

use crate::evidence::Act;
use crate::history::Zero;
use crate::planted::Bug;
use crate::tcp_proxy::{Target, TcpProxy};
use anyhow::Context as _;
use child::{Kind, Process};
use config::Ways;
use rand::Rng as _;
use service_kit::private_store::{ScratchDir, is_root};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use template::Template;
use tokio::process::Command;
use tokio::sync::{Mutex, mpsc};

/// Longest wait for one process to be ready, in ms.
const READY_MS: u64 = 30_000;
/// Size of the file system under Redis, in MiB: small, so that it can be filled in a moment.
const REDIS_MIB: u64 = 8;
/// Size of the file system under PostgreSQL, in MiB.
const POSTGRES_MIB: u64 = 192;

/// Ports of the houses of this process: several may stand at once.
static TAKEN: Mutex<BTreeSet<u16>> = Mutex::const_new(BTreeSet::new());

/// Where everything listens, on the loopback.
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Addresses {
    pub gate: SocketAddr,
    pub shop: SocketAddr,
    pub payments: SocketAddr,
    pub simulator: SocketAddr,
    pub gate_admin: SocketAddr,
    pub shop_admin: SocketAddr,
    pub payments_admin: SocketAddr,
    pub simulator_admin: SocketAddr,
}

impl Addresses {
    /// Free ports below those that the system gives to outgoing connections: a role that is started again needs the
    /// same port.
    async fn choose() -> anyhow::Result<Self> {
        let mut taken = TAKEN.lock().await;
        let mut next = || {
            for _ in 0..1_000 {
                let port = rand::rng().random_range(20_000..30_000_u16);
                if !taken.contains(&port) && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
                    taken.insert(port);
                    return Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
                }
            }
            anyhow::bail!("no free port")
        };
        Ok(Self {
            gate: next()?,
            shop: next()?,
            payments: next()?,
            simulator: next()?,
            gate_admin: next()?,
            shop_admin: next()?,
            payments_admin: next()?,
            simulator_admin: next()?,
        })
    }

    fn all(&self) -> [SocketAddr; 8] {
        let Self { gate, shop, payments, simulator, gate_admin, shop_admin, payments_admin, simulator_admin } = *self;
        [gate, shop, payments, simulator, gate_admin, shop_admin, payments_admin, simulator_admin]
    }

    /// Admin port of a role.
    pub fn admin(&self, role: &str) -> Option<SocketAddr> {
        match role {
            "proxy" => Some(self.gate_admin),
            "deal-service" => Some(self.shop_admin),
            "payment-adapter" => Some(self.payments_admin),
            "payment-simulator" => Some(self.simulator_admin),
            _ => None,
        }
    }
}

/// The roles that are ours, in the order of their start after the provider.
pub const ROLES: [&str; 3] = ["payment-adapter", "deal-service", "proxy"];

/// A running house.
#[derive(Debug)]
pub struct House {
    /// Addresses.
    pub addresses: Addresses,
    /// Stores and roles by name.
    pub processes: BTreeMap<&'static str, Process>,
    /// Proxies by hop: `gate-shop`, `gate-redis`, `shop-redis`, `shop-postgres`, `adapter-postgres`, `adapter-provider`.
    pub hops: BTreeMap<&'static str, TcpProxy>,
    /// The configuration of an operator: straight to the stores.
    pub config: PathBuf,
    /// Where roles write.
    pub logs: PathBuf,
    /// Whether the stores have small file systems of their own.
    pub small_disks: bool,
    stores: PathBuf,
    mounts: Vec<PathBuf>,
    _scratch: ScratchDir,
}

/// What a run wants of its house.
#[derive(Debug)]
pub struct Wishes {
    /// Seeds the proxies.
    pub seed: u64,
    /// Fail points by role, for its first life.
    pub failpoints: BTreeMap<&'static str, String>,
    /// Where the roles' logs go.
    pub logs: PathBuf,
    /// Zero of the run's clock.
    pub zero: Zero,
    /// Where ends and starts of processes are told.
    pub acts: mpsc::UnboundedSender<Act>,
    /// A mistake in the product.
    pub planted: Option<&'static Bug>,
}

impl House {
    /// Starts everything and waits until it is ready.
    ///
    /// # Errors
    /// When something does not start; then nothing is left running.
    pub async fn start(template: &Template, wishes: Wishes) -> anyhow::Result<Self> {
        let scratch = ScratchDir::new()?;
        let root = scratch.path().to_owned();
        let (redis, postgres) = (root.join("redis"), root.join("pg"));
        let mut mounts = Vec::new();
        for (folder, mib) in [(&redis, REDIS_MIB), (&postgres, POSTGRES_MIB)] {
            std::fs::create_dir_all(folder)?;
            if is_root() && mount(folder, mib).await {
                mounts.push(folder.clone());
            }
        }
        template.copy_to(&postgres).await?;
        let addresses = Addresses::choose().await?;
        let redis_socket = Target::Unix(redis.join("redis.sock"));
        let postgres_socket = Target::Unix(postgres.join("sock/.s.PGSQL.5432"));
        let mut hops = BTreeMap::new();
        for (n, (name, target)) in (0_u64..).zip([
            ("gate-shop", Target::Tcp(addresses.shop)),
            ("gate-redis", redis_socket.clone()),
            ("shop-redis", redis_socket),
            ("shop-postgres", postgres_socket.clone()),
            ("adapter-postgres", postgres_socket),
            ("adapter-provider", Target::Tcp(addresses.simulator)),
        ]) {
            hops.insert(name, TcpProxy::start(target, wishes.seed.wrapping_add(n)).await?);
        }
        std::fs::create_dir_all(&wishes.logs)?;
        let mut house = Self {
            addresses,
            processes: BTreeMap::new(),
            hops,
            config: root.join("operator.toml"),
            logs: wishes.logs.clone(),
            small_disks: mounts.len() == 2,
            stores: root.clone(),
            mounts,
            _scratch: scratch,
        };
        let started = house.start_all(template, wishes, &redis, &postgres).await;
        if let Err(error) = started {
            house.stop().await;
            return Err(error);
        }
        Ok(house)
    }

    async fn start_all(
        &mut self,
        template: &Template,
        wishes: Wishes,
        redis: &Path,
        postgres: &Path,
    ) -> anyhow::Result<()> {
        let Wishes { failpoints, zero, acts, planted, .. } = wishes;
        let root = self.stores.clone();
        std::fs::write(&self.config, self.render(template, "operator", &root))?;
        let clock = |name: &str| -> anyhow::Result<_> {
            template.shim.as_ref().ok().map(|shim| shim.clock(&root.join(format!("clock-{name}")))).transpose()
        };
        let mut add = |name: &'static str, kind, clock, points: Option<&String>| {
            let points = points.cloned().unwrap_or_default();
            let process = Process::start(name, kind, clock, points, zero, acts.clone());
            self.processes.insert(name, process);
        };
        add("redis", Kind::Redis(redis.to_owned()), clock("redis")?, None);
        // PostgreSQL runs as another user and tells no time that the product believes.
        add("postgres", Kind::Postgres(postgres.to_owned()), None, None);
        for store in ["redis", "postgres"] {
            self.process(store)?.ready_within(READY_MS).await?;
        }
        if let Some(bug) = planted {
            bug.plant(&crate::collect::postgres(self).await?).await?;
        }
        for role in ["payment-simulator"].into_iter().chain(ROLES) {
            let config = root.join(format!("{role}.toml"));
            std::fs::write(&config, self.render(template, role, &root))?;
            let kind = Kind::Role {
                program: template.program.clone(),
                config,
                log: self.logs.join(format!("{role}.log")),
                admin: self.addresses.admin(role).context("a role has an admin port")?,
                planted: planted.map(Bug::variable),
            };
            let points = failpoints.get(role).cloned().unwrap_or_default();
            self.processes.insert(role, Process::start(role, kind, clock(role)?, points, zero, acts.clone()));
        }
        for role in ["payment-simulator"].into_iter().chain(ROLES) {
            let ready = self.process(role)?.ready_within(READY_MS).await;
            ready.with_context(|| tail(&self.logs.join(format!("{role}.log"))))?;
        }
        Ok(())
    }

    fn render(&self, template: &Template, reader: &str, root: &Path) -> String {
        let hop = |name: &str| self.hops.get(name).map_or_else(String::new, |proxy| proxy.address.to_string());
        let postgres = |name: &str| {
            let port = self.hops.get(name).map_or(0, |proxy| proxy.address.port());
            format!("host=127.0.0.1 port={port} user=floodgate dbname=floodgate")
        };
        let straight = Ways {
            redis: self.redis_url(),
            postgres: self.postgres_url(),
            shop: hop("gate-shop"),
            provider: format!("http://{}", hop("adapter-provider")),
        };
        let ways = match reader {
            "proxy" => Ways { redis: format!("redis://{}", hop("gate-redis")), ..straight },
            "deal-service" => Ways {
                redis: format!("redis://{}", hop("shop-redis")),
                postgres: postgres("shop-postgres"),
                ..straight
            },
            "payment-adapter" => Ways { postgres: postgres("adapter-postgres"), ..straight },
            _ => straight,
        };
        config::render(&self.addresses, &ways, &template.ring, &root.join("journal"))
    }

    /// Redis, without a proxy.
    pub fn redis_url(&self) -> String {
        format!("redis+unix://{}", self.stores.join("redis/redis.sock").display())
    }
    /// Copies the files of Redis as they are now, and says where to.
    ///
    /// # Errors
    /// When that cannot be done.
    pub fn copy_redis(&self) -> std::io::Result<PathBuf> {
        let copy = self.stores.join("redis-as-it-was");
        child::copy_files(&self.stores.join("redis").join(child::REDIS_FILES), &copy)?;
        Ok(copy)
    }
    /// PostgreSQL, without a proxy.
    pub fn postgres_url(&self) -> String {
        format!("host={} user=floodgate dbname=floodgate", self.stores.join("pg/sock").display())
    }
    /// The file that takes all the room of a store's file system.
    pub fn filler(&self, store: &str) -> PathBuf {
        self.stores.join(if store == "redis" { "redis/filler" } else { "pg/filler" })
    }

    /// A process by its name.
    ///
    /// # Errors
    /// When there is none.
    pub fn process(&self, name: &str) -> anyhow::Result<&Process> {
        self.processes.get(name).with_context(|| format!("{name} is no process of this house"))
    }

    /// Waits until every process is ready.
    ///
    /// # Errors
    /// When one is not within this time.
    pub async fn all_ready_within(&self, ms: u64) -> anyhow::Result<()> {
        for process in self.processes.values() {
            process.ready_within(ms).await?;
        }
        Ok(())
    }

    /// Ends everything.
    pub async fn stop(&self) {
        for process in self.processes.values() {
            process.end().await;
        }
        for folder in &self.mounts {
            let _ = Command::new("umount").arg("-l").arg(folder).status().await;
        }
        let mut taken = TAKEN.lock().await;
        for address in self.addresses.all() {
            taken.remove(&address.port());
        }
    }
}

async fn mount(folder: &Path, mib: u64) -> bool {
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "none"]).arg(folder);
    mount.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    mount.status().await.is_ok_and(|status| status.success())
}

/// The end of a log, for an error message.
fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().rev().take(5).collect();
    format!("the end of {}:\n{}", log.display(), lines.into_iter().rev().collect::<Vec<_>>().join("\n"))
}

//! The whole house: stores and roles of one directory, started in order, stopped in reverse.

use super::child::{Kind, Spec};
use super::config_file::{self, Choices};
use super::layout::Layout;
use super::ports::{self, Ports};
use super::probe;
use super::state::{Board, HouseState};
use super::supervisor::Supervised;
use crate::cli::ConfigArgs;
use crate::output;
use crate::settings::Settings;
use anyhow::Context as _;
use ledger::Ledger;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

/// Longest wait for one child to be ready after its start.
const READY_MS: u64 = 40_000;
/// Between two looks at a role that is starting.
const LOOK_MS: u64 = 50;
/// A child that ends this often before it was ever ready will not get ready.
const ENDS_MAX: u32 = 3;
/// How much of a log an error message shows, in bytes.
const TAIL_BYTES: u64 = 2_000;

/// A launched house. Call [`House::stop`] in the end; dropping it kills the children.
#[derive(Debug)]
pub struct House {
    /// Paths.
    pub layout: Layout,
    /// Addresses.
    pub ports: Ports,
    /// Who runs.
    pub board: Board,
    children: Vec<Supervised>,
    _lock: File,
    turn: Option<ports::Turn>,
}

impl House {
    /// Prepares directories, ports and configuration; starts nothing yet. `fresh` wipes what an
    /// earlier run left in `dir`.
    ///
    /// # Errors
    /// When the directory is in use or cannot be made, or no port is free.
    pub async fn prepare(dir: &Path, fresh: bool, choices: &Choices) -> anyhow::Result<Self> {
        let layout = Layout::new(dir)?;
        layout.make()?;
        let lock = File::options().create(true).truncate(false).write(true).open(layout.lock())?;
        lock.try_lock().map_err(|_| anyhow::anyhow!("another launcher uses {}", layout.root.display()))?;
        if fresh {
            layout.wipe()?;
            layout.make()?;
        }
        if let (Some(reason), Some(stores)) = (&layout.elsewhere, layout.postgres.parent()) {
            output::note(&format!(
                "the stores are in {}, not in {}: {reason}",
                stores.display(),
                layout.root.display()
            ));
        }
        let turn = ports::turn().await;
        let ports = ports::choose()?;
        config_file::write(&layout, &ports, choices)?;
        let state = HouseState {
            launcher_pid: std::process::id(),
            running: true,
            dir: layout.root.clone(),
            config: layout.config(),
            gate_url: format!("http://{}", ports.gate),
            roles: Vec::new(),
        };
        let board = Board::new(layout.state(), state);
        Ok(Self { layout, ports, board, children: Vec::new(), _lock: lock, turn: Some(turn) })
    }

    /// Starts everything and waits until it is ready. On an error, call [`House::stop`].
    ///
    /// # Errors
    /// When something does not get ready in time; with the end of its log.
    pub async fn start(&mut self) -> anyhow::Result<()> {
        self.add("redis", Kind::Redis(self.layout.redis.clone()), None);
        self.add("postgres", Kind::Postgres(self.layout.postgres.clone()), None);
        for store in ["redis", "postgres"] {
            let runs = tokio::time::timeout(Duration::from_millis(READY_MS), self.child(store)?.runs(ENDS_MAX)).await;
            anyhow::ensure!(matches!(runs, Ok(true)), "{}", self.not_ready(store));
        }
        self.ledger().await?.migrate().await.context("migrate the database")?;
        let ports = self.ports;
        let roles = [
            ("payment-simulator", ports.simulator, ports.simulator_admin),
            ("payment-adapter", ports.payments, ports.payments_admin),
            ("deal-service", ports.shop, ports.shop_admin),
            ("proxy", ports.gate, ports.gate_admin),
        ];
        for (name, url, admin) in roles {
            let kind = Kind::Program {
                program: std::env::current_exe().context("where is this program?")?,
                args: vec![name.into(), "--config".into(), self.layout.config().display().to_string()],
                log: self.layout.log(name),
                folder: self.layout.root.clone(),
            };
            self.add(name, kind, Some((url, admin)));
        }
        for (name, _, admin) in roles {
            self.role_ready(name, admin).await?;
        }
        self.turn = None;
        Ok(())
    }

    fn add(&mut self, name: &'static str, kind: Kind, addresses: Option<(SocketAddr, SocketAddr)>) {
        let (url, admin) = addresses.map(|(url, admin)| (format!("http://{url}"), admin.to_string())).unzip();
        self.children.push(Supervised::start(Spec { name, kind, url, admin }, self.board.clone()));
    }

    async fn role_ready(&self, name: &'static str, admin: SocketAddr) -> anyhow::Result<()> {
        let child = self.child(name)?;
        let ready = async {
            while !matches!(probe::get(admin, "/readyz").await, Ok((200, _))) {
                tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
            }
        };
        tokio::select! {
            result = tokio::time::timeout(Duration::from_millis(READY_MS), ready) => {
                result.map_err(|_| anyhow::anyhow!(self.not_ready(name)))
            }
            // 64: it would refuse the same configuration again.
            () = child.is_hopeless(ENDS_MAX, 64) => Err(anyhow::anyhow!(self.not_ready(name))),
        }
    }

    fn not_ready(&self, name: &str) -> String {
        let log = self.layout.log(name);
        format!("{name} does not get ready; the end of {}:\n{}", log.display(), tail(&log))
    }

    fn child(&self, name: &str) -> anyhow::Result<&Supervised> {
        self.children.iter().find(|child| child.name() == name).with_context(|| format!("{name} was not started"))
    }

    /// kill -9 of one child; its supervisor starts it again. False when it does not run just now.
    pub fn kill(&self, name: &str) -> bool {
        self.child(name).is_ok_and(Supervised::kill)
    }

    /// The ledger of this house.
    ///
    /// # Errors
    /// When PostgreSQL does not answer.
    pub async fn ledger(&self) -> anyhow::Result<Ledger> {
        let postgres = self.settings()?.postgres.context("[postgres] is in the file")?;
        Ok(Ledger::connect(&postgres).await?)
    }

    /// The configuration that the roles read.
    ///
    /// # Errors
    /// When it does not load.
    pub fn settings(&self) -> anyhow::Result<Settings> {
        Ok(Settings::load(&ConfigArgs { config: Some(self.layout.config()) })?)
    }

    /// Stops every child in reverse order of start, and reaps it.
    pub async fn stop(&mut self) {
        while let Some(child) = self.children.pop() {
            child.stop().await;
        }
        self.board.stopped().await;
    }
}

/// The end of a log.
fn tail(log: &Path) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
    };
    read().ok().filter(|text| !text.is_empty()).unwrap_or_else(|| "(empty)".to_owned())
}

//! One supervised process: started, watched, started again when it ends, held back when the nemesis says so.

use crate::clock_shim::Clock;
use crate::evidence::Act;
use crate::history::Zero;
use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};
use service_kit::private_store::{PrivatePostgres, bound_command, find_program, spawn_bound};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, watch};

/// Between two looks at a process that is starting, in ms.
const LOOK_MS: u64 = 20;
/// Between two tries to start what did not start, in ms.
const AGAIN_MS: u64 = 200;
/// Longest wait for an answer of a process that is starting, in ms.
const ANSWER_MS: u64 = 1_000;

/// What kind of process.
#[derive(Debug, Clone)]
pub enum Kind {
    /// Redis in this directory, on `redis.sock`.
    Redis(PathBuf),
    /// PostgreSQL in this directory.
    Postgres(PathBuf),
    /// A role: program, configuration, log, admin port.
    Role {
        /// The executable.
        program: PathBuf,
        /// Its configuration.
        config: PathBuf,
        /// Where its output goes.
        log: PathBuf,
        /// Its admin port.
        admin: SocketAddr,
        /// What tells it which mistake to make.
        planted: Option<String>,
    },
}

/// Where Redis keeps its files, in its folder.
pub const REDIS_FILES: &str = "appendonlydir";

/// What Redis finds at a start.
#[derive(Debug, Clone)]
pub enum Files {
    /// Nothing.
    None,
    /// What it had when [`copy_files`] was called.
    Copy(PathBuf),
}

/// Copies the files of a folder into a new one, also while Redis writes: a last entry that is cut off is what a crash
/// leaves, too.
///
/// # Errors
/// When a file cannot be read or written.
pub fn copy_files(from: &Path, to: &Path) -> std::io::Result<()> {
    let _ = std::fs::remove_dir_all(to);
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        std::fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}

/// A supervised process. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Process {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    name: &'static str,
    kind: Kind,
    clock: Option<Clock>,
    zero: Zero,
    acts: mpsc::UnboundedSender<Act>,
    /// 0 = does not run.
    pid: AtomicU32,
    /// Pauses by the bench that have not ended.
    pauses: AtomicU32,
    may_run: watch::Sender<bool>,
    ready: watch::Sender<bool>,
    /// What Redis finds at its next start in place of its files.
    next_files: watch::Sender<Option<Files>>,
    failpoints: watch::Sender<String>,
    over: watch::Sender<bool>,
}

enum Running {
    Postgres(PrivatePostgres),
    Child(Child),
}

impl Process {
    /// Starts it and keeps it running until [`Self::end`].
    pub fn start(
        name: &'static str,
        kind: Kind,
        clock: Option<Clock>,
        failpoints: String,
        zero: Zero,
        acts: mpsc::UnboundedSender<Act>,
    ) -> Self {
        let shared = Arc::new(Shared {
            name,
            kind,
            clock,
            zero,
            acts,
            pid: AtomicU32::new(0),
            pauses: AtomicU32::new(0),
            may_run: watch::Sender::new(true),
            ready: watch::Sender::new(false),
            next_files: watch::Sender::new(None),
            failpoints: watch::Sender::new(failpoints),
            over: watch::Sender::new(false),
        });
        tokio::spawn(supervise(shared.clone()));
        Self { shared }
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.shared.name
    }
    /// Its process id while it runs.
    pub fn pid(&self) -> Option<u32> {
        Some(self.shared.pid.load(Ordering::SeqCst)).filter(|pid| *pid != 0)
    }
    /// Its clock, if it has one of its own.
    pub fn clock(&self) -> Option<&Clock> {
        self.shared.clock.as_ref()
    }
    /// Sends a signal; false when it does not run.
    pub fn signal(&self, signal: Signal) -> bool {
        let pid = self.pid().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        pid.is_some_and(|pid| kill_process(pid, signal).is_ok())
    }
    /// Stops it until [`Self::go_on`]; false when it does not run.
    pub fn pause(&self) -> bool {
        self.shared.pauses.fetch_add(1, Ordering::SeqCst);
        self.signal(Signal::STOP)
    }
    /// Ends a pause.
    pub fn go_on(&self) {
        self.signal(Signal::CONT);
        self.shared.pauses.fetch_sub(1, Ordering::SeqCst);
    }
    /// Whether it stands at a fail point: stopped, and not by a pause.
    pub fn stands(&self) -> bool {
        if self.shared.pauses.load(Ordering::SeqCst) > 0 {
            return false;
        }
        let stat = self.pid().and_then(|pid| std::fs::read_to_string(format!("/proc/{pid}/stat")).ok());
        // The state is the first word after the name in brackets.
        stat.as_deref().and_then(|stat| stat.rsplit(')').next()?.split_whitespace().next()) == Some("T")
    }
    /// Lets it go on whenever it stands at a fail point, from now on: that comes too late for its fault.
    pub fn keep_awake(&self) {
        let process = self.clone();
        tokio::spawn(async move {
            while !process.shared.is_over() {
                if process.stands() {
                    process.signal(Signal::CONT);
                }
                tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
            }
        });
    }
    /// kill -9, and no new start before [`Self::allow`].
    pub fn kill(&self) -> bool {
        self.shared.may_run.send_replace(false);
        self.signal(Signal::KILL)
    }
    /// Redis finds these files the next time.
    pub fn next_files(&self, files: Files) {
        self.shared.next_files.send_replace(Some(files));
    }
    /// It may run (again).
    pub fn allow(&self) {
        self.shared.may_run.send_replace(true);
    }
    /// Waits until it is ready.
    ///
    /// # Errors
    /// When it is not within this time.
    pub async fn ready_within(&self, ms: u64) -> anyhow::Result<()> {
        let mut ready = self.shared.ready.subscribe();
        let waited = tokio::time::timeout(Duration::from_millis(ms), ready.wait_for(|ready| *ready)).await;
        waited.with_context(|| format!("{} is not ready after {ms} ms", self.shared.name))??;
        Ok(())
    }
    /// Ends it for good.
    pub async fn end(&self) {
        self.shared.over.send_replace(true);
        self.signal(Signal::CONT);
        self.signal(Signal::KILL);
        while self.pid().is_some() {
            tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
        }
    }
}

impl Shared {
    fn act(&self, what: &str, t0: u64, detail: String) {
        let (what, whom) = (what.to_owned(), self.name.to_owned());
        let _ = self.acts.send(Act { what, whom, t0, t1: self.zero.us(), detail });
    }
    fn is_over(&self) -> bool {
        *self.over.borrow()
    }

    async fn spawn(&self) -> anyhow::Result<Running> {
        let mut command = match &self.kind {
            Kind::Postgres(folder) => return Ok(Running::Postgres(PrivatePostgres::start(folder).await?)),
            Kind::Redis(folder) => redis(folder, self.next_files.send_replace(None))?,
            Kind::Role { program, config, log, planted, .. } => {
                let log = std::fs::File::options().create(true).append(true).open(log)?;
                let mut command = Command::new(program);
                command
                    .arg(self.name)
                    .arg("--config")
                    .arg(config)
                    .env("FLOODGATE_LAUNCHER_PID", std::process::id().to_string())
                    .stdin(Stdio::null())
                    .stdout(log.try_clone()?)
                    .stderr(log)
                    .process_group(0)
                    .kill_on_drop(true);
                if let Some(planted) = planted {
                    command.env(crate::planted::VARIABLE, planted);
                }
                // A point kills once: whoever is started again lives.
                let armed = self.failpoints.send_replace(String::new());
                command.env(service_kit::failpoint::VARIABLE, armed);
                command
            }
        };
        if let Some(clock) = &self.clock {
            command.envs(clock.environment());
        }
        Ok(Running::Child(spawn_bound(command).await?))
    }

    async fn is_ready(&self) -> bool {
        let ask = async {
            match &self.kind {
                Kind::Postgres(_) => true, // its start waits for the first answer
                Kind::Redis(folder) => pings(&folder.join("redis.sock")).await.unwrap_or(false),
                Kind::Role { admin, .. } => answers_ready(*admin).await.unwrap_or(false),
            }
        };
        tokio::time::timeout(Duration::from_millis(ANSWER_MS), ask).await.unwrap_or(false)
    }
}

async fn supervise(shared: Arc<Shared>) {
    let mut may_run = shared.may_run.subscribe();
    let mut over = shared.over.subscribe();
    let mut is_first = true;
    loop {
        tokio::select! {
            _ = may_run.wait_for(|may| *may) => {}
            _ = over.wait_for(|over| *over) => return,
        }
        if shared.is_over() {
            return;
        }
        let t0 = shared.zero.us();
        let mut running = match shared.spawn().await {
            Ok(running) => running,
            Err(error) => {
                shared.act("exit", t0, format!("did not start: {error:#}"));
                tokio::time::sleep(Duration::from_millis(AGAIN_MS)).await;
                continue;
            }
        };
        let pid = match &running {
            Running::Postgres(postgres) => postgres.pid(),
            Running::Child(child) => child.id(),
        };
        shared.pid.store(pid.unwrap_or(0), Ordering::SeqCst);
        let ended = async {
            match &mut running {
                Running::Postgres(postgres) => postgres.wait().await.map(|status| status.to_string()),
                Running::Child(child) => Ok(child.wait().await?.to_string()),
            }
        };
        let watched = async {
            while !shared.is_ready().await {
                tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
            }
            shared.ready.send_replace(true);
            if !is_first {
                shared.act("recovered", t0, format!("{} ms", shared.zero.us().saturating_sub(t0) / 1_000));
            }
            std::future::pending::<()>().await;
        };
        let status = tokio::select! {
            status = ended => status.unwrap_or_else(|error| error.to_string()),
            () = watched => String::new(),
        };
        is_first = false;
        shared.ready.send_replace(false);
        shared.pid.store(0, Ordering::SeqCst);
        drop(running);
        if shared.is_over() {
            return;
        }
        let now = shared.zero.us();
        shared.act("exit", now, status);
    }
}

/// Redis as an operator should run it, on a unix socket; `files` take the place of its own.
fn redis(folder: &Path, files: Option<Files>) -> anyhow::Result<Command> {
    if files.is_some() {
        let _ = std::fs::remove_dir_all(folder.join(REDIS_FILES));
    }
    if let Some(Files::Copy(copy)) = files {
        copy_files(&copy, &folder.join(REDIS_FILES))?;
    }
    let socket = folder.join("redis.sock");
    let _ = std::fs::remove_file(&socket);
    let program = find_program("redis-server", "FLOODGATE_REDIS_SERVER", "redis-server")?;
    let mut command = bound_command(&program);
    command
        .args(["--port", "0", "--unixsocketperm", "700", "--save", "", "--appendonly", "yes"])
        .args(["--appendfsync", "everysec", "--maxmemory-policy", "noeviction", "--daemonize", "no"])
        .arg("--unixsocket")
        .arg(&socket)
        .arg("--dir")
        .arg(folder)
        .current_dir(folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    Ok(command)
}

async fn pings(socket: &Path) -> std::io::Result<bool> {
    let mut stream = UnixStream::connect(socket).await?;
    stream.write_all(b"PING\r\n").await?;
    let mut reply = [0_u8; 5];
    stream.read_exact(&mut reply).await?;
    Ok(reply == *b"+PONG")
}

async fn answers_ready(admin: SocketAddr) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(admin).await?;
    stream.write_all(format!("GET /readyz HTTP/1.0\r\nHost: {admin}\r\n\r\n").as_bytes()).await?;
    let mut head = [0_u8; 12];
    stream.read_exact(&mut head).await?;
    Ok(head.ends_with(b" 200"))
}

//! The kinds of children, behind one face: start, wait, stop.
//!
//! All are started from the one thread that lives as long as this process: the kernel sends the
//! parent-death signal when the *thread* that made a child ends.

use super::parent;
use rustix::process::{Pid, Signal, kill_process};
use service_kit::private_store::{PrivatePostgres, PrivateRedis, spawn_bound, terminate};
use std::fs::File;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use tokio::process::{Child, Command};

/// What to run.
#[derive(Debug, Clone)]
pub struct Spec {
    /// Name, one of [`super::NAMES`].
    pub name: &'static str,
    /// Which kind.
    pub kind: Kind,
    /// Where it serves by HTTP.
    pub url: Option<String>,
    /// Its admin port.
    pub admin: Option<String>,
}

/// Which kind of child.
#[derive(Debug, Clone)]
pub enum Kind {
    /// The private Redis of a directory.
    Redis(PathBuf),
    /// The private PostgreSQL of a directory.
    Postgres(PathBuf),
    /// A program of ours.
    Program {
        /// The program.
        program: PathBuf,
        /// Its arguments.
        args: Vec<String>,
        /// Where its standard output and error go.
        log: PathBuf,
        /// Its working directory.
        folder: PathBuf,
    },
}

/// A child that runs. Dropping it kills it.
#[derive(Debug)]
pub enum Running {
    /// Redis, ready.
    Redis(PrivateRedis),
    /// PostgreSQL, ready.
    Postgres(PrivatePostgres),
    /// A program, perhaps not ready yet.
    Program(Child),
}

impl Running {
    /// Starts it. A store is ready when this returns.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn start(kind: &Kind) -> anyhow::Result<Self> {
        Ok(match kind {
            Kind::Redis(folder) => Self::Redis(PrivateRedis::start(folder).await?),
            Kind::Postgres(folder) => Self::Postgres(PrivatePostgres::start(folder).await?),
            Kind::Program { program, args, log, folder } => {
                let log = File::options().create(true).append(true).open(log)?;
                let mut command = Command::new(program);
                command
                    .args(args)
                    .current_dir(folder)
                    .env(parent::LAUNCHER_PID, std::process::id().to_string())
                    .stdin(Stdio::null())
                    .stdout(log.try_clone()?)
                    .stderr(log)
                    .process_group(0) // Ctrl-C reaches only the launcher, which stops the roles in order
                    .kill_on_drop(true);
                Self::Program(spawn_bound(command).await?)
            }
        })
    }

    /// The process id while it runs.
    pub fn pid(&self) -> Option<u32> {
        match self {
            Self::Redis(redis) => redis.pid(),
            Self::Postgres(postgres) => postgres.pid(),
            Self::Program(child) => child.id(),
        }
    }

    /// Waits for its end and reaps it.
    ///
    /// # Errors
    /// When the system does not tell.
    pub async fn wait(&mut self) -> anyhow::Result<ExitStatus> {
        match self {
            Self::Redis(redis) => redis.wait().await,
            Self::Postgres(postgres) => postgres.wait().await,
            Self::Program(child) => Ok(child.wait().await?),
        }
    }

    /// Asks it to end, waits, kills it if it does not, and reaps it.
    pub async fn stop(self) {
        match self {
            Self::Redis(redis) => redis.stop().await,
            Self::Postgres(postgres) => postgres.stop().await,
            Self::Program(mut child) => terminate(&mut child, "TERM").await,
        }
    }
}

/// kill -9, as a crash would end it.
pub fn kill(pid: u32) -> bool {
    i32::try_from(pid).ok().and_then(Pid::from_raw).is_some_and(|pid| kill_process(pid, Signal::KILL).is_ok())
}

//! Keeps one child running: starts it, starts it again when it dies, stops it when asked.
//!
//! Races: a stop during a back-off ends the back-off; a stop while the child is starting waits for
//! the start, then stops it; a stop while the child is dying finds it dead and is done.

use super::child::{self, Running, Spec};
use super::state::{Board, RoleState};
use crate::output;
use service_kit::clock;
use service_kit::shutdown::{self, Shutdown, Trigger};
use std::process::ExitStatus;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// First pause before a restart; doubled while the child keeps dying young.
const BACKOFF_FIRST_MS: u64 = 200;
/// Longest pause before a restart.
const BACKOFF_MAX_MS: u64 = 2_000;
/// A child that lived longer starts with the first pause again.
const YOUNG_MS: u128 = 10_000;

/// How a child fares, for whoever waits for it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Health {
    /// Process id while it runs.
    pub pid: Option<u32>,
    /// How often it ended without being asked, or could not be started.
    pub ends: u32,
    /// Exit code of the last end.
    pub code: Option<i32>,
}

/// The hand on one supervised child.
#[derive(Debug)]
pub struct Supervised {
    name: &'static str,
    trigger: Trigger,
    health: watch::Receiver<Health>,
    task: JoinHandle<()>,
}

impl Supervised {
    /// Starts the child and its supervisor.
    pub fn start(spec: Spec, board: Board) -> Self {
        let (trigger, stop) = shutdown::channel();
        let (sender, health) = watch::channel(Health::default());
        let name = spec.name;
        let task = tokio::spawn(Box::pin(keep_running(spec, board, sender, stop)));
        Self { name, trigger, health, task }
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// How it fares now.
    pub fn health(&self) -> Health {
        *self.health.borrow()
    }

    /// Waits until it runs (true) or has ended `ends_max` times (false). A store that runs is ready.
    pub async fn runs(&self, ends_max: u32) -> bool {
        let mut health = self.health.clone();
        let seen = health.wait_for(|h| h.pid.is_some() || h.ends >= ends_max).await;
        seen.is_ok_and(|h| h.pid.is_some())
    }

    /// Waits until it has ended so often that it will not run: `ends_max` times, or once with `code`.
    pub async fn is_hopeless(&self, ends_max: u32, code: i32) {
        let mut health = self.health.clone();
        let _ = health.wait_for(|h| h.ends >= ends_max || h.code == Some(code)).await;
    }

    /// kill -9, as a crash would end it; the supervisor starts it again.
    pub fn kill(&self) -> bool {
        self.health().pid.is_some_and(child::kill)
    }

    /// Asks it to end, waits, and reaps it.
    pub async fn stop(self) {
        self.trigger.stop();
        let _ = self.task.await;
    }
}

async fn keep_running(spec: Spec, board: Board, health: watch::Sender<Health>, stop: Shutdown) {
    let mut backoff_ms = BACKOFF_FIRST_MS;
    while !stop.is_requested() {
        let began = clock::monotonic();
        let (code, text) = match Running::start(&spec.kind).await {
            Ok(mut running) => {
                let pid = running.pid();
                let (url, admin) = (spec.url.clone(), spec.admin.clone());
                board.started(RoleState { name: spec.name, pid, url, admin, restarts: 0 }).await;
                health.send_modify(|h| h.pid = pid);
                tokio::select! {
                    status = running.wait() => describe(status.ok()),
                    () = stop.requested() => return running.stop().await,
                }
            }
            Err(error) => (None, format!("could not be started: {error:#}")),
        };
        if stop.is_requested() {
            return;
        }
        if began.elapsed().as_millis() > YOUNG_MS {
            backoff_ms = BACKOFF_FIRST_MS;
        }
        let pid = health.borrow().pid.map_or_else(|| "no pid".to_owned(), |pid| format!("pid {pid}"));
        health.send_modify(|h| *h = Health { pid: None, ends: h.ends.saturating_add(1), code });
        output::note(&format!("{} ({pid}) {text}; starting it again in {backoff_ms} ms", spec.name));
        stop.sleep_ms(backoff_ms).await;
        backoff_ms = backoff_ms.saturating_mul(2).min(BACKOFF_MAX_MS);
    }
}

fn describe(status: Option<ExitStatus>) -> (Option<i32>, String) {
    match status {
        Some(status) => (status.code(), format!("ended ({status})")),
        None => (None, "ended".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::child::Kind;
    use super::super::state::HouseState;
    use super::*;
    use std::path::Path;

    fn board(folder: &Path) -> Board {
        let state = HouseState {
            launcher_pid: 0,
            running: true,
            dir: folder.into(),
            config: folder.into(),
            gate_url: String::new(),
            roles: Vec::new(),
        };
        Board::new(folder.join("state.json"), state)
    }

    fn spec(program: &str, folder: &Path) -> Spec {
        let (log, folder) = (folder.join("log"), folder.into());
        let kind = Kind::Program { program: program.into(), args: vec!["60".into()], log, folder };
        Spec { name: "proxy", kind, url: None, admin: None }
    }

    #[tokio::test]
    async fn a_killed_child_comes_back_and_a_stop_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let board = board(folder.path());
        let child = Supervised::start(spec("/bin/sleep", folder.path()), board.clone());
        let mut health = child.health.clone();
        let first = health.wait_for(|h| h.pid.is_some()).await.unwrap().pid;
        assert!(child.kill());
        let second = health.wait_for(|h| h.pid.is_some() && h.ends == 1).await.unwrap().pid.unwrap();
        assert_ne!(first, Some(second));
        let alive = |pid: u32| Path::new(&format!("/proc/{pid}")).exists();
        assert!(alive(second));
        child.stop().await;
        assert!(!alive(second));
        assert_eq!(board.snapshot().await.roles[0].restarts, 1);
    }

    #[tokio::test]
    async fn what_cannot_start_is_hopeless_after_some_tries() {
        let folder = tempfile::tempdir().unwrap();
        let child = Supervised::start(spec("/does/not/exist", folder.path()), board(folder.path()));
        assert!(!child.runs(2).await);
        child.is_hopeless(2, 64).await;
        child.stop().await;
    }
}

//! Who runs: kept in `state.json`, so that scripts and tests find every child.

use serde::Serialize;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::Mutex;

/// One child.
#[derive(Debug, Clone, Serialize)]
pub struct RoleState {
    /// Its name, one of [`super::NAMES`].
    pub name: &'static str,
    /// Its process id; after a stop, the last one.
    pub pid: Option<u32>,
    /// Where it serves, if by HTTP.
    pub url: Option<String>,
    /// Its admin port, `address:port`.
    pub admin: Option<String>,
    /// How often it had to be started again.
    pub restarts: u32,
}

/// The whole house.
#[derive(Debug, Clone, Serialize)]
pub struct HouseState {
    /// Process id of the launcher.
    pub launcher_pid: u32,
    /// Whether the launcher still runs the children.
    pub running: bool,
    /// The directory.
    pub dir: PathBuf,
    /// The configuration, for the other subcommands.
    pub config: PathBuf,
    /// The address for people.
    pub gate_url: String,
    /// The children, in order of start.
    pub roles: Vec<RoleState>,
}

/// Shared between the supervisors of all children; every change is written to the file.
#[derive(Debug, Clone)]
pub struct Board {
    file: PathBuf,
    state: Arc<Mutex<HouseState>>,
}

impl Board {
    /// A board for an empty house.
    pub fn new(file: PathBuf, state: HouseState) -> Self {
        Self { file, state: Arc::new(Mutex::new(state)) }
    }

    /// Notes that a child has started.
    pub async fn started(&self, mut role: RoleState) {
        let mut state = self.state.lock().await;
        match state.roles.iter_mut().find(|known| known.name == role.name) {
            Some(known) => {
                role.restarts = known.restarts.saturating_add(1);
                *known = role;
            }
            None => state.roles.push(role),
        }
        self.write(&state);
    }

    /// Notes that everything has stopped.
    pub async fn stopped(&self) {
        let mut state = self.state.lock().await;
        state.running = false;
        self.write(&state);
    }

    /// A copy.
    pub async fn snapshot(&self) -> HouseState {
        self.state.lock().await.clone()
    }

    /// Written aside and renamed, so that a reader never sees half of it. The file is a courtesy:
    /// a full disk must not stop the sale.
    fn write(&self, state: &HouseState) {
        let aside = self.file.with_extension("json.new");
        let written = serde_json::to_vec_pretty(state)
            .map_err(std::io::Error::other)
            .and_then(|bytes| std::fs::write(&aside, bytes))
            .and_then(|()| std::fs::rename(&aside, &self.file));
        if let Err(error) = written {
            crate::output::note(&format!("{} could not be written: {error}", self.file.display()));
        }
    }
}

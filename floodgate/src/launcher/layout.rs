//! Where everything lives, who owns it, and the rule for running as root.
//!
//! PostgreSQL refuses to run as root. As root its directories belong to `nobody` and every
//! directory above them must be enterable: `.floodgate/` is 0711, what lies inside is 0700 with
//! its own owner, secrets are 0600. Where that cannot be (a checkout inside a private home, a path
//! too long for a socket, odd characters in it) the stores' directories go below the system's
//! folder for temporary files, under a name made from the directory.

use anyhow::Context as _;
use service_kit::private_store;
use sha2::{Digest as _, Sha256};
use std::fs::{self, DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// Longest path of a socket, in bytes. The kernel's limit is 107.
const SOCKET_BYTES_MAX: usize = 100;
/// Longest socket name below the stores' directory: `/postgres/sock/.s.PGSQL.5432`.
const SOCKET_TAIL_BYTES: usize = 28;

/// Every path of one launched house.
#[derive(Debug, Clone)]
pub struct Layout {
    /// The directory itself, absolute.
    pub root: PathBuf,
    /// Redis: its data and its socket.
    pub redis: PathBuf,
    /// PostgreSQL: `data/` and `sock/`, both its user's own.
    pub postgres: PathBuf,
    /// One log per child.
    pub logs: PathBuf,
    /// Whether PostgreSQL runs as `nobody`, because we are root.
    pub as_nobody: bool,
    /// Why the stores' directories are elsewhere, if they are.
    pub elsewhere: Option<String>,
}

impl Layout {
    /// Decides the paths for `dir` without making anything.
    ///
    /// # Errors
    /// When the current directory is unknown.
    pub fn new(dir: &Path) -> anyhow::Result<Self> {
        let root = std::path::absolute(dir).context("the current directory is unknown")?;
        let as_nobody = private_store::is_root();
        let elsewhere = reason_for_elsewhere(&root, as_nobody);
        let stores = match &elsewhere {
            None => root.clone(),
            Some(_) => {
                let digest = Sha256::digest(root.as_os_str().as_encoded_bytes());
                let name: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
                temporary(as_nobody).join(format!("floodgate-{name}"))
            }
        };
        Ok(Self {
            logs: root.join("logs"),
            redis: stores.join("redis"),
            postgres: stores.join("postgres"),
            root,
            as_nobody,
            elsewhere,
        })
    }

    /// `[redis] url` of the private Redis.
    pub fn redis_url(&self) -> String {
        format!("redis+unix://{}", self.redis.join("redis.sock").display())
    }
    /// `[postgres] url` of the private PostgreSQL.
    pub fn postgres_url(&self) -> String {
        format!("host={} user=floodgate dbname=floodgate", self.postgres.join("sock").display())
    }
    /// The generated configuration.
    pub fn config(&self) -> PathBuf {
        self.root.join("floodgate.toml")
    }
    /// The signing keys; they stay over restarts, so that tickets stay valid.
    pub fn keys(&self) -> PathBuf {
        self.root.join("keys")
    }
    /// The token of an operator of this house, for `floodgate room` on this machine.
    pub fn operator_token(&self) -> PathBuf {
        self.root.join("operator.token")
    }
    /// The visitors' journal.
    pub fn journal(&self) -> PathBuf {
        self.root.join("journal")
    }
    /// Who runs, for scripts and tests.
    pub fn state(&self) -> PathBuf {
        self.root.join("state.json")
    }
    /// Held while a launcher uses the directory.
    pub fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }
    /// Where a child writes.
    pub fn log(&self, name: &str) -> PathBuf {
        match name {
            "redis" => self.redis.join("redis.log"),
            "postgres" => self.postgres.join("postgres.log"),
            role => self.logs.join(format!("{role}.log")),
        }
    }

    /// Makes the directories, with their owners and permissions.
    ///
    /// # Errors
    /// When a directory cannot be made, or one of that name belongs to somebody else.
    pub fn make(&self) -> anyhow::Result<()> {
        // Entered by PostgreSQL's user on the way to its own directories, read only by us.
        let outer = if self.as_nobody { 0o711 } else { 0o700 };
        if let Some(parent) = self.root.parent() {
            fs::create_dir_all(parent).with_context(|| format!("make {}", parent.display()))?;
        }
        directory(&self.root, outer)?;
        if let Some(stores) = self.postgres.parent().filter(|stores| *stores != self.root) {
            directory(stores, outer)?;
        }
        directory(&self.logs, 0o700)?;
        directory(&self.redis, 0o700)?;
        directory(&self.postgres, outer)
    }

    /// Removes everything below the directory except its lock, and the stores elsewhere.
    ///
    /// # Errors
    /// When something cannot be removed.
    pub fn wipe(&self) -> anyhow::Result<()> {
        let lock = self.lock();
        if let Some(stores) = self.postgres.parent().filter(|stores| *stores != self.root) {
            remove(stores)?;
        }
        for entry in fs::read_dir(&self.root).with_context(|| format!("read {}", self.root.display()))? {
            let path = entry?.path();
            if path != lock {
                remove(&path)?;
            }
        }
        Ok(())
    }
}

fn remove(path: &Path) -> anyhow::Result<()> {
    let result = if path.is_dir() && !path.is_symlink() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match result {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Makes one directory, or takes over one that is ours. A link or a stranger's directory is refused.
fn directory(path: &Path, mode: u32) -> anyhow::Result<()> {
    match DirBuilder::new().mode(mode).create(path) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            let found = fs::symlink_metadata(path)?;
            let ours = found.is_dir() && found.uid() == rustix::process::geteuid().as_raw();
            anyhow::ensure!(ours, "{} exists and is not a directory of ours: move it away", path.display());
        }
        Err(error) => return Err(error).with_context(|| format!("make {}", path.display())),
    }
    fs::set_permissions(path, Permissions::from_mode(mode)).with_context(|| format!("protect {}", path.display()))
}

/// Why the stores cannot live inside `root`; `None` when they can.
fn reason_for_elsewhere(root: &Path, as_nobody: bool) -> Option<String> {
    let text = root.to_str();
    let plain = text.is_some_and(|t| t.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._-+".contains(&b)));
    if !plain {
        return Some("its path has characters that an address of a store cannot carry".into());
    }
    if root.as_os_str().len() + SOCKET_TAIL_BYTES > SOCKET_BYTES_MAX {
        return Some(format!("a socket in it would have a path of more than {SOCKET_BYTES_MAX} bytes"));
    }
    if !as_nobody {
        return None;
    }
    let closed = root.ancestors().skip(1).find(|above| !enterable(above))?;
    Some(format!("{} cannot be entered by the user that PostgreSQL runs as", closed.display()))
}

/// Whether every user may go through this directory. One that does not exist yet will be made so.
fn enterable(path: &Path) -> bool {
    fs::metadata(path).map_or(true, |found| found.mode() & 0o001 != 0)
}

/// The system's folder for temporary files, if PostgreSQL's user can reach it.
fn temporary(as_nobody: bool) -> PathBuf {
    let named = std::env::temp_dir();
    if reason_for_elsewhere(&named.join("floodgate-0123456789abcdef"), as_nobody).is_none() {
        named
    } else {
        "/tmp".into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stores_move_when_their_path_cannot_work() {
        let (root, ourselves) = (true, false);
        assert_eq!(reason_for_elsewhere(Path::new("/usr/floodgate"), root), None);
        assert!(reason_for_elsewhere(Path::new("/usr/with space"), ourselves).is_some());
        assert!(reason_for_elsewhere(Path::new(&format!("/usr/{}", "d".repeat(80))), ourselves).is_some());
        let home = tempfile::tempdir().unwrap();
        fs::set_permissions(home.path(), Permissions::from_mode(0o700)).unwrap();
        let inside = home.path().join("floodgate");
        assert!(reason_for_elsewhere(&inside, root).is_some(), "nobody cannot enter a private home");
        assert_eq!(reason_for_elsewhere(&inside, ourselves), None, "we can");
    }

    #[test]
    fn directories_have_their_permissions_and_links_are_refused() {
        let home = tempfile::tempdir().unwrap();
        fs::set_permissions(home.path(), Permissions::from_mode(0o711)).unwrap();
        let layout = Layout::new(&home.path().join("fg")).unwrap();
        layout.make().unwrap();
        layout.make().unwrap();
        for path in [&layout.redis, &layout.logs] {
            assert_eq!(fs::metadata(path).unwrap().mode() & 0o777, 0o700, "{}", path.display());
        }
        layout.wipe().unwrap();
        fs::remove_dir(&layout.root).unwrap();
        std::os::unix::fs::symlink("/usr", &layout.root).unwrap();
        assert!(layout.make().is_err(), "a link is not followed");
    }
}

//! A private Redis and a private PostgreSQL: started on unix sockets in a directory of their own,
//! stopped (and, for tests, deleted) when dropped. Used by `floodgate up`, `floodgate demo` and every test.
//!
//! `initdb` and `postgres` refuse to run as root. When this process is root they run as `nobody`
//! through `setpriv`, in directories that are given to that user first; every directory above must
//! be enterable, so a checkout inside a private home does not work: choose a directory under the
//! system's temporary folder then. Children die with this process (`--pdeathsig`), whatever kills it.

use anyhow::{Context as _, bail};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::OnceLock;
use std::time::Duration;
use tokio::process::{Child, Command};

/// Longest wait for a server to answer, in milliseconds.
const READY_TIMEOUT_MS: u64 = 30_000;
/// Longest path of a unix socket that Linux takes, in bytes.
const SOCKET_PATH_BYTES_MAX: usize = 107;
/// The user and group that run PostgreSQL when we are root.
const UNPRIVILEGED: [&str; 2] = ["--reuid=nobody", "--regid=nogroup"];

/// Whether this process is root (by the owner of `/proc/self`).
pub fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").map(|m| m.uid() == 0).unwrap_or(false)
}

/// A command that dies with this process. Start it with [`spawn_bound`].
pub fn bound_command(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).arg(program);
    // A group of its own: Ctrl-C reaches only us, and we stop the children in order.
    command.kill_on_drop(true).stdin(Stdio::null()).process_group(0);
    command
}

/// Starts a [`bound_command`] from a thread that lives as long as this process: Linux sends the
/// death signal when the *thread* that made the child ends, and runtimes end threads as they like.
///
/// # Errors
/// When the program cannot be started.
pub async fn spawn_bound(mut command: Command) -> std::io::Result<Child> {
    type Job = Box<dyn FnOnce() + Send>;
    static SPAWNER: OnceLock<std::sync::mpsc::Sender<Job>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (tx, rx) = std::sync::mpsc::channel::<Job>();
        let _ = std::thread::Builder::new().name("spawner".into()).spawn(move || rx.into_iter().for_each(|job| job()));
        tx
    });
    let (tx, rx) = tokio::sync::oneshot::channel();
    let runtime = tokio::runtime::Handle::current();
    let job = Box::new(move || {
        let _context = runtime.enter();
        let _ = tx.send(command.spawn());
    });
    let gone = || std::io::Error::other("the spawner thread is gone");
    spawner.send(job).map_err(|_| gone())?;
    rx.await.map_err(|_| gone())?
}

/// Finds a program: environment variable `env_name`, then `PATH`, then PostgreSQL's versioned folders.
///
/// # Errors
/// Names the Debian package to install.
pub fn find_program(name: &str, env_name: &str, package: &str) -> anyhow::Result<PathBuf> {
    if let Some(path) = std::env::var_os(env_name).map(PathBuf::from) {
        return if path.is_file() { Ok(path) } else { Ok(path.join(name)) };
    }
    // The versioned folders first: some systems put a wrapper of another version on the PATH.
    let mut versioned: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .map(|d| d.flatten().map(|e| e.path().join("bin").join(name)).filter(|p| p.is_file()).collect())
        .unwrap_or_default();
    versioned.sort();
    if let Some(newest) = versioned.pop() {
        return Ok(newest);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|p| p.is_file()).with_context(|| {
        format!("`{name}` was not found; install it with `apt-get install {package}` or set {env_name}")
    })
}

/// A running private Redis.
#[derive(Debug)]
pub struct PrivateRedis {
    child: Child,
    dir: PathBuf,
}

impl PrivateRedis {
    /// Starts Redis in `dir` (made if missing) with AOF and `noeviction`, and waits until it answers.
    /// Data of an earlier run in the same directory is loaded.
    ///
    /// # Errors
    /// When the program is missing, the socket path is too long, or it does not answer in time.
    pub async fn start(dir: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
        let dir = dir.canonicalize()?;
        let socket = dir.join("redis.sock");
        short_enough(&socket)?;
        let _ = std::fs::remove_file(&socket);
        let program = find_program("redis-server", "FLOODGATE_REDIS_SERVER", "redis-server")?;
        let log = std::fs::File::options().create(true).append(true).open(dir.join("redis.log"))?;
        let mut command = bound_command(&program);
        command
            .args(["--port", "0", "--unixsocketperm", "700", "--save", "", "--appendonly", "yes"])
            .args(["--appendfsync", "everysec", "--maxmemory-policy", "noeviction", "--daemonize", "no"])
            .arg("--unixsocket")
            .arg(&socket)
            .arg("--dir")
            .arg(&dir)
            .current_dir(&dir)
            .stdout(log.try_clone()?)
            .stderr(log);
        let child = spawn_bound(command).await.context("start redis-server")?;
        let mut started = Self { child, dir };
        let deadline = crate::clock::monotonic() + Duration::from_millis(READY_TIMEOUT_MS);
        while !started.answers().await {
            if let Some(status) = started.child.try_wait()? {
                bail!("redis-server ended with {status}; see {}", started.dir.join("redis.log").display());
            }
            if crate::clock::monotonic() > deadline {
                bail!("redis-server does not answer; see {}", started.dir.join("redis.log").display());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(started)
    }
    async fn answers(&self) -> bool {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let ping = async {
            let mut stream = tokio::net::UnixStream::connect(self.dir.join("redis.sock")).await?;
            stream.write_all(b"PING\r\n").await?;
            let mut reply = [0_u8; 5];
            stream.read_exact(&mut reply).await?;
            std::io::Result::Ok(reply == *b"+PONG")
        };
        matches!(tokio::time::timeout(Duration::from_secs(1), ping).await, Ok(Ok(true)))
    }
    /// `redis+unix://…` for [`crate::redis::RedisConfig`].
    pub fn url(&self) -> String {
        format!("redis+unix://{}", self.dir.join("redis.sock").display())
    }
    /// Ready-made settings for this Redis.
    pub fn config(&self) -> crate::redis::RedisConfig {
        crate::redis::RedisConfig { url: self.url(), connections: 2, command_timeout_ms: 2_000 }
    }
    /// The process id, to kill it on purpose.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }
    /// Waits until the process has ended (after a crash or a kill).
    ///
    /// # Errors
    /// When waiting fails.
    pub async fn wait(&mut self) -> anyhow::Result<std::process::ExitStatus> {
        Ok(self.child.wait().await?)
    }
    /// Ends it as a crash would (SIGKILL) and waits until it is gone.
    pub async fn kill(&mut self) {
        let _ = self.child.kill().await;
    }
    /// Stops it in order: writes the AOF out and waits for its end.
    pub async fn stop(mut self) {
        terminate(&mut self.child, "TERM").await;
    }
}

/// A running private PostgreSQL.
#[derive(Debug)]
pub struct PrivatePostgres {
    child: Child,
    socket_dir: PathBuf,
    user: &'static str,
}

impl PrivatePostgres {
    /// Starts PostgreSQL in `dir` (initialised if empty) on a unix socket only, and waits until it answers.
    /// Creates the database `floodgate` when it is missing.
    ///
    /// # Errors
    /// When the programs are missing, the directory is not usable, or it does not answer in time.
    pub async fn start(dir: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
        let dir = dir.canonicalize()?;
        let (data, socket_dir) = (dir.join("data"), dir.join("sock"));
        short_enough(&socket_dir.join(".s.PGSQL.5432"))?;
        let root = is_root();
        for sub in [&data, &socket_dir] {
            std::fs::create_dir_all(sub)?;
            std::fs::set_permissions(sub, std::fs::Permissions::from_mode(0o700))?;
        }
        if root {
            // Our own directory may be entered, not read; the two inside belong to the user that runs the server.
            std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o711))?;
            for sub in [&data, &socket_dir] {
                let done = Command::new("chown").arg("-R").arg("nobody:nogroup").arg(sub).status().await?;
                if !done.success() {
                    bail!("could not give {} to nobody", sub.display());
                }
            }
        }
        let user = "floodgate";
        if !data.join("PG_VERSION").exists() {
            let initdb = find_program("initdb", "FLOODGATE_PG_BIN", "postgresql")?;
            let output = as_server_user(&initdb, root)
                .args(["--username", user, "--auth", "trust", "--encoding", "UTF8", "--no-locale", "--no-sync", "-D"])
                .arg(&data)
                .current_dir(&data)
                .output()
                .await
                .context("run initdb")?;
            if !output.status.success() {
                bail!(
                    "initdb failed in {}: {} (every directory above must be enterable by `nobody`; choose another with --dir)",
                    data.display(),
                    String::from_utf8_lossy(&output.stderr).trim()
                );
            }
        }
        forget_foreign_lock(&data.join("postmaster.pid"));
        let postgres = find_program("postgres", "FLOODGATE_PG_BIN", "postgresql")?;
        let log_path = dir.join("postgres.log");
        let log = std::fs::File::options().create(true).append(true).open(&log_path)?;
        let mut command = as_server_user(&postgres, root);
        command
            .arg("-D")
            .arg(&data)
            .args(["-c", "listen_addresses=", "-c", "max_connections=100", "-c", "log_min_messages=warning"])
            .arg("-c")
            .arg(format!("unix_socket_directories={}", socket_dir.display()))
            .current_dir(&data)
            .stdout(log.try_clone()?)
            .stderr(log);
        let child = spawn_bound(command).await.context("start postgres")?;
        let mut started = Self { child, socket_dir, user };
        let deadline = crate::clock::monotonic() + Duration::from_millis(READY_TIMEOUT_MS);
        loop {
            match started.ensure_database("floodgate").await {
                Ok(()) => return Ok(started),
                Err(e) => {
                    if let Some(status) = started.child.try_wait()? {
                        bail!("postgres ended with {status}; see {}", log_path.display());
                    }
                    if crate::clock::monotonic() > deadline {
                        bail!("postgres does not answer ({e:#}); see {}", log_path.display());
                    }
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    /// Creates a database if it is missing; tests use one each.
    ///
    /// # Errors
    /// When the server does not answer or the name is odd.
    pub async fn ensure_database(&self, name: &str) -> anyhow::Result<()> {
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_') {
            bail!("a database name has only a-z, 0-9 and _");
        }
        let (client, connection) = tokio_postgres::connect(&self.url_of("postgres"), tokio_postgres::NoTls).await?;
        let driver = tokio::spawn(connection);
        let result = async {
            let exists = client.query_opt("SELECT 1 FROM pg_database WHERE datname = $1", &[&name]).await?.is_some();
            if !exists {
                client.batch_execute(&format!("CREATE DATABASE {name}")).await?;
            }
            anyhow::Ok(())
        };
        let outcome = result.await;
        drop(client);
        driver.abort();
        outcome
    }
    /// Connection settings for the database `floodgate`.
    pub fn url(&self) -> String {
        self.url_of("floodgate")
    }
    /// Connection settings for another database of this server.
    pub fn url_of(&self, database: &str) -> String {
        format!("host={} user={} dbname={database}", self.socket_dir.display(), self.user)
    }
    /// The process id of the postmaster, to kill it on purpose.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }
    /// Waits until the process has ended (after a crash or a kill).
    ///
    /// # Errors
    /// When waiting fails.
    pub async fn wait(&mut self) -> anyhow::Result<std::process::ExitStatus> {
        Ok(self.child.wait().await?)
    }
    /// Stops it in order ("fast": open transactions are rolled back) and waits for its end.
    pub async fn stop(mut self) {
        terminate(&mut self.child, "INT").await;
    }
}

/// Removes the lock of an earlier server only when its process id now belongs to another program (after a reboot).
/// In every other case the file stays: with it PostgreSQL refuses to start while sessions of a killed server still
/// live, and two servers on one directory would destroy it. Whoever supervises the server tries again.
fn forget_foreign_lock(lock: &Path) {
    let pid = std::fs::read_to_string(lock).ok().and_then(|text| text.lines().next()?.trim().parse::<u32>().ok());
    let program = pid.and_then(|pid| std::fs::read_to_string(format!("/proc/{pid}/comm")).ok());
    if program.is_some_and(|name| name.trim() != "postgres") {
        let _ = std::fs::remove_file(lock);
    }
}

fn as_server_user(program: &Path, root: bool) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]);
    if root {
        command.args(UNPRIVILEGED).arg("--clear-groups");
    }
    command.arg(program).kill_on_drop(true).stdin(Stdio::null()).process_group(0);
    command
}

fn short_enough(socket: &Path) -> anyhow::Result<()> {
    if socket.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
        bail!(
            "{} is too long for a unix socket ({SOCKET_PATH_BYTES_MAX} bytes); choose a shorter directory",
            socket.display()
        );
    }
    Ok(())
}

/// Sends `signal` and waits up to 10 s for the end, then kills.
pub async fn terminate(child: &mut Child, signal: &str) {
    if let Some(pid) = child.id() {
        let _ = Command::new("kill").arg(format!("-{signal}")).arg(pid.to_string()).status().await;
        if tokio::time::timeout(Duration::from_secs(10), child.wait()).await.is_err() {
            let _ = child.kill().await;
        }
    }
}

/// A directory under the system's temporary folder that is short enough for sockets and enterable by
/// `nobody`. It is deleted when dropped, and also when this process is killed: a janitor waits on a pipe
/// that only our end closes.
#[derive(Debug)]
pub struct ScratchDir {
    path: PathBuf,
    janitor: std::process::Child,
}

impl ScratchDir {
    /// # Errors
    /// When the directory cannot be made.
    pub fn new() -> anyhow::Result<Self> {
        let name = format!("fg-{}", uuid::Uuid::new_v4().simple().to_string().get(..12).unwrap_or("scratch"));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o711))?;
        let janitor = std::process::Command::new("sh")
            .args([
                "-c",
                r#"read _; for i in 1 2 3 4 5 6 7 8 9 10; do rm -rf -- "$1" 2>/dev/null && exit; sleep 0.1; done"#,
                "sh",
            ])
            .arg(&path)
            .current_dir("/")
            .stdin(Stdio::piped())
            .spawn()?;
        Ok(Self { path, janitor })
    }
    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for ScratchDir {
    fn drop(&mut self) {
        drop(self.janitor.stdin.take());
        let _ = self.janitor.wait();
    }
}

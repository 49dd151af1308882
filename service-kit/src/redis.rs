//! The door to Redis: the only module that names the client library. One server, or a cluster (`redis/cluster.rs`).
//!
//! Rules behind it (each learnt from a measured failure of the defaults):
//! a command is sent once (`max_command_attempts = 1`), because a second try after a lost reply
//! would run it twice; every command has a time-out; buffers are bounded; Lua runs only through
//! `custom`, because the library's own `evalsha` drops per-command options.
//! A time-out or a cut connection is [`StoreError::Unknown`]: it may have happened. Scripts carry
//! operation ids, so the caller may repeat them.

mod cluster;
mod slots;

use cluster::Cluster;
use fred::clients::Pool;
use fred::error::ErrorKind;
use fred::interfaces::ClientLike as _;
use fred::types::config::{Config, ReconnectPolicy};
use fred::types::{Builder, ClusterHash, CustomCommand, Value};
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;

/// Section `[redis]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RedisConfig {
    /// `redis://host:port`, `redis+unix:///path/redis.sock`, or `redis-cluster://host:port?node=host:port` with one or
    /// more nodes of a cluster.
    pub url: String,
    /// Connections per process; with a cluster, per master.
    #[serde(default = "default_connections")]
    pub connections: usize,
    /// Longest wait for one reply.
    #[serde(default = "default_command_timeout_ms")]
    pub command_timeout_ms: u64,
}

fn default_connections() -> usize {
    2
}
fn default_command_timeout_ms() -> u64 {
    1_000
}

/// Most commands that may wait for a connection before new ones are refused.
const COMMAND_BUFFER_MAX: usize = 20_000;

/// Commands about a server rather than a key; [`Redis::command`] sends them to every master of a cluster.
pub const KEYLESS: &[&str] = &["CLIENT", "CONFIG", "DBSIZE", "FLUSHALL", "INFO", "PING", "SCRIPT", "SLOWLOG"];

/// Redis did not do what was asked, or nobody knows whether it did.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// No reply arrived: the command may or may not have run. Ask, or repeat with the same operation id.
    #[error("no reply from Redis ({0}); the command may have run")]
    Unknown(String),
    /// Redis answered with an error; `code` is its first word, e.g. `OOM`, `MISCONF`, `LOADING`.
    #[error("Redis refused: {code} {detail}")]
    Refused {
        /// First word of the reply.
        code: String,
        /// The rest of the reply.
        detail: String,
    },
    /// The reply had another shape than the script promises: versions do not match.
    #[error("unexpected reply from Redis: {0}")]
    Shape(&'static str),
    /// The address or the settings are wrong.
    #[error("redis settings: {0}")]
    Config(String),
}

/// A Lua script with its name (for metrics) and its SHA-1.
#[derive(Debug)]
pub struct Script {
    /// Short name, e.g. `join`.
    pub name: &'static str,
    source: &'static str,
    sha: std::sync::LazyLock<String>,
    /// SHA-1 and text with a planted bug.
    #[cfg(feature = "planted-bugs")]
    planted: std::sync::OnceLock<Option<(String, String)>>,
}

impl Script {
    /// `sha` is filled at the first use: `Script::new("join", include_str!("join.lua"), || …)` is what [`script!`](crate::script) writes.
    pub const fn new(name: &'static str, source: &'static str, sha: fn() -> String) -> Self {
        Self {
            name,
            source,
            sha: std::sync::LazyLock::new(sha),
            #[cfg(feature = "planted-bugs")]
            planted: std::sync::OnceLock::new(),
        }
    }
    /// SHA-1 and text as they are sent.
    #[cfg(not(feature = "planted-bugs"))]
    fn sent(&self) -> (&str, &str) {
        (&self.sha, self.source)
    }
    /// SHA-1 and text as they are sent, with the planted bug of this process.
    #[cfg(feature = "planted-bugs")]
    fn sent(&self) -> (&str, &str) {
        let plant = || crate::planted::script(self.source).map(|text| (sha1_hex(&text), text));
        self.planted.get_or_init(plant).as_ref().map_or((&self.sha, self.source), |(sha, text)| (sha, text))
    }
    /// The Lua text.
    pub fn source(&self) -> &'static str {
        self.source
    }
}

/// Declares a `static` [`Script`] from a file beside the source:
/// `script!(JOIN, "join", "scripts/join.lua");`
#[macro_export]
macro_rules! script {
    ($(#[$doc:meta])* $name:ident, $label:literal, $file:literal) => {
        $(#[$doc])*
        pub static $name: $crate::redis::Script = $crate::redis::Script::new(
            $label,
            include_str!($file),
            || $crate::redis::sha1_hex(include_str!($file)),
        );
    };
}

/// SHA-1 of a script as Redis names it.
pub fn sha1_hex(text: &str) -> String {
    fred::util::sha1_hash(text)
}

/// A reply, free of the client library's types.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Nothing.
    Nil,
    /// An integer.
    Int(i64),
    /// A string; Redis strings here are always UTF-8.
    Text(String),
    /// A list.
    List(Vec<Reply>),
}

impl Reply {
    /// The integer, also from its decimal text.
    ///
    /// # Errors
    /// [`StoreError::Shape`] otherwise.
    pub fn int(&self) -> Result<i64, StoreError> {
        match self {
            Self::Int(n) => Ok(*n),
            Self::Text(t) => t.parse().map_err(|_| StoreError::Shape("an integer was expected")),
            _ => Err(StoreError::Shape("an integer was expected")),
        }
    }
    /// The text; an integer becomes decimal.
    ///
    /// # Errors
    /// [`StoreError::Shape`] otherwise.
    pub fn text(&self) -> Result<String, StoreError> {
        match self {
            Self::Text(t) => Ok(t.clone()),
            Self::Int(n) => Ok(n.to_string()),
            _ => Err(StoreError::Shape("a string was expected")),
        }
    }
    /// The list.
    ///
    /// # Errors
    /// [`StoreError::Shape`] otherwise.
    pub fn list(&self) -> Result<&[Reply], StoreError> {
        match self {
            Self::List(l) => Ok(l),
            _ => Err(StoreError::Shape("a list was expected")),
        }
    }
    /// All entries as integers.
    ///
    /// # Errors
    /// [`StoreError::Shape`] otherwise.
    pub fn ints(&self) -> Result<Vec<i64>, StoreError> {
        self.list()?.iter().map(Reply::int).collect()
    }
    /// The `i`-th entry of a list.
    ///
    /// # Errors
    /// [`StoreError::Shape`] when this is no list or too short.
    pub fn at(&self, i: usize) -> Result<&Reply, StoreError> {
        self.list()?.get(i).ok_or(StoreError::Shape("a longer list was expected"))
    }
}

impl From<Value> for Reply {
    fn from(value: Value) -> Self {
        match value {
            Value::Integer(n) => Self::Int(n),
            Value::Boolean(b) => Self::Int(i64::from(b)),
            Value::Array(items) => Self::List(items.into_iter().map(Reply::from).collect()),
            Value::Null => Self::Nil,
            other => match other.into_string() {
                Some(text) => Self::Text(text),
                None => Self::Nil,
            },
        }
    }
}

/// The connections to one server.
#[derive(Clone)]
struct Node {
    pool: Pool,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Node")
    }
}

impl Node {
    fn build(config: Config, settings: &RedisConfig, connections: usize) -> Result<Self, StoreError> {
        let pool = Builder::from_config(config)
            .with_performance_config(|p| {
                p.default_command_timeout = Duration::from_millis(settings.command_timeout_ms);
            })
            .with_connection_config(|c| {
                c.connection_timeout = Duration::from_secs(2);
                c.internal_command_timeout = Duration::from_secs(2);
                c.max_command_attempts = 1;
                c.max_command_buffer_len = COMMAND_BUFFER_MAX;
                c.unresponsive.max_timeout = Some(Duration::from_secs(10));
                c.unresponsive.interval = Duration::from_secs(1);
                c.tcp.nodelay = Some(true);
            })
            .set_policy(ReconnectPolicy::new_exponential(0, 50, 2_000, 2))
            .build_pool(connections)
            .map_err(|e| StoreError::Config(format!("`redis.connections`: {}", e.details())))?;
        Ok(Self { pool })
    }
    /// Waits for the first connection; an error when there is none. Afterwards it reconnects by itself.
    async fn connect(config: Config, settings: &RedisConfig, connections: usize) -> Result<Self, StoreError> {
        let node = Self::build(config, settings, connections)?;
        node.pool.init().await.map_err(to_store_error)?;
        Ok(node)
    }
    /// Connects in the background, however long that takes.
    fn connect_later(mut config: Config, settings: &RedisConfig) -> Result<Self, StoreError> {
        config.fail_fast = false;
        let node = Self::build(config, settings, settings.connections.clamp(1, 16))?;
        drop(node.pool.connect());
        Ok(node)
    }
    async fn connected_within(&self, ms: u64) {
        let _ = tokio::time::timeout(Duration::from_millis(ms), self.pool.wait_for_connect()).await;
    }
    async fn send(&self, command: CustomCommand, parts: Vec<Value>) -> Result<Reply, StoreError> {
        // Boxed: the library's futures are large, and whoever awaits us, up to a whole request, would be copied with
        // them. A status poll that never comes here was a third dearer without this.
        let sent = Box::pin(self.pool.next().custom::<Value, Value>(command, parts));
        sent.await.map(Reply::from).map_err(to_store_error)
    }
    /// Sends a command behind `ASKING`: for a key that is on its way to this node.
    async fn send_asking(&self, command: CustomCommand, parts: Vec<Value>) -> Result<Reply, StoreError> {
        let both = Box::pin(async {
            let pipeline = self.pool.next().pipeline();
            let asking = CustomCommand::new_static("ASKING", ClusterHash::Random, false);
            let () = pipeline.custom::<(), Value>(asking, Vec::new()).await?;
            let () = pipeline.custom::<(), Value>(command, parts).await?;
            pipeline.last::<Value>().await
        });
        both.await.map(Reply::from).map_err(to_store_error)
    }
    async fn close(&self) {
        let _ = self.pool.quit().await;
    }
}

#[derive(Clone)]
enum Door {
    Server(Node),
    Cluster(Arc<Cluster>),
}

/// Pools of connections. Cheap to clone. Must be made on the runtime that keeps running.
#[derive(Clone)]
pub struct Redis {
    door: Door,
}

impl std::fmt::Debug for Redis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Redis")
    }
}

impl Redis {
    /// Connects, and waits for the first connection. Afterwards it reconnects by itself for ever.
    ///
    /// # Errors
    /// [`StoreError::Config`] for a wrong address; [`StoreError::Unknown`] when nobody answers.
    pub async fn connect(settings: &RedisConfig) -> Result<Self, StoreError> {
        let config =
            Config::from_url(&settings.url).map_err(|e| StoreError::Config(format!("`redis.url`: {}", e.details())))?;
        let door = if config.server.is_clustered() {
            Door::Cluster(Cluster::connect(config, settings).await?)
        } else {
            Door::Server(Node::connect(config, settings, settings.connections.clamp(1, 16)).await?)
        };
        Ok(Self { door })
    }

    /// Runs a script by its SHA; sends the text once when Redis does not know it (restart, flush).
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn run<A: AsRef<[u8]>>(&self, script: &Script, keys: &[String], args: &[A]) -> Result<Reply, StoreError> {
        let started = crate::clock::monotonic();
        let (sha, source) = script.sent();
        let mut result = self.eval("EVALSHA", sha, keys, args).await;
        if matches!(&result, Err(StoreError::Refused { code, .. }) if code == "NOSCRIPT") {
            result = self.eval("EVAL", source, keys, args).await;
        }
        metrics::histogram!(crate::metric::SCRIPT_DURATION, "script" => script.name)
            .record(started.elapsed().as_secs_f64());
        if let Err(e) = &result {
            metrics::counter!(crate::metric::SCRIPT_ERRORS, "script" => script.name, "reason" => e.reason())
                .increment(1);
        }
        result
    }

    async fn eval(
        &self,
        verb: &'static str,
        body: &str,
        keys: &[String],
        args: &[impl AsRef<[u8]>],
    ) -> Result<Reply, StoreError> {
        let mut parts: Vec<Value> = Vec::with_capacity(2 + keys.len() + args.len());
        parts.push(body.into());
        parts.push(i64::try_from(keys.len()).unwrap_or(0).into());
        parts.extend(keys.iter().map(|key| Value::from(key.as_str())));
        parts.extend(args.iter().map(|arg| Value::from(arg.as_ref())));
        self.send(CustomCommand::new_static(verb, ClusterHash::Offset(2), false), keys.first(), parts).await
    }

    /// Runs one plain command, e.g. `command("HGETALL", &["fg:rooms"])`. Reads only, or writes that may repeat.
    /// Its first argument is a key, except for [`KEYLESS`]: in a cluster those go to every master, integers are added
    /// up and texts joined.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn command(&self, verb: &'static str, args: &[&str]) -> Result<Reply, StoreError> {
        let parts: Vec<Value> = args.iter().map(|a| Value::from(*a)).collect();
        let key = if KEYLESS.contains(&verb) { None } else { args.first() };
        self.send(CustomCommand::new_static(verb, ClusterHash::FirstKey, false), key, parts).await
    }

    async fn send(
        &self,
        command: CustomCommand,
        key: Option<&impl AsRef<str>>,
        parts: Vec<Value>,
    ) -> Result<Reply, StoreError> {
        match (&self.door, key) {
            (Door::Server(node), _) => node.send(command, parts).await,
            (Door::Cluster(cluster), Some(key)) => Box::pin(cluster.send(key.as_ref(), &command, parts)).await,
            (Door::Cluster(cluster), None) => Box::pin(cluster.send_everywhere(&command, &parts)).await,
        }
    }

    /// Closes the connections.
    pub async fn close(&self) {
        match &self.door {
            Door::Server(node) => node.close().await,
            Door::Cluster(cluster) => cluster.close().await,
        }
    }
}

impl StoreError {
    /// A label from a closed set, for metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Unknown(_) => "no_reply",
            Self::Refused { .. } => "refused",
            Self::Shape(_) => "shape",
            Self::Config(_) => "config",
        }
    }
}

fn to_store_error(e: fred::error::Error) -> StoreError {
    let details = e.details().to_owned();
    match e.kind() {
        ErrorKind::Config | ErrorKind::Url | ErrorKind::Auth => StoreError::Config(details),
        ErrorKind::IO
        | ErrorKind::Timeout
        | ErrorKind::Canceled
        | ErrorKind::Routing
        | ErrorKind::Backpressure
        | ErrorKind::Protocol => StoreError::Unknown(details),
        // Error replies arrive as text; their first word is the code.
        _ => match details.split_once(' ') {
            Some((code, rest)) => StoreError::Refused { code: code.to_owned(), detail: rest.to_owned() },
            None => StoreError::Refused { code: details, detail: String::new() },
        },
    }
}

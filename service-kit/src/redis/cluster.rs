//! Redis Cluster: one connection pool per master, and a map from slot to master that follows the cluster.
//!
//! The client library has a cluster mode of its own; it is not used, because it stops *all* commands while it
//! reconnects to one dead master. Here a dead master stops only the rooms whose keys it owns.
//!
//! Steps of a command: slot of its first key → master → send. `MOVED`: send it to the named node, and fetch a new map.
//! `ASK`: send it once to the named node, behind `ASKING`. A refusal of these kinds means that nothing ran, so sending again is safe; a
//! lost reply is never sent again here. Races: any number of commands may ask for a new map, one at a time fetches it.
//! Crash: the map is memory only; a start asks the nodes named in the settings.

use super::slots::{Range, Redirection, parse_slots, slot_of};
use super::{Node, RedisConfig, Reply, StoreError};
use crate::clock::monotonic;
use fred::types::config::{Config, Server, ServerConfig};
use fred::types::{ClusterHash, CustomCommand, Value};
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};
use tokio::sync::Mutex;
use tokio::task::JoinSet;

/// Most times one command is sent on because it arrived at the wrong node.
const REDIRECTIONS_MAX: usize = 5;
/// Pause before a command that met keys on their way is sent again.
const TRY_AGAIN_MS: u64 = 20;
/// A map younger than this is not fetched again in the background.
const MAP_AGE_MIN: Duration = Duration::from_millis(200);
/// Longest wait for one node at start; those that are away connect later, by themselves.
const FIRST_CONNECT_MS: u64 = 2_000;

#[derive(Debug, Default)]
struct Map {
    ranges: Vec<Range>,
    /// By `host:port`.
    nodes: BTreeMap<String, Node>,
}

#[derive(Debug)]
pub(super) struct Cluster {
    /// Everything but the address: user, password, TLS.
    base: Config,
    settings: RedisConfig,
    seeds: Vec<String>,
    map: RwLock<Arc<Map>>,
    fetched: Mutex<Instant>,
}

impl Cluster {
    /// Asks the nodes of the settings for the map and connects to every master.
    pub(super) async fn connect(base: Config, settings: &RedisConfig) -> Result<Arc<Self>, StoreError> {
        let seeds: Vec<String> = base.server.hosts().iter().map(|s| format!("{}:{}", s.host, s.port)).collect();
        let cluster = Arc::new(Self {
            base,
            settings: settings.clone(),
            seeds,
            map: RwLock::default(),
            fetched: Mutex::new(monotonic()),
        });
        let mut last = StoreError::Unknown("no node of the cluster answers".into());
        for seed in &cluster.seeds {
            let found = match cluster.first_map(seed).await {
                Ok(ranges) => ranges,
                Err(error @ StoreError::Config(_)) => return Err(error),
                Err(error) => {
                    last = error;
                    continue;
                }
            };
            cluster.put(found)?;
            let mut waits = JoinSet::new();
            for node in cluster.map().nodes.values() {
                let node = node.clone();
                waits.spawn(async move { node.connected_within(FIRST_CONNECT_MS).await });
            }
            waits.join_all().await;
            return Ok(cluster);
        }
        Err(last)
    }

    async fn first_map(&self, seed: &str) -> Result<Vec<Range>, StoreError> {
        let node = Node::connect(self.config_of(seed)?, &self.settings, 1).await?;
        let ranges = ask_slots(&node, seed).await;
        node.close().await;
        ranges
    }

    fn config_of(&self, address: &str) -> Result<Config, StoreError> {
        let wrong = || StoreError::Config(format!("`redis.url`: {address} is no node of a cluster"));
        let (host, port) = address.rsplit_once(':').ok_or_else(wrong)?;
        let server = Server::new(host, port.parse().map_err(|_| wrong())?);
        Ok(Config { server: ServerConfig::Centralized { server }, ..self.base.clone() })
    }

    fn map(&self) -> Arc<Map> {
        self.map.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts a new map in place. Nodes that stay keep their connections; new ones connect in the background.
    fn put(&self, ranges: Vec<Range>) -> Result<(), StoreError> {
        let before = self.map();
        let mut nodes = BTreeMap::new();
        for range in &ranges {
            if nodes.contains_key(&range.master) {
                continue;
            }
            let node = match before.nodes.get(&range.master) {
                Some(node) => node.clone(),
                None => Node::connect_later(self.config_of(&range.master)?, &self.settings)?,
            };
            nodes.insert(range.master.clone(), node);
        }
        for (address, node) in &before.nodes {
            if !nodes.contains_key(address) {
                let node = node.clone();
                tokio::spawn(async move { node.close().await });
            }
        }
        *self.map.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(Map { ranges, nodes });
        Ok(())
    }

    /// Fetches a new map from whichever node answers first, unless somebody else just did.
    async fn renew(&self, seen: &Arc<Map>) {
        let mut fetched = self.fetched.lock().await;
        if !Arc::ptr_eq(seen, &self.map()) {
            return;
        }
        *fetched = monotonic();
        let mut asked = JoinSet::new();
        for (address, node) in seen.nodes.clone() {
            asked.spawn(async move { ask_slots(&node, &address).await });
        }
        while let Some(answer) = asked.join_next().await {
            if let Ok(Ok(ranges)) = answer {
                if ranges != seen.ranges {
                    tracing::info!(ranges = ranges.len(), "the cluster's slots have moved");
                    if let Err(error) = self.put(ranges) {
                        tracing::warn!(%error, "the cluster's new map cannot be used");
                    }
                }
                return;
            }
        }
        // None of the masters we knew is there: begin again from the settings.
        for seed in &self.seeds {
            if let Ok(ranges) = self.first_map(seed).await {
                let _ = self.put(ranges);
                return;
            }
        }
    }

    /// A reply was lost or came from the wrong node: perhaps another master took its place. Looks in the background.
    fn renew_soon(self: &Arc<Self>, seen: Arc<Map>) {
        let recent = self.fetched.try_lock().map_or(true, |at| at.elapsed() < MAP_AGE_MIN);
        if !recent {
            let cluster = self.clone();
            tokio::spawn(async move { cluster.renew(&seen).await });
        }
    }

    /// The connections to a node, also to one that owns no slot yet.
    fn node(&self, address: &str) -> Result<Node, StoreError> {
        if let Some(node) = self.map().nodes.get(address) {
            return Ok(node.clone());
        }
        let mut map = self.map.write().unwrap_or_else(PoisonError::into_inner);
        let mut nodes = map.nodes.clone();
        let node = match nodes.get(address) {
            Some(node) => node.clone(),
            None => Node::connect_later(self.config_of(address)?, &self.settings)?,
        };
        nodes.insert(address.to_owned(), node.clone());
        *map = Arc::new(Map { ranges: map.ranges.clone(), nodes });
        Ok(node)
    }

    /// Sends a command to the master that owns `key`.
    pub(super) async fn send(
        self: &Arc<Self>,
        key: &str,
        command: &CustomCommand,
        parts: Vec<Value>,
    ) -> Result<Reply, StoreError> {
        let slot = slot_of(key);
        let mut sent_on: Option<Redirection> = None;
        let mut result = Err(StoreError::Unknown("no master owns the key's slot".into()));
        for _ in 0..=REDIRECTIONS_MAX {
            let map = self.map();
            let (address, asking) = match sent_on.take() {
                Some(Redirection::Ask(target)) => (target, true),
                Some(Redirection::Moved(target)) => (target, false),
                _ => match map.ranges.iter().find(|r| (r.first..=r.last).contains(&slot)) {
                    Some(range) => (range.master.clone(), false),
                    None => {
                        self.renew(&map).await;
                        continue;
                    }
                },
            };
            let node = self.node(&address)?;
            result = if asking {
                node.send_asking(command.clone(), parts.clone()).await
            } else {
                node.send(command.clone(), parts.clone()).await
            };
            let Err(error) = &result else { return result };
            sent_on = Redirection::of(error, &address);
            match &sent_on {
                Some(Redirection::Moved(_)) => self.renew_soon(map),
                Some(Redirection::Ask(_)) => {}
                Some(Redirection::TryAgain) => tokio::time::sleep(Duration::from_millis(TRY_AGAIN_MS)).await,
                Some(Redirection::Renew) => {
                    self.renew_soon(map);
                    return result;
                }
                None => {
                    if matches!(error, StoreError::Unknown(_)) {
                        self.renew_soon(map);
                    }
                    return result;
                }
            }
        }
        result
    }

    /// Sends a command that has no key to every master. Integers are added up and texts are joined line by line;
    /// otherwise the last answer counts.
    pub(super) async fn send_everywhere(&self, command: &CustomCommand, parts: &[Value]) -> Result<Reply, StoreError> {
        let mut all = JoinSet::new();
        for node in self.map().nodes.values() {
            let (node, command, parts) = (node.clone(), command.clone(), parts.to_vec());
            all.spawn(async move { node.send(command, parts).await });
        }
        let mut sum = Reply::Nil;
        for answer in all.join_all().await {
            sum = match (sum, answer?) {
                (Reply::Int(a), Reply::Int(b)) => Reply::Int(a.saturating_add(b)),
                (Reply::Text(a), Reply::Text(b)) if b.contains('\n') => Reply::Text(format!("{a}\n{b}")),
                (_, answer) => answer,
            };
        }
        Ok(sum)
    }

    pub(super) async fn close(&self) {
        for node in self.map().nodes.values() {
            node.close().await;
        }
    }
}

async fn ask_slots(node: &Node, address: &str) -> Result<Vec<Range>, StoreError> {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let command = CustomCommand::new_static("CLUSTER", ClusterHash::Random, false);
    parse_slots(&node.send(command, vec![Value::from("SLOTS")]).await?, host)
}

//! Start and end of the process: runtimes, listeners, signals.
//!
//! Pingora gives each of its services a runtime and drops it at the end, but Redis clients live on the
//! runtime that made them: so one runtime of our own, kept from start to end, owns everything in the background.

use crate::assertion::Assertions;
use crate::config::Config;
use crate::desk::Desk;
use crate::draws::keep_draws;
use crate::front::Front;
use crate::gate::Gate;
use crate::journal::Journal;
use crate::keeper::keep_rooms;
use crate::limits::Limits;
use crate::mailer::Mail;
use crate::metric::{self, Hot};
use crate::newcomer::Door;
use crate::operator;
use crate::page::Pages;
use crate::rooms::{Knowledge, Rooms};
use crate::steering::Steering;
use crate::streams::Streams;
use crate::upstream::{Upstream, keep_resolved};
use crate::visit::Visits;
use anyhow::Context as _;
use async_trait::async_trait;
use metrics::gauge;
use metrics_exporter_prometheus::PrometheusHandle;
use pingora::listeners::{L4BufferSettings, ListenerConfig};
use pingora::proxy::http_proxy;
use pingora::server::configuration::ServerConf;
use pingora::server::{RunArgs, Server, ShutdownSignal, ShutdownSignalWatch};
use pingora::services::listening::Service;
use queue::drawing::Drawer;
use rustix::process::{Resource, getrlimit};
use service_kit::admin::{self, Ready};
use service_kit::ids::VisitorId;
use service_kit::keys::{KeyRing, KeysConfig};
use service_kit::operator::Operators;
use service_kit::redis::{Redis, RedisConfig, StoreError};
use service_kit::shutdown::{Shutdown, Trigger, channel};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// Time for requests in flight after the listeners are closed, in seconds. Pingora always sleeps all of it.
const GRACE_S: u64 = 1;
/// Longest time for the runtimes to end afterwards, in seconds.
const RUNTIMES_S: u64 = 3;
/// Time for requests to the admin port that are in flight at the end, in milliseconds.
const ADMIN_DRAIN_MS: u64 = 500;
/// Threads that talk to Redis and serve the admin port.
const BACKGROUND_THREADS: usize = 2;

/// Runs the gate until SIGTERM or SIGINT. Blocks; must not be called from a tokio runtime.
///
/// # Errors
/// When the configuration is wrong or an address cannot be bound.
pub fn run(cfg: Config, keys: KeysConfig, redis: RedisConfig, metrics: PrometheusHandle) -> anyhow::Result<()> {
    run_until(cfg, keys, redis, metrics, None)
}

/// [`run`] that also ends when `stop` is pulled.
///
/// # Errors
/// As [`run`].
pub fn run_until(
    cfg: Config,
    keys: KeysConfig,
    redis: RedisConfig,
    metrics: PrometheusHandle,
    stop: Option<Shutdown>,
) -> anyhow::Result<()> {
    service_kit::install_crypto_providers();
    let table = cfg.validate()?;
    let ring = KeyRing::new(&keys)?;
    let crawlers = crate::crawler::read(&cfg.crawler_networks)?;
    metric::describe();
    // Pingora panics in a thread of its own when it cannot bind; so try first, where it can be told.
    for (field, address) in [("gate.listen", cfg.listen), ("gate.admin_listen", cfg.admin_listen)] {
        TcpListener::bind(address).with_context(|| format!("`{field}`: cannot listen on {address}"))?;
    }
    let background = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(BACKGROUND_THREADS)
        .thread_name("gate-keeper")
        .enable_all()
        .build()?;
    let first = match background.block_on(Redis::connect(&redis)) {
        Ok(store) => Some(store),
        Err(error @ StoreError::Config(_)) => return Err(error.into()),
        Err(error) => {
            tracing::warn!(%error, "Redis cannot be reached; serving what needs no store, and trying again");
            None
        }
    };
    let mail = {
        // Its connections live on the runtime that is entered here.
        let _background = background.enter();
        let mail = cfg.mail.as_ref().map(|mail| Mail::new(mail, &cfg.public_url, cfg.public_host()));
        mail.transpose()?.map(Arc::new)
    };
    let open_files_max = getrlimit(Resource::Nofile).current;
    let assertions = Assertions::new(&ring, &cfg.public_url)?;
    let operators = Arc::new(Operators::new(&cfg.operators)?);
    let journal = match &cfg.journal_dir {
        Some(dir) => Journal::open(dir, &cfg.listen.to_string())?,
        None => Journal::off(),
    };
    let desk = Arc::new(Desk {
        rooms: Arc::new(Rooms::default()),
        visits: Visits::new(&ring, journal.clone()),
        door: Door::new(&ring, crawlers),
        limits: Arc::new(Limits::new(&cfg.limits)),
        streams: Streams::new(&cfg.limits, open_files_max),
        mail,
        pages: Pages::new(),
        jwks: assertions.jwks().to_owned().into(),
        cookie_secure: cfg.cookie_secure,
        public_host: cfg.public_host().to_owned(),
        hot: Hot::new(),
    });
    let upstreams = Arc::new(cfg.upstreams.iter().map(Upstream::new).collect::<Vec<_>>());
    let (trigger, shutdown) = channel();
    gauge!(metric::LIMITED_ADDRESSES_LIMIT).set(cfg.limits.addresses_max as f64);
    let steering = Steering::new(cfg.rooms.clone(), journal.clone());
    background.spawn(keep_rooms(desk.rooms.clone(), steering, journal.clone(), redis, first, shutdown.clone()));
    let beacon_key = cfg.beacon.as_ref().map(|beacon| beacon.public_key);
    let drawer = Arc::new(Drawer { ring: ring.clone(), gate: VisitorId::new(), beacon_key });
    background.spawn(keep_draws(desk.rooms.clone(), drawer, cfg.beacon.clone(), shutdown.clone()));
    background.spawn(keep_resolved(upstreams.clone(), shutdown.clone()));
    background.spawn(desk.streams.clone().watch(desk.rooms.clone(), shutdown.clone()));
    if let Some(mail) = &desk.mail {
        background.spawn(mail.clone().keep(desk.rooms.clone(), shutdown.clone()));
    }
    background.spawn(sweep_limits(desk.limits.clone(), shutdown.clone()));
    let steer = operator::Desk { rooms: desk.rooms.clone(), fixed: Arc::new(cfg.rooms.clone()), operators };
    background.spawn(serve_admin(cfg.admin_listen, metrics, steer, shutdown.clone()));

    let gate = Gate { desk, table, upstreams, trusted_proxies: cfg.trusted_proxies, assertions };
    tracing::info!(listen = %cfg.listen, admin = %cfg.admin_listen, threads = cfg.threads, "gate starts");
    serve(gate, &cfg, End { trigger, stop });
    background.shutdown_timeout(Duration::from_secs(1));
    journal.close();
    tracing::info!("gate ended");
    Ok(())
}

/// Blocks until the end.
fn serve(gate: Gate, cfg: &Config, end: End) {
    // Everything in code: no YAML, no daemon, no files.
    let conf = ServerConf {
        threads: cfg.threads,
        grace_period_seconds: Some(GRACE_S),
        graceful_shutdown_timeout_seconds: Some(RUNTIMES_S),
        max_retries: 1,
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let (desk, table, trusted_proxies) = (gate.desk.clone(), gate.table.clone(), gate.trusted_proxies);
    let proxy = Arc::new(http_proxy(&server.configuration, gate));
    let mut service = Service::new("gate".to_owned(), Front { proxy, desk, table, trusted_proxies });
    // No read buffer (64 KiB per connection by default): heads and bodies are read into buffers of their own anyway.
    service.add_listener(ListenerConfig::tcp(cfg.listen.to_string()).l4_buffer(L4BufferSettings::default().read(0)));
    server.add_service(service);
    server.run(RunArgs { shutdown_signal: Box::new(end) });
}

/// Ends the server on SIGTERM, SIGINT, or when told by `stop`; tells the background at the same moment.
struct End {
    trigger: Trigger,
    stop: Option<Shutdown>,
}

#[async_trait]
impl ShutdownSignalWatch for End {
    async fn recv(&self) -> ShutdownSignal {
        let signalled = |kind: SignalKind| async move {
            match signal(kind) {
                Ok(mut stream) => drop(stream.recv().await),
                Err(_) => std::future::pending().await,
            }
        };
        let told = async {
            match &self.stop {
                Some(stop) => stop.requested().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = signalled(SignalKind::terminate()) => {}
            () = signalled(SignalKind::interrupt()) => {}
            () = told => {}
        }
        gauge!(metric::DRAINING).set(1.0);
        self.trigger.stop();
        ShutdownSignal::GracefulTerminate
    }
}

async fn sweep_limits(limits: Arc<Limits>, stop: Shutdown) {
    while stop.sleep_ms(1_000).await {
        gauge!(metric::LIMITED_ADDRESSES).set(limits.sweep() as f64);
    }
}

async fn serve_admin(listen: SocketAddr, metrics: PrometheusHandle, steer: operator::Desk, stop: Shutdown) {
    let rooms = steer.rooms.clone();
    let ready: Ready = Arc::new(move || {
        let knowledge = rooms.knowledge();
        Box::pin(async move {
            match knowledge {
                Knowledge::Fresh => Ok(()),
                Knowledge::Unsure => Err("Redis has not answered within 3 s".to_owned()),
            }
        })
    });
    let routes = admin::router(metrics, ready).merge(operator::router(steer));
    if let Err(error) = service_kit::http::serve(listen, routes, stop, ADMIN_DRAIN_MS).await {
        tracing::error!(%error, "the admin port ended");
    }
}

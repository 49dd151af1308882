//! What every process of Floodgate needs to start and to talk: configuration, telemetry, health,
//! shutdown, problem documents, typed ids, money, signed tokens, and the one door to Redis.
//!
//! Nothing here knows a business rule. Read next: [`config`], [`redis`], [`token`], [`problem`].

pub mod admin;
pub mod chain;
pub mod clock;
pub mod config;
pub mod failpoint;
pub mod http;
pub mod ids;
pub mod keys;
pub mod known;
pub mod metric;
pub mod money;
pub mod network;
pub mod operator;
pub mod planted;
pub mod private_cluster;
pub mod private_store;
pub mod problem;
pub mod redis;
pub mod session;
pub mod shutdown;
pub mod telemetry;
pub mod token;

/// Installs the two process-wide crypto providers: ring for TLS (the one Pingora uses) and
/// aws-lc for JSON Web Tokens. Call it first in `main` and in every test that builds a client:
/// without it the first TLS client and the first token panic. Calling it again does nothing.
pub fn install_crypto_providers() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let _ = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
}

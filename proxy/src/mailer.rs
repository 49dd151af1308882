//! Sends the letters "your turn is near": settings, the transport, and the task that takes, sends and reports.
//!
//! Steps and what a crash after each leaves: take (a lease in the store) → send → report. A gate that dies between
//! sending and reporting leaves a lease; another gate sends that letter once more, with the same message id. A letter
//! that surely did not go out (no connection, a refusal for now) is tried again with growing pauses, five times at most.
//! One that may have gone out (the reply was lost) is left to its lease. Addresses are in no log line and no metric.

use crate::config::{ConfigError, require};
use crate::copy::Lang;
use crate::letter::{Draft, is_address, letter};
use crate::limits::network;
use crate::metric;
use crate::rooms::{Room, Rooms};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use lettre::address::Envelope;
use lettre::transport::smtp::{AsyncSmtpTransport, AsyncSmtpTransportBuilder, PoolConfig};
use lettre::{Address, AsyncTransport as _, Tokio1Executor};
use metrics::counter;
use queue::mail::{self, Letter, Near};
use queue::state::RoomState;
use serde::Deserialize;
use service_kit::clock::now_ms;
use service_kit::ids::RoomId;
use service_kit::redis::Redis;
use service_kit::shutdown::Shutdown;
use std::collections::HashSet;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// Time between two looks at the rooms.
const ROUND_MS: u64 = 1_000;
/// Longest wait for one answer of the mail server.
const SMTP_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest talk about one letter.
const LETTER_MAX: Duration = Duration::from_secs(60);
/// Letters that are under way when the gate stops get so long.
const END_MAX: Duration = Duration::from_millis(500);
/// A letter is leased for so long: longer than the slowest talk with a mail server that still ends well.
const LEASE_MS: u64 = 120_000;
/// The first pause after a failure; each further one is twice as long.
const PAUSE_MS: u64 = 5_000;
/// Letters that are sent at the same time.
const AT_ONCE: usize = 8;
/// Runs of the taking script per room and round.
const TAKES_MAX: usize = 20;
/// Addresses that one network may leave per minute. Many people share one; each needs a number of its own.
const PER_MINUTE: NonZeroU32 = NonZeroU32::MIN.saturating_add(119);
/// Networks that are remembered; beyond, nobody may leave an address until the sweep.
const NETWORKS_MAX: usize = 100_000;

/// Section `[gate.mail]`. Without it nobody is asked for an address.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MailConfig {
    /// `smtps://user:password@host`, `smtp://user:password@host:587?tls=required`, or `smtp://host:port` without TLS.
    pub smtp_url: String,
    /// From whom: `name@shop.example` or `The shop <name@shop.example>`, in ASCII.
    pub from: String,
    /// So many people at the front of the line get their letter. Either this or `near_s`.
    #[serde(default)]
    pub near_people: Option<u32>,
    /// Who is expected to be called within so many seconds gets the letter.
    #[serde(default)]
    pub near_s: Option<u32>,
}

impl std::fmt::Debug for MailConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The URL holds a password.
        write!(f, "MailConfig({})", self.from)
    }
}

impl MailConfig {
    /// Checks what the types let through.
    ///
    /// # Errors
    /// Naming the first wrong field.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let plain = |text: &str| text.len() <= 300 && text.bytes().all(|b| (b' '..=b'~').contains(&b));
        require(
            plain(&self.from) && is_address(bare_address(&self.from)),
            "gate.mail.from",
            "must be `name@host` or `Name <name@host>` in ASCII",
        )?;
        builder(&self.smtp_url)?;
        match (self.near_people, self.near_s) {
            (Some(people), None) => {
                require((1..=100_000).contains(&people), "gate.mail.near_people", "must be 1–100,000")
            }
            (None, Some(seconds)) => require((10..=3_600).contains(&seconds), "gate.mail.near_s", "must be 10–3,600"),
            _ => require(false, "gate.mail.near_people", "set either this or `near_s`"),
        }
    }

    fn near(&self) -> Near {
        match (self.near_people, self.near_s) {
            (_, Some(seconds)) => Near::Seconds(seconds),
            (people, None) => Near::People(people.unwrap_or(0)),
        }
    }
}

/// `name@host` of `Name <name@host>`.
fn bare_address(from: &str) -> &str {
    from.split_once('<').and_then(|(_, rest)| rest.strip_suffix('>')).unwrap_or(from)
}

type Transport = AsyncSmtpTransport<Tokio1Executor>;

fn builder(url: &str) -> Result<AsyncSmtpTransportBuilder, ConfigError> {
    // A TLS address needs the provider, also where the configuration is only checked.
    service_kit::install_crypto_providers();
    // The library's error could quote the URL with its password.
    Transport::from_url(url).map_err(|_| {
        ConfigError("`gate.mail.smtp_url`: must be `smtps://user:password@host` or `smtp://host:port`".into())
    })
}

/// What the gate needs to take addresses and to send letters.
pub struct Mail {
    near: Near,
    from: String,
    public_url: String,
    public_host: String,
    transport: Transport,
    sender: Address,
    per_network: DefaultKeyedRateLimiter<IpAddr>,
}

impl std::fmt::Debug for Mail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Mail({})", self.from)
    }
}

/// What became of a letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Sent,
    /// The server will never take it.
    Refused,
    /// It surely did not go out.
    NotNow,
    /// Nobody knows whether it went out.
    Unknown,
}

impl Mail {
    /// As configured. Must be made on the runtime that sends.
    ///
    /// # Errors
    /// Naming the wrong field.
    pub fn new(config: &MailConfig, public_url: &str, public_host: &str) -> Result<Self, ConfigError> {
        config.validate()?;
        let sender = bare_address(&config.from)
            .parse()
            .map_err(|_| ConfigError("`gate.mail.from`: must be `name@host` or `Name <name@host>` in ASCII".into()))?;
        Ok(Self {
            near: config.near(),
            from: config.from.clone(),
            public_url: public_url.to_owned(),
            public_host: public_host.to_owned(),
            transport: builder(&config.smtp_url)?
                .timeout(Some(SMTP_TIMEOUT))
                .pool_config(PoolConfig::new().max_size(AT_ONCE as u32))
                .build(),
            sender,
            per_network: RateLimiter::keyed(Quota::per_minute(PER_MINUTE)),
        })
    }

    /// Whether this client may leave an address now.
    pub fn may_ask(&self, client: IpAddr) -> bool {
        self.per_network.len() < NETWORKS_MAX && self.per_network.check_key(&network(client)).is_ok()
    }

    /// Takes, sends and reports until shutdown.
    pub async fn keep(self: Arc<Self>, rooms: Arc<Rooms>, stop: Shutdown) {
        // Rooms that are over and whose addresses were forgotten.
        let mut over: HashSet<RoomId> = HashSet::new();
        let mut before = rooms.all();
        let mut sending: JoinSet<()> = JoinSet::new();
        while stop.sleep_ms(ROUND_MS).await {
            self.per_network.retain_recent();
            let Some(store) = rooms.store() else { continue };
            let served = rooms.all();
            for room in before.values().filter(|room| !served.contains_key(room.id.as_str())) {
                forget(&store.redis, &room.id).await;
            }
            for room in served.values() {
                let closed = room.seen.load().as_ref().is_some_and(|s| s.board.state(s.now_ms()) == RoomState::Closed);
                if !closed {
                    over.remove(&room.id);
                    self.serve(&store.redis, room, &mut sending).await;
                } else if over.insert(room.id.clone()) {
                    forget(&store.redis, &room.id).await;
                }
            }
            over.retain(|id| served.contains_key(id.as_str()));
            before = served;
            while sending.try_join_next().is_some() {}
        }
        // What is under way gets a moment; what is not reported then is left to its lease.
        let last = async { while sending.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(END_MAX, last).await;
    }

    async fn serve(self: &Arc<Self>, redis: &Redis, room: &Arc<Room>, sending: &mut JoinSet<()>) {
        let near = match room.seen.load().as_ref() {
            // A board that is too old says nothing about who is near; leases that ran out can be looked at all the same.
            Some(seen) if !seen.is_stale() => mail::near_people(self.near, &seen.board, seen.now_ms()),
            _ => 0,
        };
        for _ in 0..TAKES_MAX {
            let (letters, more) = match mail::take(redis, &room.id, near, LEASE_MS, 0).await {
                Ok(taken) => taken,
                Err(error) => return tracing::warn!(room = %room.id, %error, "letters cannot be read"),
            };
            let last = !more && letters.is_empty();
            for letter in letters {
                while sending.len() >= AT_ONCE {
                    sending.join_next().await;
                }
                let (mail, redis, room) = (self.clone(), redis.clone(), room.clone());
                sending.spawn(async move { mail.deliver(&redis, &room, &letter).await });
            }
            if last {
                return;
            }
        }
    }

    /// Sends one letter and reports.
    async fn deliver(&self, redis: &Redis, room: &Room, letter: &Letter) {
        let outcome = self.send(room, letter).await;
        let label = match outcome {
            Outcome::Sent => "sent",
            Outcome::Refused => "refused",
            Outcome::NotNow => "retry",
            Outcome::Unknown => "unknown",
        };
        counter!(metric::LETTERS, "result" => label).increment(1);
        let reported = match outcome {
            Outcome::Sent | Outcome::Refused => mail::finished(redis, &room.id, letter.number).await,
            Outcome::NotNow => {
                let pause_ms = PAUSE_MS << letter.tries.saturating_sub(1).min(mail::TRIES_MAX);
                mail::failed(redis, &room.id, letter.number, pause_ms, 0).await
            }
            Outcome::Unknown => Ok(()),
        };
        if let Err(error) = reported {
            tracing::warn!(room = %room.id, %error, "the report on a letter is lost; it may be sent twice");
        }
    }

    async fn send(&self, room: &Room, to: &Letter) -> Outcome {
        let settings = room.settings.load_full();
        let text = letter(&Draft {
            settings: &settings,
            number: to.number,
            lang: Lang::from_code(&to.language).unwrap_or(Lang::Ko),
            from: &self.from,
            to: &to.address,
            public_url: &self.public_url,
            public_host: &self.public_host,
            now_ms: now_ms(),
        });
        let Some(envelope) =
            to.address.parse().ok().and_then(|address| Envelope::new(Some(self.sender.clone()), vec![address]).ok())
        else {
            return Outcome::Refused;
        };
        let talk = self.transport.send_raw(&envelope, text.as_bytes());
        let error = match tokio::time::timeout(LETTER_MAX, talk).await {
            Ok(Ok(_)) => return Outcome::Sent,
            Ok(Err(error)) => error,
            Err(_) => return Outcome::Unknown,
        };
        let code = error.status().map(|code| code.to_string()).unwrap_or_default();
        // Only the code: a server's words may quote the address.
        tracing::warn!(room = %room.id, number = to.number, code, "a letter could not be sent");
        outcome(&error, &code)
    }
}

fn outcome(error: &lettre::transport::smtp::Error, code: &str) -> Outcome {
    // 53x is about our own name and password: no fault of the address.
    if error.is_permanent() && !code.starts_with("53") {
        return Outcome::Refused;
    }
    // The library tells the kind "no connection was made" by its text only.
    let unconnected = error.is_tls() || error.to_string().starts_with("Connection error");
    if error.is_permanent() || error.is_transient() || unconnected { Outcome::NotNow } else { Outcome::Unknown }
}

async fn forget(redis: &Redis, room: &RoomId) {
    if let Err(error) = mail::forget_room(redis, room).await {
        tracing::warn!(%room, %error, "the addresses of a room that is over will expire by themselves");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(change: serde_json::Value) -> Result<(), ConfigError> {
        let mut value = serde_json::json!({
            "smtp_url": "smtp://127.0.0.1:2525", "from": "The shop <no-reply@shop.example>", "near_people": 100,
        });
        for (name, field) in change.as_object().unwrap() {
            value[name] = field.clone();
        }
        serde_json::from_value::<MailConfig>(value).map_err(|e| ConfigError(e.to_string()))?.validate()
    }

    #[test]
    fn a_wrong_field_is_named_and_a_password_is_not() {
        use serde_json::json;
        config(json!({})).unwrap();
        config(json!({ "near_people": null, "near_s": 300, "from": "a@b.example" })).unwrap();
        for (field, change) in [
            ("smtp_url", json!({ "smtp_url": "http://user:secret@mail" })),
            ("smtp_url", json!({ "smtp_url": "secret" })),
            ("from", json!({ "from": "nobody" })),
            ("from", json!({ "from": "A\r\nBcc: x@y.example <a@b.example>" })),
            ("near_people", json!({ "near_people": 0 })),
            ("near_people", json!({ "near_s": 60 })),
            ("near_people", json!({ "near_people": null })),
            ("near_s", json!({ "near_people": null, "near_s": 1 })),
            ("colour", json!({ "colour": 1 })),
        ] {
            let error = config(change).unwrap_err().to_string();
            assert!(error.contains(field) && !error.contains("secret"), "{field}: {error}");
        }
        let debug = format!(
            "{:?}",
            MailConfig {
                smtp_url: "smtps://user:secret@mail".into(),
                from: "a@b.example".into(),
                near_people: Some(1),
                near_s: None,
            }
        );
        assert!(!debug.contains("secret"), "{debug}");
    }
}

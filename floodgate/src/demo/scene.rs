//! The stage of a demo: a merchant, a crowd of accounts, a deal.
//!
//! A few shoppers sign in with their password like everybody would. The others get accounts that
//! share one precomputed argon2 hash, and session tokens signed with the key ring: 2,000 sign-ins
//! would spend minutes in argon2 and measure nothing but argon2.

use super::client::{Ask, Client};
use super::plan::{self, Plan};
use super::progress::Progress;
use crate::commands::merchant;
use crate::launcher::house::House;
use anyhow::Context as _;
use argon2::{Argon2, PasswordHasher as _};
use ledger::{Ledger, NewAccount};
use queue::ticket::TicketSigner;
use serde_json::json;
use service_kit::clock;
use service_kit::ids::{AccountId, DealId, RoomId};
use service_kit::keys::KeyRing;
use std::time::{Duration, Instant};

/// The password of every synthetic shopper; the accounts live as long as the demo.
const PASSWORD: &str = "Crowd-of-2026!";
/// Accounts written per statement.
const ACCOUNTS_BATCH: usize = 5_000;
/// Longest wait until the gate knows the room of a new deal.
const ROOM_MS: u64 = 15_000;

/// Everything that the shoppers share.
#[derive(Debug)]
pub struct Scene {
    /// Their HTTP client.
    pub client: Client,
    /// Address of the gate.
    pub gate: String,
    /// The deal.
    pub deal: DealId,
    /// Its room.
    pub room: RoomId,
    /// When it opens.
    pub starts_at_ms: i64,
    /// Session token of each shopper.
    pub sessions: Vec<String>,
    /// Seed, part of every idempotency key.
    pub seed: u64,
    /// Reads numbers out of tickets.
    pub tickets: Tickets,
    /// Counters.
    pub progress: Progress,
    /// Zero of the crowd's monotonic clock.
    pub began: Instant,
}

/// Reads the number out of a ticket, as the gate would.
pub struct Tickets(TicketSigner);

impl std::fmt::Debug for Tickets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tickets")
    }
}

impl Tickets {
    /// The number, if the ticket is one of this room.
    pub fn number(&self, ticket: &str, room: &RoomId) -> Option<u64> {
        self.0.verify(ticket, room).ok().map(|ticket| ticket.number)
    }
}

impl Scene {
    /// Microseconds on the crowd's clock.
    pub fn now_us(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
    /// `{gate}/_floodgate/rooms/{room}/{what}`.
    pub fn room_url(&self, what: &str) -> String {
        format!("{}/_floodgate/rooms/{}/{what}", self.gate, self.room)
    }
    /// `{gate}/api/v1/{path}`.
    pub fn api_url(&self, path: &str) -> String {
        format!("{}/api/v1/{path}", self.gate)
    }
}

/// Prepares everything up to the opening.
///
/// # Errors
/// When the ledger, the deal service or the gate refuses something.
pub async fn set(house: &House, ledger: &Ledger, plan: &Plan) -> anyhow::Result<Scene> {
    let keys = house.settings()?.keys.context("[keys] is in the file")?;
    let ring = KeyRing::new(&keys)?;
    let gate = format!("http://{}", house.ports.gate);
    let key = merchant::insert(ledger, "Demo merchant").await?.api_key;
    let accounts = accounts(ledger, plan.shoppers).await?;
    let setup = Client::new(clock::now_ms().saturating_add(30_000))?;
    let sessions = sessions(&setup, &gate, &ring, &accounts).await?;

    let starts_at_ms = clock::now_ms().saturating_add(i64::from(plan.opens_in_ms));
    let ends_at_ms = starts_at_ms.saturating_add(i64::from(plan.sale_ms));
    let deal = create_deal(&setup, &gate, &key, plan, starts_at_ms, ends_at_ms).await?;
    let scene = Scene {
        client: Client::new(ends_at_ms.saturating_add(plan::HOLD_TTL_MS))?,
        room: RoomId::of_deal(deal),
        gate,
        deal,
        starts_at_ms,
        sessions,
        seed: plan.seed,
        tickets: Tickets(TicketSigner::new(&ring)),
        progress: Progress::default(),
        began: clock::monotonic(),
    };
    let known = async {
        while setup.once(&Ask::get(scene.room_url("board"))).await.is_none_or(|answer| answer.status != 200) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_millis(ROOM_MS), known).await;
    waited.with_context(|| format!("the gate did not learn of the room {} within {ROOM_MS} ms", scene.room))?;
    Ok(scene)
}

async fn accounts(ledger: &Ledger, count: u32) -> anyhow::Result<Vec<NewAccount>> {
    let password_hash = Argon2::default()
        .hash_password(PASSWORD.as_bytes())
        .map_err(|e| anyhow::anyhow!("hash the crowd's password: {e}"))?
        .to_string();
    let accounts: Vec<NewAccount> = (1..=count)
        .map(|n| NewAccount {
            id: AccountId::new(),
            email: format!("shopper-{n}@demo.invalid"),
            password_hash: password_hash.clone(),
            name: format!("Shopper {n}"),
        })
        .collect();
    for batch in accounts.chunks(ACCOUNTS_BATCH) {
        ledger.create_accounts(batch, clock::now_ms()).await.context("make the crowd's accounts")?;
    }
    Ok(accounts)
}

async fn sessions(client: &Client, gate: &str, ring: &KeyRing, accounts: &[NewAccount]) -> anyhow::Result<Vec<String>> {
    let issuer = deal_service::session::Sessions::new(ring, false);
    let mut sessions = Vec::with_capacity(accounts.len());
    for (n, account) in (0_u32..).zip(accounts) {
        let token = if n < plan::SIGN_INS {
            let ask = Ask::post(format!("{gate}/api/v1/sessions"))
                .json(&json!({ "email": account.email, "password": PASSWORD }));
            let answer = client.settle(&ask).await.context("no answer to a sign-in")?;
            anyhow::ensure!(answer.status == 201, "a shopper could not sign in: {} {}", answer.status, answer.body);
            answer.text("token").to_owned()
        } else {
            issuer.issue(account.id, clock::now_ms())?.token
        };
        sessions.push(token);
    }
    Ok(sessions)
}

async fn create_deal(
    client: &Client,
    gate: &str,
    key: &str,
    plan: &Plan,
    starts_at_ms: i64,
    ends_at_ms: i64,
) -> anyhow::Result<DealId> {
    let ask = Ask::post(format!("{gate}/api/v1/deals"))
        .with("authorization", format!("Bearer {key}"))
        .with("idempotency-key", format!("demo-{}", plan.seed))
        .json(&json!({
            "title": "Demo deal",
            "description": "One unit each, while they last.",
            "price": { "minor": 12_900, "currency": "KRW" },
            "stock": plan.stock,
            "per_user_limit": 1,
            "starts_at_ms": starts_at_ms,
            "ends_at_ms": ends_at_ms,
            "admission": { "rate_per_s": plan.rate_per_s, "inside_max": plan.inside_max },
            "hold_ttl_ms": plan::HOLD_TTL_MS,
        }));
    let answer = client.settle(&ask).await.context("no answer to the new deal")?;
    anyhow::ensure!(answer.status == 201, "the deal was refused: {} {}", answer.status, answer.body);
    Ok(answer.text("id").parse()?)
}

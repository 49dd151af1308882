//! One run: a house, a sale, faults, repair, quiet, evidence, verdict.

use crate::client::{Ask, Client};
use crate::evidence::{Act, Evidence, Run, Sample};
use crate::history::{Recorder, Zero};
use crate::house::config::{CONFIRM_MS, HOLD_TTL_MS};
use crate::house::template::{SHOPPERS, Template};
use crate::house::{House, Wishes};
use crate::nemesis::{Fault, Planned};
use crate::planted::Bug;
use crate::shopper::{Sale, Shopper};
use crate::verdict::{self, Verdict};
use crate::{collect, strike};
use anyhow::Context as _;
use serde_json::json;
use service_kit::clock::{monotonic, now_ms};
use service_kit::ids::{DealId, RoomId, VisitorId};
use service_kit::keys::{KeyRing, KeysConfig, Purpose};
use service_kit::session::{Claims, SessionTokens};
use service_kit::token::JwtSigner;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// Units for sale.
const STOCK: i64 = 24;
/// Most units per account.
const PER_USER_LIMIT: i64 = 2;
/// Price of one unit.
const PRICE_MINOR: i64 = 12_900;
/// From the making of the deal to its opening, in ms.
const OPENS_IN_MS: i64 = 1_200;
/// How long the sale's crowd stays, in ms. The deal itself is open much longer than any clock is wrong.
pub const SALE_MS: u64 = 8_000;
/// How long a room holds after Redis has lost it (`queue::line`), in ms.
const ROOM_HOLDS_MS: u64 = 25_000;
/// How long the crowd stays after that, in ms.
const AFTER_HOLD_MS: u64 = 7_000;
/// Between two looks at the stock, in ms.
const SAMPLE_MS: u64 = 200;
/// Longest wait until everything runs again, in ms.
const REPAIR_MS: u64 = 20_000;
/// How long shoppers may take to give back what they hold, in ms.
const TIDY_MS: u64 = 6_000;
/// Longest wait until nothing is open any more, in ms: a hold's life, a lease of the outbox, and some.
const QUIET_MS: u64 = 25_000;
/// Between two looks whether it is quiet, in ms.
const LOOK_MS: u64 = 250;
/// Longest wait for the room of the new deal, in ms.
const ROOM_MS: u64 = 15_000;

/// What to run.
#[derive(Debug, Clone)]
pub struct Wish {
    /// Seed of crowd and proxies.
    pub seed: u64,
    /// The faults.
    pub planned: Vec<Planned>,
    /// A mistake in the product; only with the executable that has them.
    pub planted: Option<&'static Bug>,
}

impl Wish {
    /// How long the crowd stays: after a loss of Redis until the waiting room has opened again, and a while. Whatever
    /// strikes the line after the loss begins that time anew.
    fn sale_ms(&self) -> u64 {
        let lost = |planned: &Planned| planned.fault.is_a_loss();
        if !self.planned.iter().any(lost) {
            return SALE_MS;
        }
        let last_ms = self.planned.iter().filter(|planned| lost(planned) || planned.fault.is_of_the_line());
        let last_ms = last_ms.map(|planned| planned.at_ms.saturating_add(planned.fault.for_ms())).max().unwrap_or(0);
        last_ms.saturating_add(ROOM_HOLDS_MS).saturating_add(AFTER_HOLD_MS)
    }
}

/// Runs a seed; writes history and evidence into `folder`.
///
/// # Errors
/// When the bench itself cannot do its work. What the product does wrong is in the verdict.
pub async fn run(template: &Template, wish: &Wish, folder: &Path) -> anyhow::Result<Verdict> {
    let (seed, planned) = (wish.seed, &wish.planned);
    let _ = std::fs::remove_dir_all(folder);
    std::fs::create_dir_all(folder.join("history"))?;
    let zero = Zero::now();
    let (acts, mut told) = mpsc::unbounded_channel();
    let mut failpoints: BTreeMap<&'static str, String> = BTreeMap::new();
    for planned in planned {
        let (role, point, action) = match &planned.fault {
            Fault::FailPoint { role, point, hit } => (role, point, format!("kill@{hit}")),
            Fault::KillAt { role, point, hit, .. } => (role, point, format!("stop@{hit}")),
            _ => continue,
        };
        let armed = failpoints.entry(role).or_default();
        // One point twice would be two wishes for one counter: the first counts.
        if !armed.contains(point) {
            armed.push_str(&format!("{point}={action},"));
        }
    }
    let logs = folder.join("logs");
    let wishes = Wishes { seed, failpoints, logs: logs.clone(), zero, acts: acts.clone(), planted: wish.planted };
    let house = House::start(template, wishes).await?;
    let evidence = sale(&house, template, wish, folder, zero, &acts).await;
    house.stop().await;
    let mut evidence = evidence?;
    while let Ok(act) = told.try_recv() {
        evidence.nemesis.push(act);
    }
    evidence.nemesis.sort_by_key(|act| act.t0);
    evidence.upstream = collect::upstream(&logs.join("deal-service.log"));
    evidence.history = crate::history::read(&folder.join("history"))?;
    evidence.write(folder)?;
    let verdict = verdict::judge(&evidence);
    std::fs::write(folder.join("verdict.json"), serde_json::to_vec_pretty(&verdict)?)?;
    Ok(verdict)
}

async fn sale(
    house: &House,
    template: &Template,
    wish: &Wish,
    folder: &Path,
    zero: Zero,
    acts: &mpsc::UnboundedSender<Act>,
) -> anyhow::Result<Evidence> {
    let seed = wish.seed;
    let name = format!("seed-{seed}");
    let recorder = |proc| Recorder::new(&folder.join("history"), &name, seed, proc, zero);
    let mut setup = Client::new(recorder(0)?, monotonic() + Duration::from_millis(ROOM_MS))?;
    let starts_at_ms = now_ms().saturating_add(OPENS_IN_MS);
    let gate = format!("http://{}", house.addresses.gate);
    let deal = make_deal(&mut setup, &gate, &template.api_key, seed, starts_at_ms).await?;
    let room = RoomId::of_deal(deal).to_string();
    let ring = KeyRing::new(&KeysConfig { ring: vec![template.ring.clone()] })?;
    let sale = Arc::new(Sale {
        gate,
        deal: deal.to_string(),
        room: room.clone(),
        seed,
        forged: forged_passes(&ring, deal)?,
        last_pass: Default::default(),
    });
    let board = Ask::get("board", format!("{}/_floodgate/rooms/{room}/board", sale.gate));
    while setup.once(&board).await.status != 200 {
        anyhow::ensure!(!setup.is_over(), "the gate did not learn of the room {room}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let usage_before = collect::usage(house).await;

    let opens_in_ms = u64::try_from(starts_at_ms.saturating_sub(now_ms())).unwrap_or(0);
    tokio::time::sleep(Duration::from_millis(opens_in_ms)).await;
    let until = monotonic() + Duration::from_millis(wish.sale_ms());
    let sessions = SessionTokens::new(&ring);
    let mut crowd = Vec::new();
    let mut accounts = BTreeMap::new();
    for (proc, account) in (1..=SHOPPERS).zip(&template.accounts) {
        let iat = now_ms() / 1_000;
        // Long before and long after: the clocks of this sale are moved by an hour.
        let claims = Claims { sub: account.to_string(), iat: iat - 7_200, exp: iat + 36_000 };
        let client = Client::new(recorder(proc)?, until)?;
        crowd.push(tokio::spawn(Shopper::new(proc, sessions.issue(&claims)?, sale.clone(), client).live()));
        accounts.insert(proc, account.to_string());
    }
    let over = watch::Sender::new(false);
    let looks = samples(house, &sale, zero, over.subscribe());
    let faults = async {
        let (_, crowd) =
            tokio::join!(strike::strike(house, &wish.planned, zero, acts), futures::future::join_all(crowd));
        strike::heal(house).await;
        let ready = house.all_ready_within(REPAIR_MS).await;
        over.send_replace(true);
        ready.map(|()| crowd)
    };
    let (samples, crowd) = tokio::join!(looks, faults);
    let crowd = crowd?;
    let healed_us = zero.us();
    let tidy_until = monotonic() + Duration::from_millis(TIDY_MS);
    let mut shoppers: Vec<Shopper> = crowd.into_iter().collect::<Result<_, _>>()?;
    let tidied = futures::future::join_all(shoppers.iter_mut().map(|shopper| shopper.tidy(tidy_until))).await;
    tidied.into_iter().collect::<anyhow::Result<Vec<()>>>()?;
    drop(shoppers);
    let quiet_us = quiet(house, &sale, zero).await;

    let verify = verify(house, template).await;
    let run = Run {
        run: name,
        seed,
        deal: sale.deal.clone(),
        stock: STOCK,
        per_user_limit: PER_USER_LIMIT,
        price_minor: PRICE_MINOR,
        currency: "KRW".into(),
        hold_ttl_ms: HOLD_TTL_MS,
        confirm_ms: CONFIRM_MS,
        accounts,
        healed_us,
        quiet_us,
        end_us: zero.us(),
        end_wall_ms: now_ms(),
    };
    Ok(Evidence {
        run,
        ledger: collect::ledger(house).await?,
        provider: collect::provider(house).await?,
        redis: collect::fast_stock(house, &room).await?,
        samples,
        usage_before,
        usage_after: collect::usage(house).await,
        metrics: collect::metrics(house).await,
        verify,
        ..Evidence::default()
    })
}

/// Passes that must open nothing: signed as a gate signs them, but for another room, long over, altered; and none.
fn forged_passes(ring: &KeyRing, deal: DealId) -> anyhow::Result<Vec<(&'static str, String)>> {
    let signer = JwtSigner::new(ring, Purpose::Pass, "pass+jwt");
    let (now_s, here) = (now_ms() / 1_000, RoomId::of_deal(deal));
    // Further away than any clock is moved; numbers that nobody has.
    let (past_s, future_s, number) = (now_s - 36_000, now_s + 36_000, 9_000_000_u64);
    let pass = |room: RoomId, number: u64, end_s: i64| {
        let claims =
            json!({ "aud": room, "sub": VisitorId::new(), "lease": number, "brw": 0, "iat": end_s - 60, "exp": end_s });
        signer.sign(&claims)
    };
    let good = pass(here.clone(), number + 3, future_s)?;
    let (body, mac) = good.rsplit_once('.').context("a token has a signature")?;
    let altered = format!("{body}.{}", mac.chars().rev().collect::<String>());
    Ok(vec![
        ("of another room", pass(RoomId::of_deal(DealId::new()), number + 1, future_s)?),
        ("long over", pass(here, number + 2, past_s)?),
        ("altered", altered),
        ("none", String::new()),
    ])
}

async fn make_deal(
    client: &mut Client,
    gate: &str,
    api_key: &str,
    seed: u64,
    starts_at_ms: i64,
) -> anyhow::Result<DealId> {
    let body = json!({
        "title": "Fault bench",
        "price": { "minor": PRICE_MINOR, "currency": "KRW" },
        "stock": STOCK,
        "per_user_limit": PER_USER_LIMIT,
        "starts_at_ms": starts_at_ms,
        "ends_at_ms": starts_at_ms.saturating_add(6 * 3_600_000),
        "admission": { "rate_per_s": 60, "inside_max": 60 },
        "hold_ttl_ms": HOLD_TTL_MS,
    });
    let ask = Ask::post("deal", format!("{gate}/api/v1/deals"))
        .with("authorization", format!("Bearer {api_key}"))
        .keyed(format!("deal-{seed}"))
        .json(&body);
    let answer = client.settle(&ask).await.context("no answer to the new deal")?;
    anyhow::ensure!(answer.status == 201, "the deal was refused: {} {}", answer.status, answer.body);
    Ok(answer.text("id").parse()?)
}

/// Looks at the stock until the run is over.
async fn samples(house: &House, sale: &Sale, zero: Zero, mut over: watch::Receiver<bool>) -> Vec<Sample> {
    let mut samples = Vec::new();
    loop {
        samples.push(collect::sample(house, &sale.room, &sale.deal, zero).await);
        let pause = tokio::time::timeout(Duration::from_millis(SAMPLE_MS), over.wait_for(|over| *over));
        if pause.await.is_ok() {
            return samples;
        }
    }
}

/// Waits until nothing is open and both stores say the same. `None` when that does not come in time.
async fn quiet(house: &House, sale: &Sale, zero: Zero) -> Option<u64> {
    let until = monotonic() + Duration::from_millis(QUIET_MS);
    while monotonic() < until {
        if matches!(collect::open_ends(house).await, Ok(0)) {
            let Sample { ledger, redis, .. } = collect::sample(house, &sale.room, &sale.deal, zero).await;
            if let (Some([stock, held, sold]), Some(fast)) = (ledger, redis)
                && fast == [stock - held - sold, held, sold]
            {
                return Some(zero.us());
            }
        }
        tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
    }
    None
}

/// `floodgate verify --json`, as an operator would call it.
async fn verify(house: &House, template: &Template) -> Option<serde_json::Value> {
    let mut verify = tokio::process::Command::new(&template.program);
    let output = verify.args(["verify", "--json", "--config"]).arg(&house.config).output().await.ok()?;
    serde_json::from_slice(&output.stdout).ok()
}

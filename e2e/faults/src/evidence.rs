//! Everything that is collected in a run, as plain data. The checker sees nothing else, so a run can be judged again
//! later, elsewhere, and by another checker.

use crate::history::{self, Op};
use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// What was planned, and when it was over.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Name of the run.
    pub run: String,
    /// Its seed.
    pub seed: u64,
    /// The deal.
    pub deal: String,
    /// Units for sale.
    pub stock: i64,
    /// Most units per account.
    pub per_user_limit: i64,
    /// Price of one unit, in minor units.
    pub price_minor: i64,
    /// Its currency.
    pub currency: String,
    /// Life of a hold.
    pub hold_ttl_ms: i64,
    /// How long units may wait in Redis for the commit of their hold.
    pub confirm_ms: i64,
    /// Account of each client.
    pub accounts: BTreeMap<u32, String>,
    /// When everything was repaired and started again, in microseconds of the run's clock.
    pub healed_us: u64,
    /// When nothing was open any more; `None` when the wait for it ended first.
    pub quiet_us: Option<u64>,
    /// When the evidence was collected.
    pub end_us: u64,
    /// The same instant on the wall clock, in ms.
    pub end_wall_ms: i64,
}

/// Something that the nemesis did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Act {
    /// What: `kill`, `pause`, `proxy`, `failpoint`, `clock`, `redis`, `provider`, `disk_full`, `clients`, `recovered`, `exit`.
    pub what: String,
    /// To whom.
    pub whom: String,
    /// Start, in microseconds of the run's clock.
    pub t0: u64,
    /// End, in the same.
    pub t1: u64,
    /// Figures, e.g. `latency 200 ms`.
    pub detail: String,
}

/// A row of `deal`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are the columns'")]
pub struct DealRow {
    pub id: String,
    pub stock: i64,
    pub held: i64,
    pub sold: i64,
    pub price_minor: i64,
    pub per_user_limit: i64,
    pub epoch: i64,
}

/// A row of `orders`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are the columns'")]
pub struct OrderRow {
    pub id: String,
    pub deal_id: String,
    pub account_id: String,
    pub lease_number: i64,
    pub quantity: i64,
    pub amount_minor: i64,
    pub currency: String,
    pub state: String,
    pub reason: Option<String>,
    pub idempotency_key: String,
    pub held_units: i64,
    pub sold_units: i64,
    pub hold_expires_at_ms: i64,
    pub created_at_ms: i64,
}

/// A row of `order_event`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are the columns'")]
pub struct EventRow {
    pub order_id: String,
    pub seq: i64,
    pub from_state: Option<String>,
    pub to_state: String,
    pub reason: Option<String>,
    pub at_ms: i64,
}

/// A row of `payment`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are the columns'")]
pub struct PaymentRow {
    pub id: String,
    pub order_id: String,
    pub state: String,
    pub amount_minor: i64,
    pub currency: String,
    pub captured_minor: i64,
    pub refunding_minor: i64,
    pub refunded_minor: i64,
    pub provider_ref: Option<String>,
    pub parked_reason: Option<String>,
}

/// A row of `refund`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are the columns'")]
pub struct RefundRow {
    pub id: String,
    pub order_id: String,
    pub payment_id: String,
    pub amount_minor: i64,
    pub currency: String,
    pub units: i64,
    pub state: String,
    pub requested_by: String,
}

/// A row of `outbox`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are the columns'")]
pub struct OutboxRow {
    pub id: i64,
    pub kind: String,
    pub order_id: String,
    pub quantity: i64,
    pub delivered_at_ms: Option<i64>,
}

/// A row of `allowance`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are the columns'")]
pub struct AllowanceRow {
    pub account_id: String,
    pub units: i64,
}

/// A row of `attempt`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are the columns'")]
pub struct AttemptRow {
    pub payment_id: String,
    pub kind: String,
    pub started_at_ms: i64,
}

/// What PostgreSQL holds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are the tables'")]
pub struct LedgerDump {
    pub deal: Vec<DealRow>,
    pub orders: Vec<OrderRow>,
    pub order_event: Vec<EventRow>,
    pub payment: Vec<PaymentRow>,
    pub refund: Vec<RefundRow>,
    pub outbox: Vec<OutboxRow>,
    pub allowance: Vec<AllowanceRow>,
    pub attempt: Vec<AttemptRow>,
    /// Lines of the audit chain, as they are.
    pub audit: Vec<serde_json::Value>,
}

/// One payment at the provider.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are the provider's")]
pub struct ProviderRow {
    pub tid: String,
    pub partner_order_id: String,
    pub amount: i64,
    pub status: String,
    pub captured: i64,
    pub cancelled: i64,
    pub approvals: i64,
}

/// The fast stock of the deal.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RedisDump {
    /// `available`, `held`, `sold`, `total`, …
    pub stock: BTreeMap<String, String>,
    /// Account → units.
    pub bought: BTreeMap<String, String>,
    /// Order → what Redis knows of it.
    pub units: BTreeMap<String, String>,
}

impl RedisDump {
    /// A figure of the stock.
    pub fn figure(&self, name: &str) -> Option<i64> {
        self.stock.get(name)?.parse().ok()
    }
}

/// A look at the deal while the sale runs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// When it was asked, in microseconds of the run's clock.
    pub t: u64,
    /// Units in PostgreSQL: stock, held, sold.
    pub ledger: Option<[i64; 3]>,
    /// Units in Redis: available, held, sold.
    pub redis: Option<[i64; 3]>,
}

/// What one process uses.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Role, or `redis` or `postgres`, whose `fds` are connections.
    pub whom: String,
    /// Open file descriptors, or connections of a store.
    pub fds: i64,
    /// Threads.
    pub threads: i64,
    /// Resident memory in KiB.
    pub rss_kib: i64,
}

/// A line of the log of the service behind the gate.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct UpstreamLine {
    /// Route, e.g. `/api/v1/deals/{deal}/holds`.
    pub route: String,
    /// Method.
    pub method: String,
    /// Status that was answered.
    pub status: i64,
    /// Trace id of the request.
    pub trace_id: String,
}

/// Everything.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// The plan.
    pub run: Run,
    /// All operations, by start. Kept in files of their own.
    #[serde(skip)]
    pub history: Vec<Op>,
    /// What the nemesis did.
    pub nemesis: Vec<Act>,
    /// PostgreSQL.
    pub ledger: LedgerDump,
    /// The provider's own ledger.
    pub provider: Vec<ProviderRow>,
    /// The fast stock; `None` when Redis has none.
    pub redis: Option<RedisDump>,
    /// The log of the service behind the gate.
    pub upstream: Vec<UpstreamLine>,
    /// Looks at the stock while the sale ran.
    pub samples: Vec<Sample>,
    /// What the processes used before the crowd came.
    pub usage_before: Vec<Usage>,
    /// What they use now.
    pub usage_after: Vec<Usage>,
    /// `/metrics` of each role, now.
    pub metrics: BTreeMap<String, String>,
    /// What `floodgate verify --json` said; `None` when it could not run.
    pub verify: Option<serde_json::Value>,
}

/// The name of the file beside the history.
const FILE: &str = "evidence.json";

impl Evidence {
    /// Whether some act of this kind touched somebody whose name contains `whom`.
    pub fn acted(&self, what: &str, whom: &str) -> bool {
        self.nemesis.iter().any(|act| act.what == what && act.whom.contains(whom))
    }
    /// Writes everything but the history, which is there already.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, folder: &Path) -> anyhow::Result<()> {
        let path = folder.join(FILE);
        std::fs::write(&path, serde_json::to_vec_pretty(self)?).with_context(|| format!("write {}", path.display()))
    }
    /// Reads what [`Self::write`] wrote, and the history beside it.
    ///
    /// # Errors
    /// When something is missing or of another form.
    pub fn read(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join(FILE);
        let bytes = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        let mut evidence: Self = serde_json::from_slice(&bytes).with_context(|| path.display().to_string())?;
        evidence.history = history::read(&folder.join("history"))?;
        Ok(evidence)
    }
}

//! Names of this room's metrics, and the one place that turns a deal into a label.

use arc_swap::ArcSwap;
use metrics::{
    Label, SharedString, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};
use service_kit::ids::DealId;
use service_kit::metric::buckets;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

/// Join table; labels `deal`, `merchant`, `provider`. Only of deals with a label of their own: one row per label.
pub const INFO: &str = "floodgate_deal_info";
/// 1 for the phase that a deal is in; labels `deal`, `phase`.
pub const PHASE: &str = "floodgate_deal_phase";
/// Start of the sale.
pub const STARTS: &str = "floodgate_deal_starts_timestamp_seconds";
/// End of the sale.
pub const ENDS: &str = "floodgate_deal_ends_timestamp_seconds";
/// Whether the fast stock waits for an operator to fill it; labels `deal`.
pub const REBUILD_WAITING: &str = "floodgate_deal_rebuild_waiting";
/// Whether the fast stock is filled.
pub const PREWARM: &str = "floodgate_deal_prewarm_complete";
/// Units by state, from the ledger; labels `deal`, `state`.
pub const STOCK: &str = "floodgate_deal_stock_units";
/// Units promised beyond the stock. Must be 0.
pub const OVERSOLD: &str = "floodgate_deal_oversold_units";
/// Attempts to hold; labels `deal`, `result`.
pub const RESERVATIONS: &str = "floodgate_deal_reservations_total";
/// Time of the fast gate, seconds.
pub const RESERVATION_DURATION: &str = "floodgate_deal_reservation_duration_seconds";
/// Time of one commit of the final gate, seconds.
pub const COMMIT_DURATION: &str = "floodgate_deal_commit_duration_seconds";
/// Holds per commit.
pub const COMMIT_HOLDS: &str = "floodgate_deal_commit_holds";
/// Holds that ended without a sale; labels `deal`, `reason`.
pub const RELEASED: &str = "floodgate_deal_holds_released_total";
/// Steps of orders; labels `deal`, `outcome`.
pub const ORDERS: &str = "floodgate_deal_orders_total";
/// From placing to the end, seconds; label `outcome`.
pub const ORDER_DURATION: &str = "floodgate_deal_order_duration_seconds";
/// Requests answered from memory; label `route`.
pub const REPLAYS: &str = "floodgate_deal_idempotent_replays_total";
/// Outbox events not delivered yet.
pub const OUTBOX_PENDING: &str = "floodgate_deal_outbox_pending_entries";
/// When the oldest of them was written; 0 when there is none.
pub const OUTBOX_OLDEST: &str = "floodgate_deal_outbox_oldest_timestamp_seconds";
/// Free units in Redis minus free units in the ledger; label `deal`.
pub const DIVERGENCE: &str = "floodgate_deal_redis_db_divergence_units";
/// How often the fast stock was filled from the ledger; label `reason`.
pub const FILLS: &str = "floodgate_deal_fills_total";
/// Connections of the PostgreSQL pool; label `state`.
pub const POOL: &str = "floodgate_deal_db_pool_connections";
/// Holds that wait for a commit, and how many may.
pub const HOLD_QUEUE: &str = "floodgate_deal_hold_queue_entries";
/// See [`HOLD_QUEUE`].
pub const HOLD_QUEUE_LIMIT: &str = "floodgate_deal_hold_queue_limit_entries";
/// Rows that break a rule of the ledger; label `check`. Must be 0.
pub const FINDINGS: &str = "floodgate_ledger_findings";
/// Units in nobody's hands for more than a minute; labels `deal`, `reason`.
pub const STRANDED: &str = "floodgate_deal_stranded_units";
/// Live order pages, and how many may be.
pub const STREAMS: &str = "floodgate_deal_event_streams";
/// See [`STREAMS`].
pub const STREAMS_LIMIT: &str = "floodgate_deal_event_streams_limit";

/// Histograms of this role, for the recorder.
pub const HISTOGRAMS: service_kit::telemetry::Histograms = &[
    (RESERVATION_DURATION, buckets::REDIS),
    (COMMIT_DURATION, buckets::REQUEST),
    (COMMIT_HOLDS, &[1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 256.0, 1000.0]),
    (ORDER_DURATION, buckets::ORDER),
];

/// Deals that get a label of their own; the rest share `_other`.
const DEAL_LABELS_MAX: usize = 50;
/// Results of an attempt to hold.
pub const RESULTS: &[&str] = &["ok", "sold_out", "limit_per_user", "not_admitted", "closed", "duplicate", "error"];

static DEAL_LABELS: LazyLock<ArcSwap<HashMap<DealId, SharedString>>> =
    LazyLock::new(|| ArcSwap::from_pointee(HashMap::new()));

/// The label of a deal: its id, or `_other` once 50 deals are on sale.
pub fn deal_label(deal: DealId) -> SharedString {
    DEAL_LABELS.load().get(&deal).cloned().unwrap_or(SharedString::const_str("_other"))
}

/// Whether a deal has a label of its own.
pub fn has_label(deal: DealId) -> bool {
    DEAL_LABELS.load().contains_key(&deal)
}

/// Names the deals on sale now; the first 50 of them get labels. Series of new ones start at 0.
pub fn deals_on_sale(deals: &[DealId]) {
    let known = DEAL_LABELS.load();
    // A label once given stays: a counter must not change its name. The cap holds over the process's life.
    let mut next: HashMap<DealId, SharedString> = (**known).clone();
    for deal in deals {
        if next.len() >= DEAL_LABELS_MAX || next.contains_key(deal) {
            continue;
        }
        let label = SharedString::from_shared(Arc::from(deal.to_string()));
        next.insert(*deal, label.clone());
        start_series(&label);
    }
    if next.len() != known.len() {
        DEAL_LABELS.store(Arc::new(next));
    }
}

fn start_series(deal: &SharedString) {
    for result in RESULTS {
        counter!(RESERVATIONS, "deal" => deal.clone(), "result" => *result).increment(0);
    }
    for reason in ["expired", "payment_failed", "cancelled"] {
        counter!(RELEASED, "deal" => deal.clone(), "reason" => reason).increment(0);
    }
    for outcome in ["placed", "confirmed", "failed", "cancelled", "refunded"] {
        counter!(ORDERS, "deal" => deal.clone(), "outcome" => outcome).increment(0);
    }
}

/// Counts one attempt to hold.
pub fn reservation(deal: DealId, result: &'static str) {
    counter!(RESERVATIONS, "deal" => deal_label(deal), "result" => result).increment(1);
}

/// Counts one step of an order.
pub fn order(deal: DealId, outcome: &'static str) {
    counter!(ORDERS, "deal" => deal_label(deal), "outcome" => outcome).increment(1);
}

/// Records how long an order lived.
pub fn order_lived(outcome: &'static str, ms: i64) {
    #[expect(clippy::cast_precision_loss, reason = "a duration for a histogram")]
    histogram!(ORDER_DURATION, "outcome" => outcome).record(ms.max(0) as f64 / 1_000.0);
}

/// Sets a gauge of one deal; `state` adds a label of that name.
pub fn deal_gauge(name: &'static str, deal: DealId, label: Option<(&'static str, &'static str)>, value: i64) {
    let mut labels = vec![Label::new("deal", deal_label(deal))];
    labels.extend(label.map(|(k, v)| Label::from_static_parts(k, v)));
    #[expect(clippy::cast_precision_loss, reason = "units and seconds are far below 2^52")]
    gauge!(name, labels).set(value as f64);
}

/// Describes every metric and starts those without labels at 0.
pub fn describe() {
    describe_gauge!(INFO, "Deals on sale: merchant and payment provider");
    describe_gauge!(PHASE, "1 for the phase that a deal is in");
    describe_gauge!(STARTS, Unit::Seconds, "Start of the sale");
    describe_gauge!(ENDS, Unit::Seconds, "End of the sale");
    describe_gauge!(REBUILD_WAITING, "1 while a lost or wrong fast stock waits for an operator's floodgate rebuild");
    describe_gauge!(PREWARM, "1 when the fast stock is filled");
    describe_gauge!(STOCK, "Units by state, from the ledger");
    describe_gauge!(OVERSOLD, "Units promised beyond the stock; must be 0");
    describe_counter!(RESERVATIONS, "Attempts to hold, by result");
    describe_histogram!(RESERVATION_DURATION, Unit::Seconds, "Time of the fast gate");
    describe_histogram!(COMMIT_DURATION, Unit::Seconds, "Time of one commit of the final gate");
    describe_histogram!(COMMIT_HOLDS, "Holds per commit of the final gate");
    describe_counter!(RELEASED, "Holds that ended without a sale, by reason");
    describe_counter!(ORDERS, "Steps of orders, by outcome");
    describe_histogram!(ORDER_DURATION, Unit::Seconds, "Life of an order from placing to its end");
    describe_counter!(REPLAYS, "Requests answered from memory, by route");
    describe_gauge!(OUTBOX_PENDING, "Outbox events not delivered yet");
    describe_gauge!(OUTBOX_OLDEST, Unit::Seconds, "When the oldest undelivered outbox event was written; 0 for none");
    describe_gauge!(DIVERGENCE, "Free units in Redis minus free units in the ledger");
    describe_counter!(FILLS, "Fillings of the fast stock from the ledger, by reason");
    describe_gauge!(POOL, "Connections of the PostgreSQL pool, by state");
    describe_gauge!(HOLD_QUEUE, "Holds that wait for a commit");
    describe_gauge!(HOLD_QUEUE_LIMIT, "Most holds that may wait for a commit");
    describe_gauge!(FINDINGS, "Rows that break a rule of the ledger, by check; must be 0");
    describe_gauge!(STRANDED, "Units in nobody's hands for more than a minute, by reason");
    describe_gauge!(STREAMS, "Live order pages");
    describe_gauge!(STREAMS_LIMIT, "Most live order pages");
    start_series(&SharedString::const_str("_other"));
    for route in ["holds", "deals", "payments", "cancel", "refunds"] {
        counter!(REPLAYS, "route" => route).increment(0);
    }
    for reason in ["missing", "restarted", "divergence", "refused"] {
        counter!(FILLS, "reason" => reason).increment(0);
    }
    for name in [OUTBOX_PENDING, OUTBOX_OLDEST, HOLD_QUEUE, STREAMS] {
        gauge!(name).set(0.0);
    }
}

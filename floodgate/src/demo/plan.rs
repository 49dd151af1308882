//! What a demo will do, worked out from its options.

use crate::cli::DemoArgs;
use crate::launcher::config_file::Choices;

/// How long a hold lasts: short, so that units that somebody let go are offered again soon.
pub const HOLD_TTL_MS: i64 = 15_000;
/// How long a called shopper may take to claim.
pub const CLAIM_WINDOW_MS: u32 = 5_000;
/// How long a shopper may stay inside: who gave up without a word keeps a place until then.
pub const LEASE_MS: u32 = 15_000;
/// Shoppers who sign in with their password; hashing one takes 19 MiB and a core for a moment,
/// so the others get their session tokens from the key ring.
pub const SIGN_INS: u32 = 20;
/// A sale is never shorter, however few units there are.
const SALE_LEAST_S: u32 = 120;

/// How a rehearsal is configured: the whole crowd comes from one address, which must not be taken
/// for one greedy client; and turns and leases are short, so that no-shows and kills do not make
/// the sale long.
pub fn choices() -> Choices {
    let most = 1_000_000;
    Choices {
        limits: format!(
            "[gate.limits]\njoins_per_s = {most}\njoins_burst = {most}\nclaims_per_s = {most}\nclaims_burst = {most}\npolls_per_s = {most}\npolls_burst = {most}\n"
        ),
        shop: format!("claim_window_ms = {CLAIM_WINDOW_MS}\nlease_ms = {LEASE_MS}\n"),
        payments: "lease_ms = 7000\n".to_owned(),
        provider: "timeout_ms = 1500\n".to_owned(),
    }
}

/// The figures of one run.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Synthetic shoppers.
    pub shoppers: u32,
    /// Units for sale.
    pub stock: u32,
    /// From the creation of the deal to its opening.
    pub opens_in_ms: u32,
    /// Shoppers called per second.
    pub rate_per_s: u32,
    /// Most shoppers inside at once.
    pub inside_max: u32,
    /// From the opening to the end of the sale.
    pub sale_ms: u32,
    /// Seed of every shopper's behaviour.
    pub seed: u64,
}

impl Plan {
    /// Fills in what was not said: a rate that sells the stock in about ten seconds, and room
    /// inside for as many as there are units.
    pub fn new(args: &DemoArgs) -> Self {
        let rate_per_s = args.rate_per_s.unwrap_or((args.stock / 5).clamp(10, 2_000));
        let inside_max = args.inside_max.unwrap_or(args.stock.clamp(20, 10_000));
        let opens_in_s = args.opens_in_s.unwrap_or(if args.once { 3 } else { 20 });
        let calls_s = args.stock.saturating_mul(4) / rate_per_s.min(inside_max).max(1);
        Self {
            shoppers: args.shoppers,
            stock: args.stock,
            opens_in_ms: opens_in_s.saturating_mul(1_000),
            rate_per_s,
            inside_max,
            sale_ms: SALE_LEAST_S.saturating_add(calls_s).saturating_mul(1_000),
            seed: args.seed.unwrap_or_else(|| u64::from(rand::random::<u32>())),
        }
    }
}

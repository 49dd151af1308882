//! A merchant's new deal: every field checked here, before Redis and SQL check their part again.

use crate::config::Config;
use crate::deal_room::DealRoom;
use ledger::NewDeal;
use serde::{Deserialize, Serialize};
use service_kit::ids::{DealId, MerchantId};
use service_kit::money::{Currency, Money, Quantity};
use service_kit::problem::Problem;

/// How long a hold lasts when the merchant does not say.
pub const HOLD_TTL_MS_DEFAULT: i64 = 300_000;
/// How long a shopper may ask for the money alone when the merchant does not say: seven days, as the law has it in Korea.
pub const SHOPPER_REFUND_MS_DEFAULT: i64 = 7 * 86_400_000;
/// The longest such time: a year.
pub const SHOPPER_REFUND_MS_MAX: i64 = 366 * 86_400_000;
/// Longest sale.
pub const SALE_MS_MAX: i64 = 31 * 24 * 60 * 60 * 1_000;
/// The last instant that a sale may end at: the end of the year 9999.
const INSTANT_MS_MAX: i64 = 253_402_300_799_999;

/// The body of `POST /api/v1/deals`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewDealBody {
    /// 1–120 characters on one line.
    pub title: String,
    /// At most 4,000 characters.
    #[serde(default)]
    pub description: String,
    /// Price of one unit.
    pub price: PriceBody,
    /// Units, 1 to 1,000,000.
    pub stock: i64,
    /// Most units per account, 1 to 100 and at most the stock.
    pub per_user_limit: i64,
    /// Start of the sale.
    pub starts_at_ms: i64,
    /// End of the sale, in the future.
    pub ends_at_ms: i64,
    /// How fast people are let in.
    pub admission: AdmissionBody,
    /// How long a hold lasts, 10,000 to 3,600,000 ms; five minutes when left out.
    #[serde(default)]
    pub hold_ttl_ms: Option<i64>,
    /// How long after the payment a shopper may ask for the money alone, 0 (never) to 31,622,400,000 ms; seven days when
    /// left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shopper_refund_ms: Option<i64>,
    /// What the waiting room shall be like; as the service is set up when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room: Option<DealRoom>,
}

/// An amount as it is sent.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PriceBody {
    /// Minor units.
    pub minor: i64,
    /// ISO 4217 code.
    pub currency: Currency,
}

/// Admission as it is sent.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdmissionBody {
    /// People per second, 1 to 100,000.
    pub rate_per_s: i64,
    /// People inside at once, 1 to 1,000,000.
    pub inside_max: i64,
}

impl NewDealBody {
    /// The deal, if every field is in its range. Whether its end is over already is left to [`ledger::Ledger::create_deal`],
    /// which knows first whether this is a repetition.
    ///
    /// # Errors
    /// An `invalid-field` problem that names the first field that is not.
    pub fn parse(&self, merchant: MerchantId, now_ms: i64, config: &Config) -> Result<NewDeal, Problem> {
        let title = self.title.trim();
        let is_plain = |text: &str| !text.chars().any(|c| c.is_control() && c != '\n');
        check(
            (1..=120).contains(&title.chars().count()) && !title.chars().any(char::is_control),
            "title",
            "has 1 to 120 characters on one line",
        )?;
        check(
            self.description.chars().count() <= 4_000 && is_plain(&self.description),
            "description",
            "has at most 4000 characters of plain text",
        )?;
        let price = Money::new(self.price.minor, self.price.currency)
            .map_err(|e| Problem::field("price.minor", e.to_string()))?;
        check((1..=1_000_000).contains(&self.stock), "stock", "must be 1 to 1000000")?;
        check(
            (1..=self.stock.min(100)).contains(&self.per_user_limit),
            "per_user_limit",
            "must be 1 to 100, and at most the stock",
        )?;
        let most = Quantity::new(self.per_user_limit).and_then(|q| price.times(q));
        check(most.is_ok(), "price.minor", "times `per_user_limit` is more than an order may cost")?;
        check(
            (0..=INSTANT_MS_MAX).contains(&self.starts_at_ms),
            "starts_at_ms",
            "is not an instant in milliseconds since 1970",
        )?;
        check(
            (0..=INSTANT_MS_MAX).contains(&self.ends_at_ms),
            "ends_at_ms",
            "is not an instant in milliseconds since 1970",
        )?;
        check(self.starts_at_ms < self.ends_at_ms, "ends_at_ms", "must be after `starts_at_ms`")?;
        check(
            self.ends_at_ms - self.starts_at_ms <= SALE_MS_MAX,
            "ends_at_ms",
            "must be at most 31 days after `starts_at_ms`",
        )?;
        check((1..=100_000).contains(&self.admission.rate_per_s), "admission.rate_per_s", "must be 1 to 100000")?;
        check((1..=1_000_000).contains(&self.admission.inside_max), "admission.inside_max", "must be 1 to 1000000")?;
        let hold_ttl_ms = self.hold_ttl_ms.unwrap_or(HOLD_TTL_MS_DEFAULT);
        check((10_000..=3_600_000).contains(&hold_ttl_ms), "hold_ttl_ms", "must be 10000 to 3600000")?;
        let shopper_refund_ms = self.shopper_refund_ms.unwrap_or(SHOPPER_REFUND_MS_DEFAULT);
        check(
            (0..=SHOPPER_REFUND_MS_MAX).contains(&shopper_refund_ms),
            "shopper_refund_ms",
            "must be 0 (never) to 31622400000",
        )?;
        let room = self.room.clone().unwrap_or_default();
        let new = NewDeal {
            id: DealId::new(),
            merchant,
            title: title.to_owned(),
            description: self.description.clone(),
            price,
            stock: self.stock,
            per_user_limit: self.per_user_limit,
            starts_at_ms: self.starts_at_ms,
            ends_at_ms: self.ends_at_ms,
            admission_rate_per_s: self.admission.rate_per_s,
            admission_cap: self.admission.inside_max,
            hold_ttl_ms,
            shopper_refund_ms,
            room: serde_json::to_value(&room).map_err(|e| Problem::internal(&e))?,
        };
        room.check(&new, now_ms, config)?;
        Ok(new)
    }
}

fn check(ok: bool, field: &str, rule: &str) -> Result<(), Problem> {
    if ok { Ok(()) } else { Err(Problem::field(field, rule)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const NOW: i64 = 1_700_000_000_000;

    fn config() -> Config {
        serde_json::from_value(json!({
            "listen": "127.0.0.1:0", "admin_listen": "127.0.0.1:0", "public_url": "http://127.0.0.1:8080",
        }))
        .unwrap()
    }

    fn good() -> Value {
        json!({
            "title": "Shoes", "price": {"minor": 12_900, "currency": "KRW"}, "stock": 50, "per_user_limit": 2,
            "starts_at_ms": NOW + 1_000, "ends_at_ms": NOW + 3_600_000, "admission": {"rate_per_s": 10, "inside_max": 100},
        })
    }
    fn parse(body: &Value) -> Result<NewDeal, Problem> {
        let body: NewDealBody = service_kit::http::parse(&serde_json::to_vec(body).unwrap())?;
        body.parse(MerchantId::new(), NOW, &config())
    }

    #[test]
    fn a_deal_with_the_fields_that_matter() {
        let deal = parse(&good()).unwrap();
        assert_eq!((deal.stock, deal.hold_ttl_ms, deal.price.minor()), (50, HOLD_TTL_MS_DEFAULT, 12_900));
    }

    #[test]
    fn every_bound_names_its_field() {
        let cases: &[(&str, Value, &str)] = &[
            ("/title", json!(""), "title"),
            ("/title", json!("x".repeat(121)), "title"),
            ("/title", json!("a\nb"), "title"),
            ("/title", json!(7), "title"),
            ("/price/minor", json!(-1), "price.minor"),
            ("/price/minor", json!(1.5), "price.minor"),
            ("/price/minor", json!(9_223_372_036_854_775_807_i64), "price.minor"),
            ("/price/minor", json!(600_000_000_000_i64), "price.minor"),
            ("/price/currency", json!("XXX"), "price.currency"),
            ("/stock", json!(0), "stock"),
            ("/stock", json!(1_000_001), "stock"),
            ("/stock", json!("50"), "stock"),
            ("/per_user_limit", json!(0), "per_user_limit"),
            ("/per_user_limit", json!(51), "per_user_limit"),
            ("/starts_at_ms", json!(-1), "starts_at_ms"),
            ("/starts_at_ms", json!(NOW + 3_600_000), "ends_at_ms"),
            ("/ends_at_ms", json!(NOW), "ends_at_ms"),
            ("/ends_at_ms", json!(NOW + 32 * 86_400_000), "ends_at_ms"),
            ("/ends_at_ms", json!(i64::MAX), "ends_at_ms"),
            ("/admission/rate_per_s", json!(0), "admission.rate_per_s"),
            ("/admission/rate_per_s", json!(100_001), "admission.rate_per_s"),
            ("/admission/inside_max", json!(1_000_001), "admission.inside_max"),
            ("/room", json!("draw"), "room"),
            ("/room", json!({"mode": "lottery"}), "room.mode"),
            ("/room", json!({"bypass": []}), "bypass"),
            ("/room", json!({"paused": true}), "paused"),
            ("/room", json!({"lobby_opens_at_ms": NOW + 1_001}), "room.lobby_opens_at_ms"),
            ("/room", json!({"lobby_opens_at_ms": -1}), "room.lobby_opens_at_ms"),
            ("/room", json!({"theme": {"accent": "#ffffff"}}), "room.theme.accent"),
            ("/room", json!({"theme": {"name": ""}}), "room.theme.name"),
            ("/room", json!({"notice": "x".repeat(501)}), "room.notice"),
            ("/room", json!({"lanes": [{"name": "VIP", "share_percent": 10}]}), "room.lanes[0].name"),
            ("/room", json!({"mode": "draw", "lanes": [{"name": "vip", "share_percent": 10}]}), "room.lanes"),
            ("/room", json!({"copied_pass": "forbid"}), "room.copied_pass"),
            ("/room", json!({"lease_max_ms": 599_999}), "room.lease_max_ms"),
            ("/room", json!({"end_on_purchase": "yes"}), "room.end_on_purchase"),
        ];
        for (pointer, value, field) in cases {
            let mut body = good();
            match pointer.strip_prefix('/').filter(|name| !name.contains('/')) {
                Some(name) => drop(body.as_object_mut().unwrap().insert(name.to_owned(), value.clone())),
                None => *body.pointer_mut(pointer).unwrap() = value.clone(),
            }
            let problem = parse(&body).unwrap_err();
            assert_eq!(problem.status(), 422, "{pointer} {value}");
            assert!(problem.detail.contains(&format!("`{field}`")), "{pointer} {value}: {}", problem.detail);
        }
        for (name, value) in [
            ("sold", json!(1)),
            ("merchant", json!("x")),
            ("hold_ttl_ms", json!(9_999)),
            ("hold_ttl_ms", json!(3_600_001)),
        ] {
            let mut body = good();
            body.as_object_mut().unwrap().insert(name.into(), value);
            assert!(parse(&body).unwrap_err().detail.contains(name), "{name}");
        }
    }
}

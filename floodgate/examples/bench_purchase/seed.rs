//! What is there before a measurement: accounts, deals, orders that are held. Written straight into the ledger, through
//! its own functions wherever they are not too slow.

use crate::house::House;
use anyhow::Context as _;
use ledger::{HoldOutcome, Idem, NewDeal, NewHold, Saved};
use service_kit::clock::now_ms;
use service_kit::ids::{AccountId, DealId, MerchantId, OrderId, VisitorId};
use service_kit::money::{Currency, Money};

/// What a unit costs, in won.
pub const PRICE: i64 = 12_900;
/// Orders placed by one commit.
const BATCH: usize = 500;
/// How long holds last here, in ms.
const HOLD_MS: i64 = 3_600_000;

/// An order that is held.
#[derive(Debug, Clone, Copy)]
pub struct Held {
    pub order: OrderId,
    pub account: AccountId,
}

/// A merchant.
pub async fn merchant(house: &House) -> anyhow::Result<MerchantId> {
    let merchant = MerchantId::new();
    house.ledger.create_merchant(merchant, "Bench", now_ms()).await?;
    Ok(merchant)
}

/// Accounts. Nobody signs in with a password: sessions are signed with the ring.
pub async fn accounts(house: &House, n: usize) -> anyhow::Result<Vec<AccountId>> {
    let accounts: Vec<AccountId> = (0..n).map(|_| AccountId::new()).collect();
    let ids: Vec<_> = accounts.iter().map(|account| account.0).collect();
    house
        .sql
        .execute(
            "INSERT INTO account (id, email, name, password_hash, created_at_ms)
             SELECT id, id::text || '@bench.invalid', 'Shopper', '-', $2 FROM unnest($1::uuid[]) id",
            &[&ids, &now_ms()],
        )
        .await?;
    Ok(accounts)
}

/// A deal that is open.
pub async fn deal(house: &House, merchant: MerchantId, stock: i64, per_user_limit: i64) -> anyhow::Result<DealId> {
    let now = now_ms();
    let deal = NewDeal {
        id: DealId::new(),
        merchant,
        title: "제주 감귤 5kg".into(),
        description: String::new(),
        price: Money::new(PRICE, Currency::KRW)?,
        stock,
        per_user_limit,
        starts_at_ms: now - 1_000,
        ends_at_ms: now + 3_600_000,
        admission_rate_per_s: 100_000,
        admission_cap: 1_000_000,
        hold_ttl_ms: HOLD_MS,
        shopper_refund_ms: 0,
        room: serde_json::json!({}),
    };
    let id = deal.id;
    let idem = Idem { actor: "bench".into(), key: id.to_string(), fingerprint: [1; 32] };
    let saved = |_: &ledger::Deal| Saved { status: 201, body: Vec::new() };
    house.ledger.create_deal(&deal, now, &idem, saved).await.context("make a deal")?;
    Ok(id)
}

/// Orders of a deal that no process has seen yet, one per account.
pub async fn held(house: &House, deal: DealId, accounts: &[AccountId]) -> anyhow::Result<Vec<Held>> {
    let mut all = Vec::with_capacity(accounts.len());
    for part in accounts.chunks(BATCH) {
        let (now, amount) = (now_ms(), Money::new(PRICE, Currency::KRW)?);
        let holds: Vec<NewHold> = part
            .iter()
            .map(|account| NewHold {
                order: OrderId::new(),
                deal,
                account: *account,
                lease_number: 1,
                visitor: VisitorId::new(),
                quantity: 1,
                amount,
                idempotency_key: format!("seed-{deal}"),
                fingerprint: [1; 32],
                hold_expires_at_ms: now + HOLD_MS,
                confirm_by_ms: now + 10_000,
                epoch: 0,
                trace_id: "seed".into(),
            })
            .collect();
        for outcome in house.ledger.place_holds(&holds, now).await? {
            let HoldOutcome::Placed(order) = outcome else { anyhow::bail!("an order was not placed: {outcome:?}") };
            all.push(Held { order: order.id, account: order.account });
        }
    }
    Ok(all)
}

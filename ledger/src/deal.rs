//! Deals, and the snapshot from which the fast stock is filled.

use crate::idempotency::{self, Idem, Replay, Saved};
use crate::order::OrderState;
use crate::pool::{id, int, money, text};
use crate::{Ledger, LedgerError};
use service_kit::ids::{AccountId, DealId, MerchantId, OrderId};
use service_kit::money::Money;
use tokio_postgres::Row;

/// A deal to be made. All fields are validated by the caller and again by SQL.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the fields are the columns; see [`Deal`] for units")]
pub struct NewDeal {
    pub id: DealId,
    pub merchant: MerchantId,
    pub title: String,
    pub description: String,
    pub price: Money,
    pub stock: i64,
    pub per_user_limit: i64,
    pub starts_at_ms: i64,
    pub ends_at_ms: i64,
    pub admission_rate_per_s: i64,
    pub admission_cap: i64,
    pub hold_ttl_ms: i64,
    pub shopper_refund_ms: i64,
    pub room: serde_json::Value,
}

/// A deal with its counters at the moment of reading.
#[derive(Debug, Clone, PartialEq)]
pub struct Deal {
    /// Id.
    pub id: DealId,
    /// Who sells.
    pub merchant: MerchantId,
    /// The merchant's name.
    pub merchant_name: String,
    /// Plain text, 1–120 characters.
    pub title: String,
    /// Plain text.
    pub description: String,
    /// Price of one unit.
    pub price: Money,
    /// Units that exist.
    pub stock: i64,
    /// Units in orders that are held or being paid.
    pub held: i64,
    /// Units in paid orders.
    pub sold: i64,
    /// Most units per account.
    pub per_user_limit: i64,
    /// Opening instant.
    pub starts_at_ms: i64,
    /// Closing instant.
    pub ends_at_ms: i64,
    /// Target of the waiting room: entries per second.
    pub admission_rate_per_s: i64,
    /// Most people inside at once.
    pub admission_cap: i64,
    /// How long a hold lasts.
    pub hold_ttl_ms: i64,
    /// Fencing epoch of the fast stock.
    pub epoch: i64,
    /// When it was made.
    pub created_at_ms: i64,
    /// What the merchant wants of the waiting room; the ledger only keeps it.
    pub room: serde_json::Value,
}

/// Why a deal was not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DealRefusal {
    /// Its end is not in the future.
    Ended,
}

/// An order that has units of the deal.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the fields are the columns")]
pub struct ActiveOrder {
    pub order: OrderId,
    pub account: AccountId,
    pub lease_number: i64,
    pub quantity: i64,
    pub state: OrderState,
    pub hold_expires_at_ms: i64,
}

/// Everything the fast stock needs, read under the deal's lock.
#[derive(Debug, Clone)]
pub struct DealSnapshot {
    /// The deal, its `epoch` already raised.
    pub deal: Deal,
    /// Orders that hold units: held, paying, and those that an operator has to decide about.
    pub holding: Vec<ActiveOrder>,
    /// Units per account, held and bought. Also 0: whoever ever held some may ask for an old order again.
    pub bought: Vec<(AccountId, i64)>,
}

const DEAL: &str = "SELECT d.*, d.room::text AS room_text, m.name AS merchant_name FROM deal d JOIN merchant m ON m.id = d.merchant_id";

impl Deal {
    /// Units that nobody holds or bought.
    pub fn available(&self) -> i64 {
        self.stock - self.held - self.sold
    }

    fn from_row(row: &Row) -> Result<Self, LedgerError> {
        Ok(Self {
            id: DealId(id(row, "id")?),
            merchant: MerchantId(id(row, "merchant_id")?),
            merchant_name: text(row, "merchant_name")?,
            title: text(row, "title")?,
            description: text(row, "description")?,
            price: money(row, "price_minor")?,
            stock: int(row, "stock")?,
            held: int(row, "held")?,
            sold: int(row, "sold")?,
            per_user_limit: int(row, "per_user_limit")?,
            starts_at_ms: int(row, "starts_at_ms")?,
            ends_at_ms: int(row, "ends_at_ms")?,
            admission_rate_per_s: int(row, "admission_rate_per_s")?,
            admission_cap: int(row, "admission_cap")?,
            hold_ttl_ms: int(row, "hold_ttl_ms")?,
            epoch: int(row, "epoch")?,
            created_at_ms: int(row, "created_at_ms")?,
            room: serde_json::from_str(&text(row, "room_text")?)
                .map_err(|_| LedgerError::Shape("`room` is no JSON".into()))?,
        })
    }
}

impl Ledger {
    /// Makes a deal once per idempotency key; `render` writes the answer that is stored with it. Only a new deal must end in
    /// the future: who repeats a request whose answer was lost hears that answer, however late.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn create_deal(
        &self,
        new: &NewDeal,
        now_ms: i64,
        idem: &Idem,
        render: impl FnOnce(&Deal) -> Saved,
    ) -> Result<Replay<DealRefusal>, LedgerError> {
        let mut client = self.client().await?;
        let tx = client.transaction().await?;
        if let Some(answer) = idempotency::find(&tx, idem, now_ms).await? {
            return Ok(answer);
        }
        if new.ends_at_ms <= now_ms {
            return Ok(Replay::Refused(DealRefusal::Ended));
        }
        tx.execute(
            "INSERT INTO deal (id, merchant_id, title, description, price_minor, currency, stock, per_user_limit,
                starts_at_ms, ends_at_ms, admission_rate_per_s, admission_cap, hold_ttl_ms, created_at_ms, room,
                shopper_refund_ms)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15::text::jsonb, $16)",
            &[
                &new.id.0,
                &new.merchant.0,
                &new.title,
                &new.description,
                &new.price.minor(),
                &new.price.currency().code(),
                &new.stock,
                &new.per_user_limit,
                &new.starts_at_ms,
                &new.ends_at_ms,
                &new.admission_rate_per_s,
                &new.admission_cap,
                &new.hold_ttl_ms,
                &now_ms,
                &new.room.to_string(),
                &new.shopper_refund_ms,
            ],
        )
        .await?;
        let deal = Deal::from_row(&tx.query_one(&format!("{DEAL} WHERE d.id = $1"), &[&new.id.0]).await?)?;
        let saved = render(&deal);
        idempotency::save(&tx, idem, &saved).await?;
        tx.commit().await?;
        Ok(Replay::Fresh(saved))
    }

    /// One deal.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn deal(&self, deal: DealId) -> Result<Option<Deal>, LedgerError> {
        let row = self.client().await?.query_opt(&format!("{DEAL} WHERE d.id = $1"), &[&deal.0]).await?;
        row.as_ref().map(Deal::from_row).transpose()
    }

    /// Deals, newest first, those after `after` in that order. At most `limit`.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn list_deals(&self, after: Option<DealId>, limit: i64) -> Result<Vec<Deal>, LedgerError> {
        let rows = self
            .client()
            .await?
            .query(
                &format!("{DEAL} WHERE d.id < $1 ORDER BY d.id DESC LIMIT $2"),
                &[&after.map_or(uuid::Uuid::max(), |d| d.0), &limit],
            )
            .await?;
        rows.iter().map(Deal::from_row).collect()
    }

    /// Deals that have not ended, or ended less than `grace_ms` ago: those that need a room and a fast stock. All of them, by
    /// their start; whatever one merchant posts, nobody's deal is left out. They are read in pages of `page` deals by their
    /// end, which never changes and has an index (`deal_by_end`). One that is made meanwhile may be in the next look only.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn open_deals(&self, now_ms: i64, grace_ms: i64, page: i64) -> Result<Vec<Deal>, LedgerError> {
        let client = self.client().await?;
        let sql = format!("{DEAL} WHERE (d.ends_at_ms, d.id) > ($1, $2) ORDER BY d.ends_at_ms, d.id LIMIT $3");
        let page = page.max(1);
        let mut deals: Vec<Deal> = Vec::new();
        let mut after = (now_ms.saturating_sub(grace_ms), uuid::Uuid::max());
        loop {
            let rows = client.query(&sql, &[&after.0, &after.1, &page]).await?;
            for row in &rows {
                deals.push(Deal::from_row(row)?);
            }
            let is_full = i64::try_from(rows.len()).is_ok_and(|read| read >= page);
            match deals.last() {
                Some(last) if is_full => after = (last.ends_at_ms, last.id.0),
                _ => break,
            }
        }
        deals.sort_by_key(|d| (d.starts_at_ms, d.id));
        Ok(deals)
    }

    /// The highest number of the line that ever held units of the deal; 0 = none did.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn highest_lease(&self, deal: DealId) -> Result<i64, LedgerError> {
        let sql = "SELECT coalesce(max(lease_number), 0) AS highest FROM orders WHERE deal_id = $1";
        int(&self.client().await?.query_one(sql, &[&deal.0]).await?, "highest")
    }

    /// Raises the epoch and reads what the fast stock must hold, under the lock of the deal: a hold
    /// that was taken under the older epoch is either in this snapshot or will be refused.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn load_deal(&self, deal: DealId) -> Result<Option<DealSnapshot>, LedgerError> {
        let mut client = self.client().await?;
        let tx = client.transaction().await?;
        if tx.execute("UPDATE deal SET epoch = epoch + 1 WHERE id = $1", &[&deal.0]).await? == 0 {
            return Ok(None);
        }
        let row = tx.query_one(&format!("{DEAL} WHERE d.id = $1"), &[&deal.0]).await?;
        let holding = tx
            .query(
                "SELECT id, account_id, lease_number, quantity, state, hold_expires_at_ms FROM orders
                 WHERE deal_id = $1 AND state IN ('held', 'paying', 'quarantined') AND held_units > 0",
                &[&deal.0],
            )
            .await?;
        let bought = tx.query("SELECT account_id, units FROM allowance WHERE deal_id = $1", &[&deal.0]).await?;
        let snapshot = DealSnapshot {
            deal: Deal::from_row(&row)?,
            holding: holding
                .iter()
                .map(|r| {
                    Ok(ActiveOrder {
                        order: OrderId(id(r, "id")?),
                        account: AccountId(id(r, "account_id")?),
                        lease_number: int(r, "lease_number")?,
                        quantity: int(r, "quantity")?,
                        state: text(r, "state")?.parse()?,
                        hold_expires_at_ms: int(r, "hold_expires_at_ms")?,
                    })
                })
                .collect::<Result<_, LedgerError>>()?,
            bought: bought
                .iter()
                .map(|r| Ok((AccountId(id(r, "account_id")?), int(r, "units")?)))
                .collect::<Result<_, LedgerError>>()?,
        };
        tx.commit().await?;
        Ok(Some(snapshot))
    }
}

//! Deals: reading them, and the merchant's new one.

use crate::app::App;
use crate::deal_room::DealRoom;
use crate::holds::no_deal;
use crate::new_deal::NewDealBody;
use crate::request::{Answer, IdempotencyKey, PageRequest, fingerprint};
use crate::view::{DealView, Page};
use crate::{refusal, session};
use axum::http::HeaderMap;
use ledger::{DealRefusal, Idem, LedgerError, Merchant, Replay, Saved};
use service_kit::clock::now_ms;
use service_kit::ids::DealId;
use service_kit::problem::{Problem, Slug};
use sha2::Digest as _;

/// Longest API key that is looked at, in bytes.
const API_KEY_BYTES_MAX: usize = 128;

impl App {
    /// Deals, newest first; at most one second old.
    ///
    /// # Errors
    /// A 503 when PostgreSQL does not answer.
    pub async fn list_deals(&self, page: PageRequest<DealId>) -> Result<Page<DealView>, Problem> {
        let wanted = usize::try_from(page.limit).unwrap_or(usize::MAX);
        let found = self
            .parts
            .catalogue
            .list(page.starting_after, i64::from(page.limit) + 1)
            .await
            .map_err(|e| refusal::ledger(&e))?;
        let now = now_ms();
        Ok(Page {
            data: found.iter().take(wanted).map(|d| DealView::of(d, now)).collect(),
            has_more: found.len() > wanted,
        })
    }

    /// One deal, at most one second old.
    ///
    /// # Errors
    /// `not-found`, or a 503.
    pub async fn deal(&self, deal: DealId) -> Result<DealView, Problem> {
        let found = self.parts.catalogue.deal(deal).await.map_err(|e| refusal::ledger(&e))?;
        found.map(|d| DealView::of(&d, now_ms())).ok_or_else(no_deal)
    }

    /// Where a paid order of this deal ends the pass: how long a pass may still last, in ms. A deal never changes its
    /// mind, so an older answer is as good.
    ///
    /// # Errors
    /// When PostgreSQL does not answer.
    pub(crate) async fn pass_ended_ms(&self, deal: DealId) -> Result<Option<u32>, LedgerError> {
        let found = self.parts.catalogue.deal(deal).await?;
        let room = found.and_then(|d| DealRoom::of(&d).ok()).filter(|room| room.end_on_purchase);
        Ok(room.map(|room| room.lease_ms.unwrap_or(self.parts.config.lease_ms)))
    }

    /// The merchant of an API key (`Authorization: Bearer sk_…`). Only the key's hash is compared.
    ///
    /// # Errors
    /// `not-signed-in`, or a 503.
    pub async fn merchant(&self, headers: &HeaderMap) -> Result<Merchant, Problem> {
        let refused =
            || Problem::new(Slug::NotSignedIn, "Send the merchant's API key as `Authorization: Bearer sk_…`.");
        let key = session::bearer(headers)
            .filter(|k| k.starts_with("sk_") && k.len() <= API_KEY_BYTES_MAX)
            .ok_or_else(refused)?;
        let hash: [u8; 32] = sha2::Sha256::digest(key.as_bytes()).into();
        self.parts.ledger.merchant_by_key_hash(&hash).await.map_err(|e| refusal::ledger(&e))?.ok_or_else(refused)
    }

    /// Makes a deal; its room and its fast stock follow within a second. 201. What is wrong at any time is refused before the
    /// key is looked up, and what only time made wrong after it: a repetition hears the stored answer even when the deal is over.
    ///
    /// # Errors
    /// `invalid-field`, `idempotency-key-reused`, or a 503.
    pub async fn create_deal(
        &self,
        merchant: &Merchant,
        body: &NewDealBody,
        key: &IdempotencyKey,
    ) -> Result<Answer, Problem> {
        let now = now_ms();
        let text = serde_json::to_string(body).map_err(|e| Problem::internal(&e))?;
        let idem = Idem {
            actor: format!("merchant:{}", merchant.id),
            key: key.as_str().to_owned(),
            fingerprint: fingerprint(&["deal", &text]),
        };
        let new = body.parse(merchant.id, now, &self.parts.config)?;
        let render = |deal: &ledger::Deal| Saved {
            status: 201,
            body: serde_json::to_vec(&DealView::of(deal, now)).unwrap_or_default(),
        };
        let replay = self.parts.ledger.create_deal(&new, now, &idem, render).await.map_err(|e| refusal::ledger(&e))?;
        let answer = match replay {
            Replay::Fresh(saved) => Answer { status: saved.status, body: saved.body, replayed: false },
            Replay::Replayed(saved) => Answer { status: saved.status, body: saved.body, replayed: true },
            Replay::KeyReused => return Err(refusal::key_reused()),
            Replay::Refused(DealRefusal::Ended) => return Err(Problem::field("ends_at_ms", "must be in the future")),
        };
        if !answer.replayed {
            self.parts.catalogue.forget(new.id).await;
            self.parts.suspects.report(new.id);
        }
        Ok(answer)
    }
}

//! The bodies of the provider's API: fields, types and limits as in its contract (`contract/kakaopay`).
//!
//! Unknown fields are refused, although the provider is said to ignore them: a misspelt optional field of a client
//! (say, the guard `cancel_available_amount`) would otherwise be lost without a sound.

use super::error::ApiError;
use crate::web::web_origin;
use serde::{Deserialize, Serialize};

/// Largest amount in won: far above any purchase, far inside every integer.
pub const AMOUNT_MAX: i64 = service_kit::money::AMOUNT_MINOR_MAX;

/// A sum of money in won, by its parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Amount {
    /// All of it.
    pub total: i64,
    /// The part without tax.
    pub tax_free: i64,
    /// The value added tax in it.
    pub vat: i64,
    /// The part paid by points.
    pub point: i64,
    /// The discount.
    pub discount: i64,
    /// The deposit for reusable cups.
    pub green_deposit: i64,
}

impl Amount {
    /// `self` less `part`, part by part.
    #[must_use]
    pub fn less(self, part: Self) -> Self {
        Self {
            total: self.total - part.total,
            tax_free: self.tax_free - part.tax_free,
            vat: self.vat - part.vat,
            point: self.point - part.point,
            discount: self.discount - part.discount,
            green_deposit: self.green_deposit - part.green_deposit,
        }
    }
    /// `self` and `part`, part by part.
    #[must_use]
    pub fn plus(self, part: Self) -> Self {
        self.less(Self::default().less(part))
    }
}

/// The default of `vat_amount`: an eleventh of what is taxed, rounded to the nearest won.
pub fn default_vat(total: i64, tax_free: i64) -> i64 {
    (total - tax_free + 5) / 11
}

/// How the shopper pays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    Card,
    Money,
}

/// Body of `/ready`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadyRequest {
    pub cid: String,
    pub cid_secret: Option<String>,
    pub partner_order_id: String,
    pub partner_user_id: String,
    pub item_name: String,
    pub item_code: Option<String>,
    pub quantity: i64,
    pub total_amount: i64,
    pub tax_free_amount: i64,
    pub vat_amount: Option<i64>,
    pub green_deposit: Option<i64>,
    pub approval_url: String,
    pub cancel_url: String,
    pub fail_url: String,
    #[expect(dead_code, reason = "read for its type only: every card pays here")]
    pub available_cards: Option<Vec<String>>,
    pub payment_method_type: Option<Method>,
    pub install_month: Option<i64>,
    #[expect(dead_code, reason = "read for its type only")]
    pub use_share_installment: Option<String>,
    #[expect(dead_code, reason = "read for its type only")]
    pub custom_json: Option<serde_json::Value>,
}

impl ReadyRequest {
    /// Refuses what the types let through.
    ///
    /// # Errors
    /// Names the field.
    pub fn check(&self) -> Result<(), ApiError> {
        check_secret(self.cid_secret.as_deref())?;
        text("partner_order_id", &self.partner_order_id, 100)?;
        text("partner_user_id", &self.partner_user_id, 100)?;
        text("item_name", &self.item_name, 100)?;
        self.item_code.as_deref().map_or(Ok(()), |code| text("item_code", code, 100))?;
        number("quantity", self.quantity, 1, i64::from(i32::MAX))?;
        number("total_amount", self.total_amount, 1, AMOUNT_MAX)?;
        number("tax_free_amount", self.tax_free_amount, 0, self.total_amount)?;
        let taxed = self.total_amount - self.tax_free_amount;
        self.vat_amount.map_or(Ok(()), |vat| number("vat_amount", vat, 0, taxed))?;
        self.green_deposit.map_or(Ok(()), |deposit| number("green_deposit", deposit, 0, self.total_amount))?;
        for (field, url) in
            [("approval_url", &self.approval_url), ("cancel_url", &self.cancel_url), ("fail_url", &self.fail_url)]
        {
            text(field, url, 255)?;
            web_origin(url).ok_or_else(|| ApiError::parameter(field, "an http or https URL"))?;
        }
        self.install_month.map_or(Ok(()), |months| number("install_month", months, 0, 12))
    }
    /// The sum that is asked for.
    pub fn amount(&self) -> Amount {
        Amount {
            total: self.total_amount,
            tax_free: self.tax_free_amount,
            vat: self.vat_amount.unwrap_or_else(|| default_vat(self.total_amount, self.tax_free_amount)),
            green_deposit: self.green_deposit.unwrap_or(0),
            ..Amount::default()
        }
    }
}

/// Body of `/approve`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApproveRequest {
    pub cid: String,
    pub cid_secret: Option<String>,
    pub tid: String,
    pub partner_order_id: String,
    pub partner_user_id: String,
    pub pg_token: String,
    pub payload: Option<String>,
    pub total_amount: Option<i64>,
}

impl ApproveRequest {
    /// Refuses what the types let through.
    ///
    /// # Errors
    /// Names the field.
    pub fn check(&self) -> Result<(), ApiError> {
        check_secret(self.cid_secret.as_deref())?;
        check_tid(&self.tid)?;
        text("partner_order_id", &self.partner_order_id, 100)?;
        text("partner_user_id", &self.partner_user_id, 100)?;
        text("pg_token", &self.pg_token, 100)?;
        check_payload(self.payload.as_deref())?;
        self.total_amount.map_or(Ok(()), |total| number("total_amount", total, 1, AMOUNT_MAX))
    }
}

/// Body of `/cancel`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CancelRequest {
    pub cid: String,
    pub cid_secret: Option<String>,
    pub tid: String,
    pub cancel_amount: i64,
    pub cancel_tax_free_amount: i64,
    pub cancel_vat_amount: Option<i64>,
    pub cancel_available_amount: Option<i64>,
    pub payload: Option<String>,
}

impl CancelRequest {
    /// Refuses what the types let through.
    ///
    /// # Errors
    /// Names the field.
    pub fn check(&self) -> Result<(), ApiError> {
        check_secret(self.cid_secret.as_deref())?;
        check_tid(&self.tid)?;
        number("cancel_amount", self.cancel_amount, 1, AMOUNT_MAX)?;
        number("cancel_tax_free_amount", self.cancel_tax_free_amount, 0, self.cancel_amount)?;
        let taxed = self.cancel_amount - self.cancel_tax_free_amount;
        self.cancel_vat_amount.map_or(Ok(()), |vat| number("cancel_vat_amount", vat, 0, taxed))?;
        self.cancel_available_amount.map_or(Ok(()), |left| number("cancel_available_amount", left, 0, AMOUNT_MAX))?;
        check_payload(self.payload.as_deref())
    }
}

/// Body of `/order`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OrderRequest {
    pub cid: String,
    pub cid_secret: Option<String>,
    pub tid: String,
}

impl OrderRequest {
    /// Refuses what the types let through.
    ///
    /// # Errors
    /// Names the field.
    pub fn check(&self) -> Result<(), ApiError> {
        check_secret(self.cid_secret.as_deref())?;
        check_tid(&self.tid)
    }
}

fn text(field: &str, value: &str, chars_max: usize) -> Result<(), ApiError> {
    let chars = value.chars().count();
    if (1..=chars_max).contains(&chars) && !value.chars().any(char::is_control) {
        Ok(())
    } else {
        Err(ApiError::parameter(field, &format!("1 to {chars_max} characters")))
    }
}

fn number(field: &str, value: i64, min: i64, max: i64) -> Result<(), ApiError> {
    if (min..=max).contains(&value) {
        Ok(())
    } else {
        Err(ApiError::parameter(field, &format!("a whole number from {min} to {max}")))
    }
}

fn check_tid(tid: &str) -> Result<(), ApiError> {
    if tid.len() == 20 { Ok(()) } else { Err(ApiError::parameter("tid", "20 characters")) }
}

fn check_secret(secret: Option<&str>) -> Result<(), ApiError> {
    match secret {
        Some(secret) if secret.len() != 24 => Err(ApiError::parameter("cid_secret", "24 characters")),
        _ => Ok(()),
    }
}

fn check_payload(payload: Option<&str>) -> Result<(), ApiError> {
    payload.filter(|payload| !payload.is_empty()).map_or(Ok(()), |payload| text("payload", payload, 200))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vat_is_an_eleventh_rounded_to_the_nearest_won() {
        for (total, tax_free, vat) in
            [(2200, 0, 200), (12_900, 0, 1173), (100, 100, 0), (1, 0, 0), (6, 0, 1), (5, 0, 0)]
        {
            assert_eq!(default_vat(total, tax_free), vat, "{total} less {tax_free}");
        }
    }
}

//! Shoppers' accounts.

use crate::pool::{id, text};
use crate::{Ledger, LedgerError};
use service_kit::ids::AccountId;
use tokio_postgres::Row;

/// An account to be made. The e-mail must be lower-case already.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the fields are the columns")]
pub struct NewAccount {
    pub id: AccountId,
    pub email: String,
    pub password_hash: String,
    pub name: String,
}

/// A stored account.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the fields are the columns")]
pub struct Account {
    pub id: AccountId,
    pub email: String,
    pub name: String,
    pub password_hash: String,
}

impl Account {
    fn from_row(row: &Row) -> Result<Self, LedgerError> {
        Ok(Self {
            id: AccountId(id(row, "id")?),
            email: text(row, "email")?,
            name: text(row, "name")?,
            password_hash: text(row, "password_hash")?,
        })
    }
}

impl Ledger {
    /// Makes an account; `false` when the e-mail is taken.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn create_account(&self, new: &NewAccount, now_ms: i64) -> Result<bool, LedgerError> {
        let made = self
            .client()
            .await?
            .execute(
                "INSERT INTO account (id, email, name, password_hash, created_at_ms) VALUES ($1, $2, $3, $4, $5)
                 ON CONFLICT (email) DO NOTHING",
                &[&new.id.0, &new.email, &new.name, &new.password_hash, &now_ms],
            )
            .await?;
        Ok(made == 1)
    }

    /// Makes many accounts at once (rehearsals); those whose e-mail is taken are left out.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn create_accounts(&self, new: &[NewAccount], now_ms: i64) -> Result<u64, LedgerError> {
        let ids: Vec<uuid::Uuid> = new.iter().map(|a| a.id.0).collect();
        let emails: Vec<&str> = new.iter().map(|a| a.email.as_str()).collect();
        let names: Vec<&str> = new.iter().map(|a| a.name.as_str()).collect();
        let hashes: Vec<&str> = new.iter().map(|a| a.password_hash.as_str()).collect();
        Ok(self
            .client()
            .await?
            .execute(
                "INSERT INTO account (id, email, name, password_hash, created_at_ms)
                 SELECT i, e, n, h, $5 FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[]) AS t(i, e, n, h)
                 ON CONFLICT (email) DO NOTHING",
                &[&ids, &emails, &names, &hashes, &now_ms],
            )
            .await?)
    }

    /// The account with this e-mail (lower-case).
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn account_by_email(&self, email: &str) -> Result<Option<Account>, LedgerError> {
        let row = self.client().await?.query_opt("SELECT * FROM account WHERE email = $1", &[&email]).await?;
        row.as_ref().map(Account::from_row).transpose()
    }

    /// The account with this id.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn account(&self, account: AccountId) -> Result<Option<Account>, LedgerError> {
        let row = self.client().await?.query_opt("SELECT * FROM account WHERE id = $1", &[&account.0]).await?;
        row.as_ref().map(Account::from_row).transpose()
    }
}

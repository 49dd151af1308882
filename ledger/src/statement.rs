//! Connections whose statements are prepared once and kept, so that a statement is one round trip instead of two or
//! three. Every text here is a constant of the program: the number of kept statements is bounded.
//!
//! A migration by a newer program may change what a kept statement answers; PostgreSQL then refuses it once per
//! connection, before anything is done. The statements of that connection are forgotten, and the error is one that may
//! be repeated.

use deadpool_postgres::{ClientWrapper, Object, StatementCache};
use std::ops::{Deref, DerefMut};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Error, Row};

/// For a transaction that goes by keys, before all that does: one plan is as good as the next, so it is kept. Left to itself
/// PostgreSQL plans an array of keys anew each time, because a few that it knows look cheaper than the ten that it expects of
/// any array (ADR 0022).
pub(crate) const KEEP_PLANS: &str = "SELECT set_config('plan_cache_mode', 'force_generic_plan', true)";

/// A text and its parameters.
pub(crate) type Statement<'s> = (&'s str, &'s [&'s (dyn ToSql + Sync)]);

/// A connection of the pool.
pub(crate) struct Client(Object);

/// A transaction. Dropped without a commit it is rolled back.
pub(crate) struct Transaction<'c>(deadpool_postgres::Transaction<'c>);

/// Whether a kept statement no longer fits the schema.
pub(crate) fn is_outdated(error: &tokio_postgres::error::DbError) -> bool {
    *error.code() == SqlState::FEATURE_NOT_SUPPORTED && error.message().starts_with("cached plan")
}

fn forget_outdated<T>(statements: &StatementCache, result: &Result<T, Error>) {
    if let Err(error) = result
        && error.as_db_error().is_some_and(is_outdated)
    {
        statements.clear();
    }
}

macro_rules! prepared {
    ($($name:ident -> $out:ty),*) => {$(
        pub(crate) async fn $name(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<$out, Error> {
            let statement = self.0.prepare_cached(sql).await?;
            let result = self.0.$name(&statement, params).await;
            forget_outdated(&self.0.statement_cache, &result);
            result
        }
    )*};
}

impl Client {
    prepared!(execute -> u64, query -> Vec<Row>, query_opt -> Option<Row>, query_one -> Row);

    pub(crate) async fn transaction(&mut self) -> Result<Transaction<'_>, Error> {
        self.0.transaction().await.map(Transaction)
    }
}

/// What can be asked on a connection as well as inside a transaction.
pub(crate) trait Reads: Sync {
    fn read_opt(
        &self,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> impl Future<Output = Result<Option<Row>, Error>> + Send;
}

impl Reads for Client {
    async fn read_opt(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Option<Row>, Error> {
        self.query_opt(sql, params).await
    }
}

impl Reads for Transaction<'_> {
    async fn read_opt(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Option<Row>, Error> {
        self.query_opt(sql, params).await
    }
}

impl From<Object> for Client {
    fn from(object: Object) -> Self {
        Self(object)
    }
}

impl Deref for Client {
    type Target = ClientWrapper;
    fn deref(&self) -> &ClientWrapper {
        &self.0
    }
}

impl DerefMut for Client {
    fn deref_mut(&mut self) -> &mut ClientWrapper {
        &mut self.0
    }
}

impl Transaction<'_> {
    prepared!(execute -> u64, query -> Vec<Row>, query_opt -> Option<Row>, query_one -> Row);

    /// Sends statements without waiting for one another's answers: one round trip for all of them. They run in this order;
    /// after one that fails, the others fail too. The rows of each. For a handful: beyond 30 the order would be lost.
    pub(crate) async fn at_once(&self, statements: &[Statement<'_>]) -> Result<Vec<Vec<Row>>, Error> {
        let mut prepared = Vec::with_capacity(statements.len());
        // Before the first is sent: one that has to be prepared must not be overtaken.
        for (sql, _) in statements {
            prepared.push(self.0.prepare_cached(sql).await?);
        }
        // Each is sent when it is asked for the first time, and they are asked in order.
        let sent = prepared.iter().zip(statements).map(|(statement, (_, params))| self.0.query(statement, params));
        let result = futures::future::try_join_all(sent).await;
        forget_outdated(&self.0.statement_cache, &result);
        result
    }

    pub(crate) async fn commit(self) -> Result<(), Error> {
        self.0.commit().await
    }
}

impl<'c> From<deadpool_postgres::Transaction<'c>> for Transaction<'c> {
    fn from(transaction: deadpool_postgres::Transaction<'c>) -> Self {
        Self(transaction)
    }
}

impl<'c> Deref for Transaction<'c> {
    type Target = deadpool_postgres::Transaction<'c>;
    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

//! Is the checker awake? Mistakes that real shops have made, put into the product one at a time. Each must be found by
//! an invariant that it breaks within a number of seeds; one that is not found shows that a check or the nemesis sleeps.
//!
//! The list is [`BUGS`]. A mistake in Rust stands at its place as `planted!("name")`, which is `false` in every build but
//! that of `floodgate-planted`. One in a script replaces text of the script as it is loaded; one in SQL replaces text of
//! a function, or takes a constraint away, in the database of the run. A text that is not there exactly once is an error.

mod list;

use crate::nemesis::{self, Planned};
use crate::run::SALE_MS;
use anyhow::Context as _;
pub use list::BUGS;
use serde_json::json;
use std::path::Path;
use tokio_postgres::Client;

/// The variable that tells a process of `floodgate-planted` which mistake to make (`service_kit::planted`).
pub const VARIABLE: &str = "FLOODGATE_PLANTED";
/// The executable that has the mistakes.
pub const PROGRAM: &str = "floodgate-planted";

/// A mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bug {
    /// Its name, unique.
    pub name: &'static str,
    /// What goes wrong.
    pub breaks: &'static str,
    /// The invariants of which one must find it.
    pub caught_by: &'static [&'static str],
    /// Whether Rust code has a place with its name.
    pub in_code: bool,
    /// Changes of scripts.
    pub lua: &'static [Lua],
    /// Changes of the database.
    pub sql: &'static [Sql],
    /// Faults without which hardly anybody comes to it; they strike besides those of each seed.
    pub needs: &'static [Planned],
}

/// Another text in a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lua {
    /// How the script's header begins, after `-- `.
    pub script: &'static str,
    /// What stands there once.
    pub from: &'static str,
    /// What stands there instead.
    pub to: &'static str,
}

/// A change of the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sql {
    /// Another text in a function.
    Function {
        /// The function's name.
        name: &'static str,
        /// What stands there once.
        from: &'static str,
        /// What stands there instead.
        to: &'static str,
    },
    /// A statement, e.g. one that drops a constraint.
    Statement(&'static str),
}

impl Bug {
    /// The bug of this name.
    ///
    /// # Errors
    /// When there is none.
    pub fn named(name: &str) -> anyhow::Result<&'static Self> {
        BUGS.iter().find(|bug| bug.name == name).with_context(|| format!("no planted bug is called `{name}`"))
    }

    /// The faults of `seed` and those that it needs, by time.
    pub fn plan(&self, seed: u64) -> Vec<Planned> {
        let mut planned = self.needs.to_vec();
        planned.extend(nemesis::plan(seed, SALE_MS));
        planned.sort_by_key(|planned| planned.at_ms);
        planned
    }

    /// What [`VARIABLE`] says.
    pub fn variable(&self) -> String {
        let lua: Vec<[&str; 3]> = self.lua.iter().map(|lua| [lua.script, lua.from, lua.to]).collect();
        json!({ "name": self.name, "lua": lua }).to_string()
    }

    /// Changes the database of a run.
    ///
    /// # Errors
    /// When a text is not there exactly once, or PostgreSQL refuses.
    pub async fn plant(&self, client: &Client) -> anyhow::Result<()> {
        for change in self.sql {
            let statement = match change {
                Sql::Statement(statement) => (*statement).to_owned(),
                Sql::Function { name, from, to } => {
                    let sql = "SELECT pg_get_functiondef(oid) FROM pg_proc WHERE proname = $1";
                    let text: String = client.query_one(sql, &[name]).await?.try_get(0)?;
                    replaced(&text, from, to).with_context(|| format!("{}: function {name}", self.name))?
                }
            };
            client.batch_execute(&statement).await.with_context(|| format!("{}: {statement}", self.name))?;
        }
        Ok(())
    }

    /// Whether some process of a run came to the mistake, by its log. A change of the database is there from the start.
    pub fn was_reached(&self, logs: &Path) -> bool {
        let said = format!("planted bug {}: reached", self.name);
        let log = |role: &&str| std::fs::read(logs.join(format!("{role}.log"))).unwrap_or_default();
        !self.sql.is_empty()
            || crate::house::ROLES.iter().map(log).any(|log| String::from_utf8_lossy(&log).contains(&said))
    }
}

/// `text` with its only `from` replaced.
///
/// # Errors
/// When it is not there exactly once.
pub fn replaced(text: &str, from: &str, to: &str) -> anyhow::Result<String> {
    let count = text.matches(from).count();
    anyhow::ensure!(count == 1, "`{from}` is there {count} times, not once");
    Ok(text.replacen(from, to, 1))
}

/// The list as a table for the README, which a test compares.
pub fn table() -> String {
    let mut table = "| bug | what goes wrong | found by |\n|---|---|---|\n".to_owned();
    for bug in BUGS {
        table.push_str(&format!("| `{}` | {} | {} |\n", bug.name, bug.breaks, bug.caught_by.join(", ")));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_bug_has_a_name_a_place_and_an_invariant() {
        assert!(BUGS.len() >= 30);
        let names: BTreeSet<&str> = BUGS.iter().map(|bug| bug.name).collect();
        assert_eq!(names.len(), BUGS.len(), "a name is unique");
        let judged: BTreeSet<&str> =
            crate::verdict::judge(&Default::default()).checks.iter().map(|check| check.id).chain(["verify"]).collect();
        for bug in BUGS {
            assert!(bug.in_code || !bug.lua.is_empty() || !bug.sql.is_empty(), "{} is nowhere", bug.name);
            assert!(!bug.caught_by.is_empty(), "{}", bug.name);
            assert!(bug.caught_by.iter().all(|id| judged.contains(id)), "{}", bug.name);
            assert!(Bug::named(bug.name).is_ok());
        }
        assert!(Bug::named("nobody").is_err());
    }

    /// I8 waits for points.
    #[test]
    fn every_invariant_that_is_judged_is_woken() {
        let woken: BTreeSet<&str> = BUGS.iter().flat_map(|bug| bug.caught_by).copied().collect();
        let verdict = crate::verdict::judge(&Default::default());
        let asleep: Vec<&str> = verdict.checks.iter().map(|check| check.id).filter(|id| !woken.contains(id)).collect();
        assert_eq!(asleep, ["I8"]);
        assert!(woken.contains("verify"));
    }

    #[test]
    fn a_text_that_is_gone_is_an_error() {
        assert_eq!(replaced("a b", "b", "c").unwrap(), "a c");
        assert!(replaced("a b", "x", "c").is_err());
        assert!(replaced("b b", "b", "c").is_err());
    }

    #[test]
    fn the_variable_is_read_as_it_is_written() {
        let bug = Bug::named("sold-out-sticks").unwrap();
        let said: serde_json::Value = serde_json::from_str(&bug.variable()).unwrap();
        assert_eq!(said["name"], bug.name);
        assert_eq!(said["lua"][0][1], bug.lua[0].from);
    }
}

//! Accounts and sessions. Who asks for an unknown e-mail and who types a wrong password get the same
//! answer after the same work.

use crate::app::App;
use crate::request::{SignIn, SignUp};
use crate::view::{AccountView, SessionView};
use crate::{password, refusal};
use ledger::{Account, NewAccount};
use service_kit::clock::now_ms;
use service_kit::ids::AccountId;
use service_kit::problem::{Problem, Slug};

/// Longest e-mail address, in bytes.
pub const EMAIL_BYTES_MAX: usize = 254;
/// Longest name, in characters.
pub const NAME_CHARS_MAX: usize = 80;

impl App {
    /// Makes an account.
    ///
    /// # Errors
    /// `invalid-field`, `email-taken`, or a 503.
    pub async fn sign_up(&self, form: SignUp) -> Result<AccountView, Problem> {
        let email = email(&form.email)?;
        let name = name(&form.name)?;
        password::check_rule(&form.password)?;
        let password_hash = self.parts.passwords.hash(form.password).await?;
        let new = NewAccount { id: AccountId::new(), email, password_hash, name };
        if self.parts.ledger.create_account(&new, now_ms()).await.map_err(|e| refusal::ledger(&e))? {
            Ok(AccountView { id: new.id, email: new.email, name: new.name })
        } else {
            Err(Problem::new(Slug::EmailTaken, "Sign in with this e-mail, or use another one."))
        }
    }

    /// Checks the password and starts a session.
    ///
    /// # Errors
    /// `wrong-credentials`, or a 503.
    pub async fn sign_in(&self, form: SignIn) -> Result<SessionView, Problem> {
        let wrong = || Problem::new(Slug::WrongCredentials, "Check the e-mail and the password.");
        if form.password.chars().count() > *password::PASSWORD_CHARS.end() {
            return Err(wrong());
        }
        let found = match email(&form.email) {
            Ok(email) => self.parts.ledger.account_by_email(&email).await.map_err(|e| refusal::ledger(&e))?,
            Err(_) => None,
        };
        let stored = found.as_ref().map(|a| a.password_hash.clone());
        if !self.parts.passwords.fits(form.password, stored).await? {
            return Err(wrong());
        }
        let account = found.ok_or_else(wrong)?;
        self.parts.sessions.issue(account.id, now_ms()).map_err(|e| Problem::internal(&e))
    }

    /// The account of a session.
    ///
    /// # Errors
    /// `not-found` when it does not exist (any more), or a 503.
    pub async fn account(&self, account: AccountId) -> Result<AccountView, Problem> {
        let found = self.parts.ledger.account(account).await.map_err(|e| refusal::ledger(&e))?;
        found
            .map(|Account { id, email, name, .. }| AccountView { id, email, name })
            .ok_or_else(|| refusal::not_found("account"))
    }
}

/// The address in its one spelling: lower case, no spaces around.
fn email(text: &str) -> Result<String, Problem> {
    let email = text.trim().to_lowercase();
    let plain = |part: &str| {
        !part.is_empty() && !part.chars().any(|c| c.is_whitespace() || c.is_control() || "@<>\"(),:;\\[]".contains(c))
    };
    let ok = email.len() <= EMAIL_BYTES_MAX
        && email.split_once('@').is_some_and(|(local, domain)| {
            plain(local)
                && local.len() <= 64
                && plain(domain)
                && domain.contains('.')
                && domain.split('.').all(|label| !label.is_empty())
        });
    if ok {
        Ok(email)
    } else {
        Err(Problem::field("email", "is an e-mail address like name@example.com, at most 254 bytes"))
    }
}

fn name(text: &str) -> Result<String, Problem> {
    let name = text.trim();
    let ok = (1..=NAME_CHARS_MAX).contains(&name.chars().count()) && !name.chars().any(char::is_control);
    if ok { Ok(name.to_owned()) } else { Err(Problem::field("name", "has 1 to 80 characters")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_spelling_per_address() {
        assert_eq!(email(" Kim@Example.COM ").unwrap(), "kim@example.com");
        assert!(email(&format!("a@{}.com", "b".repeat(240))).is_ok());
        for bad in [
            "",
            "kim",
            "kim@",
            "@example.com",
            "kim@example",
            "k im@example.com",
            "kim@@example.com",
            "kim@example..com",
            "kim@.com",
            "<k>@example.com",
        ] {
            assert!(email(bad).is_err(), "{bad:?}");
        }
        assert!(email(&format!("a@{}.com", "b".repeat(260))).is_err());
    }

    #[test]
    fn names_are_short_and_plain() {
        assert_eq!(name(" 김하늘 ").unwrap(), "김하늘");
        assert!(name("").is_err() && name("  ").is_err() && name("a\u{7}").is_err());
        assert!(name(&"가".repeat(80)).is_ok() && name(&"가".repeat(81)).is_err());
    }
}

//! Passwords: the rule, and argon2 behind two gates: few hashes at once (about 19 MiB and a core each)
//! and few that wait. A storm of log-ins is answered with 503 instead of taking the service down.

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use service_kit::problem::Problem;
use std::sync::Arc;
use tokio::sync::{OnceCell, Semaphore};

/// Shortest and longest password, in characters.
pub const PASSWORD_CHARS: std::ops::RangeInclusive<usize> = 8..=64;

/// Hashes and checks passwords. Cheap to clone.
#[derive(Clone)]
pub struct Passwords {
    hashers: Arc<Semaphore>,
    places: Arc<Semaphore>,
    /// What an unknown e-mail is checked against, so that the answer takes as long as for a known one.
    decoy: Arc<OnceCell<String>>,
}

/// The rule for new passwords.
///
/// # Errors
/// An `invalid-field` problem that says the rule.
pub fn check_rule(password: &str) -> Result<(), Problem> {
    let ok = PASSWORD_CHARS.contains(&password.chars().count())
        && password.chars().any(char::is_alphabetic)
        && password.chars().any(|c| c.is_ascii_digit())
        && password.chars().any(|c| !c.is_alphanumeric())
        && !password.chars().any(char::is_control);
    if ok {
        Ok(())
    } else {
        Err(Problem::field("password", "has 8 to 64 characters with a letter, a digit and another character"))
    }
}

impl Passwords {
    /// `at_once` hashers, and `waiting_max` callers that wait for one.
    pub fn new(at_once: usize, waiting_max: usize) -> Self {
        Self {
            hashers: Arc::new(Semaphore::new(at_once)),
            places: Arc::new(Semaphore::new(at_once.saturating_add(waiting_max))),
            decoy: Arc::new(OnceCell::new()),
        }
    }

    /// The hash of a new password, with its own salt.
    ///
    /// # Errors
    /// 503 when too many wait.
    pub async fn hash(&self, password: String) -> Result<String, Problem> {
        self.run(move || Argon2::default().hash_password(password.as_bytes()).map(|h| h.to_string()))
            .await?
            .map_err(|e| Problem::internal(&e))
    }

    /// Whether the password fits the stored hash. `None` costs the same time and is always `false`.
    ///
    /// # Errors
    /// 503 when too many wait.
    pub async fn fits(&self, password: String, stored: Option<String>) -> Result<bool, Problem> {
        let is_known = stored.is_some();
        let stored = match stored {
            Some(hash) => hash,
            None => self.decoy.get_or_try_init(|| self.hash("decoy for unknown e-mails 1!".to_owned())).await?.clone(),
        };
        let fits = self
            .run(move || {
                PasswordHash::new(&stored)
                    .is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
            })
            .await?;
        Ok(fits && is_known)
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Problem> {
        let Ok(_place) = self.places.clone().try_acquire_owned() else {
            return Err(crate::refusal::busy("log-ins"));
        };
        let permit = self.hashers.clone().acquire_owned().await.map_err(|e| Problem::internal(&e))?;
        tokio::task::spawn_blocking(move || {
            let done = work();
            drop(permit); // here, not in the caller: a caller that went away must not free the core early
            done
        })
        .await
        .map_err(|e| Problem::internal(&e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_for_passwords() {
        assert!(check_rule("abc12345!").is_ok());
        assert!(check_rule("비밀번호일이삼4!").is_ok());
        for bad in ["", "a1!", "abcdefgh1", "abcdefg!", "1234567!", &format!("a1!{}", "x".repeat(62)), "abc12345!\n"] {
            assert!(check_rule(bad).is_err(), "{bad:?}");
        }
    }

    #[tokio::test]
    async fn only_the_right_password_of_a_known_account_fits() {
        let passwords = Passwords::new(2, 8);
        let hash = passwords.hash("correct horse 1!".into()).await.unwrap();
        assert!(passwords.fits("correct horse 1!".into(), Some(hash.clone())).await.unwrap());
        assert!(!passwords.fits("correct horse 2!".into(), Some(hash)).await.unwrap());
        assert!(!passwords.fits("decoy for unknown e-mails 1!".into(), None).await.unwrap());
        assert!(!passwords.fits("x".into(), Some("not a hash".into())).await.unwrap());
    }

    #[tokio::test]
    async fn a_storm_is_refused_and_not_queued_for_ever() {
        let passwords = Passwords::new(1, 1);
        let tries: Vec<_> = (0..6)
            .map(|_| {
                let passwords = passwords.clone();
                tokio::spawn(async move { passwords.hash("correct horse 1!".into()).await.is_ok() })
            })
            .collect();
        let mut done = 0;
        for t in tries {
            done += usize::from(t.await.unwrap());
        }
        assert!((1..6).contains(&done), "{done} of 6 were served with room for 2");
    }
}

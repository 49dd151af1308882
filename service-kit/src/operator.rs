//! The people who may steer rooms: names, roles and tokens. Only the SHA-256 of a token is configured; that is enough
//! because a token is 256 random bits.

use crate::chain::sha256_hex;
use crate::config::{ConfigError, require};
use base64::Engine as _;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;

/// Most operators in one configuration.
pub const OPERATORS_MAX: usize = 1_000;
/// Longest name, in bytes.
pub const NAME_BYTES_MAX: usize = 64;

/// What somebody may do. Each role may do what the ones before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Look.
    Viewer,
    /// Steer a running sale: pause, resume, rate, cap, notice, schedule, extend.
    Operator,
    /// End one: close, reopen, archive the log.
    Admin,
}

impl Role {
    /// Its name in the configuration and in the log.
    pub fn label(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

impl std::str::FromStr for Role {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Viewer, Self::Operator, Self::Admin]
            .into_iter()
            .find(|role| role.label() == text)
            .ok_or_else(|| "a role is viewer, operator or admin".to_owned())
    }
}

/// One entry of `[[operators]]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperatorConfig {
    /// Who it is, as the log shows it: 1–64 letters, digits and `.`, `_`, `-`, `@`.
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// SHA-256 of the token, 64 lower-case hex digits; `floodgate key operator` prints it.
    pub token_sha256: String,
}

/// A fresh token with what belongs into the configuration.
#[derive(Clone)]
pub struct NewOperator {
    /// The secret: `fgo_` and 43 characters. Stored nowhere.
    pub token: String,
    /// The entry for `[[operators]]`.
    pub config: OperatorConfig,
}

impl NewOperator {
    /// Makes a token for `name`.
    ///
    /// # Errors
    /// When the name is not allowed.
    pub fn generate(name: &str, role: Role) -> Result<Self, ConfigError> {
        let secret: [u8; 32] = rand::random();
        let token = format!("fgo_{}", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(secret));
        let config = OperatorConfig { name: name.to_owned(), role, token_sha256: sha256_hex(token.as_bytes()) };
        Operators::new(std::slice::from_ref(&config))?;
        Ok(Self { token, config })
    }
}

impl OperatorConfig {
    /// The entry as TOML, to be put into the configuration.
    pub fn to_toml(&self) -> String {
        // Neither a name nor a hash has characters that TOML would want escaped.
        format!(
            "[[operators]]\nname = \"{}\"\nrole = \"{}\"\ntoken_sha256 = \"{}\"\n",
            self.name,
            self.role.label(),
            self.token_sha256
        )
    }
}

/// Somebody who has shown a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operator {
    /// Who.
    pub name: String,
    /// What they may do.
    pub role: Role,
}

/// All operators.
#[derive(Clone, Debug, Default)]
pub struct Operators {
    known: Vec<(String, Operator)>,
}

impl Operators {
    /// Checks the entries.
    ///
    /// # Errors
    /// Names the field of the first one that is wrong.
    pub fn new(entries: &[OperatorConfig]) -> Result<Self, ConfigError> {
        require(entries.len() <= OPERATORS_MAX, "operators", "at most 1000")?;
        let mut known: Vec<(String, Operator)> = Vec::new();
        for (i, entry) in entries.iter().enumerate() {
            let field = |name: &str| format!("operators[{i}].{name}");
            let plain = (1..=NAME_BYTES_MAX).contains(&entry.name.len())
                && entry.name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-@".contains(&b));
            require(plain, &field("name"), "1 to 64 letters, digits and . _ - @")?;
            require(known.iter().all(|(_, o)| o.name != entry.name), &field("name"), "is there twice")?;
            let hash = &entry.token_sha256;
            let hex = hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
            require(
                hex,
                &field("token_sha256"),
                "64 lower-case hex digits; `floodgate key operator --name NAME` makes one",
            )?;
            require(known.iter().all(|(h, _)| h != hash), &field("token_sha256"), "is there twice")?;
            known.push((hash.clone(), Operator { name: entry.name.clone(), role: entry.role }));
        }
        Ok(Self { known })
    }

    /// Whose token this is. Looks at every entry in constant time, so that the time tells nothing.
    pub fn who(&self, token: &str) -> Option<&Operator> {
        let shown = sha256_hex(token.as_bytes());
        let mut found = None;
        for (hash, operator) in &self.known {
            if bool::from(hash.as_bytes().ct_eq(shown.as_bytes())) {
                found = Some(operator);
            }
        }
        found
    }

    /// Whether nobody is configured.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_names_its_owner_and_nothing_else_does() {
        let kim = NewOperator::generate("kim@shop", Role::Operator).unwrap();
        let lee = NewOperator::generate("lee", Role::Viewer).unwrap();
        let operators = Operators::new(&[kim.config.clone(), lee.config]).unwrap();
        assert_eq!(operators.who(&kim.token), Some(&Operator { name: "kim@shop".into(), role: Role::Operator }));
        assert_eq!(operators.who(&lee.token).unwrap().role, Role::Viewer);
        assert!(kim.token.len() == 47 && kim.token.starts_with("fgo_") && kim.token != lee.token);
        for wrong in ["", "fgo_", &kim.config.token_sha256, &kim.token[..46], &format!("{} ", kim.token)] {
            assert_eq!(operators.who(wrong), None, "{wrong}");
        }
        assert!(Role::Viewer < Role::Operator && Role::Operator < Role::Admin);
    }

    #[test]
    fn a_wrong_entry_is_named() {
        let good = NewOperator::generate("kim", Role::Admin).unwrap().config;
        let other = NewOperator::generate("lee", Role::Admin).unwrap().config;
        for (entries, field) in [
            (vec![OperatorConfig { name: "two words".into(), ..good.clone() }], "operators[0].name"),
            (vec![good.clone(), OperatorConfig { name: "kim".into(), ..other.clone() }], "operators[1].name"),
            (vec![OperatorConfig { token_sha256: "ABC".into(), ..good.clone() }], "operators[0].token_sha256"),
            (vec![good.clone(), OperatorConfig { name: "lee".into(), ..good.clone() }], "operators[1].token_sha256"),
        ] {
            assert!(Operators::new(&entries).unwrap_err().0.contains(field), "{field}");
        }
        assert!(NewOperator::generate("a\"b", Role::Viewer).is_err());
    }
}

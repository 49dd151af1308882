//! All payment providers. Adding one is its file and its line in [`providers!`] below; `docs/adding-a-provider.md`
//! goes through it.

use crate::kakaopay::{KakaoPay, KakaoPayConfig};
use crate::provider::Provider;
use crate::stripe::{Stripe, StripeConfig};
use crate::toss::{Toss, TossConfig};
use ledger::{AccountOf, PaymentWork};
use serde::Deserialize;
use service_kit::config::ConfigError;
use service_kit::ids::MerchantId;
use std::sync::Arc;

/// One line per provider: the name of its section, its settings, its driver.
macro_rules! providers {
    ($($name:ident: $config:ty => $driver:ty;)*) => {
        /// The accounts of one shop: a section per provider that it uses.
        #[derive(Debug, Clone, Default, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct Accounts {
            $(
                #[doc = concat!("The account at `", stringify!($name), "`.")]
                #[serde(default)]
                pub $name: Option<$config>,
            )*
        }

        impl Accounts {
            /// The names of all providers that exist.
            pub const NAMES: &[&str] = &[$(stringify!($name)),*];

            /// Refuses what cannot work. `at` is where the section stands.
            ///
            /// # Errors
            /// Names the field.
            pub fn validate(&self, at: &str) -> Result<(), ConfigError> {
                $(if let Some(config) = &self.$name {
                    config.validate(&format!("{at}.{}", stringify!($name)))?;
                })*
                Ok(())
            }

            /// The longest that one call may take, in ms.
            pub fn timeout_ms_max(&self) -> u64 {
                [$(self.$name.as_ref().map_or(0, |config| config.timeout_ms)),*].into_iter().max().unwrap_or(0)
            }

            /// A driver per account.
            ///
            /// # Errors
            /// When an HTTP client cannot be built.
            pub fn drivers(&self) -> anyhow::Result<Vec<Arc<dyn Provider>>> {
                let mut drivers: Vec<Arc<dyn Provider>> = Vec::new();
                $(if let Some(config) = &self.$name {
                    drivers.push(Arc::new(<$driver>::new(config)?));
                })*
                Ok(drivers)
            }
        }
    };
}

providers! {
    kakaopay: KakaoPayConfig => KakaoPay;
    toss: TossConfig => Toss;
    stripe: StripeConfig => Stripe;
}

/// The accounts of one merchant, in place of the shop's own.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MerchantAccounts {
    /// Whose.
    pub merchant: MerchantId,
    /// The accounts.
    pub providers: Accounts,
}

/// A driver and whose account it uses; `None` = everybody's who has no own one.
#[derive(Clone)]
pub struct Account {
    /// Whose.
    pub merchant: Option<MerchantId>,
    /// The driver.
    pub provider: Arc<dyn Provider>,
}

impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Account").field("merchant", &self.merchant).field("provider", &self.provider.name()).finish()
    }
}

/// The account that has a payment, or that it goes to; see [`choose`].
pub fn account_for<'a>(accounts: &'a [Account], work: &PaymentWork) -> Option<&'a Account> {
    let of = |whose| accounts.iter().find(|a| a.provider.name() == work.provider && a.merchant == whose);
    choose(of, work.merchant, work.account_of)
}

/// The account that opened the session, whatever is configured by now. Before one is open: the merchant's own, or the shop's.
/// `of` finds a merchant's account (`None` = the shop's).
pub(crate) fn choose<T>(
    of: impl Fn(Option<MerchantId>) -> Option<T>,
    merchant: MerchantId,
    account_of: Option<AccountOf>,
) -> Option<T> {
    match account_of {
        Some(AccountOf::Shop) => of(None),
        Some(AccountOf::Merchant) => of(Some(merchant)),
        None => of(Some(merchant)).or_else(|| of(None)),
    }
}

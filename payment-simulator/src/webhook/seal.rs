//! The headers of a webhook: how a shop may know who sent it.

use crate::clock::{seoul_with_zone, unix_s};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// How the headers are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seal {
    /// Toss' headers; a signature only with a secret (its payment events have none).
    Toss {
        /// The dedupe key: the same in every try.
        transmission_id: String,
        /// The secret of the signature.
        secret: Option<String>,
    },
    /// Stripe's signature.
    Stripe {
        /// The secret of the signature, `whsec_…`.
        secret: String,
    },
}

impl Seal {
    /// The headers of a try; `retries` tries went before it.
    pub fn headers(&self, body: &str, retries: u32, now_ms: i64) -> Vec<(&'static str, String)> {
        match self {
            Self::Toss { transmission_id, secret } => {
                let time = seoul_with_zone(now_ms);
                let mut headers = vec![
                    ("tosspayments-webhook-transmission-time", time.clone()),
                    ("tosspayments-webhook-transmission-retried-count", retries.to_string()),
                    ("tosspayments-webhook-transmission-id", transmission_id.clone()),
                ];
                if let Some(secret) = secret {
                    let signature = STANDARD.encode(sign(secret, &format!("{body}:{time}")));
                    headers.push(("tosspayments-webhook-signature", format!("v1:{signature}")));
                }
                headers
            }
            Self::Stripe { secret } => {
                let t = unix_s(now_ms);
                let signature = hex(&sign(secret, &format!("{t}.{body}")));
                vec![("stripe-signature", format!("t={t},v1={signature}"))]
            }
        }
    }
    /// The same with a secret that the shop does not share.
    #[must_use]
    pub fn forged(&self) -> Self {
        match self {
            Self::Toss { secret, .. } => Self::Toss {
                transmission_id: format!("forged-{}", crate::store::random_hex::<16>()),
                secret: secret.as_ref().map(|_| "forged".to_owned()),
            },
            Self::Stripe { .. } => Self::Stripe { secret: "whsec_forged".to_owned() },
        }
    }
}

fn sign(secret: &str, text: &str) -> Vec<u8> {
    // HMAC takes a key of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else { return Vec::new() };
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stripe_signs_time_and_body() {
        // echo -n '1700000000.{"id":"evt_1"}' | openssl dgst -sha256 -hmac whsec_test
        let seal = Seal::Stripe { secret: "whsec_test".into() };
        let expected = "t=1700000000,v1=c89214b5b5da833daed6f0b8c5bb6bd58cea9022bd80ccc78230f3942d632925";
        assert_eq!(
            seal.headers(r#"{"id":"evt_1"}"#, 0, 1_700_000_000_999),
            [("stripe-signature", expected.to_owned())]
        );
        assert_ne!(seal.headers("{}", 0, 0), seal.forged().headers("{}", 0, 0));
    }

    #[test]
    fn toss_counts_its_tries_and_signs_payouts_only() {
        let seal = |secret| Seal::Toss { transmission_id: "t-1".into(), secret };
        let headers = seal(None).headers("{}", 3, 1_700_000_000_000);
        assert_eq!(
            headers,
            [
                ("tosspayments-webhook-transmission-time", "2023-11-15T07:13:20+09:00".to_owned()),
                ("tosspayments-webhook-transmission-retried-count", "3".to_owned()),
                ("tosspayments-webhook-transmission-id", "t-1".to_owned()),
            ]
        );
        let signed = seal(Some("s".into())).headers("{}", 0, 1_700_000_000_000);
        // echo -n '{}:2023-11-15T07:13:20+09:00' | openssl dgst -sha256 -hmac s -binary | base64
        assert_eq!(
            signed.last(),
            Some(&("tosspayments-webhook-signature", "v1:JI3NmOMZalS0aiVRbnuIKmmZ/Hvfv+vh6+KdfZPrysk=".to_owned()))
        );
    }
}

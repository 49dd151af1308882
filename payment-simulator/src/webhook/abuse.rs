//! What a hostile or unlucky network makes of webhooks: again, in another order, late, forged, replayed, huge, or as
//! something else. Pure: messages in, messages with their times out.

use super::Message;
use crate::draw::SplitMix;
use crate::fault::Provider;
use serde::Deserialize;

/// The most messages that one request may send.
pub const SENDS_MAX: usize = 1_000;
/// How much padding makes a body huge, in bytes: far beyond what a shop should read.
const HUGE_BYTES: usize = 2 * 1024 * 1024;
/// Longest delay in milliseconds of the simulated clock: ten days.
const DELAY_MS_MAX: i64 = 10 * 86_400_000;

/// Body of `POST /_control/webhooks/send`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Send {
    /// Who sends.
    pub provider: Provider,
    /// About which payment.
    #[serde(default)]
    pub payment: String,
    /// Only this event; for a forged one: which. `payout.changed` (Toss) is about no payment.
    #[serde(default)]
    pub event: Option<String>,
    /// How often each.
    #[serde(default = "one")]
    pub times: usize,
    /// A message that nobody sent: it says "paid" and has a signature (Toss: a secret) of somebody else.
    #[serde(default)]
    pub forge: bool,
    /// In an order drawn from `seed` instead of the one that things happened in.
    #[serde(default)]
    pub shuffle: bool,
    /// Where the draw begins.
    #[serde(default)]
    pub seed: u64,
    /// So much later, on the simulated clock.
    #[serde(default)]
    pub delay_ms: i64,
    /// With the very headers of the earlier try, old time and old signature.
    #[serde(default)]
    pub replay: bool,
    /// Padded to more than 2 MiB.
    #[serde(default)]
    pub huge: bool,
    /// Another content type.
    #[serde(default)]
    pub content_type: Option<String>,
}

fn one() -> usize {
    1
}

impl Send {
    /// Refuses what the types let through.
    ///
    /// # Errors
    /// The field and its rule.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        if self.provider == Provider::Kakaopay {
            return Err(("provider", "toss or stripe: KakaoPay sends no webhooks".to_owned()));
        }
        if !(1..=SENDS_MAX).contains(&self.times) {
            return Err(("times", format!("from 1 to {SENDS_MAX}")));
        }
        if !(0..=DELAY_MS_MAX).contains(&self.delay_ms) {
            return Err(("delay_ms", format!("from 0 to {DELAY_MS_MAX} milliseconds")));
        }
        let plain = |text: &String| text.bytes().all(|b| (0x20..0x7f).contains(&b)) && text.len() <= 100;
        if !self.content_type.as_ref().is_none_or(plain) {
            return Err(("content_type", "at most 100 printable characters".to_owned()));
        }
        if self.forge && self.replay {
            return Err(("replay", "a replayed message is genuine; not together with `forge`".to_owned()));
        }
        Ok(())
    }
    /// The messages in the order in which they are sent.
    pub fn spread<H: Clone>(&self, base: Vec<(Message, H)>) -> Vec<(Message, H)> {
        let wanted = |message: &Message| self.event.as_ref().is_none_or(|event| *event == message.event);
        let mut list: Vec<(Message, H)> = base.into_iter().filter(|(message, _)| wanted(message)).collect();
        for (message, _) in &mut list {
            if let Some(content_type) = &self.content_type {
                message.content_type.clone_from(content_type);
            }
            if self.huge {
                message.body = pad(&message.body).into();
            }
        }
        let mut list: Vec<(Message, H)> = (0..self.times).flat_map(|_| list.iter().cloned()).take(SENDS_MAX).collect();
        if self.shuffle {
            SplitMix(self.seed).shuffle(&mut list);
        }
        list
    }
}

/// The same JSON object with a long member more.
fn pad(body: &str) -> String {
    let open = body.strip_suffix('}').unwrap_or(body);
    format!("{open},\"padding\":\"{}\"}}", "x".repeat(HUGE_BYTES))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::webhook::Seal;

    fn send(body: serde_json::Value) -> Send {
        serde_json::from_value(body).unwrap()
    }

    fn base() -> Vec<(Message, ())> {
        ["created", "captured", "refunded"]
            .into_iter()
            .map(|event| {
                let message = Message {
                    provider: Provider::Stripe,
                    event: event.into(),
                    payment: "pi_1".into(),
                    body: "{\"a\":1}".into(),
                    content_type: "application/json".into(),
                    seal: Seal::Stripe { secret: "whsec_x".into() },
                };
                (message, ())
            })
            .collect()
    }

    #[test]
    fn ten_times_is_ten_of_each_and_a_shuffle_repeats() {
        let events = |body| {
            let list = send(body).spread(base());
            list.into_iter().map(|(message, ())| message.event).collect::<Vec<_>>()
        };
        let plain = events(serde_json::json!({ "provider": "stripe", "payment": "pi_1", "times": 10 }));
        assert_eq!((plain.len(), &plain[..3]), (30, &["created", "captured", "refunded"].map(String::from)[..]));
        let shuffled =
            serde_json::json!({ "provider": "stripe", "payment": "pi_1", "shuffle": true, "seed": 3, "times": 10 });
        assert_eq!(events(shuffled.clone()), events(shuffled.clone()));
        assert_ne!(events(shuffled), plain);
        let one = events(serde_json::json!({ "provider": "stripe", "payment": "pi_1", "event": "refunded" }));
        assert_eq!(one, ["refunded"]);
    }

    #[test]
    fn a_huge_body_is_still_json() {
        let list = send(serde_json::json!({ "provider": "stripe", "huge": true, "content_type": "text/plain" }))
            .spread(base());
        let (message, ()) = &list[0];
        assert!(message.body.len() > HUGE_BYTES && message.content_type == "text/plain");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&message.body).unwrap()["a"], 1);
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in [
            serde_json::json!({ "provider": "kakaopay" }),
            serde_json::json!({ "provider": "toss", "times": 0 }),
            serde_json::json!({ "provider": "toss", "delay_ms": -1 }),
            serde_json::json!({ "provider": "toss", "content_type": "a\nb" }),
            serde_json::json!({ "provider": "toss", "forge": true, "replay": true }),
        ] {
            assert!(send(bad.clone()).check().is_err(), "{bad}");
        }
        assert!(send(serde_json::json!({ "provider": "toss", "times": 10, "shuffle": true })).check().is_ok());
    }
}

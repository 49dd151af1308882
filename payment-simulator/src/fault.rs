//! Faults on demand: for one request by the header `Floodgate-Simulate`, for the next n requests of an endpoint, or
//! for a share of them drawn from a seed. The plan is plain data: the same calls in the same order meet the same faults.

use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// Longest delay in milliseconds.
pub const DELAY_MS_MAX: u64 = 600_000;
/// The most rules in force at a time.
pub const RULES_MAX: usize = 64;
/// The header that asks for a fault on one request.
pub const HEADER: &str = "floodgate-simulate";

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The effect happens, then the connection closes without an answer.
    DropAfterEffect,
    /// The effect happens at once, the answer comes this many milliseconds later.
    Delay(u64),
    /// Nothing happens for this many milliseconds, then the effect and the answer.
    DelayBefore(u64),
    /// The effect happens, then HTTP 500.
    ErrorAfterEffect,
    /// The payment method refuses. Approve: the payment ends as `FAIL_PAYMENT`; elsewhere nothing changes.
    Decline,
    /// HTTP 429, nothing happens.
    Limited,
    /// Approve captures another amount than was asked; cancel and order only say another amount; ready: no effect.
    WrongAmount,
}

/// The text names no fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "one of drop-after-effect, delay=<ms>, delay-before=<ms>, error-after-effect, decline, limited, wrong-amount; \
     at most {DELAY_MS_MAX} ms"
)]
pub struct BadFault;

impl Fault {
    /// The name without its number, for a metric label.
    pub fn name(self) -> &'static str {
        match self {
            Self::DropAfterEffect => "drop-after-effect",
            Self::Delay(_) => "delay",
            Self::DelayBefore(_) => "delay-before",
            Self::ErrorAfterEffect => "error-after-effect",
            Self::Decline => "decline",
            Self::Limited => "limited",
            Self::WrongAmount => "wrong-amount",
        }
    }
}
impl FromStr for Fault {
    type Err = BadFault;
    fn from_str(text: &str) -> Result<Self, BadFault> {
        let delay = |ms: &str| ms.parse().ok().filter(|ms| *ms <= DELAY_MS_MAX).ok_or(BadFault);
        match text.split_once('=') {
            None => match text {
                "drop-after-effect" => Ok(Self::DropAfterEffect),
                "error-after-effect" => Ok(Self::ErrorAfterEffect),
                "decline" => Ok(Self::Decline),
                "limited" => Ok(Self::Limited),
                "wrong-amount" => Ok(Self::WrongAmount),
                _ => Err(BadFault),
            },
            Some(("delay", ms)) => delay(ms).map(Self::Delay),
            Some(("delay-before", ms)) => delay(ms).map(Self::DelayBefore),
            Some(_) => Err(BadFault),
        }
    }
}

/// The four calls of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names are the provider's own")]
pub enum Endpoint {
    Ready,
    Approve,
    Cancel,
    Order,
}

impl Endpoint {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Ready, Self::Approve, Self::Cancel, Self::Order];
    /// The last segment of its path.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Approve => "approve",
            Self::Cancel => "cancel",
            Self::Order => "order",
        }
    }
}

/// One rule, as it is posted to `/_control/faults`: `times` or `probability` with `seed`, not both.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Which call.
    pub endpoint: Endpoint,
    /// What goes wrong, spelled as in the header.
    pub fault: String,
    /// For the next n calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u32>,
    /// For this share of the calls, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probability: Option<f64>,
    /// Where the draw of `probability` begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
}

/// The rules in force.
#[derive(Debug, Default)]
pub struct Plan {
    rules: Vec<Armed>,
}

#[derive(Debug)]
struct Armed {
    rule: Rule,
    fault: Fault,
    when: When,
}
#[derive(Debug)]
enum When {
    Next(u32),
    Share { probability: f64, draw: SplitMix },
}

impl Plan {
    /// Adds rules, all or none.
    ///
    /// # Errors
    /// Says which field of which rule is wrong.
    pub fn add(&mut self, rules: Vec<Rule>) -> Result<(), String> {
        if self.rules.len() + rules.len() > RULES_MAX {
            return Err(format!("at most {RULES_MAX} rules"));
        }
        let armed: Vec<Armed> = rules.into_iter().map(arm).collect::<Result<_, _>>()?;
        self.rules.extend(armed);
        Ok(())
    }
    /// The fault of the next call of `endpoint`; the first rule that applies wins.
    pub fn next(&mut self, endpoint: Endpoint) -> Option<Fault> {
        let hit = self.rules.iter_mut().filter(|armed| armed.rule.endpoint == endpoint).find_map(|armed| {
            let applies = match &mut armed.when {
                When::Next(left) => {
                    *left = left.saturating_sub(1);
                    true
                }
                When::Share { probability, draw } => draw.next() < *probability,
            };
            applies.then_some(armed.fault)
        });
        self.rules.retain(|armed| !matches!(armed.when, When::Next(0)));
        hit
    }
    /// The rules that are still in force; `times` is what is left of it.
    pub fn rules(&self) -> Vec<Rule> {
        let left = |armed: &Armed| {
            let mut rule = armed.rule.clone();
            if let When::Next(times) = armed.when {
                rule.times = Some(times);
            }
            rule
        };
        self.rules.iter().map(left).collect()
    }
    /// Forgets all rules.
    pub fn clear(&mut self) {
        self.rules.clear();
    }
}

fn arm(rule: Rule) -> Result<Armed, String> {
    let fault = rule.fault.parse::<Fault>().map_err(|e| format!("`fault`: {e}"))?;
    let when = match (rule.times, rule.probability) {
        (Some(times), None) if times > 0 && rule.seed.is_none() => When::Next(times),
        (None, Some(probability)) if (0.0..=1.0).contains(&probability) => {
            When::Share { probability, draw: SplitMix(rule.seed.unwrap_or(0)) }
        }
        _ => return Err("either `times` from 1 on, or `probability` from 0 to 1 with `seed`".to_owned()),
    };
    Ok(Armed { rule, fault, when })
}

/// SplitMix64: ten lines whose numbers never change with a library version, so that a seed repeats a run for ever.
#[derive(Debug)]
struct SplitMix(u64);

impl SplitMix {
    /// A number from 0 up to, not including, 1.
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        // 32 bits are exact in a double and more than a fault rate needs.
        f64::from(u32::try_from(z >> 32).unwrap_or(0)) / 4_294_967_296.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(fault: &str, times: Option<u32>, probability: Option<f64>, seed: Option<u64>) -> Rule {
        Rule { endpoint: Endpoint::Approve, fault: fault.into(), times, probability, seed }
    }

    #[test]
    fn faults_have_one_spelling() {
        assert_eq!("delay=3000".parse(), Ok(Fault::Delay(3000)));
        for bad in ["", "Decline", "delay", "delay=", "delay=-1", "delay=600001", "decline=1", "drop"] {
            assert_eq!(bad.parse::<Fault>(), Err(BadFault), "{bad:?}");
        }
    }

    #[test]
    fn the_next_n_calls_of_one_endpoint_fail() {
        let mut plan = Plan::default();
        plan.add(vec![rule("decline", Some(2), None, None), rule("limited", Some(1), None, None)]).unwrap();
        let met: Vec<_> = (0..4).map(|_| plan.next(Endpoint::Approve)).collect();
        assert_eq!(met, [Some(Fault::Decline), Some(Fault::Decline), Some(Fault::Limited), None]);
        assert!(plan.rules().is_empty());
        plan.add(vec![rule("decline", Some(1), None, None)]).unwrap();
        assert_eq!(plan.next(Endpoint::Ready), None);
    }

    #[test]
    fn a_seed_repeats_its_run_and_keeps_its_share() {
        let run = |seed| {
            let mut plan = Plan::default();
            plan.add(vec![rule("limited", None, Some(0.1), Some(seed))]).unwrap();
            (0..10_000).map(|_| plan.next(Endpoint::Approve).is_some()).collect::<Vec<_>>()
        };
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
        let share = run(7).iter().filter(|hit| **hit).count();
        assert!((900..1_100).contains(&share), "{share} of 10000");
    }

    #[test]
    fn half_a_rule_is_refused_and_nothing_of_the_batch_stays() {
        let mut plan = Plan::default();
        for bad in [
            rule("nonsense", Some(1), None, None),
            rule("decline", None, None, None),
            rule("decline", Some(0), None, None),
            rule("decline", Some(1), Some(0.5), None),
            rule("decline", None, Some(1.5), None),
            rule("decline", None, Some(f64::NAN), None),
        ] {
            assert!(plan.add(vec![rule("decline", Some(1), None, None), bad.clone()]).is_err(), "{bad:?}");
            assert!(plan.rules().is_empty());
        }
        assert!(plan.add(vec![rule("decline", Some(1), None, None); RULES_MAX + 1]).is_err());
    }
}

//! Which calls meet which fault: the next n calls of an endpoint, or a share of them drawn from a seed. Plain data: the
//! same calls in the same order meet the same faults.

use super::{Endpoint, Fault, Provider};
use crate::draw::SplitMix;
use serde::{Deserialize, Serialize};

/// The most rules in force at a time.
pub const RULES_MAX: usize = 64;

/// One rule, as it is posted to `/_control/faults`: `times` or `probability` with `seed`, not both.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Whose call; KakaoPay's when nothing is said.
    #[serde(default)]
    pub provider: Provider,
    /// Which call, by the name in the README's table.
    pub endpoint: String,
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
    endpoint: Endpoint,
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
        let hit = self.rules.iter_mut().filter(|armed| armed.endpoint == endpoint).find_map(|armed| {
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
    let endpoint = Endpoint::find(rule.provider, &rule.endpoint).ok_or_else(|| {
        let names: Vec<&str> = Endpoint::of(rule.provider).map(Endpoint::name).collect();
        format!("`endpoint`: one of {}", names.join(", "))
    })?;
    let fault = rule.fault.parse::<Fault>().map_err(|e| format!("`fault`: {e}"))?;
    if !fault.fits(endpoint) {
        return Err(format!("`fault`: {} means nothing at {}", rule.fault, rule.endpoint));
    }
    let when = match (rule.times, rule.probability) {
        (Some(times), None) if times > 0 && rule.seed.is_none() => When::Next(times),
        (None, Some(probability)) if (0.0..=1.0).contains(&probability) => {
            When::Share { probability, draw: SplitMix(rule.seed.unwrap_or(0)) }
        }
        _ => return Err("either `times` from 1 on, or `probability` from 0 to 1 with `seed`".to_owned()),
    };
    Ok(Armed { rule, endpoint, fault, when })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(fault: &str, times: Option<u32>, probability: Option<f64>, seed: Option<u64>) -> Rule {
        Rule { provider: Provider::Kakaopay, endpoint: "approve".into(), fault: fault.into(), times, probability, seed }
    }

    #[test]
    fn the_next_n_calls_of_one_endpoint_fail() {
        let mut plan = Plan::default();
        plan.add(vec![rule("decline", Some(2), None, None), rule("limited", Some(1), None, None)]).unwrap();
        let met: Vec<_> = (0..4).map(|_| plan.next(Endpoint::KakaoApprove)).collect();
        assert_eq!(met, [Some(Fault::Decline), Some(Fault::Decline), Some(Fault::Limited), None]);
        assert!(plan.rules().is_empty());
        plan.add(vec![rule("decline", Some(1), None, None)]).unwrap();
        assert_eq!(plan.next(Endpoint::KakaoReady), None);
    }

    #[test]
    fn a_seed_repeats_its_run_and_keeps_its_share() {
        let run = |seed| {
            let mut plan = Plan::default();
            plan.add(vec![rule("limited", None, Some(0.1), Some(seed))]).unwrap();
            (0..10_000).map(|_| plan.next(Endpoint::KakaoApprove).is_some()).collect::<Vec<_>>()
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

//! The ledger's own order: I12, I17, and what `floodgate verify` says.

use super::Check;
use crate::evidence::Evidence;
use std::collections::{BTreeMap, BTreeSet};

/// The steps of an order that there are. The checker's own copy, on purpose: `ledger/src/purchase.rs` and the trigger
/// in PostgreSQL have theirs, and a step that all three allow was meant.
const STEPS: &[(&str, &str)] = &[
    ("held", "paying"),
    ("held", "released"),
    ("paying", "paid"),
    ("paying", "released"),
    ("paying", "quarantined"),
    ("released", "paid"),
    ("released", "refunding"),
    ("released", "quarantined"),
    ("paid", "refunding"),
    ("paid", "quarantined"),
    ("refunding", "refunded"),
    ("refunding", "partly_refunded"),
    ("refunding", "paid"),
    ("refunding", "quarantined"),
    ("partly_refunded", "refunding"),
    ("partly_refunded", "quarantined"),
    ("refunded", "quarantined"),
    ("quarantined", "paying"),
    ("quarantined", "paid"),
    ("quarantined", "released"),
    ("quarantined", "refunding"),
    ("quarantined", "partly_refunded"),
    ("quarantined", "refunded"),
];

/// I12: everything in the outbox was delivered, and what must be there is there once.
pub fn i12_outbox_delivered(e: &Evidence) -> Check {
    let mut check = Check::new("I12", "the outbox is delivered, each change in it once");
    check.saw(e.ledger.outbox.len(), "entries");
    let mut said: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for entry in &e.ledger.outbox {
        check.must(entry.delivered_at_ms.is_some(), || {
            format!("{} of order {} was never delivered", entry.kind, entry.order_id)
        });
        *said.entry((&entry.order_id, &entry.kind)).or_default() += 1;
    }
    let mut happened: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    // What an operator sorts out goes other ways.
    let set_aside: BTreeSet<&str> = e
        .ledger
        .order_event
        .iter()
        .filter(|event| event.to_state == "quarantined")
        .map(|event| event.order_id.as_str())
        .collect();
    for event in e.ledger.order_event.iter().filter(|event| !set_aside.contains(event.order_id.as_str())) {
        let kind = match (event.from_state.as_deref(), event.to_state.as_str()) {
            (Some("paying"), "paid") => "order_paid",
            (Some("held" | "paying"), "released") => "order_released",
            _ => continue,
        };
        *happened.entry((&event.order_id, kind)).or_default() += 1;
    }
    check.saw(happened.len(), "changes");
    for ((order, kind), times) in happened {
        let entries = said.get(&(order, kind)).copied().unwrap_or(0);
        check.must(entries == times, || {
            format!("order {order}: {kind} happened {times} times and was said {entries} times")
        });
    }
    check
}

/// I17: every order went along the known steps, from the first to the state it is in.
pub fn i17_only_known_steps(e: &Evidence) -> Check {
    let mut check = Check::new("I17", "only known steps");
    let mut events: Vec<_> = e.ledger.order_event.iter().collect();
    events.sort_by_key(|event| event.seq);
    check.saw(events.len(), "steps");
    let mut now: BTreeMap<&str, &str> = BTreeMap::new();
    for event in events {
        let before = now.insert(&event.order_id, &event.to_state);
        let from = event.from_state.as_deref();
        let known = match (before, from) {
            (None, None) => event.to_state == "held",
            (Some(before), Some(from)) => before == from && STEPS.contains(&(from, event.to_state.as_str())),
            _ => false,
        };
        check.must(known, || {
            format!(
                "order {}: {} → {} after {}",
                event.order_id,
                from.unwrap_or("nothing"),
                event.to_state,
                before.unwrap_or("nothing")
            )
        });
    }
    for order in &e.ledger.orders {
        let last = now.get(order.id.as_str()).copied();
        check.must(last == Some(&order.state), || {
            format!("order {} is {}, its history ends with {}", order.id, order.state, last.unwrap_or("nothing"))
        });
    }
    check
}

/// What the product's own proof says.
pub fn verify_is_clean(e: &Evidence) -> Check {
    let Some(said) = &e.verify else {
        return Check::skipped("verify", "floodgate verify finds nothing", "it could not run");
    };
    let mut check = Check::new("verify", "floodgate verify finds nothing");
    let findings = said.get("findings").and_then(serde_json::Value::as_array);
    check.saw(1, "proof");
    for finding in findings.into_iter().flatten() {
        check.violations.push(finding.to_string());
    }
    let clean = said.get("clean").and_then(serde_json::Value::as_bool) == Some(true);
    check.must(clean || !check.violations.is_empty(), || "it is not clean and names no finding".to_owned());
    check
}

#[cfg(test)]
mod tests {
    use super::super::sample::clean;
    use super::*;

    #[test]
    fn i12_an_entry_that_stayed_or_is_missing_is_found() {
        assert!(i12_outbox_delivered(&clean()).holds());
        let mut e = clean();
        e.ledger.outbox[0].delivered_at_ms = None;
        assert!(!i12_outbox_delivered(&e).holds());
        let mut e = clean();
        e.ledger.outbox.remove(1);
        assert!(!i12_outbox_delivered(&e).holds());
        let mut e = clean();
        e.ledger.outbox.push(e.ledger.outbox[0].clone());
        assert!(!i12_outbox_delivered(&e).holds());
    }

    #[test]
    fn i17_an_impossible_step_is_found() {
        assert!(i17_only_known_steps(&clean()).holds());
        let mut e = clean();
        e.ledger.order_event[1].to_state = "refunded".into();
        assert!(!i17_only_known_steps(&e).holds());
        let mut e = clean();
        e.ledger.orders[1].state = "paid".into();
        assert!(!i17_only_known_steps(&e).holds(), "the history says released");
    }

    #[test]
    fn the_proof_counts() {
        assert!(verify_is_clean(&clean()).holds());
        let mut e = clean();
        e.verify = Some(serde_json::json!({ "clean": false, "findings": [{ "check": "held_equals_orders" }] }));
        assert!(!verify_is_clean(&e).holds());
    }
}

//! Who got in with what: S1.

use super::Check;
use crate::evidence::Evidence;
use std::collections::{BTreeMap, BTreeSet};

/// S1: a pass serves one person, and one deal.
pub fn s1_a_pass_serves_one_person(e: &Evidence) -> Check {
    let mut check = Check::new("S1", "a pass serves one person");
    let mut users: BTreeMap<&str, BTreeSet<u32>> = BTreeMap::new();
    for op in e.history.iter().filter(|op| op.op == "hold" && op.is_ok() && !op.arg("pass").is_empty()) {
        users.entry(op.arg("pass")).or_default().insert(op.proc);
    }
    check.saw(users.len(), "passes used");
    for (pass, users) in users {
        check.must(users.len() == 1, || format!("pass {pass} bought for clients {users:?}"));
    }
    let mut leases: BTreeMap<i64, BTreeSet<(&str, &str)>> = BTreeMap::new();
    for order in &e.ledger.orders {
        leases.entry(order.lease_number).or_default().insert((&order.deal_id, &order.account_id));
    }
    check.saw(leases.len(), "numbers with orders");
    for (number, users) in leases {
        check.must(users.len() == 1, || format!("number {number} has orders of {} people", users.len()));
    }
    check
}

#[cfg(test)]
mod tests {
    use super::super::sample::clean;
    use super::*;

    #[test]
    fn s1_a_shared_pass_is_found() {
        assert!(s1_a_pass_serves_one_person(&clean()).holds());
        let mut e = clean();
        for op in e.history.iter_mut().filter(|op| op.op == "hold") {
            op.args["pass"] = "the same".into();
        }
        assert!(!s1_a_pass_serves_one_person(&e).holds());
        let mut e = clean();
        e.ledger.orders[1].lease_number = e.ledger.orders[0].lease_number;
        assert!(!s1_a_pass_serves_one_person(&e).holds());
    }
}

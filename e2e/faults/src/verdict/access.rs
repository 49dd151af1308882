//! Who got in with what: S1, S2.

use super::Check;
use crate::evidence::Evidence;
use std::collections::{BTreeMap, BTreeSet};

/// S1: a number is given once, and a pass serves one person and one deal.
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
    let mut given: BTreeMap<&str, BTreeSet<u32>> = BTreeMap::new();
    for op in e.history.iter().filter(|op| op.op == "join" && op.is_ok() && !op.id("number").is_empty()) {
        given.entry(op.id("number")).or_default().insert(op.proc);
    }
    check.saw(given.len(), "numbers given");
    for (number, users) in given {
        check.must(users.len() == 1, || format!("number {number} was given to clients {users:?}"));
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

/// S2: nobody takes units without a pass that is good here and now.
pub fn s2_no_way_round_the_line(e: &Evidence) -> Check {
    let mut check = Check::new("S2", "nobody takes units without a good pass");
    let tries: Vec<_> = e.history.iter().filter(|op| op.op == "trespass").collect();
    check.saw(tries.len(), "tries");
    for op in tries {
        check.must(!op.is_ok(), || {
            format!("client {}: a pass ({}) opened the shop: {}", op.proc, op.arg("pass"), op.status)
        });
    }
    check
}

#[cfg(test)]
mod tests {
    use super::super::sample::{clean, op};
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
        for proc in [7, 8] {
            e.history.push(op(proc, "join", 5, 6).ok("number", "41"));
        }
        assert!(!s1_a_pass_serves_one_person(&e).holds(), "a number for two");
        let mut e = clean();
        e.ledger.orders[1].lease_number = e.ledger.orders[0].lease_number;
        assert!(!s1_a_pass_serves_one_person(&e).holds());
    }

    #[test]
    fn s2_a_forged_pass_that_opened_is_found() {
        let mut e = clean();
        e.history.push(op(7, "trespass", 5, 6).with("pass", "long over".into()).fail("wait-in-line"));
        assert!(s2_no_way_round_the_line(&e).holds());
        e.history.push(op(7, "trespass", 7, 8).with("pass", "long over".into()).ok("order", "x"));
        assert!(!s2_no_way_round_the_line(&e).holds());
    }
}

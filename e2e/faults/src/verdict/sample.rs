//! A small clean run for the tests of the checks: of two units one is sold, one was cancelled, one was refunded.
#![allow(missing_docs, reason = "helpers of tests")]

use crate::evidence::*;
use crate::history::{Op, Outcome};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A read that is ok; the methods below change it.
pub fn op(proc: u32, name: &str, t0: u64, t1: u64) -> Op {
    Op {
        run: "r".into(),
        seed: 1,
        proc,
        n: t0,
        op: name.into(),
        args: json!({}),
        key: None,
        t0,
        t1,
        outcome: Outcome::Ok,
        status: 200,
        body_digest: "d".into(),
        ids: BTreeMap::new(),
    }
}

impl Op {
    pub fn key(mut self, key: &str) -> Self {
        self.key = Some(key.into());
        self
    }
    pub fn with(mut self, name: &str, value: Value) -> Self {
        self.args[name] = value;
        self
    }
    pub fn on(self, order: &str) -> Self {
        self.with("order", order.into())
    }
    pub fn quantity(self, units: i64) -> Self {
        self.with("quantity", units.into())
    }
    pub fn ok(mut self, name: &str, value: &str) -> Self {
        (self.outcome, self.status) = (Outcome::Ok, 200);
        self.ids.insert(name.into(), value.into());
        self
    }
    pub fn fail(mut self, problem: &str) -> Self {
        (self.outcome, self.status) = (Outcome::Fail, 409);
        self.ids.insert("problem".into(), problem.into());
        self
    }
    pub fn info(mut self) -> Self {
        (self.outcome, self.status) = (Outcome::Info, 0);
        self.body_digest.clear();
        self
    }
}

fn order(id: &str, account: &str, lease: i64, state: &str) -> OrderRow {
    OrderRow {
        id: id.into(),
        deal_id: "deal".into(),
        account_id: account.into(),
        lease_number: lease,
        quantity: 1,
        amount_minor: 100,
        currency: "KRW".into(),
        state: state.into(),
        idempotency_key: format!("h-{id}"),
        sold_units: i64::from(state == "paid"),
        hold_expires_at_ms: 20_000,
        created_at_ms: 10_000,
        ..OrderRow::default()
    }
}

fn life(id: &str, states: &[&str], seq: &mut i64) -> Vec<EventRow> {
    let mut from = None;
    let mut events = Vec::new();
    for state in states {
        *seq += 1;
        let to_state = (*state).to_owned();
        events.push(EventRow {
            order_id: id.into(),
            seq: *seq,
            from_state: from.replace(to_state.clone()),
            to_state,
            reason: None,
            at_ms: 10_000 + *seq,
        });
    }
    events
}

fn payment(id: &str, order: &str, refunded: i64) -> PaymentRow {
    PaymentRow {
        id: id.into(),
        order_id: order.into(),
        state: "captured".into(),
        amount_minor: 100,
        currency: "KRW".into(),
        captured_minor: 100,
        refunded_minor: refunded,
        provider_ref: Some(format!("t-{id}")),
        ..PaymentRow::default()
    }
}

fn at_provider(payment: &str, order: &str, cancelled: i64) -> ProviderRow {
    ProviderRow {
        tid: format!("t-{payment}"),
        partner_order_id: order.into(),
        amount: 100,
        status: if cancelled > 0 { "CANCEL_PAYMENT" } else { "SUCCESS_PAYMENT" }.into(),
        captured: 100,
        cancelled,
        approvals: 1,
    }
}

fn outbox(id: i64, kind: &str, order: &str) -> OutboxRow {
    OutboxRow { id, kind: kind.into(), order_id: order.into(), quantity: 1, delivered_at_ms: Some(1) }
}

/// The run.
pub fn clean() -> Evidence {
    let mut seq = 0;
    let mut order_event = life("o1", &["held", "paying", "paid"], &mut seq);
    order_event.extend(life("o2", &["held", "released"], &mut seq));
    order_event.extend(life("o3", &["held", "paying", "paid", "refunding", "refunded"], &mut seq));
    let ledger = LedgerDump {
        deal: vec![DealRow {
            id: "deal".into(),
            stock: 2,
            sold: 1,
            price_minor: 100,
            per_user_limit: 1,
            ..DealRow::default()
        }],
        orders: vec![order("o1", "a1", 1, "paid"), order("o2", "a2", 2, "released"), order("o3", "a3", 3, "refunded")],
        order_event,
        payment: vec![payment("p1", "o1", 0), payment("p3", "o3", 100)],
        refund: vec![RefundRow {
            id: "r3".into(),
            order_id: "o3".into(),
            payment_id: "p3".into(),
            amount_minor: 100,
            currency: "KRW".into(),
            units: 1,
            state: "done".into(),
            requested_by: "shopper".into(),
        }],
        outbox: vec![
            outbox(1, "order_paid", "o1"),
            outbox(2, "order_released", "o2"),
            outbox(3, "order_paid", "o3"),
            outbox(4, "order_refunded", "o3"),
        ],
        allowance: vec![
            AllowanceRow { account_id: "a1".into(), units: 1 },
            AllowanceRow { account_id: "a2".into(), units: 0 },
            AllowanceRow { account_id: "a3".into(), units: 0 },
        ],
        attempt: vec![
            AttemptRow { payment_id: "p1".into(), kind: "confirm".into(), started_at_ms: 10_002 },
            AttemptRow { payment_id: "p3".into(), kind: "confirm".into(), started_at_ms: 10_007 },
        ],
        audit: Vec::new(),
    };
    let hold = |proc, id: &str, t0| {
        op(proc, "hold", t0, t0 + 5)
            .key(&format!("h-{id}"))
            .quantity(1)
            .with("pass", format!("pass{proc}").into())
            .ok("order", id)
    };
    let history = vec![
        hold(2, "o2", 100),
        op(2, "cancel", 200, 210).key("c-o2").on("o2").ok("state", "released"),
        hold(3, "o3", 300),
        op(3, "pay", 320, 330).key("p-o3").on("o3").ok("state", "paying"),
        op(3, "look", 340, 345).on("o3").ok("state", "paid"),
        op(3, "refund", 350, 360).key("r-o3").on("o3").ok("state", "refunding"),
        op(3, "look", 370, 380).on("o3").ok("state", "refunded"),
        hold(1, "o1", 400),
        op(1, "pay", 420, 430).key("p-o1").on("o1").ok("state", "paying"),
        op(1, "look", 440, 450).on("o1").ok("state", "paid"),
    ];
    let stock = [("available", "1"), ("held", "0"), ("sold", "1"), ("total", "2")];
    let usage = |whom: &str| Usage { whom: whom.into(), fds: 40, threads: 8, rss_kib: 50_000 };
    let metrics = "# HELP x\nfloodgate_deal_reservations_total{deal=\"deal\",result=\"ok\"} 3\n";
    Evidence {
        run: Run {
            run: "r".into(),
            seed: 1,
            deal: "deal".into(),
            stock: 2,
            per_user_limit: 1,
            price_minor: 100,
            currency: "KRW".into(),
            hold_ttl_ms: 10_000,
            confirm_ms: 2_000,
            accounts: (1..=9).map(|n| (n, format!("a{n}"))).collect(),
            healed_us: 500,
            quiet_us: Some(600),
            end_us: 700,
            end_wall_ms: 15_000,
        },
        history,
        nemesis: vec![Act {
            what: "recovered".into(),
            whom: "proxy".into(),
            t0: 10,
            t1: 500_010,
            detail: "500 ms".into(),
        }],
        ledger,
        provider: vec![at_provider("p1", "o1", 0), at_provider("p3", "o3", 100)],
        redis: Some(RedisDump {
            stock: stock.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            bought: BTreeMap::from([("a1".into(), "1".into())]),
            units: BTreeMap::new(),
        }),
        upstream: vec![UpstreamLine {
            route: "/api/v1/deals/{deal}/holds".into(),
            method: "POST".into(),
            status: 201,
            trace_id: "t".into(),
        }],
        samples: vec![Sample { t: 410, ledger: Some([2, 1, 0]), redis: Some([1, 1, 0]) }],
        usage_before: vec![usage("proxy"), usage("redis")],
        usage_after: vec![usage("proxy"), usage("redis")],
        metrics: BTreeMap::from([("deal-service".into(), metrics.into())]),
        verify: Some(json!({ "clean": true, "findings": [] })),
    }
}

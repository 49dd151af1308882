//! The purchase's rules without a store: every edge, every refusal, and random lives.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

use ledger::purchase::*;
use ledger::*;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use service_kit::money::{Currency, Money};
use std::collections::BTreeSet;

const NOW_MS: i64 = 1_000_000;
const ROOM: Room = Room { free_units: 100, allowance_units: 100 };
const FULL: Room = Room { free_units: 0, allowance_units: 100 };

fn won(minor: i64) -> Money {
    Money::new(minor, Currency::KRW).unwrap()
}

/// Two units for 2,000 won, as they stand in `state`.
fn order(state: OrderState) -> Purchase {
    use OrderState::*;
    let bought = matches!(state, Paid | Refunding | PartlyRefunded | Refunded);
    Purchase {
        state,
        reason: None,
        payment: match state {
            Held => None,
            Paying | Quarantined => Some(PaymentState::Unknown),
            Released => Some(PaymentState::Expired),
            _ => Some(PaymentState::Captured),
        },
        quantity: 2,
        held_units: if matches!(state, Held | Paying | Quarantined) { 2 } else { 0 },
        sold_units: match state {
            Paid | Refunding => 2,
            PartlyRefunded => 1,
            _ => 0,
        },
        amount: won(2_000),
        captured_minor: if bought { 2_000 } else { 0 },
        refunded_minor: match state {
            PartlyRefunded => 500,
            Refunded => 2_000,
            _ => 0,
        },
        refund: (state == Refunding).then_some(RefundPart { amount_minor: 2_000, units: 2 }),
        hold_expires_at_ms: NOW_MS + 1_000,
        paid_at_ms: bought.then_some(NOW_MS - 1_000),
        shopper_refund_ms: 10_000,
    }
}

fn captured(minor: i64, room: Room) -> Event {
    Event::Captured { money: won(minor), room }
}

fn refund(by: Actor, amount_minor: Option<i64>, units: Option<i64>) -> Event {
    Event::RefundRequested { by, amount_minor, units }
}

#[test]
fn every_event_in_every_state() {
    use OrderState::*;
    type Edges = Vec<(OrderState, OrderState)>;
    let cases: Vec<(&str, Event, Edges)> = vec![
        ("pay", Event::PaymentRequested, vec![(Held, Paying)]),
        ("cancel", Event::CancelRequested, vec![(Held, Released)]),
        ("captured", captured(2_000, ROOM), vec![(Paying, Paid), (Released, Paid), (Quarantined, Paid)]),
        (
            "captured, nothing left",
            captured(2_000, FULL),
            vec![(Paying, Paid), (Released, Refunding), (Quarantined, Paid)],
        ),
        (
            "captured, another amount",
            captured(1_999, ROOM),
            [Paying, Released, Paid, PartlyRefunded, Refunded].map(|s| (s, Quarantined)).to_vec(),
        ),
        ("declined", Event::Ended(Ended::Declined), vec![(Paying, Released)]),
        (
            "figures differ",
            Event::FiguresDiffer,
            [Paying, Released, Paid, PartlyRefunded, Refunded].map(|s| (s, Quarantined)).to_vec(),
        ),
        ("refund", refund(Actor::Operator, None, None), vec![(Paid, Refunding), (PartlyRefunded, Refunding)]),
        ("refund done", Event::RefundDone, vec![(Refunding, Refunded)]),
        ("refund refused", Event::RefundRefused, vec![(Refunding, Paid)]),
        (
            "refund reversed",
            Event::RefundReversed(RefundPart { amount_minor: 500, units: 0 }),
            vec![(Refunded, Quarantined), (PartlyRefunded, Quarantined)],
        ),
        ("ask again", Event::AskAgain, vec![(Quarantined, Paying)]),
        ("close", Event::CloseWithoutMoney, vec![(Quarantined, Released)]),
        ("give back", Event::GiveBack { captured_minor: 1_500 }, vec![(Quarantined, Refunding)]),
    ];
    for (name, event, edges) in cases {
        for state in OrderState::ALL {
            let expected = edges.iter().find(|(from, _)| *from == state).map(|(_, to)| *to);
            let got = step(&order(state), &event, NOW_MS).ok().map(|s| s.order);
            assert_eq!(got, expected, "{name} in {state:?}");
        }
    }
}

#[test]
fn what_an_operator_has_ended_is_no_news() {
    for state in [OrderState::Released, OrderState::Refunded] {
        let mut ended = order(state);
        ended.reason = Some("settled_by_operator".into());
        for event in [Event::FiguresDiffer, captured(1_999, ROOM)] {
            assert_eq!(step(&ended, &event, NOW_MS), Err(Refusal::Already), "{event:?} in {state:?}");
        }
    }
    // Money that fits is never refused, whoever closed the order.
    let mut ended = order(OrderState::Released);
    ended.reason = Some("settled_by_operator".into());
    assert_eq!(step(&ended, &captured(2_000, ROOM), NOW_MS).unwrap().order, OrderState::Paid);
}

#[test]
fn a_hold_ends_at_its_time_and_not_before_and_a_payment_keeps_it() {
    let mut held = order(OrderState::Held);
    assert_eq!(step(&held, &Event::HoldExpired, NOW_MS), Err(Refusal::NotNow(OrderState::Held)));
    held.hold_expires_at_ms = NOW_MS;
    let ended = step(&held, &Event::HoldExpired, NOW_MS).unwrap();
    assert_eq!(
        (ended.order, ended.held_units, ended.outbox),
        (OrderState::Released, 0, Some((OutboxKind::OrderReleased, 2)))
    );
    assert_eq!(
        step(&held, &Event::PaymentRequested, NOW_MS),
        Err(Refusal::NotNow(OrderState::Held)),
        "the hold is over"
    );
    let mut paying = order(OrderState::Paying);
    paying.hold_expires_at_ms = 0;
    assert!(step(&paying, &Event::HoldExpired, NOW_MS).is_err());
}

#[test]
fn a_shopper_may_turn_back_until_the_provider_is_asked_for_the_money() {
    for state in PaymentState::ALL {
        let mut paying = order(OrderState::Paying);
        paying.payment = Some(state);
        let may = matches!(state, PaymentState::Requested | PaymentState::Ready);
        assert_eq!(step(&paying, &Event::CancelRequested, NOW_MS).is_ok(), may, "{state:?}");
    }
}

#[test]
fn late_money_takes_the_stock_again_or_goes_back() {
    let released = order(OrderState::Released);
    let paid = step(&released, &captured(2_000, Room { free_units: 2, allowance_units: 2 }), NOW_MS).unwrap();
    assert_eq!((paid.order, paid.sold_units, paid.outbox), (OrderState::Paid, 2, Some((OutboxKind::OrderPaidLate, 2))));
    for room in [Room { free_units: 1, allowance_units: 2 }, Room { free_units: 2, allowance_units: 1 }] {
        let back = step(&released, &captured(2_000, room), NOW_MS).unwrap();
        assert_eq!((back.order, back.sold_units, back.outbox), (OrderState::Refunding, 0, None));
        assert_eq!(back.open_refund, Some(RefundPart { amount_minor: 2_000, units: 0 }));
        assert_eq!((back.payment, back.captured_minor), (Some(PaymentState::Captured), 2_000));
    }
    let mut turned_back = released;
    turned_back.reason = Some("cancelled_by_shopper".into());
    assert_eq!(
        step(&turned_back, &captured(2_000, ROOM), NOW_MS).unwrap().order,
        OrderState::Refunding,
        "no goods against their will"
    );
}

#[test]
fn a_late_failure_never_overwrites_success() {
    use OrderState::*;
    for state in [Paid, Refunding, PartlyRefunded, Refunded, Quarantined, Held] {
        for how in [Ended::Declined, Ended::Cancelled, Ended::Expired] {
            assert!(step(&order(state), &Event::Ended(how), NOW_MS).is_err(), "{state:?}");
        }
    }
}

#[test]
fn money_in_parts() {
    let paid = order(OrderState::Paid);
    let ask = |now: &Purchase, amount, units| step(now, &refund(Actor::Merchant, amount, units), NOW_MS);
    assert_eq!(
        ask(&paid, Some(500), None).unwrap().open_refund,
        Some(RefundPart { amount_minor: 500, units: 0 }),
        "money alone brings no unit back"
    );
    assert_eq!(ask(&paid, Some(500), Some(1)).unwrap().open_refund, Some(RefundPart { amount_minor: 500, units: 1 }));
    assert_eq!(ask(&paid, None, None).unwrap().open_refund, Some(RefundPart { amount_minor: 2_000, units: 2 }));
    assert_eq!(ask(&paid, Some(2_001), None), Err(Refusal::Amount { left_minor: 2_000 }));
    for bad in [0, -1, i64::MIN] {
        assert_eq!(ask(&paid, Some(bad), None), Err(Refusal::Amount { left_minor: 2_000 }));
        assert!(ask(&paid, Some(1), Some(bad)).is_err() || bad == 0);
    }
    assert_eq!(ask(&paid, Some(500), Some(3)), Err(Refusal::Units { left_units: 2 }));
    assert_eq!(ask(&paid, Some(2_000), Some(1)), Err(Refusal::Units { left_units: 2 }), "all the money, all the units");

    let mut part = order(OrderState::PartlyRefunded);
    assert_eq!(ask(&part, Some(1_501), None), Err(Refusal::Amount { left_minor: 1_500 }));
    part.state = OrderState::Refunding;
    part.refund = Some(RefundPart { amount_minor: 1_000, units: 0 });
    let more = step(&part, &Event::RefundDone, NOW_MS).unwrap();
    assert_eq!((more.order, more.sold_units, more.outbox), (OrderState::PartlyRefunded, 1, None));
    part.refund = Some(RefundPart { amount_minor: 1_500, units: 1 });
    let all = step(&part, &Event::RefundDone, NOW_MS).unwrap();
    assert_eq!(
        (all.order, all.sold_units, all.outbox),
        (OrderState::Refunded, 0, Some((OutboxKind::OrderReturned, 1)))
    );
    assert_eq!(step(&part, &Event::RefundRefused, NOW_MS).unwrap().order, OrderState::PartlyRefunded);
}

#[test]
fn the_shopper_has_a_time_and_the_shop_has_not() {
    let mut paid = order(OrderState::Paid);
    let last_ms = paid.paid_at_ms.unwrap() + paid.shopper_refund_ms;
    assert!(step(&paid, &refund(Actor::Shopper, None, None), last_ms).is_ok());
    assert_eq!(step(&paid, &refund(Actor::Shopper, None, None), last_ms + 1), Err(Refusal::TooLate));
    paid.shopper_refund_ms = 0;
    assert_eq!(step(&paid, &refund(Actor::Shopper, None, None), NOW_MS), Err(Refusal::TooLate));
    assert!(step(&paid, &refund(Actor::Merchant, None, None), i64::MAX).is_ok());
}

#[test]
fn late_money_that_cannot_go_back_is_for_a_person() {
    let mut back = order(OrderState::Refunding);
    (back.sold_units, back.refund) = (0, Some(RefundPart { amount_minor: 2_000, units: 0 }));
    let stuck = step(&back, &Event::RefundRefused, NOW_MS).unwrap();
    assert_eq!(stuck.order, OrderState::Quarantined);
    back.state = OrderState::Quarantined;
    back.refund = None;
    let again = step(&back, &Event::GiveBack { captured_minor: 2_000 }, NOW_MS).unwrap();
    assert_eq!((again.order, again.payment), (OrderState::Refunding, None), "captured once, and stays so");
    assert_eq!(step(&back, &Event::CloseWithoutMoney, NOW_MS).unwrap().order, OrderState::Refunded);
    assert!(step(&back, &Event::AskAgain, NOW_MS).is_err(), "it is known what the provider has");
}

/// Does to a purchase what the store does with a step.
fn apply(now: &mut Purchase, event: &Event, done: &Step) {
    if let Event::RefundReversed(part) = event {
        now.refunded_minor -= part.amount_minor;
    }
    if let (Some(part), Event::RefundDone | Event::RefundRefused) = (now.refund, event) {
        if *event == Event::RefundDone {
            now.refunded_minor += part.amount_minor;
        }
        now.refund = None;
    }
    now.state = done.order;
    now.payment = done.payment.or(now.payment);
    now.captured_minor = done.captured_minor;
    (now.held_units, now.sold_units) = (done.held_units, done.sold_units);
    now.refund = done.open_refund.or(now.refund);
    if let Some(reason) = done.reason {
        now.reason = Some(reason.into());
    }
    if done.order == OrderState::Paid {
        now.paid_at_ms = now.paid_at_ms.or(Some(NOW_MS));
    }
}

fn random_event(rng: &mut StdRng, now: &Purchase) -> Event {
    let room = Room { free_units: rng.random_range(0..4), allowance_units: rng.random_range(0..4) };
    let ended = [Ended::Declined, Ended::Cancelled, Ended::Expired][rng.random_range(0..3)];
    let by = [Actor::Shopper, Actor::Merchant, Actor::Operator][rng.random_range(0..3)];
    match rng.random_range(0..14) {
        0 => Event::PaymentRequested,
        1 => Event::HoldExpired,
        2 => Event::CancelRequested,
        3..=5 => captured(if rng.random_bool(0.9) { 2_000 } else { 1_999 }, room),
        6 => Event::Ended(ended),
        7 if rng.random_bool(0.2) => Event::FiguresDiffer,
        8 => refund(
            by,
            rng.random_bool(0.7).then(|| rng.random_range(-1..2_100)),
            rng.random_bool(0.5).then(|| rng.random_range(-1..4)),
        ),
        9 => Event::RefundDone,
        10 => Event::RefundRefused,
        11 if now.refunded_minor > 0 && rng.random_bool(0.1) => {
            Event::RefundReversed(RefundPart { amount_minor: now.refunded_minor, units: 0 })
        }
        12 => [Event::AskAgain, Event::CloseWithoutMoney][rng.random_range(0..2)].clone(),
        13 => Event::GiveBack { captured_minor: rng.random_range(0..2_100) },
        _ => Event::PaymentRequested,
    }
}

#[test]
fn random_lives_keep_every_sum() {
    let seeds: Vec<u64> = match std::env::var("FLOODGATE_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => (0..20_000).collect(),
    };
    let mut walked = BTreeSet::new();
    for seed in seeds {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut now = order(OrderState::Held);
        let mut moved_to_redis = 0_i64; // units that Redis believes to be taken: held or sold
        moved_to_redis += now.held_units;
        for n in 0..40 {
            let event = random_event(&mut rng, &now);
            let Ok(done) = step(&now, &event, NOW_MS) else { continue };
            let at = format!("seed {seed} (FLOODGATE_SEED={seed}), event {n}: {event:?} in {now:?} gives {done:?}");
            assert!(ORDER_EDGES.contains(&(now.state, done.order)), "no such edge: {at}");
            walked.insert((now.state.as_str(), done.order.as_str()));
            if let (Some(from), Some(to)) = (now.payment, done.payment) {
                assert!(PAYMENT_EDGES.contains(&(from, to)), "no such edge of a payment: {at}");
            }
            if let Some((kind, units)) = done.outbox {
                assert!(units > 0, "{at}");
                match kind {
                    OutboxKind::OrderPaid => {}
                    OutboxKind::OrderPaidLate => moved_to_redis += units,
                    OutboxKind::OrderReleased | OutboxKind::OrderReturned => moved_to_redis -= units,
                }
            }
            if let Some(part) = done.open_refund {
                let left = done.captured_minor - now.refunded_minor;
                assert!(part.amount_minor <= left, "more than is left: {at}");
                assert!((0..=done.sold_units).contains(&part.units), "{at}");
            }
            apply(&mut now, &event, &done);
            assert_eq!(now.held_units + now.sold_units, moved_to_redis, "Redis hears of every unit once: {at}");
            assert!(now.held_units == 0 || now.held_units == 2, "{at}");
            assert!(now.refunded_minor + now.refund.map_or(0, |r| r.amount_minor) <= now.captured_minor, "{at}");
            assert_eq!(now.refund.is_some(), now.state == OrderState::Refunding, "{at}");
            let units = (now.held_units, now.sold_units);
            match now.state {
                OrderState::Held | OrderState::Paying => assert_eq!(units, (2, 0), "{at}"),
                OrderState::Paid => assert_eq!((units, now.captured_minor), ((0, 2), 2_000), "{at}"),
                OrderState::Released | OrderState::Refunded => assert_eq!(units, (0, 0), "{at}"),
                OrderState::Refunding | OrderState::PartlyRefunded => assert_eq!(now.held_units, 0, "{at}"),
                OrderState::Quarantined => {}
            }
        }
    }
    if std::env::var("FLOODGATE_SEED").is_err() {
        let all: BTreeSet<_> = ORDER_EDGES.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        let missing: Vec<_> = all.difference(&walked).collect();
        assert!(missing.is_empty(), "edges that nothing walks: {missing:?}");
    }
}

/// The picture in the documentation is the machine.
#[test]
fn the_picture_shows_every_edge_and_no_other() {
    let page = std::fs::read_to_string("../docs/purchase.md").unwrap();
    let drawn: BTreeSet<(&str, &str)> = page
        .lines()
        .filter_map(|line| line.trim().split_once(" --> "))
        .filter_map(|(from, to)| Some((from, to.split_once(':')?.0)))
        .filter(|(from, _)| *from != "[*]")
        .collect();
    let edges: BTreeSet<(&str, &str)> = ORDER_EDGES.iter().map(|(from, to)| (from.as_str(), to.as_str())).collect();
    assert_eq!(drawn, edges);
}

//! Every driver with its simulator, which another hand wrote from the same contract: bought, declined, lost, late, given
//! back in parts, compared.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

mod support;

use ledger::*;
use serde_json::{Value, json};
use service_kit::clock::now_ms;
use service_kit::ids::RefundId;
use support::{Bench, Bought, PRICE};

const ALL: [&str; 3] = ["kakaopay", "toss", "stripe"];

/// What the shopper's browser does: opens the page, presses a button, and follows to our return address.
async fn press(bench: &Bench, bought: &Bought, provider: &str, action: &str) -> String {
    let page = bench.order(bought).await.payment.unwrap().redirect_pc.unwrap();
    if provider == "kakaopay" {
        return bench.press(bought, action).await;
    }
    let html = bench.http.get(&page).send().await.unwrap().text().await.unwrap();
    let from = html.find("id=\"checkout\"").map(|at| at + html[at..].find('>').unwrap() + 1).unwrap();
    let data: Value = serde_json::from_str(&html[from..from + html[from..].find("</script>").unwrap()]).unwrap();
    let text = |name: &str| data[name].as_str().unwrap().to_owned();
    let pay_url = if provider == "toss" {
        let value = data["amount"]["value"].to_string();
        let form = [
            ("client_key", text("clientKey")),
            ("method", bench.config().providers.toss.unwrap().method),
            ("amount", value),
            ("currency", data["amount"]["currency"].as_str().unwrap().to_owned()),
            ("order_id", text("orderId")),
            ("order_name", text("orderName")),
            ("success_url", text("successUrl")),
            ("fail_url", text("failUrl")),
        ];
        let request = bench.http.post(format!("{}/toss/sdk/payments", bench.provider)).form(&form);
        let opened: Value = request.header("accept", "application/json").send().await.unwrap().json().await.unwrap();
        opened["pay_url"].as_str().unwrap_or_else(|| panic!("{opened}")).to_owned()
    } else {
        let secret = text("clientSecret");
        let intent = secret.split("_secret").next().unwrap();
        let back: String = text("approveUrl").bytes().map(|b| format!("%{b:02X}")).collect();
        format!("{}/stripe/pay/{intent}?client_secret={secret}&return_url={back}", bench.provider)
    };
    let response = bench.http.post(pay_url).form(&[("action", action)]).send().await.unwrap();
    assert_eq!(response.status(), 303, "{provider}");
    response.headers()["location"].to_str().unwrap().to_owned()
}

async fn pay(bench: &Bench, bought: &Bought, provider: &str) {
    bench.until_payment(bought, "ready").await;
    let back = press(bench, bought, provider, "pay").await;
    assert!(bench.http.get(back).send().await.unwrap().status().is_redirection(), "{provider}");
}

async fn refund(bench: &Bench, bought: &Bought, amount_minor: Option<i64>) {
    let request = RequestRefund {
        refund: RefundId::new(),
        order: bought.order,
        by: RefundBy::Operator,
        amount_minor,
        units: None,
        reason: "part".into(),
    };
    let idem = Idem { actor: "test".into(), key: request.refund.to_string(), fingerprint: [1; 32] };
    let saved = |_: &Order| Saved { status: 202, body: Vec::new() };
    let asked = bench.ledger.request_refund(&request, now_ms(), &idem, saved).await.unwrap();
    assert!(matches!(asked, Replay::Fresh(_)), "{asked:?}");
}

#[tokio::test]
async fn bought_and_given_back_in_parts_at_every_provider() {
    let bench = Bench::open().await;
    for provider in ALL {
        let bought = bench.buy_with(provider).await;
        pay(&bench, &bought, provider).await;
        bench.until_order(&bought, OrderState::Paid).await;
        for (amount, state) in [
            (Some(2_900), OrderState::PartlyRefunded),
            (Some(4_000), OrderState::PartlyRefunded),
            (None, OrderState::Refunded),
        ] {
            refund(&bench, &bought, amount).await;
            bench
                .until(&format!("{provider}: {state:?}"), || async {
                    bench.order(&bought).await.state != OrderState::Refunding
                })
                .await;
            assert_eq!(bench.order(&bought).await.state, state, "{provider} after {amount:?}");
        }
        assert_eq!(bench.order(&bought).await.refunded_minor, PRICE, "{provider}");
    }
    assert_eq!(bench.ledger.verify().await.unwrap(), []);
}

#[tokio::test]
async fn a_decline_gives_the_unit_back_at_every_provider() {
    let bench = Bench::open().await;
    for provider in ALL {
        let bought = bench.buy_with(provider).await;
        bench.until_payment(&bought, "ready").await;
        let back = press(&bench, &bought, provider, "decline").await;
        assert!(bench.http.get(back).send().await.unwrap().status().as_u16() < 500, "{provider}");
        bench.pass_time(31 * 60_000);
        bench.until_order(&bought, OrderState::Released).await;
        bench.pass_time(-31 * 60_000);
    }
    assert_eq!(bench.ledger.verify().await.unwrap(), []);
}

#[tokio::test]
async fn a_charge_whose_answer_is_lost_is_taken_once_at_every_provider() {
    let bench = Bench::open().await;
    for (provider, endpoint) in [("kakaopay", "approve"), ("toss", "confirm"), ("stripe", "capture")] {
        let bought = bench.buy_with(provider).await;
        bench.until_payment(&bought, "ready").await;
        let back = press(&bench, &bought, provider, "pay").await;
        let fault = json!({ "provider": provider, "endpoint": endpoint, "fault": "drop-after-effect", "times": 1 });
        bench.control("faults", fault).await;
        bench.http.get(back).send().await.unwrap();
        bench.until_order(&bought, OrderState::Paid).await;
        assert_eq!(bench.attempts(&bought, "confirm").await.len(), 1, "{provider}: never charged again blindly");
    }
    assert_eq!(bench.ledger.verify().await.unwrap(), []);
}

#[tokio::test]
async fn a_return_with_another_amount_or_order_changes_nothing() {
    let bench = Bench::open().await;
    let bought = bench.buy_with("toss").await;
    bench.until_payment(&bought, "ready").await;
    let back = press(&bench, &bought, "toss", "pay").await;
    let order = bought.order.to_string();
    for wrong in [
        back.replace(&format!("amount={PRICE}"), "amount=1"),
        back.replace(&order, "01a1fd86-9865-70cf-85d0-e8ed17a513ce"),
        back.replace("paymentKey=", "key="),
    ] {
        assert_ne!(wrong, back);
        assert_eq!(bench.http.get(wrong).send().await.unwrap().status(), 404);
        assert_eq!(bench.payment_state(&bought).await, "ready");
    }
    bench.http.get(back).send().await.unwrap();
    bench.until_order(&bought, OrderState::Paid).await;
}

#[tokio::test]
async fn a_deposit_is_awaited_and_its_notice_settles_it() {
    let mut bench = Bench::new(2_000).await;
    bench.set_toss_method("VIRTUAL_ACCOUNT");
    bench.hire();
    let bought = bench.buy_with("toss").await;
    pay(&bench, &bought, "toss").await;
    bench.until_payment(&bought, "waiting").await;
    assert_eq!(bench.order(&bought).await.state, OrderState::Paying, "the unit stays held");
    bench
        .control("webhooks", json!({ "provider": "toss", "url": format!("{}/payments/webhooks/toss", bench.shop) }))
        .await;
    let row = bench.sql().await.query_one("SELECT approval_code FROM payment", &[]).await.unwrap();
    bench.control("toss/deposit", json!({ "payment": row.get::<_, String>(0) })).await;
    bench.until_order(&bought, OrderState::Paid).await;
    assert_eq!(bench.ledger.verify().await.unwrap(), []);
}

/// What somebody does at the provider's own console is found and told, whatever the provider offers for it.
#[tokio::test]
async fn the_comparison_finds_what_only_the_provider_knows() {
    let bench = Bench::open().await;
    let cfg = bench.config();
    let accounts = cfg.accounts().unwrap();
    for provider in ["toss", "stripe"] {
        // Taken at the provider, and expired here: late money.
        let bought = bench.buy_with(provider).await;
        pay(&bench, &bought, provider).await;
        bench.until_order(&bought, OrderState::Paid).await;
        let sql = bench.sql().await;
        sql.batch_execute(&format!(
            "SET session_replication_role = replica;
             UPDATE payment SET state = 'expired', captured_minor = 0, updated_at_ms = 0 WHERE id = '{0}';
             UPDATE orders SET state = 'released', reason = 'payment_expired', sold_units = 0 WHERE id = '{1}';
             UPDATE deal SET sold = sold - 1 WHERE id = '{2}';
             UPDATE allowance SET units = units - 1 WHERE deal_id = '{2}' AND account_id = '{3}';
             SET session_replication_role = origin",
            bought.payment, bought.order, bench.deal, bought.account
        ))
        .await
        .unwrap();
        let found = payment_adapter::reconcile_books(&cfg, &bench.ledger, &accounts, now_ms() + 2_000).await.unwrap();
        assert!(found >= 1, "{provider}");
        let open = bench.ledger.open_discrepancies(10).await.unwrap();
        assert!(open.iter().any(|d| d.class == "state" && d.payment == Some(bought.payment)), "{provider}: {open:?}");
        bench.until_order(&bought, OrderState::Paid).await;
        // Compared again, both agree, and the difference is closed.
        payment_adapter::reconcile_books(&cfg, &bench.ledger, &accounts, now_ms() + 60_000).await.unwrap();
        let open = bench.ledger.open_discrepancies(10).await.unwrap();
        assert!(open.iter().all(|d| d.payment != Some(bought.payment)), "{provider}: {open:?}");
    }
}

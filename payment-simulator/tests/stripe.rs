//! Stripe over HTTP: PaymentIntents, refunds, lists, idempotency, and the buyer's side.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

mod support;

use serde_json::json;
use support::{Shop, answer};

fn id(body: &serde_json::Value) -> String {
    body["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn create_confirm_capture_and_refund_in_parts() {
    let shop = Shop::open().await;
    let intent = shop.stripe_intent(&[("capture_method", "manual")]).await;
    assert_eq!(intent["status"], "requires_payment_method");
    let pi = id(&intent);
    let (status, body) = shop.stripe_post(&format!("payment_intents/{pi}/confirm"), &[]).await;
    assert_eq!((status, &body["error"]["code"]), (400, &json!("payment_intent_unexpected_state")));
    let (_, body) =
        shop.stripe_post(&format!("payment_intents/{pi}/confirm"), &[("payment_method", "pm_card_visa")]).await;
    assert_eq!((&body["status"], &body["amount_capturable"]), (&json!("requires_capture"), &json!(12_900)));
    assert_eq!(shop.entry().await["captured"], 0);
    let (_, body) = shop.stripe_post(&format!("payment_intents/{pi}/capture"), &[]).await;
    assert_eq!((&body["status"], &body["amount_received"]), (&json!("succeeded"), &json!(12_900)));
    let refund = |amount: &'static str| {
        let form = vec![("payment_intent", pi.clone()), ("amount", amount.to_owned())];
        let request = shop.http.post(format!("{}/v1/refunds", shop.base)).bearer_auth(support::stripe::SECRET_KEY);
        answer(request.form(&form))
    };
    let (status, first) = refund("900").await.unwrap();
    assert_eq!((status, &first["status"], &first["amount"]), (200, &json!("succeeded"), &json!(900)));
    assert_eq!(refund("12001").await.unwrap().0, 400);
    assert_eq!(refund("12000").await.unwrap().0, 200);
    assert_eq!(refund("1").await.unwrap().1["error"]["code"], "charge_already_refunded");
    assert_eq!(shop.stripe_get(&format!("refunds/{}", id(&first))).await, (200, first));
    let (_, list) = shop.stripe_get(&format!("refunds?payment_intent={pi}")).await;
    assert_eq!((list["data"].as_array().unwrap().len(), &list["has_more"]), (2, &json!(false)));
    let (_, whole) = shop.stripe_get(&format!("payment_intents/{pi}?expand[]=latest_charge")).await;
    assert_eq!(
        (&whole["latest_charge"]["amount_refunded"], &whole["latest_charge"]["refunded"]),
        (&json!(12_900), &json!(true))
    );
    let entry = shop.entry().await;
    assert_eq!(
        (&entry["provider"], &entry["captured"], &entry["cancelled"]),
        (&json!("stripe"), &json!(12_900), &json!(12_900))
    );
    assert_eq!((&entry["approvals"], &entry["partner_order_id"]), (&json!(1), &json!("order-1")));
}

#[tokio::test]
async fn parameters_are_checked_and_named() {
    let shop = Shop::open().await;
    for (form, param) in [
        (vec![("currency", "krw")], "amount"),
        (vec![("amount", "0"), ("currency", "krw")], "amount"),
        (vec![("amount", "1.5"), ("currency", "krw")], "amount"),
        (vec![("amount", "100")], "currency"),
        (vec![("amount", "100"), ("currency", "xyz")], "currency"),
        (vec![("amount", "100"), ("currency", "krw"), ("capture_method", "later")], "capture_method"),
        (vec![("amount", "100"), ("currency", "krw"), ("amuont", "1")], "amuont"),
        (vec![("amount", "100"), ("currency", "krw"), ("payment_method", "pm_nobody")], "payment_method"),
        (vec![("amount", "100"), ("currency", "krw"), ("return_url", "javascript:x")], "return_url"),
        (vec![("amount", "100"), ("currency", "krw"), ("confirm", "true")], "payment_method"),
    ] {
        let (status, body) = shop.stripe_post("payment_intents", &form).await;
        assert_eq!((status, &body["error"]["type"]), (400, &json!("invalid_request_error")), "{form:?}");
        assert_eq!(body["error"]["param"], param, "{form:?}");
    }
    assert_eq!(shop.ledger().await["totals"]["payments"], 0);
    let json = shop
        .http
        .post(format!("{}/v1/payment_intents", shop.base))
        .bearer_auth("sk_test_x")
        .json(&json!({ "amount": 1 }));
    assert_eq!(answer(json).await.unwrap().0, 400);
    let (status, body) = shop.stripe_get("payment_intents/pi_nothing").await;
    assert_eq!((status, &body["error"]["code"]), (404, &json!("resource_missing")));
    let nobody = shop.http.get(format!("{}/v1/events", shop.base)).send().await.unwrap();
    assert_eq!(nobody.status(), 401);
}

#[tokio::test]
async fn a_key_replays_its_answer_and_checks_its_parameters() {
    let shop = Shop::open().await;
    let form = [("amount", "12900"), ("currency", "krw")];
    let first = shop.stripe_keyed("payment_intents", &form, "k1").await;
    let again = shop.stripe_request("payment_intents", &form).header("idempotency-key", "k1").send().await.unwrap();
    assert_eq!(again.headers()["idempotent-replayed"], "true");
    assert!(again.headers()["request-id"].to_str().unwrap().starts_with("req_"));
    assert_eq!(again.headers()["idempotency-key"], "k1");
    assert_eq!(again.json::<serde_json::Value>().await.unwrap(), first.1);
    let (status, body) = shop.stripe_keyed("payment_intents", &[("amount", "1"), ("currency", "krw")], "k1").await;
    assert_eq!((status, &body["error"]["type"]), (400, &json!("idempotency_error")));
    // Refused parameters are not bound.
    assert_eq!(shop.stripe_keyed("payment_intents", &[("amount", "0")], "k2").await.0, 400);
    assert_eq!(shop.stripe_keyed("payment_intents", &form, "k2").await.0, 200);
    // A refused card is: the call had begun.
    let card =
        [("amount", "100"), ("currency", "krw"), ("confirm", "true"), ("payment_method", "pm_card_chargeDeclined")];
    let refused = shop.stripe_keyed("payment_intents", &card, "k3").await;
    assert_eq!((refused.0, &refused.1["error"]["payment_intent"]["status"]), (402, &json!("requires_payment_method")));
    assert_eq!(shop.stripe_keyed("payment_intents", &card, "k3").await, refused);
    assert_eq!(shop.ledger().await["totals"]["payments"], 3);
    shop.advance(86_400_000).await;
    assert_ne!(shop.stripe_keyed("payment_intents", &form, "k1").await.1["id"], first.1["id"], "a day is over");
}

#[tokio::test]
async fn an_error_after_the_effect_is_replayed_and_a_running_twin_is_a_409() {
    let shop = Shop::open().await;
    let pi = id(&shop.stripe_intent(&[("payment_method", "pm_card_visa")]).await);
    let path = format!("payment_intents/{pi}/confirm");
    let faulty = shop
        .stripe_request(&path, &[])
        .header("idempotency-key", "k1")
        .header("floodgate-simulate", "error-after-effect");
    let (status, body) = answer(faulty).await.unwrap();
    assert_eq!((status, &body["error"]["type"]), (500, &json!("api_error")));
    assert_eq!(shop.stripe_keyed(&path, &[], "k1").await.0, 500, "a 500 is bound, too");
    assert_eq!(shop.stripe_get(&format!("payment_intents/{pi}")).await.1["status"], "succeeded", "asking tells");
    let refund = [("payment_intent", pi.as_str()), ("amount", "900")];
    let slow = shop
        .stripe_request("refunds", &refund)
        .header("idempotency-key", "k2")
        .header("floodgate-simulate", "delay=700");
    assert!(slow.timeout(std::time::Duration::from_millis(150)).send().await.is_err());
    let twin = shop.stripe_request("refunds", &refund).header("idempotency-key", "k2").send().await.unwrap();
    assert_eq!((twin.status().as_u16(), twin.headers()["stripe-should-retry"].to_str().unwrap()), (409, "true"));
    loop {
        let (status, body) = shop.stripe_keyed("refunds", &refund, "k2").await;
        if status != 409 {
            assert_eq!((status, &body["amount"]), (200, &json!(900)));
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(shop.entry().await["cancelled"], 900);
}

#[tokio::test]
async fn the_buyer_pays_declines_or_leaves() {
    let shop = Shop::open().await;
    for (capture, action, status, redirect) in [
        ("automatic", "pay", "succeeded", "succeeded"),
        ("manual", "pay", "requires_capture", "succeeded"),
        ("automatic", "decline", "requires_payment_method", "failed"),
        ("automatic", "cancel", "requires_payment_method", "failed"),
    ] {
        let intent = shop.stripe_intent(&[("capture_method", capture)]).await;
        let (code, location) = shop.stripe_press(&intent, action).await;
        let (pi, secret) = (id(&intent), intent["client_secret"].as_str().unwrap());
        let expected = format!(
            "https://shop.example/back?a=b&payment_intent={pi}&payment_intent_client_secret={secret}&redirect_status={redirect}"
        );
        assert_eq!((code, location), (303, expected));
        assert_eq!(shop.stripe_get(&format!("payment_intents/{pi}")).await.1["status"], status);
        if action == "pay" {
            assert_eq!(shop.stripe_press(&intent, "pay").await.0, 410);
        }
    }
    let mut intent = shop.stripe_intent(&[]).await;
    intent["client_secret"] = json!("pi_guess");
    assert_eq!(shop.stripe_press(&intent, "pay").await.0, 404, "the secret is needed");
}

#[tokio::test]
async fn three_d_secure_is_passed_failed_or_abandoned() {
    let shop = Shop::open().await;
    for (action, status) in
        [("pay", "succeeded"), ("decline", "requires_payment_method"), ("cancel", "requires_action")]
    {
        let more = [
            ("confirm", "true"),
            ("payment_method", "pm_card_authenticationRequired"),
            ("return_url", "https://shop.example/back"),
        ];
        let intent = shop.stripe_intent(&more).await;
        assert_eq!(intent["status"], "requires_action");
        let page = intent["next_action"]["redirect_to_url"]["url"].as_str().unwrap();
        let body = shop.http.get(page).send().await.unwrap().text().await.unwrap();
        assert!(body.contains("₩12,900"), "{body}");
        assert_eq!(shop.stripe_press(&intent, action).await.0, 303);
        assert_eq!(shop.stripe_get(&format!("payment_intents/{}", id(&intent))).await.1["status"], status, "{action}");
    }
}

#[tokio::test]
async fn cancels_and_old_authorizations_end_a_payment() {
    let shop = Shop::open().await;
    let manual = [("capture_method", "manual"), ("confirm", "true"), ("payment_method", "pm_card_visa")];
    let old = id(&shop.stripe_intent(&manual).await);
    let open = id(&shop.stripe_intent(&[]).await);
    let (_, body) =
        shop.stripe_post(&format!("payment_intents/{open}/cancel"), &[("cancellation_reason", "abandoned")]).await;
    assert_eq!((&body["status"], &body["cancellation_reason"]), (&json!("canceled"), &json!("abandoned")));
    assert_eq!(shop.stripe_post(&format!("payment_intents/{open}/cancel"), &[]).await.0, 400);
    shop.advance(7 * 86_400_000).await;
    let (status, _) = shop.stripe_post(&format!("payment_intents/{old}/capture"), &[]).await;
    assert_eq!(status, 400);
    assert_eq!(shop.stripe_get(&format!("payment_intents/{old}")).await.1["status"], "canceled");
    assert_eq!(shop.ledger().await["totals"]["captured"], 0);
}

#[tokio::test]
async fn lists_are_paged_and_events_are_kept() {
    let shop = Shop::open().await;
    let mut made = Vec::new();
    for _ in 0..5 {
        made.push(id(&shop.stripe_intent(&[]).await));
    }
    made.reverse();
    let mut seen = Vec::new();
    let mut after = String::new();
    loop {
        let (_, page) = shop.stripe_get(&format!("payment_intents?created[gte]=1&limit=2{after}")).await;
        let ids: Vec<String> = page["data"].as_array().unwrap().iter().map(id).collect();
        after = format!("&starting_after={}", ids.last().unwrap());
        seen.extend(ids);
        if page["has_more"] == false {
            break;
        }
    }
    assert_eq!(seen, made);
    let (_, events) = shop.stripe_get("events?type=payment_intent.created&limit=100").await;
    assert_eq!(events["data"].as_array().unwrap().len(), 5);
    assert_eq!(events["data"][0]["data"]["object"]["id"], made[0].as_str());
    assert_eq!(shop.stripe_get("payment_intents?limit=0").await.0, 400);
}

//! What a shopper does with a pass: hold one unit, pay for it at the provider, watch the order.

use super::behaviour::Habit;
use super::client::{Answer, Ask};
use super::shopper::Shopper;
use serde_json::{Value, json};

/// Holds one shopper tries before giving up.
const HOLDS_MAX: u32 = 20;
/// Between two looks at an order.
const LOOK_MS: u64 = 300;
/// Before another try when everything is held just now.
const AGAIN_MS: u64 = 800;

/// How the purchase ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bought {
    /// Paid.
    Paid,
    /// Given up by own choice.
    Left,
    /// Nothing left to buy.
    Over,
    /// The pass is no longer good: back to the line.
    PassEnded,
    /// The demo's time is up.
    TimeIsUp,
}

/// What came of one try to hold.
enum Held {
    Order(String),
    NotNow,
    End(Bought),
}

/// What came of an order.
enum Settled {
    Paid,
    Released,
    TimeIsUp,
}

/// Buys one unit, or finds that it cannot be had.
pub async fn buy(shopper: &mut Shopper, round: u32, ticket: &str, pass: &str) -> Bought {
    for attempt in 0..HOLDS_MAX {
        let order = match hold(shopper, round, attempt, ticket, pass).await {
            Held::Order(order) => order,
            Held::End(end) => return end,
            Held::NotNow => {
                if is_sold_out(shopper).await {
                    return Bought::Over;
                }
                if shopper.scene.client.is_over() {
                    return Bought::TimeIsUp;
                }
                let pause_ms = shopper.behaviour.jitter(AGAIN_MS);
                shopper.sleep(pause_ms).await;
                continue;
            }
        };
        shopper.scene.progress.held.add();
        let habit = shopper.behaviour.habit;
        if habit == Habit::Cancels {
            cancel(shopper, &order).await;
            return Bought::Left;
        }
        match pay(shopper, &order, habit).await {
            Settled::Paid => {
                shopper.scene.progress.paid.add();
                return Bought::Paid;
            }
            Settled::Released if habit == Habit::Buys => {} // lost on the way: try again
            Settled::Released => return Bought::Left,
            Settled::TimeIsUp => return Bought::TimeIsUp,
        }
    }
    Bought::Over
}

async fn hold(shopper: &mut Shopper, round: u32, attempt: u32, ticket: &str, pass: &str) -> Held {
    let scene = shopper.scene.clone();
    let cookies = format!("{}; fg_p_{}={pass}", shopper.ticket_cookie(ticket), scene.room);
    let ask = signed(shopper, Ask::post(scene.api_url(&format!("deals/{}/holds", scene.deal))))
        .with("cookie", cookies)
        .with("idempotency-key", format!("h-{}-{}-{round}-{attempt}", scene.seed, shopper.id))
        .json(&json!({ "quantity": 1 }));
    let answer = if shopper.behaviour.double_clicks {
        let (first, second) = tokio::join!(scene.client.settle(&ask), scene.client.settle(&ask));
        let id = |answer: &Option<Answer>| answer.as_ref().map(|a| a.text("id").to_owned()).filter(|id| !id.is_empty());
        if let (Some(one), Some(other)) = (id(&first), id(&second))
            && one != other
        {
            shopper.diary.doubled = shopper.diary.doubled.saturating_add(1);
        }
        first
    } else {
        scene.client.settle(&ask).await
    };
    let Some(answer) = answer else { return Held::End(Bought::TimeIsUp) };
    match (answer.status, answer.problem()) {
        (200 | 201, _) => Held::Order(answer.text("id").to_owned()),
        (_, "sold-out") => Held::NotNow,
        (_, "deal-not-open" | "room-closed") => Held::End(Bought::Over),
        (_, "wait-in-line" | "ticket-invalid" | "turn-missed" | "not-your-turn") => Held::End(Bought::PassEnded),
        _ => {
            shopper.surprise("hold", &answer);
            Held::End(Bought::Over)
        }
    }
}

/// Whether every unit is sold, or the sale has ended.
async fn is_sold_out(shopper: &Shopper) -> bool {
    let scene = &shopper.scene;
    let Some(deal) = scene.client.once(&Ask::get(scene.api_url(&format!("deals/{}", scene.deal)))).await else {
        return false;
    };
    let units = |name: &str| deal.body.get(name).and_then(Value::as_i64);
    let sold_out = units("sold").zip(units("stock")).is_some_and(|(sold, stock)| sold >= stock);
    sold_out || deal.text("state") == "ended"
}

async fn cancel(shopper: &Shopper, order: &str) -> Option<Answer> {
    let url = shopper.scene.api_url(&format!("orders/{order}/cancel"));
    let ask = signed(shopper, Ask::post(url)).with("idempotency-key", format!("c-{order}"));
    shopper.scene.client.settle(&ask).await
}

async fn pay(shopper: &mut Shopper, order: &str, habit: Habit) -> Settled {
    let scene = shopper.scene.clone();
    let ask = signed(shopper, Ask::post(scene.api_url(&format!("orders/{order}/payments"))))
        .with("idempotency-key", format!("p-{order}"))
        .json(&json!({ "provider": "kakaopay" }));
    let Some(answer) = scene.client.settle(&ask).await else { return Settled::TimeIsUp };
    if !matches!(answer.status, 200..=202) && answer.problem() != "wrong-state" {
        shopper.surprise("pay", &answer);
    }
    // Where to pay is known once the adapter has asked the provider.
    let page = loop {
        match look(shopper, order).await {
            Look::Pay(page) => break page,
            Look::Settled(end) => return end,
            Look::Wait => {
                let pause_ms = shopper.behaviour.jitter(LOOK_MS);
                shopper.sleep(pause_ms).await;
            }
        }
    };
    let action = match habit {
        Habit::Declines => "decline",
        Habit::Abandons => match cancel(shopper, order).await {
            Some(answer) if answer.status == 200 => return watch(shopper, order).await,
            _ => "cancel", // too late here: the provider's page has a button as well
        },
        _ => "pay",
    };
    at_the_provider(shopper, &page, action).await;
    watch(shopper, order).await
}

/// Presses a button on the provider's page, and follows the way back to the shop.
async fn at_the_provider(shopper: &mut Shopper, page: &str, action: &str) {
    let client = &shopper.scene.client;
    let press = Ask::post(page.to_owned()).with("accept", "application/json").form(&format!("action={action}"));
    let Some(pressed) = client.settle(&press).await else { return };
    let back = pressed.text("redirect_url").to_owned();
    if back.is_empty() {
        // 410: ended meanwhile; the order says how.
        if pressed.status != 410 {
            shopper.surprise("the provider's page", &pressed);
        }
        return;
    }
    let Some(returned) = client.settle(&Ask::get(back)).await else { return };
    if !matches!(returned.status, 200 | 303) {
        shopper.surprise("the return from the provider", &returned);
    }
}

async fn watch(shopper: &mut Shopper, order: &str) -> Settled {
    loop {
        if let Look::Settled(end) = look(shopper, order).await {
            return end;
        }
        if shopper.scene.client.is_over() {
            return Settled::TimeIsUp;
        }
        let pause_ms = shopper.behaviour.jitter(LOOK_MS);
        shopper.sleep(pause_ms).await;
    }
}

/// What an order shows.
enum Look {
    Settled(Settled),
    Pay(String),
    Wait,
}

async fn look(shopper: &mut Shopper, order: &str) -> Look {
    let ask = signed(shopper, Ask::get(shopper.scene.api_url(&format!("orders/{order}"))));
    let Some(answer) = shopper.scene.client.settle(&ask).await else { return Look::Settled(Settled::TimeIsUp) };
    match answer.text("state") {
        "paid" => Look::Settled(Settled::Paid),
        "released" | "refunding" | "refunded" => Look::Settled(Settled::Released),
        "held" | "paying" => {
            let page = answer.body.pointer("/payment/redirect_pc").and_then(Value::as_str);
            match page {
                Some(page) => Look::Pay(page.to_owned()),
                None if shopper.scene.client.is_over() => Look::Settled(Settled::TimeIsUp),
                None => Look::Wait,
            }
        }
        _ => {
            shopper.surprise("order", &answer);
            Look::Settled(Settled::Released)
        }
    }
}

fn signed(shopper: &Shopper, ask: Ask) -> Ask {
    let session = usize::try_from(shopper.id).ok().and_then(|n| shopper.scene.sessions.get(n));
    ask.with("authorization", format!("Bearer {}", session.map_or("", String::as_str)))
}

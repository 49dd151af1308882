//! The life of one shopper in a faulted sale: join, wait, claim, hold, pay, look; with the habits that hurt.

use crate::client::{Ask, Client, digest};
use crate::history::Outcome;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// Between two looks at a line or an order, in ms.
const LOOK_MS: u64 = 150;
/// Before another try when everything is held just now, in ms.
const AGAIN_MS: u64 = 300;
/// The last arrival, in ms after the opening: the sale must not be over before the faults come.
const ARRIVALS_MS: u64 = 6_000;
/// The last arrival of somebody who forgets what was taken, in ms: a run waits until such holds have ended.
const FORGETS_UNTIL_MS: u64 = 2_000;
/// Longest thought between two steps, in ms.
const THINK_MS: u64 = 700;

/// What all shoppers know.
#[derive(Debug)]
pub struct Sale {
    /// Address of the gate.
    pub gate: String,
    /// The deal.
    pub deal: String,
    /// Its room.
    pub room: String,
    /// Seed, part of every key.
    pub seed: u64,
    /// Passes that open nothing: what is wrong with each, and the token.
    pub forged: Vec<(&'static str, String)>,
    /// The last pass that somebody claimed, for who tries to use a stranger's.
    pub last_pass: tokio::sync::Mutex<Option<(u32, String)>>,
}

/// What a shopper does with a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Habit {
    Buys,
    Cancels,
    Declines,
    /// Gives the order back when the payment page is open; half of them pay there all the same.
    Abandons,
    Refunds,
    /// Takes units early and never comes back: the hold ends by itself.
    Forgets,
}

/// One shopper.
#[derive(Debug)]
pub struct Shopper {
    proc: u32,
    session: String,
    sale: Arc<Sale>,
    client: Client,
    habit: Habit,
    quantity: i64,
    double_clicks: bool,
    reuses_keys: bool,
    /// Names its intentions by a number, as many others do.
    plain_keys: bool,
    /// Wants more than one person may have.
    greedy: bool,
    /// Tries passes that open nothing.
    trespasses: bool,
    steals: bool,
    /// Leaves for good when the answer to a wish for units does not come: nobody asks for them again.
    gives_up: bool,
    dice: StdRng,
    /// Orders that it made and has not seen the end of.
    open: Vec<String>,
}

impl Shopper {
    /// Shopper `proc` with its session.
    pub fn new(proc: u32, session: String, sale: Arc<Sale>, client: Client) -> Self {
        let mut dice = StdRng::seed_from_u64(sale.seed ^ u64::from(proc).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let habit = match dice.random_range(0..100) {
            0..12 => Habit::Cancels,
            12..18 => Habit::Declines,
            18..24 => Habit::Abandons,
            24..40 => Habit::Refunds,
            40..46 => Habit::Forgets,
            _ => Habit::Buys,
        };
        let quantity = if dice.random_ratio(1, 5) { 2 } else { 1 };
        let (double_clicks, reuses_keys) = (dice.random_ratio(1, 5), dice.random_ratio(1, 10));
        let steals = dice.random_ratio(1, 8);
        let (plain_keys, greedy, trespasses) =
            (dice.random_ratio(1, 3), dice.random_ratio(1, 6), dice.random_ratio(1, 5));
        let gives_up = dice.random_ratio(1, 4);
        Self {
            proc,
            session,
            sale,
            client,
            habit,
            quantity,
            double_clicks,
            reuses_keys,
            plain_keys,
            greedy,
            trespasses,
            steals,
            gives_up,
            dice,
            open: Vec::new(),
        }
    }

    /// Lives until it has what it wants or the time is up. Answers itself for [`Self::tidy`].
    pub async fn live(mut self) -> Self {
        let late_ms = self.dice.random_range(0..ARRIVALS_MS);
        if self.habit == Habit::Forgets && late_ms > FORGETS_UNTIL_MS {
            self.habit = Habit::Buys;
        }
        self.rest(late_ms).await;
        if self.trespasses {
            self.trespass().await;
        }
        let mut round = 0;
        while !self.client.is_over() && !Box::pin(self.visit(round)).await {
            round += 1;
            self.rest(AGAIN_MS).await;
        }
        self
    }

    /// Gives back what it still holds, once everything works again. Orders of lost answers end by themselves.
    pub async fn tidy(&mut self, deadline: std::time::Instant) -> anyhow::Result<()> {
        self.client.deadline = deadline;
        for order in std::mem::take(&mut self.open) {
            let _ = self.cancel(&order).await;
            let _ = self.look(&order).await;
        }
        match self.client.broken.take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// One way through the line. True when the day is over.
    async fn visit(&mut self, round: u32) -> bool {
        let join =
            Ask::post("join", self.room_url("tickets")).keyed(format!("j-{}-{}-{round}", self.sale.seed, self.proc));
        let Some(joined) = self.client.settle(&join).await else { return true };
        let ticket = joined.text("ticket").to_owned();
        if ticket.is_empty() {
            return false;
        }
        let Some(pass) = self.wait_and_claim(&ticket).await else { return false };
        let stranger = self.sale.last_pass.lock().await.replace((self.proc, pass.clone()));
        if self.steals
            && let Some((owner, stolen)) = stranger
            && owner != self.proc
        {
            // A pass of somebody else with one's own session: whatever comes of it is in the history.
            if let Held::Order(order) = self.hold(&ticket, &stolen, round, 99).await {
                self.open.push(order);
            }
        }
        self.think().await;
        for attempt in 0..20 {
            if self.client.is_over() {
                return true;
            }
            match self.hold(&ticket, &pass, round, attempt).await {
                Held::Order(order) => return self.purchase(&order).await,
                Held::NotNow => self.rest(AGAIN_MS).await,
                Held::Pass => return false,
                Held::Over => return true,
            }
        }
        false
    }

    /// Tries each pass that opens nothing, once.
    async fn trespass(&mut self) {
        for (what, pass) in self.sale.forged.clone() {
            let ask = Ask::post("trespass", self.api(&format!("deals/{}/holds", self.sale.deal)))
                .keyed(format!("t-{}-{}", self.proc, what.replace(' ', "-")))
                .about(json!({ "quantity": 1, "pass": what }))
                .with("authorization", format!("Bearer {}", self.session))
                .with("cookie", format!("fg_p_{}={pass}", self.sale.room))
                .json(&json!({ "quantity": 1 }));
            self.client.once(&ask).await;
        }
    }

    async fn wait_and_claim(&mut self, ticket: &str) -> Option<String> {
        let cookie = format!("fg_t_{}={ticket}", self.sale.room);
        let status = Ask::get("status", self.room_url("status")).with("cookie", cookie.clone());
        loop {
            let seen = self.client.settle(&status).await?;
            match seen.text("state") {
                "called" | "inside" => break,
                "missed" | "sold_out" | "closed" => return None,
                _ if seen.outcome == Outcome::Fail || self.client.is_over() => return None,
                _ => self.rest(LOOK_MS).await,
            }
        }
        let claim = Ask::post("claim", self.room_url("pass")).with("cookie", cookie);
        let claimed = self.client.settle(&claim).await?;
        Some(claimed.text("pass").to_owned()).filter(|pass| !pass.is_empty())
    }

    async fn hold(&mut self, ticket: &str, pass: &str, round: u32, attempt: u32) -> Held {
        let room = &self.sale.room;
        let key = match self.plain_keys {
            true => format!("h-{round}-{attempt}"),
            false => format!("h-{}-{}-{round}-{attempt}", self.sale.seed, self.proc),
        };
        let hold = |units: i64, more: &str| {
            Ask::post("hold", self.api(&format!("deals/{}/holds", self.sale.deal)))
                .keyed(format!("{key}{more}"))
                .about(json!({ "quantity": units, "pass": digest(pass.as_bytes()) }))
                .with("authorization", format!("Bearer {}", self.session))
                .with("cookie", format!("fg_t_{room}={ticket}; fg_p_{room}={pass}"))
                .json(&json!({ "quantity": units }))
        };
        let (ask, other, more) = (hold(self.quantity, ""), hold(3 - self.quantity, ""), hold(2, "-more"));
        let answer = match self.double_clicks {
            _ if self.gives_up => Some(self.client.once(&ask).await).filter(|answer| answer.outcome != Outcome::Info),
            true => match self.client.twice(&ask).await {
                answer if answer.outcome != Outcome::Info => Some(answer),
                _ => self.client.settle(&ask).await,
            },
            false => self.client.settle(&ask).await,
        };
        let Some(answer) = answer else { return Held::Over };
        if answer.outcome == Outcome::Ok {
            if self.reuses_keys {
                // The same key for something else must be refused, and for the same thing answered the same.
                self.client.once(&other).await;
                self.client.once(&ask).await;
            }
            if self.greedy {
                let more = self.client.once(&more).await;
                self.open.extend(Some(more.text("id").to_owned()).filter(|id| !id.is_empty()));
            }
            return Held::Order(answer.text("id").to_owned());
        }
        match answer.problem() {
            "sold-out" => Held::NotNow,
            "per-user-limit" => Held::Over,
            "idempotency-key-reused" => Held::NotNow,
            _ => Held::Pass,
        }
    }

    /// True when the shopper is done; false to try again.
    async fn purchase(&mut self, order: &str) -> bool {
        if self.habit == Habit::Forgets {
            return true;
        }
        self.open.push(order.to_owned());
        self.think().await;
        let ended = match self.habit {
            Habit::Cancels => {
                self.cancel(order).await;
                self.look(order).await
            }
            _ => Box::pin(self.pay(order)).await,
        };
        if is_end(&ended) {
            self.open.retain(|open| open != order);
        }
        ended == "paid" || self.habit != Habit::Buys
    }

    /// The state that the order came to.
    async fn pay(&mut self, order: &str) -> String {
        let pay = self.order_ask("pay", order, "payments", "p").json(&json!({ "provider": "kakaopay" }));
        if self.double_clicks {
            self.client.twice(&pay).await;
        }
        if self.client.settle(&pay).await.is_none() {
            return String::new();
        }
        let mut pressed = false;
        loop {
            let (state, page) = self.look_closely(order).await;
            match (state.as_str(), page) {
                ("paid", _) if self.habit == Habit::Refunds => {
                    let ask = self.order_ask("refund", order, "refunds", "r").json(&json!({ "reason": "too much" }));
                    if self.client.settle(&ask).await.is_none_or(|answer| answer.outcome != Outcome::Ok) {
                        return state;
                    }
                    self.habit = Habit::Cancels; // asked once; the end is looked for below
                }
                ("paid", _) if self.habit == Habit::Cancels => return state,
                (state, _) if is_end(state) => return state.to_owned(),
                (_, Some(page)) if !pressed => {
                    pressed = true;
                    self.think().await;
                    if self.habit == Habit::Abandons {
                        self.cancel(order).await;
                    }
                    // What was given back may still be open in another tab.
                    if self.habit != Habit::Abandons || self.dice.random() {
                        self.at_the_provider(order, &page).await;
                    }
                }
                _ => {}
            }
            if self.client.is_over() {
                return state;
            }
            self.rest(LOOK_MS).await;
        }
    }

    /// Presses a button on the provider's page and follows the way back.
    async fn at_the_provider(&mut self, order: &str, page: &str) {
        let action = if self.habit == Habit::Declines { "decline" } else { "pay" };
        let press = Ask::post("press", page.to_owned())
            .about(json!({ "order": order, "action": action }))
            .with("accept", "application/json".into())
            .form(&format!("action={action}"));
        let Some(pressed) = self.client.settle(&press).await else { return };
        let back = pressed.text("redirect_url").to_owned();
        if !back.is_empty() {
            let come_back = Ask::get("return", back).about(json!({ "order": order }));
            let _ = self.client.settle(&come_back).await;
        }
    }

    async fn cancel(&mut self, order: &str) {
        let ask = self.order_ask("cancel", order, "cancel", "c");
        let _ = self.client.settle(&ask).await;
    }

    async fn look(&mut self, order: &str) -> String {
        self.look_closely(order).await.0
    }

    /// State and payment page.
    async fn look_closely(&mut self, order: &str) -> (String, Option<String>) {
        let ask = Ask::get("look", self.api(&format!("orders/{order}")))
            .about(json!({ "order": order }))
            .with("authorization", format!("Bearer {}", self.session));
        let Some(answer) = self.client.settle(&ask).await else { return (String::new(), None) };
        let page = answer.body.pointer("/payment/redirect_pc").and_then(Value::as_str).map(str::to_owned);
        (answer.text("state").to_owned(), page)
    }

    fn order_ask(&self, op: &'static str, order: &str, path: &str, key: &str) -> Ask {
        Ask::post(op, self.api(&format!("orders/{order}/{path}")))
            .keyed(format!("{key}-{order}"))
            .about(json!({ "order": order }))
            .with("authorization", format!("Bearer {}", self.session))
    }
    fn api(&self, path: &str) -> String {
        format!("{}/api/v1/{path}", self.sale.gate)
    }
    fn room_url(&self, what: &str) -> String {
        format!("{}/_floodgate/rooms/{}/{what}", self.sale.gate, self.sale.room)
    }
    async fn think(&mut self) {
        let ms = self.dice.random_range(0..THINK_MS);
        self.rest(ms).await;
    }
    async fn rest(&mut self, ms: u64) {
        let jitter_ms = self.dice.random_range(0..=ms / 4);
        tokio::time::sleep(Duration::from_millis(ms.saturating_add(jitter_ms))).await;
    }
}

enum Held {
    Order(String),
    NotNow,
    Pass,
    Over,
}

fn is_end(state: &str) -> bool {
    matches!(state, "paid" | "released" | "refunded" | "partly_refunded" | "quarantined")
}

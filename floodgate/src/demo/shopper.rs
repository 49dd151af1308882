//! The life of one synthetic shopper: arrive, take a ticket, wait, be called, claim, buy.

use super::behaviour::{Behaviour, Habit};
use super::client::{Answer, Ask};
use super::history::{Promise, Turn};
use super::purchase::{self, Bought};
use super::scene::Scene;
use rand::Rng as _;
use service_kit::clock;
use std::sync::Arc;
use std::time::Duration;

/// Tickets one shopper takes before giving up.
const TICKETS_MAX: u32 = 5;
/// Calls one ticket may miss.
const CALLS_MAX: u32 = 5;
/// A poll that took longer may have missed a call: the shopper no longer counts as present throughout.
const LATE_US: u64 = 1_500_000;
/// Between two polls when the gate says nothing about it.
const POLL_MS: u64 = 1_000;

/// How a shopper's day ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Paid for a unit.
    Paid,
    /// Left by own choice.
    Left,
    /// Wanted one and was told that it is over.
    TurnedAway,
    /// Wanted one and was still waiting when the demo's time was up.
    TimeIsUp,
}

/// What a shopper remembers.
#[derive(Debug)]
pub struct Diary {
    /// Every ticket.
    pub turns: Vec<Turn>,
    /// Passes claimed.
    pub claims: u64,
    /// Repeated requests that were answered with another order.
    pub doubled: u64,
    /// Answers that the interface does not promise.
    pub surprises: Vec<String>,
    /// The end.
    pub outcome: Outcome,
}

/// One shopper.
#[derive(Debug)]
pub struct Shopper {
    /// Number of the shopper, from 0.
    pub id: u32,
    /// Character.
    pub behaviour: Behaviour,
    /// The stage.
    pub scene: Arc<Scene>,
    /// Memories.
    pub diary: Diary,
}

/// How waiting in line ended.
enum Wait {
    Called,
    Again,
    Over,
    TimeIsUp,
}

impl Shopper {
    /// A shopper who has not arrived yet.
    pub fn new(id: u32, behaviour: Behaviour, scene: Arc<Scene>) -> Self {
        let diary =
            Diary { turns: Vec::new(), claims: 0, doubled: 0, surprises: Vec::new(), outcome: Outcome::TurnedAway };
        Self { id, behaviour, scene, diary }
    }

    /// Lives until the sale is over for this shopper.
    pub async fn live(mut self) -> Diary {
        let arrives_at_ms = self.scene.starts_at_ms.saturating_add(self.behaviour.arrives_ms);
        let pause_ms = arrives_at_ms.saturating_sub(clock::now_ms());
        self.sleep(u64::try_from(pause_ms).unwrap_or(0)).await;
        self.diary.outcome = self.shop().await;
        self.scene.progress.done.add();
        self.diary
    }

    async fn shop(&mut self) -> Outcome {
        for round in 0..TICKETS_MAX {
            let Some(ticket) = self.join(round).await else { return Outcome::TimeIsUp };
            if ticket.is_empty() {
                return Outcome::TurnedAway;
            }
            for _ in 0..CALLS_MAX {
                match self.wait(round, &ticket).await {
                    Wait::Called if self.behaviour.habit == Habit::NeverClaims => return Outcome::Left,
                    Wait::Called => {}
                    Wait::Again => break,
                    Wait::Over => return Outcome::TurnedAway,
                    Wait::TimeIsUp => return Outcome::TimeIsUp,
                }
                // A missed turn is offered once more at the old place: ask the gate what holds now.
                let Some(pass) = self.claim(&ticket).await else { continue };
                match purchase::buy(self, round, &ticket, &pass).await {
                    Bought::Paid => return Outcome::Paid,
                    Bought::Left => return Outcome::Left,
                    Bought::Over => return Outcome::TurnedAway,
                    Bought::TimeIsUp => return Outcome::TimeIsUp,
                    Bought::PassEnded => break,
                }
            }
        }
        Outcome::TurnedAway
    }

    fn join_ask(&self, round: u32) -> Ask {
        // The join id makes a repeat after a lost reply the same join.
        let id = format!("j-{}-{}-{round}", self.scene.seed, self.id);
        Ask::post(self.scene.room_url("tickets")).with("idempotency-key", id)
    }

    /// The ticket; empty when the room takes nobody any more, `None` when the time is up.
    async fn join(&mut self, round: u32) -> Option<String> {
        let sent_us = self.scene.now_us();
        let answer = self.scene.client.settle(&self.join_ask(round)).await?;
        let answered_us = self.scene.now_us();
        let ticket = answer.text("ticket").to_owned();
        let Some(number) = self.scene.tickets.number(&ticket, &self.scene.room) else {
            if !matches!(answer.problem(), "room-closed" | "sold-out") {
                self.surprise("join", &answer);
            }
            return Some(String::new());
        };
        self.scene.progress.joined.add();
        self.diary.turns.push(Turn {
            shopper: self.id,
            sent_us,
            answered_us,
            number,
            moved_to: None,
            present: self.behaviour.silent_ms.is_none(),
            promise: answer.body.get("status").and_then(promise),
            called_at_ms: None,
            waited_ms: None,
        });
        Some(ticket)
    }

    async fn wait(&mut self, round: u32, ticket: &str) -> Wait {
        let status = Ask::get(self.scene.room_url("status")).with("cookie", self.ticket_cookie(ticket));
        let mut silent_ms = self.behaviour.silent_ms.take();
        loop {
            let sent_us = self.scene.now_us();
            let Some(answer) = self.scene.client.settle(&status).await else { return Wait::TimeIsUp };
            if self.scene.now_us().saturating_sub(sent_us) > LATE_US {
                self.absent();
            }
            if answer.status != 200 {
                self.surprise("status", &answer);
                return Wait::Again;
            }
            if let Some(turn) = self.diary.turns.last_mut()
                && turn.promise.is_none()
            {
                turn.promise = promise(&answer.body);
            }
            match answer.text("state") {
                "called" | "inside" => {
                    self.called(&answer);
                    return Wait::Called;
                }
                "missed" => return Wait::Again,
                "sold_out" | "closed" => return Wait::Over,
                _ => {}
            }
            if self.scene.client.is_over() {
                return Wait::TimeIsUp;
            }
            let next_ms = answer.body.get("next_poll_ms").and_then(serde_json::Value::as_u64).filter(|ms| *ms > 0);
            let pause_ms = self.behaviour.jitter(next_ms.or(answer.retry_after_ms).unwrap_or(POLL_MS));
            self.sleep(pause_ms).await;
            if let Some(ms) = silent_ms.take() {
                self.sleep(ms).await;
            }
            if self.behaviour.refreshes && self.behaviour.dice.random() {
                self.refresh(round, ticket).await;
            }
        }
    }

    /// Loads the page again and repeats the join: the place must stay.
    async fn refresh(&mut self, round: u32, ticket: &str) {
        let page = Ask::get(format!("{}/deals/{}/buy", self.scene.gate, self.scene.deal))
            .with("cookie", self.ticket_cookie(ticket));
        let _ = self.scene.client.once(&page).await;
        let again = match self.behaviour.dice.random() {
            true => self.join_ask(round).with("cookie", self.ticket_cookie(ticket)),
            false => self.join_ask(round), // as after a lost reply
        };
        let Some(answer) = self.scene.client.once(&again).await else { return };
        let shown = self.scene.tickets.number(answer.text("ticket"), &self.scene.room);
        if let (Some(turn), Some(shown)) = (self.diary.turns.last_mut(), shown)
            && shown != turn.number
        {
            turn.moved_to = Some(shown);
        }
    }

    fn absent(&mut self) {
        if let Some(turn) = self.diary.turns.last_mut() {
            turn.present = false;
        }
    }

    fn called(&mut self, answer: &Answer) {
        self.scene.progress.called.add();
        let now_us = self.scene.now_us();
        if let Some(turn) = self.diary.turns.last_mut() {
            turn.called_at_ms = answer.body.get("called_at_ms").and_then(serde_json::Value::as_i64);
            turn.waited_ms = Some(now_us.saturating_sub(turn.answered_us) / 1_000);
        }
    }

    /// The pass; `None` when the turn was missed or the ticket is no longer good.
    async fn claim(&mut self, ticket: &str) -> Option<String> {
        let ask = Ask::post(self.scene.room_url("pass")).with("cookie", self.ticket_cookie(ticket));
        let answer = self.scene.client.settle(&ask).await?;
        if answer.status == 200 {
            self.scene.progress.claimed.add();
            self.diary.claims = self.diary.claims.saturating_add(1);
            return Some(answer.text("pass").to_owned());
        }
        if !matches!(answer.problem(), "turn-missed" | "not-your-turn" | "room-closed" | "sold-out") {
            self.surprise("claim", &answer);
        }
        self.absent();
        None
    }

    /// The cookie of the ticket, as a browser would send it.
    pub fn ticket_cookie(&self, ticket: &str) -> String {
        format!("fg_t_{}={ticket}", self.scene.room)
    }

    /// Notes an answer that the interface does not promise.
    pub fn surprise(&mut self, what: &str, answer: &Answer) {
        let body: String = answer.body.to_string().chars().take(200).collect();
        self.diary.surprises.push(format!("shopper {}: {what} was answered {} {body}", self.id, answer.status));
    }

    /// Sleeps.
    pub async fn sleep(&self, ms: u64) {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }
}

fn promise(status: &serde_json::Value) -> Option<Promise> {
    let eta = status.get("eta_seconds")?;
    let end = |name: &str| eta.get(name).and_then(serde_json::Value::as_f64);
    Some(Promise { at_ms: clock::now_ms(), low_s: end("low")?, high_s: end("high")? })
}

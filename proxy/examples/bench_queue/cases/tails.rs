//! How long the slowest answers take with 64 and with 512 connections.
//!
//! Two questions. *Saturated*: every connection asks again at once. Then the middle answer takes connections ÷
//! throughput, whatever the server does (Little's law), so eight times the connections wait eight times as long in the
//! middle; what a server can change is only how far the slowest lie above that. *Same load*: a fixed number of requests
//! per second, far from saturation, spread over more or fewer connections: what shoppers feel.

use crate::Options;
use crate::fill::{House, Room};
use crate::goals::{Goal, median};
use crate::load::{self, Job};
use crate::say;
use crate::server::Server;
use std::collections::BTreeMap;

const CONNECTIONS: [usize; 2] = [64, 512];
const ROUNDS: usize = 3;
/// The same load: this share of what 64 connections reach.
const SHARE: f64 = 0.3;

/// Milliseconds and requests per second; medians over rounds.
#[derive(Debug, Default, serde::Serialize)]
pub struct Tails(BTreeMap<String, Tail>);

#[derive(Debug, Default, serde::Serialize)]
struct Tail {
    p50_ms: f64,
    p99_ms: f64,
    per_s: f64,
}

pub async fn measure(constant: &Server, house: &House, room: &Room, options: &Options) -> anyhow::Result<Tails> {
    let requests = super::polls(house, room);
    let targets = [("poll", house.gate.address), ("bare constant", constant.address)];
    let mut seen: BTreeMap<String, Vec<[f64; 3]>> = BTreeMap::new();
    for _ in 0..ROUNDS {
        for (who, target) in targets {
            let mut throughput = f64::NAN;
            for (how, connections) in [
                ("saturated", CONNECTIONS[0]),
                ("saturated", CONNECTIONS[1]),
                ("same load", CONNECTIONS[0]),
                ("same load", CONNECTIONS[1]),
            ] {
                let rate_per_s = (how == "same load").then_some(throughput * SHARE);
                let job = Job { target, requests: requests.clone(), connections, total: options.requests, rate_per_s };
                let outcome = tokio::task::spawn_blocking(move || load::run(&job)).await??;
                let per_s = options.requests as f64 / outcome.took.as_secs_f64();
                if rate_per_s.is_none() && connections == CONNECTIONS[0] {
                    throughput = per_s;
                }
                let latency = outcome.latency;
                seen.entry(format!("{who}, {how}, {connections}")).or_default().push([
                    latency.quantile_ms(0.5),
                    latency.quantile_ms(0.99),
                    per_s,
                ]);
            }
        }
    }
    let middle = |all: &[[f64; 3]], pick: fn(&[f64; 3]) -> f64| median(&all.iter().map(pick).collect::<Vec<_>>());
    let tail = |all: &[[f64; 3]]| Tail {
        p50_ms: middle(all, |[p50, _, _]| *p50),
        p99_ms: middle(all, |[_, p99, _]| *p99),
        per_s: middle(all, |[_, _, per_s]| *per_s),
    };
    Ok(Tails(seen.iter().map(|(case, all)| (case.clone(), tail(all))).collect()))
}

impl Tails {
    fn get(&self, who: &str, how: &str, connections: usize) -> (f64, f64) {
        self.0.get(&format!("{who}, {how}, {connections}")).map_or((f64::NAN, f64::NAN), |t| (t.p99_ms, t.per_s))
    }

    pub fn goals(&self) -> Vec<Goal> {
        ["saturated", "same load"]
            .map(|how| {
                let ((few, _), (many, per_s)) = (self.get("poll", how, 64), self.get("poll", how, 512));
                let ((bare_few, _), (bare, _)) =
                    (self.get("bare constant", how, 64), self.get("bare constant", how, 512));
                let least = if how == "saturated" {
                    format!("; no server can be below {:.1} ms in the middle", 512_000.0 / per_s)
                } else {
                    String::new()
                };
                let detail = format!("{many:.1} ms to {few:.1} ms; bare {bare:.1} to {bare_few:.1}{least}");
                Goal::at_most(format!("p99 at 512 to p99 at 64, {how}"), many / few, 2.0, "×", detail)
            })
            .into()
    }

    pub fn print(&self) {
        say("Latency in ms, poll with few waiting");
        for (case, Tail { p50_ms, p99_ms, per_s }) in &self.0 {
            say(&format!("  {case:<34}p50 {p50_ms:>7.2}   p99 {p99_ms:>7.2}   {per_s:>7.0} per second"));
        }
    }
}

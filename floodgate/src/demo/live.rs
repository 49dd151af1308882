//! The sale while it runs, on standard error: one line that is rewritten on a terminal, else one
//! line every two seconds.

use super::client::{Answer, Ask};
use super::scene::Scene;
use crate::output;
use serde_json::Value;
use service_kit::clock;
use std::time::Duration;

/// Between two rewrites on a terminal.
const REWRITE_MS: u64 = 300;
/// Between two lines elsewhere.
const LINE_MS: u64 = 2_000;

/// Shows the sale until it is dropped.
pub async fn show(scene: &Scene) -> std::convert::Infallible {
    let rewrite = output::may_rewrite();
    loop {
        let board = scene.client.once(&Ask::get(scene.room_url("board"))).await;
        let deal = scene.client.once(&Ask::get(scene.api_url(&format!("deals/{}", scene.deal)))).await;
        let text = line(scene, board.as_ref(), deal.as_ref());
        if rewrite {
            output::status(&text)
        } else {
            output::note(&text)
        }
        tokio::time::sleep(Duration::from_millis(if rewrite { REWRITE_MS } else { LINE_MS })).await;
    }
}

fn line(scene: &Scene, board: Option<&Answer>, deal: Option<&Answer>) -> String {
    let number = |answer: Option<&Answer>, name: &str| {
        let found = answer.and_then(|answer| answer.body.get(name)).and_then(Value::as_i64);
        found.map_or_else(|| "?".to_owned(), |n| n.to_string())
    };
    let clock_s = clock::now_ms().saturating_sub(scene.starts_at_ms) as f64 / 1_000.0;
    let progress = &scene.progress;
    format!(
        "{clock_s:>+7.1} s  waiting {}  called {}  inside {}  held {}  paid {}  left {}  done {}/{}",
        number(board, "waiting"),
        progress.called.get(),
        number(board, "inside"),
        number(deal, "held"),
        progress.paid.get(),
        number(deal, "available"),
        progress.done.get(),
        scene.sessions.len(),
    )
}

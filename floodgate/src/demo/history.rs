//! What the crowd saw, and whether anybody was overtaken. Pure: the services' own counters are
//! not asked; these are the shoppers' memories.

/// One ticket of one shopper, from the shopper's side.
///
/// `_us` are microseconds on the crowd's monotonic clock, `_ms` the gate's wall clock.
#[derive(Debug, Clone, PartialEq)]
pub struct Turn {
    /// Which shopper.
    pub shopper: u32,
    /// When the first request for the ticket was sent.
    pub sent_us: u64,
    /// When the answer that counted arrived.
    pub answered_us: u64,
    /// The number in line.
    pub number: u64,
    /// Another number that a refresh or a repeat of the same join showed.
    pub moved_to: Option<u64>,
    /// Polled all the time; who was silent may be called later than others.
    pub present: bool,
    /// What was promised, at the first status that promised anything.
    pub promise: Option<Promise>,
    /// When the gate called.
    pub called_at_ms: Option<i64>,
    /// Waiting time until the call was seen.
    pub waited_ms: Option<u64>,
}

/// A promised waiting time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Promise {
    /// When it was made.
    pub at_ms: i64,
    /// Lower end, in seconds.
    pub low_s: f64,
    /// Upper end, in seconds.
    pub high_s: f64,
}

/// Somebody was treated out of order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inversion {
    /// Which rule.
    pub rule: &'static str,
    /// Who overtook, and who was overtaken (numbers).
    pub numbers: (u64, u64),
}

/// Every inversion in the history.
///
/// - `join_order`: a's join was answered before b's was sent, yet a's number is not the lower one.
/// - `call_order`: both were present throughout, yet the higher number was called at an earlier instant.
/// - `place_moved`: a refresh or a repeated join gave another number.
///
/// Each overtaken shopper counts once per rule.
pub fn inversions(turns: &[Turn]) -> Vec<Inversion> {
    let mut found = join_order(turns);
    found.extend(call_order(turns));
    found.extend(turns.iter().filter_map(|turn| {
        turn.moved_to.map(|other| Inversion { rule: "place_moved", numbers: (turn.number, other) })
    }));
    found
}

fn join_order(turns: &[Turn]) -> Vec<Inversion> {
    let mut by_sent: Vec<&Turn> = turns.iter().collect();
    by_sent.sort_by_key(|turn| turn.sent_us);
    let mut by_answered: Vec<&Turn> = turns.iter().collect();
    by_answered.sort_by_key(|turn| turn.answered_us);
    let mut answered = by_answered.into_iter().peekable();
    let mut highest = 0;
    let mut found = Vec::new();
    for later in by_sent {
        while let Some(earlier) = answered.next_if(|turn| turn.answered_us < later.sent_us) {
            highest = highest.max(earlier.number);
        }
        if highest >= later.number {
            found.push(Inversion { rule: "join_order", numbers: (later.number, highest) });
        }
    }
    found
}

fn call_order(turns: &[Turn]) -> Vec<Inversion> {
    let mut called: Vec<(u64, i64)> =
        turns.iter().filter(|turn| turn.present).filter_map(|turn| Some((turn.number, turn.called_at_ms?))).collect();
    called.sort_unstable();
    let mut latest: Option<(u64, i64)> = None;
    let mut found = Vec::new();
    for (number, at_ms) in called {
        match latest {
            Some((front, front_ms)) if at_ms < front_ms => {
                found.push(Inversion { rule: "call_order", numbers: (number, front) });
            }
            _ => latest = Some((number, at_ms)),
        }
    }
    found
}

/// Relative errors of the promised waits, for those called after at least `least_ms`.
pub fn promise_errors(turns: &[Turn], least_ms: i64) -> Vec<f64> {
    turns
        .iter()
        .filter_map(|turn| {
            let promise = turn.promise?;
            let actual_ms = turn.called_at_ms?.saturating_sub(promise.at_ms);
            (actual_ms >= least_ms).then(|| {
                let actual_s = actual_ms as f64 / 1_000.0;
                let promised_s = f64::midpoint(promise.low_s, promise.high_s);
                (promised_s - actual_s).abs() / actual_s
            })
        })
        .collect()
}

/// The value below which `share` (0 to 1) of the values lie; `None` without values.
pub fn percentile(values: &[f64], share: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().checked_sub(1)?;
    let rank = (share.clamp(0.0, 1.0) * last as f64).round();
    // `rank` is between 0 and `last`: the conversion cannot wrap.
    sorted.get(rank as usize).copied()
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A quiet history: everybody in order.
    pub fn turn(n: u32) -> Turn {
        let n64 = u64::from(n);
        Turn {
            shopper: n,
            sent_us: n64 * 100,
            answered_us: n64 * 100 + 50,
            number: n64 + 1,
            moved_to: None,
            present: true,
            promise: None,
            called_at_ms: Some(i64::from(n) * 10),
            waited_ms: Some(n64),
        }
    }
    fn history() -> Vec<Turn> {
        (0..50).map(turn).collect()
    }

    #[test]
    fn an_orderly_history_has_no_inversion() {
        let mut turns = history();
        assert_eq!(inversions(&turns), vec![]);
        // Overlapping joins may get their numbers in any order.
        turns[3].number = 5;
        turns[4].number = 4;
        turns[4].sent_us = turns[3].sent_us + 1;
        (turns[3].called_at_ms, turns[4].called_at_ms) = (turns[4].called_at_ms, turns[3].called_at_ms);
        assert_eq!(inversions(&turns), vec![]);
        turns.reverse();
        assert_eq!(inversions(&turns), vec![]);
    }

    #[test]
    fn a_planted_overtaking_is_found() {
        let mut turns = history();
        turns[10].number = 12;
        turns[11].number = 11;
        let found = inversions(&turns);
        assert!(found.contains(&Inversion { rule: "join_order", numbers: (11, 12) }), "{found:?}");

        let mut turns = history();
        turns[20].called_at_ms = Some(205);
        turns[21].called_at_ms = Some(204);
        assert_eq!(inversions(&turns), vec![Inversion { rule: "call_order", numbers: (22, 21) }]);
        turns[20].present = false;
        assert_eq!(inversions(&turns), vec![], "who was silent may be called later");

        let mut turns = history();
        turns[7].moved_to = Some(900);
        assert_eq!(inversions(&turns).len(), 1);
        let twice: Vec<Turn> = vec![turn(1), Turn { number: 2, ..turn(2) }];
        assert_eq!(inversions(&twice).len(), 1, "two shoppers with one number");
    }

    #[test]
    fn promises_are_measured_for_those_who_waited() {
        let mut waited = turn(1);
        waited.promise = Some(Promise { at_ms: 0, low_s: 4.0, high_s: 6.0 });
        waited.called_at_ms = Some(4_000);
        let mut at_once = waited.clone();
        at_once.called_at_ms = Some(1_000);
        assert_eq!(promise_errors(&[waited, at_once], 2_000), vec![0.25]);
        assert_eq!(percentile(&[3.0, 1.0, 2.0], 0.5), Some(2.0));
        assert_eq!(percentile(&[3.0, 1.0, 2.0], 0.99), Some(3.0));
        assert_eq!(percentile(&[], 0.5), None);
    }
}

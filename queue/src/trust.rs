//! Whether the store can be trusted: a pure comparison of what it says with what this gate remembers.
//!
//! Doubt never opens the gate, it only stops the calls for a while: tickets are receipts, so whoever waits is put back
//! at the old place by the next heartbeat, and passes in hand keep working.

/// A clock may differ by so much from what it should show before that counts as a step.
pub const CLOCK_STEP_MS: i64 = 5_000;

/// What the store says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Witness {
    /// The server's process (`run_id` of `INFO server`), as it is now.
    pub run_id: String,
    /// The process that the room's keys were last used with; empty = never.
    pub known_run_id: String,
    /// Made once with the room's keys; empty = they are new, or lost.
    pub generation: String,
    /// The room's clock.
    pub now_ms: i64,
    /// The room's clock at the last tick; 0 = none yet.
    pub last_tick_ms: i64,
    /// The room's clock when somebody last noticed a loss; 0 = never.
    pub lost_ms: i64,
    /// The number that the next newcomer gets.
    pub next: u64,
}

/// What this gate remembers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remembered {
    /// The generation of the room's keys; empty = not seen yet.
    pub generation: String,
    /// What the room's clock should show; `None` = nobody knows.
    pub expected_ms: Option<i64>,
    /// The room's clock when the store was last trusted; 0 = never.
    pub trusted_ms: i64,
    /// The highest `next` seen.
    pub next: u64,
}

/// Why the store is doubted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// The room's keys are gone, are others, or are older than what this gate has seen.
    Memory,
    /// Another process answers: restarted, restored, failed over or swapped. The last moments may be missing.
    Process,
    /// The clock was stepped; `by_ms` brings the room's clock back to where it was.
    Clock {
        /// What to add to the room's clock.
        by_ms: i64,
    },
}

impl Doubt {
    /// A word for the log, metrics and the store.
    pub fn label(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Process => "process",
            Self::Clock { .. } => "clock",
        }
    }
}

/// The doubts, the gravest first. Empty: the store is trusted.
pub fn doubts(witness: &Witness, remembered: &Remembered) -> Vec<Doubt> {
    let mut doubts = Vec::new();
    // A loss that somebody noticed since is written down already: one hold per loss.
    let noticed = witness.lost_ms > remembered.trusted_ms;
    let other_keys = !noticed && !remembered.generation.is_empty() && witness.generation != remembered.generation;
    if other_keys || witness.next < remembered.next {
        doubts.push(Doubt::Memory);
    }
    if !witness.known_run_id.is_empty() && witness.known_run_id != witness.run_id {
        doubts.push(Doubt::Process);
    }
    if let Some(by_ms) = clock_step(witness, remembered) {
        doubts.push(Doubt::Clock { by_ms });
    }
    doubts
}

fn clock_step(witness: &Witness, remembered: &Remembered) -> Option<i64> {
    let back_ms = witness.last_tick_ms - witness.now_ms;
    let by_ms = match remembered.expected_ms {
        // Somebody else ticked at a time that I hold to be the future: then it was I who stood still.
        Some(expected_ms) if witness.last_tick_ms > expected_ms + CLOCK_STEP_MS && back_ms <= 0 => return None,
        Some(expected_ms) => expected_ms - witness.now_ms,
        None => back_ms.max(0),
    };
    (by_ms.abs() > CLOCK_STEP_MS).then_some(by_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn witness() -> Witness {
        Witness {
            run_id: "a".into(),
            known_run_id: "a".into(),
            generation: "g".into(),
            now_ms: 100_000,
            last_tick_ms: 99_800,
            lost_ms: 0,
            next: 50,
        }
    }
    fn remembered() -> Remembered {
        Remembered { generation: "g".into(), expected_ms: Some(100_010), trusted_ms: 99_800, next: 50 }
    }

    #[test]
    fn a_store_that_says_what_it_said_is_trusted() {
        assert_eq!(doubts(&witness(), &remembered()), []);
        let new = Witness { run_id: "a".into(), now_ms: 5, next: 1, ..Witness::default() };
        assert_eq!(doubts(&new, &Remembered::default()), [], "a new room");
        assert_eq!(doubts(&witness(), &Remembered::default()), [], "a new gate");
    }

    #[test]
    fn lost_keys_other_keys_and_old_keys() {
        for witness in [
            Witness { generation: String::new(), known_run_id: String::new(), next: 1, ..witness() },
            Witness { generation: "other".into(), ..witness() },
            Witness { next: 49, ..witness() },
        ] {
            assert_eq!(doubts(&witness, &remembered()), [Doubt::Memory], "{witness:?}");
        }
    }

    #[test]
    fn a_loss_that_another_gate_noticed_is_not_held_twice() {
        let noticed = Witness { generation: "other".into(), lost_ms: 99_900, ..witness() };
        assert_eq!(doubts(&noticed, &remembered()), []);
        let older = Witness { lost_ms: 99_000, ..noticed };
        assert_eq!(doubts(&older, &remembered()), [Doubt::Memory]);
    }

    #[test]
    fn another_process() {
        let restarted = Witness { run_id: "b".into(), ..witness() };
        assert_eq!(doubts(&restarted, &remembered()), [Doubt::Process]);
        assert_eq!(doubts(&restarted, &Remembered::default()), [Doubt::Process], "also for a gate that is new itself");
    }

    #[test]
    fn a_step_of_an_hour_either_way_is_undone() {
        let hour = 3_600_000;
        for by in [-hour, hour] {
            let stepped = Witness { now_ms: 100_000 + by, ..witness() };
            assert_eq!(doubts(&stepped, &remembered()), [Doubt::Clock { by_ms: 10 - by }], "{by}");
        }
        let back = Witness { now_ms: 100_000 - hour, ..witness() };
        assert_eq!(doubts(&back, &Remembered::default()), [Doubt::Clock { by_ms: hour - 200 }], "seen by a new gate");
        let drift = Witness { now_ms: 104_000, ..witness() };
        assert_eq!(doubts(&drift, &remembered()), []);
    }

    #[test]
    fn a_gate_that_stood_still_itself_does_not_turn_the_clock_back() {
        let late = Remembered { expected_ms: Some(40_000), ..remembered() };
        assert_eq!(doubts(&witness(), &late), []);
    }
}

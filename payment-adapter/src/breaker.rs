//! A circuit breaker: when a provider is sick, stop calling for a while, then try one call.
//!
//! Pure: time is an argument. `closed → open` after [`FAULTS_MAX`] faults in a row; `open → half-open` after the
//! cool-down, which doubles up to [`COOL_DOWN_MS_MAX`]; one call is let through, and its end decides. A probe that
//! never reports back (its task was killed) is given up after [`PROBE_MS_MAX`].

/// Faults in a row that open the circuit.
pub const FAULTS_MAX: u32 = 8;
/// First cool-down in milliseconds.
pub const COOL_DOWN_MS: i64 = 1_000;
/// Longest cool-down in milliseconds.
pub const COOL_DOWN_MS_MAX: i64 = 30_000;
/// How long a probe may take in milliseconds.
pub const PROBE_MS_MAX: i64 = 60_000;

/// Where the circuit stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Circuit {
    /// Calls go through.
    Closed {
        /// Faults in a row so far.
        faults: u32,
    },
    /// No calls.
    Open {
        /// Until then.
        until_ms: i64,
        /// How long this cool-down is.
        cool_down_ms: i64,
    },
    /// One call is on its way.
    HalfOpen {
        /// Since then.
        since_ms: i64,
        /// How long the last cool-down was.
        cool_down_ms: i64,
    },
}

impl Default for Circuit {
    fn default() -> Self {
        Self::Closed { faults: 0 }
    }
}

impl Circuit {
    /// Every word of [`Circuit::name`].
    pub const NAMES: [&'static str; 3] = ["closed", "open", "half_open"];
    /// The word in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Closed { .. } => "closed",
            Self::Open { .. } => "open",
            Self::HalfOpen { .. } => "half_open",
        }
    }
    /// Asks for one call: the next state, and `Err` with the earliest time to ask again.
    pub fn ask(self, now_ms: i64) -> (Self, Result<(), i64>) {
        match self {
            Self::Closed { .. } => (self, Ok(())),
            Self::Open { until_ms, .. } if now_ms < until_ms => (self, Err(until_ms)),
            Self::HalfOpen { since_ms, .. } if now_ms < since_ms.saturating_add(PROBE_MS_MAX) => {
                (self, Err(now_ms.saturating_add(COOL_DOWN_MS)))
            }
            Self::Open { cool_down_ms, .. } | Self::HalfOpen { cool_down_ms, .. } => {
                (Self::HalfOpen { since_ms: now_ms, cool_down_ms }, Ok(()))
            }
        }
    }
    /// A call that was let through is not made after all: the next one may be the probe.
    #[must_use]
    pub fn give_back(self, now_ms: i64) -> Self {
        match self {
            Self::HalfOpen { cool_down_ms, .. } => Self::Open { until_ms: now_ms, cool_down_ms },
            other => other,
        }
    }
    /// A call ended: the next state.
    #[must_use]
    pub fn tell(self, healthy: bool, now_ms: i64) -> Self {
        match (self, healthy) {
            // Whatever is still on its way from before: an answer is an answer.
            (_, true) => Self::default(),
            (Self::Closed { faults }, false) if faults + 1 < FAULTS_MAX => Self::Closed { faults: faults + 1 },
            (Self::Closed { .. }, false) => Self::open(COOL_DOWN_MS, now_ms),
            (Self::HalfOpen { cool_down_ms, .. }, false) => {
                Self::open(cool_down_ms.saturating_mul(2).min(COOL_DOWN_MS_MAX), now_ms)
            }
            // Stragglers of the crowd that opened it do not lengthen the cool-down.
            (Self::Open { .. }, false) => self,
        }
    }

    fn open(cool_down_ms: i64, now_ms: i64) -> Self {
        Self::Open { until_ms: now_ms.saturating_add(cool_down_ms), cool_down_ms }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened() -> Circuit {
        (0..FAULTS_MAX).fold(Circuit::default(), |circuit, _| circuit.tell(false, 0))
    }

    #[test]
    fn it_opens_after_faults_in_a_row_only() {
        let mut circuit = Circuit::default();
        for _ in 0..10 * FAULTS_MAX {
            circuit = circuit.tell(false, 0).tell(true, 0);
        }
        assert_eq!(circuit.name(), "closed");
        assert_eq!(opened(), Circuit::Open { until_ms: COOL_DOWN_MS, cool_down_ms: COOL_DOWN_MS });
        assert_eq!(opened().ask(COOL_DOWN_MS - 1), (opened(), Err(COOL_DOWN_MS)));
    }

    #[test]
    fn one_probe_at_a_time_decides() {
        let (half, first) = opened().ask(COOL_DOWN_MS);
        assert_eq!((half.name(), first), ("half_open", Ok(())));
        assert!(half.ask(COOL_DOWN_MS + 1).1.is_err(), "a second call waits");
        assert_eq!(half.tell(true, 2_000), Circuit::default());
        let again = half.tell(false, 2_000);
        assert_eq!(again, Circuit::Open { until_ms: 4_000, cool_down_ms: 2_000 });
    }

    #[test]
    fn the_cool_down_is_bounded_and_stragglers_do_not_lengthen_it() {
        let mut circuit = opened();
        for _ in 0..20 {
            let Circuit::Open { until_ms, cool_down_ms } = circuit else { panic!("{circuit:?}") };
            assert!(cool_down_ms <= COOL_DOWN_MS_MAX);
            assert_eq!(circuit.tell(false, until_ms), circuit);
            circuit = circuit.ask(until_ms).0.tell(false, until_ms);
        }
    }

    #[test]
    fn a_probe_that_is_not_made_is_given_back() {
        let (half, _) = opened().ask(COOL_DOWN_MS);
        assert_eq!(half.give_back(COOL_DOWN_MS).ask(COOL_DOWN_MS).1, Ok(()));
        assert_eq!(Circuit::default().give_back(0), Circuit::default());
    }

    #[test]
    fn a_lost_probe_does_not_keep_it_half_open_for_ever() {
        let (half, _) = opened().ask(COOL_DOWN_MS);
        assert_eq!(half.ask(COOL_DOWN_MS + PROBE_MS_MAX).1, Ok(()));
    }
}

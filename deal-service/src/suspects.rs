//! Deals whose fast stock somebody found missing or wrong: a hint that makes the loader look at once.

use service_kit::ids::DealId;
use tokio::sync::mpsc;

/// Most hints that wait; more are dropped, because the loader looks at every deal each second anyway.
const WAITING_MAX: usize = 64;

/// Where hints go. Cheap to clone.
#[derive(Clone)]
pub struct Suspects {
    hints: mpsc::Sender<DealId>,
}

impl Suspects {
    /// The place for hints, and where the loader reads them.
    pub fn new() -> (Self, mpsc::Receiver<DealId>) {
        let (hints, rx) = mpsc::channel(WAITING_MAX);
        (Self { hints }, rx)
    }
    /// Asks the loader to look at this deal now.
    pub fn report(&self, deal: DealId) {
        let _ = self.hints.try_send(deal);
    }
}

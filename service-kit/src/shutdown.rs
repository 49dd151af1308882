//! Orderly end of a process: one signal, seen by everybody who holds a [`Shutdown`].

use tokio::sync::watch;

/// A flag that turns to "stop" once and stays there. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Shutdown {
    stop: watch::Receiver<bool>,
}

/// The hand that can pull the flag.
#[derive(Debug)]
pub struct Trigger {
    stop: watch::Sender<bool>,
}

/// A new flag and the hand that pulls it.
pub fn channel() -> (Trigger, Shutdown) {
    let (tx, rx) = watch::channel(false);
    (Trigger { stop: tx }, Shutdown { stop: rx })
}

impl Trigger {
    /// Tells every holder to stop.
    pub fn stop(&self) {
        let _ = self.stop.send(true);
    }
}

impl Shutdown {
    /// Returns when it is time to stop. Also when the trigger was dropped.
    pub async fn requested(&self) {
        let mut stop = self.stop.clone();
        let _ = stop.wait_for(|s| *s).await;
    }
    /// Whether it is time to stop.
    pub fn is_requested(&self) -> bool {
        *self.stop.borrow()
    }
    /// Sleeps for `ms`, or less when it is time to stop. Returns `true` to go on.
    pub async fn sleep_ms(&self, ms: u64) -> bool {
        tokio::select! {
            () = tokio::time::sleep(std::time::Duration::from_millis(ms)) => !self.is_requested(),
            () = self.requested() => false,
        }
    }
}

/// A flag that is pulled by SIGINT or SIGTERM. Needs a running tokio runtime.
pub fn on_signal() -> Shutdown {
    let (trigger, shutdown) = channel();
    tokio::spawn(async move {
        let terminate = async {
            match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
                Ok(mut s) => drop(s.recv().await),
                Err(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            () = terminate => {}
        }
        trigger.stop();
    });
    shutdown
}

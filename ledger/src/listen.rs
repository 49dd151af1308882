//! LISTEN/NOTIFY as a channel that survives reconnects.

use crate::Ledger;
use futures::StreamExt as _;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_postgres::{AsyncMessage, NoTls};

/// Notices that may wait to be read. When it is full, notices are dropped: readers poll as well.
const NOTICES_MAX: usize = 4_096;

/// Something changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// A NOTIFY arrived.
    Changed {
        /// `floodgate_order`, `floodgate_payment` or `floodgate_outbox`.
        channel: String,
        /// The order's id on `floodgate_order`, else empty.
        payload: String,
    },
    /// The connection is (again) up: anything may have changed meanwhile. Sent once at the start as well.
    Resync,
}

impl Ledger {
    /// Listens on `channels` until the receiver is dropped. Reconnects by itself.
    pub fn listen(&self, channels: &'static [&'static str]) -> mpsc::Receiver<Notice> {
        let (tx, rx) = mpsc::channel(NOTICES_MAX);
        let settings = self.settings.clone();
        tokio::spawn(async move {
            while !tx.is_closed() {
                if let Err(e) = listen_once(&settings, channels, &tx).await {
                    tracing::warn!(error = %e, "lost the notification channel; polling goes on");
                }
                tokio::select! {
                    () = tokio::time::sleep(Duration::from_millis(500)) => {}
                    () = tx.closed() => {}
                }
            }
        });
        rx
    }
}

async fn listen_once(
    settings: &tokio_postgres::Config,
    channels: &[&str],
    tx: &mpsc::Sender<Notice>,
) -> Result<(), tokio_postgres::Error> {
    let (client, mut connection) = settings.connect(NoTls).await?;
    let mut messages = futures::stream::poll_fn(move |cx| connection.poll_message(cx));
    let listen: String = channels.iter().map(|c| format!("LISTEN {c};")).collect();
    // The connection only moves while its messages are read, so both run together.
    let mut subscribed = std::pin::pin!(async {
        let result = client.batch_execute(&listen).await;
        if result.is_ok() {
            let _ = tx.try_send(Notice::Resync);
        }
        result
    });
    let mut is_subscribed = false;
    loop {
        tokio::select! {
            result = &mut subscribed, if !is_subscribed => {
                result?;
                is_subscribed = true;
            }
            message = messages.next() => match message {
                Some(Ok(AsyncMessage::Notification(n))) => {
                    let _ = tx.try_send(Notice::Changed { channel: n.channel().to_owned(), payload: n.payload().to_owned() });
                }
                Some(Ok(_)) => {}
                Some(Err(e)) => return Err(e),
                None => return Ok(()),
            },
            () = tx.closed() => return Ok(()),
        }
    }
}

//! Writes of many jobs in one commit, without a wait of its own: while one commit runs, the next ones gather.
//!
//! There is no task behind it. Of all jobs that wait, the one whose turn it is writes for all of them. A job that is
//! dropped while it writes takes nobody with it: the others hear that nobody knows, and each write here may be repeated.

use ledger::LedgerError;
use tokio::sync::{Mutex, oneshot};

/// Most writes in one commit.
const BATCH_MAX: usize = 64;

/// Writes of one kind.
pub(crate) struct Together<I, O> {
    waiting: Mutex<Vec<(I, oneshot::Sender<O>)>>,
    turn: Mutex<()>,
}

impl<I, O> Default for Together<I, O> {
    fn default() -> Self {
        Self { waiting: Mutex::default(), turn: Mutex::default() }
    }
}

impl<I, O> Together<I, O> {
    /// Writes `item`, together with whatever waits by then. `write` answers in the order of its items. `None`: whoever
    /// wrote it is gone, and nobody knows whether it was written.
    pub(crate) async fn write<F>(&self, item: I, write: impl Fn(Vec<I>) -> F) -> Option<O>
    where
        F: Future<Output = Vec<O>>,
    {
        let (reply, mut answer) = oneshot::channel();
        self.waiting.lock().await.push((item, reply));
        loop {
            let turn = tokio::select! {
                biased;
                answer = &mut answer => return answer.ok(),
                turn = self.turn.lock() => turn,
            };
            let batch: Vec<_> = {
                let mut waiting = self.waiting.lock().await;
                let most = waiting.len().min(BATCH_MAX);
                waiting.drain(..most).collect()
            };
            if !batch.is_empty() {
                let (items, replies): (Vec<I>, Vec<oneshot::Sender<O>>) = batch.into_iter().unzip();
                for (reply, outcome) in replies.into_iter().zip(write(items).await) {
                    let _ = reply.send(outcome);
                }
            }
            drop(turn);
        }
    }
}

/// No answer for anybody: each does it alone.
pub(crate) fn alone<I, O: Default + Clone>(error: &LedgerError, items: &[I]) -> Vec<O> {
    tracing::warn!(%error, items = items.len(), "the ledger did not take a batch; each is written alone");
    vec![O::default(); items.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::sync::Semaphore;

    #[tokio::test]
    async fn what_gathers_while_one_writes_is_written_at_once() {
        let (together, commits) = (Arc::new(Together::<usize, usize>::default()), Arc::new(AtomicUsize::new(0)));
        let gate = Arc::new(Semaphore::new(0));
        let mut jobs = tokio::task::JoinSet::new();
        for n in 0..=2 * BATCH_MAX {
            let (together, commits, gate) = (together.clone(), commits.clone(), gate.clone());
            jobs.spawn(async move {
                let written = together.write(n, |items| {
                    let (commits, gate) = (commits.clone(), gate.clone());
                    async move {
                        assert!(items.len() <= BATCH_MAX);
                        commits.fetch_add(1, Ordering::SeqCst);
                        gate.acquire().await.unwrap().forget();
                        items.into_iter().map(|n| n * 2).collect()
                    }
                });
                assert_eq!(written.await, Some(n * 2), "everybody gets the answer to what was asked");
            });
        }
        // Everybody waits before the first commit ends.
        while commits.load(Ordering::SeqCst) == 0 || together.waiting.lock().await.len() < BATCH_MAX {
            tokio::task::yield_now().await;
        }
        gate.add_permits(4 * BATCH_MAX);
        while let Some(job) = jobs.join_next().await {
            job.unwrap();
        }
        assert!(commits.load(Ordering::SeqCst) <= 5, "{commits:?}");
    }

    #[tokio::test]
    async fn a_writer_that_is_gone_does_not_stop_the_next() {
        let together = Arc::new(Together::<u8, u8>::default());
        let first = tokio::spawn({
            let together = together.clone();
            async move { together.write(1, |_| std::future::pending()).await }
        });
        while together.turn.try_lock().is_ok() {
            tokio::task::yield_now().await;
        }
        first.abort();
        let _ = first.await;
        assert_eq!(together.write(2, async |items| items).await, Some(2), "the turn goes on");
    }
}

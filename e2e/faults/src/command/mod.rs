//! What the commands do.

pub mod matrix;
pub mod planted;
pub mod seeds;

use futures::{Stream, stream};
use std::path::PathBuf;

/// The executable under test: the one that was said, or `name` beside this one.
pub fn program(said: Option<&PathBuf>, name: &str) -> anyhow::Result<PathBuf> {
    match said {
        Some(program) => Ok(program.clone()),
        None => Ok(std::env::current_exe()?.with_file_name(name)),
    }
}

/// How many sales run at once if nobody says: as many as there are cores, eight at the most.
pub fn cores() -> u16 {
    std::thread::available_parallelism().map_or(1, |cores| u16::try_from(cores.get()).unwrap_or(8).min(8))
}

/// Work for every item, each on a task of its own. It begins when the caller polls it: buffer as many as may run at once.
pub fn tasks<T, R, F>(
    items: impl IntoIterator<Item = T>,
    work: impl Fn(T) -> F,
) -> impl Stream<Item = impl Future<Output = anyhow::Result<R>>>
where
    F: Future<Output = anyhow::Result<R>> + Send + 'static,
    R: Send + 'static,
{
    let all = items.into_iter().map(work).map(|work| async move { tokio::spawn(work).await? });
    stream::iter(all.collect::<Vec<_>>())
}

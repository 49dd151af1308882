//! What an idle event stream costs the gate in memory.

use crate::fill::{House, Room};
use crate::load::Connection;
use crate::process::resident_bytes;
use crate::server::get;
use std::time::Duration;

/// Streams held open at once; few enough for the usual limit of 1,024 open files per process.
const STREAMS: u64 = 400;
/// Streams opened first, so that what the process needs once is not counted.
const WARM: u64 = 50;

/// Resident bytes per stream; NaN when this gate has no streams.
pub async fn bytes_per_idle_stream(house: &House, room: &Room) -> anyhow::Result<f64> {
    let path = format!("/_floodgate/rooms/{}/events", room.settings.room);
    let mut open = Vec::new();
    let mut before = 0;
    for n in 1..=WARM + STREAMS {
        let mut connection = Connection::open(house.gate.address).await?;
        let headers = format!("{}accept: text/event-stream\r\n", house.ticket(room, n));
        if connection.ask_head(&get(&path, &headers)).await? != 200 {
            return Ok(f64::NAN);
        }
        open.push(connection);
        if n == WARM {
            tokio::time::sleep(Duration::from_secs(1)).await;
            before = resident_bytes(house.gate.pid)?;
        }
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let after = resident_bytes(house.gate.pid)?;
    Ok((after.saturating_sub(before)) as f64 / STREAMS as f64)
}

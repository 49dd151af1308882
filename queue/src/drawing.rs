//! The draw of a room, from the opened lobby to the last place in the line: the rules of [`crate::draw`] with the store
//! and the clock. Any gate may run it at any moment and as often as it likes; one of them writes.
//!
//! Steps and what a crash after each leaves: committed (the secret is derived from the keys, nothing is lost) → closed
//! (count and root are written; read again) → drawn (the seed is written) → places, a thousand at a time, in their order.
//! Whoever writes next goes on where the last one stopped. People are called as soon as the first places are written.

use crate::draw::{self, BeaconFile, Digest, Draw, Permutation, Phase, TreeBuilder};
use crate::keys::RoomKeys;
use crate::line::Line;
use crate::settings::{Beacon, Mode, RoomSettings};
use service_kit::ids::{RoomId, VisitorId};
use service_kit::keys::KeyRing;
use service_kit::redis::{Reply, Script, StoreError};
use service_kit::script;
use tokio::task::JoinHandle;

script!(
    /// Freezes a lobby and chooses the writer.
    DRAW_CLOSE,
    "draw_close",
    "scripts/draw_close.lua"
);
script!(
    /// Writes down how far a draw is.
    DRAW_NOTE,
    "draw_note",
    "scripts/draw_note.lua"
);
script!(
    /// Writes drawn places into the line.
    DRAW_PLACE,
    "draw_place",
    "scripts/draw_place.lua"
);

/// Places in one script.
const PLACES_PER_SCRIPT: u32 = 1_000;
/// Scripts between two renewals of the writer's turn.
const SCRIPTS_PER_TURN: usize = 64;
/// How long a writer has until another gate may go on.
const TURN_MS: i64 = 5_000;
/// Characters of leaves read at once: 16,384 people.
const LEAVES_PER_READ: usize = 64 * 16_384;

/// What a gate brings to a draw.
#[derive(Clone, Debug)]
pub struct Drawer {
    /// The keys that the secret is derived from.
    pub ring: KeyRing,
    /// This gate.
    pub gate: VisitorId,
    /// Who signs the beacon, for rooms that take it from a file.
    pub beacon_key: Option<Digest>,
}

/// How far a draw is after [`Drawer::advance`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// No draw in this room, or its lobby is not open.
    None,
    /// The lobby is open.
    Committed,
    /// Another gate writes.
    Elsewhere,
    /// The beacon's file has no value for this draw yet.
    AwaitsBeacon,
    /// Everybody of the lobby has a place.
    Done,
}

impl Drawer {
    /// Brings the draw of a room as far as it can be at `now_ms` (the room's clock). `beacon` is what the beacon's file
    /// holds at the moment.
    ///
    /// # Errors
    /// See [`StoreError`]; calling it again goes on. [`StoreError::Config`] when the keys cannot reveal the secret.
    pub async fn advance(
        &self,
        line: &Line,
        settings: &RoomSettings,
        beacon: Option<BeaconFile>,
        now_ms: i64,
    ) -> Result<Progress, StoreError> {
        if settings.mode != Mode::Draw || settings.closed || now_ms < settings.lobby_opens_at_ms {
            return Ok(Progress::None);
        }
        let mut drawn = match read(line, settings).await? {
            Some(draw) => draw,
            None => self.commit(line, settings, now_ms).await?,
        };
        if now_ms < settings.starts_at_ms {
            return Ok(Progress::Committed);
        }
        let (count, mut written, mut writes) = self.close(line, settings).await?;
        let Some(count) = count else { return Ok(Progress::Committed) };
        if !writes {
            let done = written >= count && drawn.phase == Phase::Drawn;
            return Ok(if done { Progress::Done } else { Progress::Elsewhere });
        }
        if drawn.phase == Phase::Committed {
            let entrants = entrants(line, &settings.room, count).await?;
            drawn = note(line, settings, "committed", &drawn.close(now_ms, &entrants.tree)).await?;
        }
        if drawn.phase == Phase::Closed {
            if settings.beacon == Beacon::File && beacon.is_none() {
                return Ok(Progress::AwaitsBeacon);
            }
            let secret = draw::reveal(&self.ring, &settings.room, drawn.lobby_opens_at_ms, &drawn.commitment)
                .ok_or_else(|| StoreError::Config("the key of the draw's secret is not in `keys.ring`".to_owned()))?;
            let signed = beacon.filter(|_| drawn.beacon.kind == Beacon::File);
            let finished = drawn.draw(secret, signed, now_ms).map_err(|finding| {
                StoreError::Config(format!("the draw of {} cannot be made: {finding}", settings.room))
            })?;
            drawn = note(line, settings, "closed", &finished).await?;
        }
        let Some(permutation) = drawn.permutation() else { return Ok(Progress::Elsewhere) };
        let keys = RoomKeys::new(&settings.room);
        let keys = [keys.room(), keys.line(), keys.lobby()];
        let mut scripts = 0;
        let mut next = numbers(&permutation, written);
        while writes && written < count {
            let mut args = vec![written.to_string()];
            args.extend(next.await.map_err(|_| StoreError::Shape("the order could not be computed"))?);
            // While the store writes these, the next ones are computed.
            next = numbers(&permutation, written.saturating_add(PLACES_PER_SCRIPT));
            let reply = line.redis().run(&DRAW_PLACE, &keys, &args).await?.int()?;
            let now_written = u32::try_from(reply).map_err(|_| StoreError::Shape("places before the draw"))?;
            if now_written != written.saturating_add(PLACES_PER_SCRIPT) {
                next = numbers(&permutation, now_written);
            }
            written = now_written;
            scripts += 1;
            if scripts % SCRIPTS_PER_TURN == 0 {
                let (_, latest, still) = self.close(line, settings).await?;
                if latest != written {
                    next = numbers(&permutation, latest);
                }
                (written, writes) = (latest, still);
            }
        }
        Ok(if written >= count { Progress::Done } else { Progress::Elsewhere })
    }

    async fn commit(&self, line: &Line, settings: &RoomSettings, now_ms: i64) -> Result<Draw, StoreError> {
        let secret = draw::secret(&self.ring, &settings.room, settings.lobby_opens_at_ms)
            .ok_or_else(|| StoreError::Config("`keys.ring` is empty".to_owned()))?;
        let draw = Draw::committed(
            settings.room.clone(),
            settings.lobby_opens_at_ms,
            draw::commitment(&secret),
            settings.beacon,
            self.beacon_key.filter(|_| settings.beacon == Beacon::File),
            now_ms,
        );
        note(line, settings, "none", &draw).await
    }

    /// Entrants (`None` before the start), places written, and whether this gate writes.
    async fn close(&self, line: &Line, settings: &RoomSettings) -> Result<(Option<u32>, u32, bool), StoreError> {
        let keys = RoomKeys::new(&settings.room);
        let args = [
            line.clock_ms().to_string(),
            settings.starts_at_ms.to_string(),
            self.gate.to_string(),
            TURN_MS.to_string(),
        ];
        let reply = line.redis().run(&DRAW_CLOSE, &[keys.room()], &args).await?.ints()?;
        let [count, written, writes] = reply[..] else { return Err(StoreError::Shape("three numbers were expected")) };
        Ok((u32::try_from(count).ok(), u32::try_from(written).unwrap_or(0), writes == 1))
    }
}

/// The numbers of the places after the first `written` ones, as the script takes them.
fn numbers(permutation: &Permutation, written: u32) -> JoinHandle<Vec<String>> {
    let permutation = permutation.clone();
    tokio::task::spawn_blocking(move || {
        let upto = permutation.count().min(written.saturating_add(PLACES_PER_SCRIPT));
        (written..upto).filter_map(|place| permutation.unprp(place)).map(|i| (u64::from(i) + 1).to_string()).collect()
    })
}

/// The draw's scripts, for start-up checks and tests.
pub fn scripts() -> [&'static Script; 3] {
    [&DRAW_CLOSE, &DRAW_NOTE, &DRAW_PLACE]
}

/// The document as the store has it.
async fn read(line: &Line, settings: &RoomSettings) -> Result<Option<Draw>, StoreError> {
    match line.redis().command("HGET", &[&RoomKeys::new(&settings.room).room(), "draw"]).await? {
        Reply::Nil => Ok(None),
        text => parse(&text.text()?).map(Some),
    }
}

/// A stored document.
pub(crate) fn parse(text: &str) -> Result<Draw, StoreError> {
    serde_json::from_str(text).map_err(|_| StoreError::Shape("a draw was expected"))
}

/// Writes the next phase, and returns whichever document counts.
async fn note(line: &Line, settings: &RoomSettings, expected: &str, draw: &Draw) -> Result<Draw, StoreError> {
    let phase = match draw.phase {
        Phase::Committed => "committed",
        Phase::Closed => "closed",
        Phase::Drawn => "drawn",
    };
    let json = serde_json::to_string(draw).map_err(|e| StoreError::Config(e.to_string()))?;
    let args = [expected.to_owned(), phase.to_owned(), json];
    let reply = line.redis().run(&DRAW_NOTE, &[RoomKeys::new(&settings.room).room()], &args).await?;
    parse(&reply.text()?)
}

/// Everybody of the lobby of a draw, those who left included, with the tree over their records.
#[derive(Debug)]
pub struct Entrants {
    tree: draw::Tree,
    records: Vec<u8>,
}

impl Entrants {
    /// Reads those of a draw whose list is closed. `None` when they take more than `bytes_max`.
    ///
    /// # Errors
    /// See [`StoreError`]; [`StoreError::Shape`] when the store's list is not the one that was published.
    pub async fn read(line: &Line, room: &RoomId, drawn: &Draw, bytes_max: usize) -> Result<Option<Self>, StoreError> {
        let (Some(count), Some(root)) = (drawn.count, drawn.root) else {
            return Err(StoreError::Shape("a draw whose list is closed was expected"));
        };
        if usize::try_from(count).unwrap_or(usize::MAX).saturating_mul(draw::LEAF_BYTES) > bytes_max {
            return Ok(None);
        }
        let found = entrants(line, room, count).await?;
        if found.tree.root() == root {
            Ok(Some(found))
        } else {
            Err(StoreError::Shape("the list of entrants is not the one that was published"))
        }
    }

    /// That the record of `number` is in the list; `None` when nobody of the lobby had it.
    pub fn proof(&self, number: u32) -> Option<draw::Proof> {
        let chunk = self.tree.chunk_of(number)?;
        // Records at the end that nobody wrote are empty.
        let end = chunk.end.min(self.records.len());
        self.tree.proof(number, self.records.get(chunk.start.min(end)..end)?)
    }

    /// How much memory the records take.
    pub fn bytes(&self) -> usize {
        self.records.len()
    }
}

async fn entrants(line: &Line, room: &RoomId, count: u32) -> Result<Entrants, StoreError> {
    let key = RoomKeys::new(room).entrants();
    let mut builder = TreeBuilder::default();
    let mut records = Vec::new();
    let length = usize::try_from(count).unwrap_or(usize::MAX).saturating_mul(64);
    let mut from = 0;
    while from < length {
        let to = length.min(from.saturating_add(LEAVES_PER_READ));
        let text = line.redis().command("GETRANGE", &[&key, &from.to_string(), &(to - 1).to_string()]).await?.text()?;
        if text.is_empty() {
            break;
        }
        for leaf in text.as_bytes().chunks(64) {
            let record = record(leaf)?;
            builder.push(&record);
            records.extend(record);
        }
        from = to;
    }
    builder.pad_to(count);
    let tree = builder.finish().map_err(|_| StoreError::Shape("leaves of 64 digits were expected"))?;
    Ok(Entrants { tree, records })
}

/// One leaf; who came without one (the store was lost) has an empty record.
fn record(digits: &[u8]) -> Result<[u8; 32], StoreError> {
    if digits.iter().all(|b| *b == 0) {
        return Ok([0; 32]);
    }
    let digest = std::str::from_utf8(digits).ok().and_then(|text| text.parse::<Digest>().ok());
    digest.map(|d| d.0).ok_or(StoreError::Shape("leaves of 64 digits were expected"))
}

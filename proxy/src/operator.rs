//! The operators' API on the gate's admin port: look at rooms, steer them, read their logs. Never on the public port.
//!
//! Who asks shows a token (`Authorization: Bearer fgo_…`); its role says what is allowed. A change is a compare-and-set
//! in the store together with its log entry ([`queue::control`]); every gate sees it with its next look at the list of
//! rooms, within a second. `Idempotency-Key` is the operation id: a repeat answers the first entry.

pub mod rules;

use crate::rooms::{Room, Rooms};
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, Query, State, rejection::QueryRejection};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use queue::control::{self, Command, ControlError, Done, Steered};
use queue::overrides::steerable;
use queue::settings::RoomSettings;
use queue::state::RoomState;
use rules::{Ask, Present, change, read};
use serde::Deserialize;
use serde_json::{Value, json};
use service_kit::chain::Entry;
use service_kit::http::BODY_BYTES_MAX;
use service_kit::ids::RoomId;
use service_kit::operator::{Operator, Operators, Role};
use service_kit::problem::{Problem, Slug};
use service_kit::redis::{Redis, StoreError};
use std::sync::Arc;

/// What the handlers share. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Desk {
    /// The rooms of this gate.
    pub rooms: Arc<Rooms>,
    /// The rooms of its configuration.
    pub fixed: Arc<Vec<RoomSettings>>,
    /// Who may ask.
    pub operators: Arc<Operators>,
}

/// A refusal; 401 says how to show a token.
struct Refusal(Problem);

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Self(match error {
            StoreError::Unknown(_) | StoreError::Refused { .. } => Problem::new(
                Slug::StoreUnavailable,
                "Redis does not answer just now. The command may have been carried out: repeat it with the same Idempotency-Key.",
            )
            .retry_after_s(1),
            other => Problem::internal(&other),
        })
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = self.0.into_response();
        if response.status() == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// The routes of the API.
pub fn router(desk: Desk) -> Router {
    for action in rules::ACTIONS {
        queue::metric::operator_actions(action, 0);
    }
    Router::new()
        .route("/v1/rooms", get(list))
        .route("/v1/rooms/{room}", get(show))
        .route("/v1/rooms/{room}/log", get(log))
        .route("/v1/rooms/{room}/log/archive", post(archive))
        .route("/v1/rooms/{room}/{action}", post(steer))
        .method_not_allowed_fallback(|| async {
            Problem::new(Slug::MethodNotAllowed, "Look with GET; steer with POST /v1/rooms/ROOM/ACTION.")
        })
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(desk)
}

impl Desk {
    fn who(&self, headers: &HeaderMap, needed: Role) -> Result<&Operator, Problem> {
        let token =
            headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok()).and_then(|v| v.strip_prefix("Bearer "));
        let Some(operator) = token.and_then(|token| self.operators.who(token.trim())) else {
            return Err(Problem::new(
                Slug::NotSignedIn,
                if self.operators.is_empty() {
                    "No operator is configured on this gate. `floodgate key operator --name NAME` makes a token and the entry for [[operators]]."
                } else {
                    "Send an operator's token as `Authorization: Bearer fgo_…`."
                },
            ));
        };
        if operator.role < needed {
            return Err(Problem::new(
                Slug::Forbidden,
                format!("This needs the role {}; yours is {}.", needed.label(), operator.role.label()),
            ));
        }
        Ok(operator)
    }

    fn redis(&self) -> Result<Redis, Problem> {
        let store = self.rooms.store();
        store.map(|store| store.redis.clone()).ok_or_else(|| {
            Problem::new(Slug::StoreUnavailable, "The gate has not reached Redis yet. Try again.").retry_after_s(1)
        })
    }

    /// A room as its owner published it.
    async fn published(&self, redis: &Redis, name: &str) -> Result<RoomSettings, Refusal> {
        let unknown = || Problem::new(Slug::NotFound, "There is no room of this name. GET /v1/rooms lists them.");
        let room: RoomId = name.parse().map_err(|_| unknown())?;
        if let Some(fixed) = self.fixed.iter().find(|f| f.room == room) {
            return Ok(fixed.clone());
        }
        Ok(control::published(redis, &room).await?.ok_or_else(unknown)?)
    }

    /// The store's clock as this gate knows it, and whether the room may be on hold.
    fn moment(&self, room: &RoomId) -> (i64, bool) {
        let Some(room) = self.rooms.get(room.as_str()) else { return (service_kit::clock::now_ms(), true) };
        let held =
            room.seen.load().as_ref().is_none_or(|s| s.is_stale() || s.board.state(s.now_ms()) == RoomState::Hold);
        (room.now_ms(), held)
    }
}

/// The figures of a room, from memory.
fn figures(room: &Room) -> Value {
    let Some(seen) = room.seen.load_full() else { return Value::Null };
    let board = &seen.board;
    json!({
        "state": board.state(seen.now_ms()),
        "limit_reason": board.reason,
        "waiting": board.waiting,
        "silent": board.silent,
        "called": board.called,
        "inside": board.inside,
        "buying": board.buying,
        "frontier": board.frontier,
        "next": board.next,
        "rate_per_s": board.rate_per_s,
        "stock": board.stock,
        "calls": board.totals.calls,
        "claims": board.totals.claims,
        "misses": board.totals.misses,
        "leaves": board.totals.leaves,
        "taken_ms": board.taken_ms,
        "last_tick_ms": board.last_tick_ms,
        "stale": seen.is_stale(),
    })
}

/// `GET /v1/rooms`: every room of this gate with its figures; from memory, so it works while Redis is away.
async fn list(State(desk): State<Desk>, headers: HeaderMap) -> Result<Json<Value>, Refusal> {
    desk.who(&headers, Role::Viewer)?;
    let rooms = desk.rooms.all();
    let mut rooms: Vec<&Arc<Room>> = rooms.values().collect();
    rooms.sort_by(|a, b| a.id.cmp(&b.id));
    let rooms: Vec<Value> = rooms
        .into_iter()
        .map(|room| {
            let settings = room.settings.load();
            json!({
                "room": room.id,
                "title": settings.title,
                "rate_per_s": settings.rate_per_s,
                "inside_max": settings.inside_max,
                "board": figures(room),
            })
        })
        .collect();
    Ok(Json(json!({ "rooms": rooms })))
}

/// `GET /v1/rooms/{room}`: what holds, what operators said, where the log ends, and the figures.
async fn show(State(desk): State<Desk>, headers: HeaderMap, Path(room): Path<String>) -> Result<Json<Value>, Refusal> {
    desk.who(&headers, Role::Viewer)?;
    let redis = desk.redis()?;
    let published = desk.published(&redis, &room).await?;
    let steered = control::steered(&redis, &published.room).await?;
    Ok(Json(state(&desk, &published, steered.as_ref())))
}

fn state(desk: &Desk, published: &RoomSettings, steered: Option<&Steered>) -> Value {
    let settings = steered.map_or_else(|| published.clone(), |s| s.set.apply(published));
    json!({
        "room": published.room,
        "title": settings.title,
        "mode": settings.mode,
        "settings": steerable(&settings),
        "published": steerable(published),
        "overrides": steered.map(|s| &s.set),
        "log": steered.map(|s| &s.tail),
        "board": desk.rooms.get(published.room.as_str()).map(|room| figures(&room)),
    })
}

/// Which part of a log.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Page {
    #[serde(default)]
    after: u64,
    #[serde(default = "page_entries")]
    limit: usize,
}

fn page_entries() -> usize {
    control::LOG_PAGE_ENTRIES_MAX
}

/// `GET /v1/rooms/{room}/log?after=SEQ&limit=N`: entries as they were written, one per line, oldest first.
async fn log(
    State(desk): State<Desk>,
    headers: HeaderMap,
    Path(room): Path<String>,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<Response, Refusal> {
    desk.who(&headers, Role::Viewer)?;
    let Query(Page { after, limit }) =
        page.map_err(|e| Problem::new(Slug::BadRequest, format!("Use ?after=NUMBER&limit=NUMBER: {}", e.body_text())))?;
    if !(1..=control::LOG_PAGE_ENTRIES_MAX).contains(&limit) {
        return Err(Problem::field("limit", format!("1 to {}", control::LOG_PAGE_ENTRIES_MAX)).into());
    }
    let redis = desk.redis()?;
    let published = desk.published(&redis, &room).await?;
    let mut text = control::log(&redis, &published.room, after, limit).await?.join("\n");
    if !text.is_empty() {
        text.push('\n');
    }
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson"), (header::CACHE_CONTROL, "no-store")], text).into_response())
}

/// `POST /v1/rooms/{room}/{action}`.
async fn steer(
    State(desk): State<Desk>,
    headers: HeaderMap,
    Path((room, action)): Path<(String, String)>,
    body: Bytes,
) -> Result<Json<Value>, Refusal> {
    // The archive has a path of its own, below the log.
    if action == "archive" {
        return Err(Problem::new(Slug::NotFound, "Archive with POST /v1/rooms/ROOM/log/archive.").into());
    }
    carry_out(&desk, &headers, &room, &action, &body).await
}

/// `POST /v1/rooms/{room}/log/archive`: takes entries out of Redis that were saved elsewhere.
async fn archive(
    State(desk): State<Desk>,
    headers: HeaderMap,
    Path(room): Path<String>,
    body: Bytes,
) -> Result<Json<Value>, Refusal> {
    carry_out(&desk, &headers, &room, "archive", &body).await
}

async fn carry_out(
    desk: &Desk,
    headers: &HeaderMap,
    room: &str,
    action: &str,
    body: &[u8],
) -> Result<Json<Value>, Refusal> {
    // Who may look may know that a command exists; what it would need is said before its body is judged.
    desk.who(headers, Role::Viewer)?;
    json_only(headers)?;
    let (ask, why) = read(action, body)?;
    let operator = desk.who(headers, ask.role())?;
    let operation = operation(headers)?;
    let redis = desk.redis()?;
    let published = desk.published(&redis, room).await?;
    // Sorted fields: two spellings of one request are one request.
    let asked = serde_json::from_slice::<Value>(body).unwrap_or_default().to_string();
    let command = Command {
        room: &published.room,
        who: &operator.name,
        role: operator.role.label(),
        action: ask.action(),
        asked: &asked,
        why: &why,
        operation,
        urgent: ask.is_urgent(),
    };
    let archived = match &ask {
        Ask::Archive { upto_seq, hash } => saved(&redis, &published.room, *upto_seq, hash).await?,
        _ => Ok(0),
    };
    let (now_ms, may_be_held) = desk.moment(&published.room);
    let decide = |said: &_| {
        let archived = archived.clone()?;
        change(&ask, said, Present { published: &published, may_be_held, now_ms, archived })
    };
    let done = control::carry_out(&redis, &command, now_ms, decide).await.map_err(refusal)?;
    let (entry, repeated) = match done {
        Done::Now(entry) => {
            queue::metric::operator_actions(ask.action(), 1);
            tracing::info!(room = %published.room, who = operator.name, action = ask.action(), why, "operator's command");
            (entry, false)
        }
        Done::Before(entry) => (entry, true),
    };
    let steered = control::steered(&redis, &published.room).await?;
    let mut answer = state(desk, &published, steered.as_ref());
    if let Some(fields) = answer.as_object_mut() {
        fields.insert("entry".into(), Entry::read(&entry).map_or(Value::Null, |entry| entry.value));
        fields.insert("repeated".into(), repeated.into());
    }
    Ok(Json(answer))
}

/// How many entries of the log are up to `seq`, if that entry is there with this hash.
async fn saved(redis: &Redis, room: &RoomId, seq: u64, hash: &str) -> Result<Result<usize, Problem>, StoreError> {
    let lines = control::log(redis, room, 0, usize::MAX).await?;
    let entries: Vec<Entry> = lines.iter().map_while(|line| Entry::read(line).ok()).collect();
    let upto = entries.iter().position(|entry| entry.seq == seq && entry.hash == hash);
    Ok(upto.map(|index| index + 1).ok_or_else(|| {
        Problem::new(
            Slug::WrongState,
            "The log has no such entry, or it does not hold up to there. Read it again and verify it.",
        )
    }))
}

fn refusal(error: ControlError<Problem>) -> Refusal {
    match error {
        ControlError::Refused(problem) => problem.into(),
        ControlError::Store(error) => error.into(),
        ControlError::OperationReused => {
            Problem::new(Slug::IdempotencyKeyReused, "This Idempotency-Key was used for another command. Make a new one.").into()
        }
        ControlError::LogFull => Problem::new(
            Slug::WrongState,
            "The log of this room is full. Save it with `floodgate room log ROOM --archive FILE`; pause and close still work.",
        )
        .into(),
        ControlError::Contended => {
            Problem::new(Slug::WrongState, "Other operators keep changing this room. Look at it, then try again.").into()
        }
    }
}

fn json_only(headers: &HeaderMap) -> Result<(), Problem> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
    let media = given.split(';').next().unwrap_or("").trim();
    if media.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(Problem::new(Slug::BadRequest, "Send the body as `Content-Type: application/json`."))
}

fn operation(headers: &HeaderMap) -> Result<&str, Problem> {
    let Some(key) = headers.get("idempotency-key") else {
        return Err(Problem::new(
            Slug::IdempotencyKeyMissing,
            "Make up a key for this command and send it with every repeat; then it takes effect once.",
        ));
    };
    let fits = |key: &&str| {
        (1..=control::OPERATION_BYTES_MAX).contains(&key.len())
            && key.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\')
    };
    key.to_str().ok().filter(fits).ok_or_else(|| {
        Problem::field("Idempotency-Key", "1 to 128 visible ASCII characters without quotes and backslashes")
    })
}

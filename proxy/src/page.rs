//! The gate's pages. The waiting page is one response with everything in it; it works without JavaScript (refresh by
//! `<meta>`, forms, links), and with it the script listens, asks and reloads.
//!
//! Most of a page is the same for everybody in one room, language and state. Those halves are rendered and deflated
//! once, kept here, and thrown away when the room's settings change; per request only the visitor's block is rendered
//! and put between them ([`crate::splice`]).

use crate::canonical::CanonicalPath;
use crate::copy::{Lang, Say};
use crate::reply::Reply;
use crate::script::{colours, compact, hash};
use crate::splice::Spliced;
use crate::wait_page::{Block, Dress, Key, halves};
use arc_swap::ArcSwap;
use askama::Template;
use http::{HeaderName, header};
use queue::board::Status;
use queue::settings::RoomSettings;
use service_kit::ids::RoomId;
use service_kit::problem::Problem;
use std::collections::HashMap;
use std::sync::Arc;

/// The query parameter that stops the automatic refresh: `fg_refresh=off`.
pub const REFRESH: &str = "fg_refresh";
/// Most pairs of halves that are kept, about 16 KiB each; beyond, all are rendered anew.
const HALVES_MAX: usize = 2_048;

/// The pages and their fixed parts.
#[derive(Debug)]
pub struct Pages {
    /// Style of the plain pages.
    css: String,
    csp: String,
    rooms: ArcSwap<HashMap<RoomId, Arc<RoomPages>>>,
}

/// The halves of one room's waiting page, for one version of its settings.
#[derive(Debug)]
struct RoomPages {
    settings: Arc<RoomSettings>,
    dress: Dress,
    halves: ArcSwap<HashMap<Key, Arc<Spliced>>>,
}

/// What a waiting page shows.
#[derive(Debug)]
pub struct Waiting<'w> {
    /// In which language.
    pub lang: Lang,
    /// The page's own address.
    pub path: &'w CanonicalPath,
    /// The room.
    pub settings: &'w Arc<RoomSettings>,
    /// The visitor's status; `None` when the store has never answered.
    pub status: Option<&'w Status>,
    /// The board is too old to admit anybody.
    pub degraded: bool,
    /// The visitor's number, if there is one: a short reference for questions.
    pub number: Option<u64>,
    /// The time by the store's clock.
    pub now_ms: i64,
    /// The client takes gzip, see [`crate::splice::accepts_gzip`].
    pub gzip: bool,
    /// What else the room has.
    pub offers: Offers<'w>,
}

/// What a page may show besides the place.
#[derive(Debug, Default, Clone, Copy)]
pub struct Offers<'w> {
    /// A letter when the turn is near can be asked for.
    pub mail: bool,
    /// Everybody who waits, for the lobby of a draw.
    pub entrants: u64,
    /// The published commitment of a draw, 64 hex digits.
    pub commitment: Option<&'w str>,
}

#[derive(Template)]
#[template(path = "plain.html")]
struct PlainTemplate<'t> {
    copy: &'t crate::copy::Copy,
    lang: &'static str,
    heading: &'static str,
    text: &'static str,
    join_room: Option<&'t str>,
    retry: bool,
    css: &'t str,
}

impl Default for Pages {
    fn default() -> Self {
        Self::new()
    }
}

impl Pages {
    /// Prepares the fixed parts; the hashes in the policy are taken from the very bytes that are sent.
    pub fn new() -> Self {
        let css = format!("{}{}", colours(&queue::theme::Theme::default()), compact(include_str!("../page/wait.css")));
        let csp = format!(
            "default-src 'none'; style-src {}; img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
            hash(&css)
        );
        Self { css, csp, rooms: ArcSwap::default() }
    }

    /// The waiting page.
    pub fn waiting(&self, page: &Waiting<'_>) -> Reply {
        let room = self.room(page.settings);
        let key = Key::of(page);
        let rendered = Block::of(page, key).render().and_then(|block| {
            let halves = self.halves(&room, key, page.lang, block.len())?;
            Ok(if page.gzip { halves.gzip(&block) } else { halves.identity(&block) })
        });
        let body = match rendered {
            Ok(body) => body,
            Err(error) => return Reply::problem(&Problem::internal(&error)),
        };
        let reply = html(200, page.lang, &room.dress.csp, body);
        if page.gzip { reply.with(header::CONTENT_ENCODING, "gzip") } else { reply }
    }

    /// The merchant's own HTML, for the frame of the waiting page. Its policy forbids everything but text, styles and
    /// pictures that are part of it. `None` when the room has none.
    pub fn custom(&self, settings: &RoomSettings) -> Option<Reply> {
        let own = settings.theme.html.as_ref()?;
        let body = format!("<!doctype html>\n<meta charset=\"utf-8\">\n<title>-</title>\n{own}");
        let policy = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'self'";
        let reply = Reply::new(200, "text/html; charset=utf-8", body)
            .instead(header::CACHE_CONTROL, "public, max-age=60")
            .with(header::CONTENT_SECURITY_POLICY, policy)
            .with(header::REFERRER_POLICY, "no-referrer")
            .with(header::X_CONTENT_TYPE_OPTIONS, "nosniff")
            .with(header::X_DNS_PREFETCH_CONTROL, "off")
            .with(HeaderName::from_static("x-robots-tag"), "noindex");
        Some(reply)
    }

    /// "You left the line", with the way back.
    pub fn left(&self, lang: Lang, room: &RoomId) -> Reply {
        self.plain(200, lang, &lang.copy().left, Some(room.as_str()))
    }

    /// "The shop does not answer", with a link to try again.
    pub fn upstream_away(&self, lang: Lang) -> Reply {
        self.plain(502, lang, &lang.copy().upstream_away, None)
    }

    /// "Too many requests from your network", with a link to try again.
    pub fn busy(&self, lang: Lang) -> Reply {
        self.plain(429, lang, &lang.copy().busy, None)
    }

    /// "Checking the connection", where there is no room to show yet.
    pub fn store_away(&self, lang: Lang) -> Reply {
        self.plain(503, lang, &lang.copy().degraded, None)
    }

    fn plain(&self, status: u16, lang: Lang, say: &'static Say, join_room: Option<&str>) -> Reply {
        let template = PlainTemplate {
            copy: lang.copy(),
            lang: lang.code(),
            heading: say.heading,
            text: say.text,
            join_room,
            retry: join_room.is_none(),
            css: &self.css,
        };
        match template.render() {
            Ok(body) => html(status, lang, &self.csp, body),
            Err(error) => Reply::problem(&Problem::internal(&error)),
        }
    }

    /// The halves of a room for its present settings. Settings that are equal are the same version, whoever made them.
    fn room(&self, settings: &Arc<RoomSettings>) -> Arc<RoomPages> {
        if let Some(pages) = self.rooms.load().get(&settings.room)
            && (Arc::ptr_eq(&pages.settings, settings) || pages.settings == *settings)
        {
            return pages.clone();
        }
        let fresh =
            Arc::new(RoomPages { settings: settings.clone(), dress: Dress::of(settings), halves: ArcSwap::default() });
        self.rooms.rcu(|rooms| {
            let mut rooms = HashMap::clone(rooms);
            rooms.insert(settings.room.clone(), fresh.clone());
            rooms
        });
        fresh
    }

    /// From memory, or rendered now. Two requests at once may both render; one result stays.
    fn halves(&self, room: &Arc<RoomPages>, key: Key, lang: Lang, block_bytes: usize) -> askama::Result<Arc<Spliced>> {
        if let Some(found) = room.halves.load().get(&key) {
            return Ok(found.clone());
        }
        let kept: usize = self.rooms.load().values().map(|r| r.halves.load().len()).sum();
        if kept >= HALVES_MAX {
            self.rooms.store(Arc::default());
        }
        let fresh = Arc::new(halves(&room.settings, &room.dress, key, lang, block_bytes)?);
        room.halves.rcu(|halves| {
            let mut halves = HashMap::clone(halves);
            halves.insert(key, fresh.clone());
            halves
        });
        Ok(fresh)
    }
}

/// A page with the headers that every page has.
pub(crate) fn html(status: u16, lang: Lang, csp: &str, body: impl Into<bytes::Bytes>) -> Reply {
    Reply::new(status, "text/html; charset=utf-8", body)
        .with(header::CONTENT_SECURITY_POLICY, csp)
        .with(header::REFERRER_POLICY, "same-origin")
        .with(header::X_CONTENT_TYPE_OPTIONS, "nosniff")
        .with(header::CONTENT_LANGUAGE, lang.code())
        .with(header::VARY, "Accept, Accept-Language, Accept-Encoding, Cookie")
        .with(HeaderName::from_static("x-robots-tag"), "noindex")
}

#[cfg(test)]
#[path = "page_tests.rs"]
mod tests;

//! The waiting page: one response with everything in it, rendered into one string. Works without
//! JavaScript (refresh by `<meta>`, forms, links); with it, the script polls and reloads on a change
//! of state, so every state is rendered here and nowhere else.

use crate::canonical::CanonicalPath;
use crate::copy::{Copy, Lang, Say};
use crate::reply::Reply;
use askama::Template;
use base64::Engine as _;
use http::{HeaderName, header};
use queue::board::{Status, VisitorState};
use queue::settings::RoomSettings;
use service_kit::ids::RoomId;
use service_kit::money::grouped;
use sha2::{Digest as _, Sha256};

/// The query parameter that stops the automatic refresh: `fg_refresh=off`.
pub const REFRESH: &str = "fg_refresh";
/// When the script of a page without a status asks first.
const FIRST_POLL_MS: u64 = 3_000;

/// The page's fixed parts and the headers that go with them.
#[derive(Debug)]
pub struct Pages {
    css: String,
    js: String,
    csp: String,
}

/// What a waiting page shows.
#[derive(Debug)]
pub struct Waiting<'w> {
    /// In which language.
    pub lang: Lang,
    /// The page's own address.
    pub path: &'w CanonicalPath,
    /// The room.
    pub settings: &'w RoomSettings,
    /// The visitor's status; `None` when the store has never answered.
    pub status: Option<&'w Status>,
    /// The board is too old to admit anybody.
    pub degraded: bool,
    /// The visitor's number, if there is one: a short reference for questions.
    pub number: Option<u64>,
    /// The time by the store's clock.
    pub now_ms: i64,
}

#[derive(Template)]
#[template(path = "wait.html")]
struct WaitTemplate<'t> {
    copy: &'t Copy,
    lang: &'static str,
    other_lang: &'static str,
    lang_href: String,
    here: String,
    refresh_href: String,
    stop_href: String,
    title: &'t str,
    heading: &'static str,
    text: &'static str,
    notice: &'t str,
    off_text: &'static str,
    room: &'t str,
    countdown: String,
    ahead: String,
    behind: String,
    eta: String,
    percent: u64,
    number: u64,
    refreshes: bool,
    degraded: bool,
    counting: bool,
    in_line: bool,
    entering: bool,
    missed: bool,
    has_place: bool,
    open: bool,
    json: String,
    css: &'t str,
    js: &'t str,
}

#[derive(Template)]
#[template(path = "plain.html")]
struct PlainTemplate<'t> {
    copy: &'t Copy,
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
        let css = compact(include_str!("../page/wait.css"));
        let js = compact(include_str!("../page/wait.js"));
        let hash = |text: &str| base64::engine::general_purpose::STANDARD.encode(Sha256::digest(text.as_bytes()));
        let csp = format!(
            "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self'; img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
            hash(&js),
            hash(&css)
        );
        Self { css, js, csp }
    }

    /// The waiting page.
    pub fn waiting(&self, page: &Waiting<'_>) -> Reply {
        let copy = page.lang.copy();
        let state = page.status.map(|s| s.state);
        let say = state.map_or(&copy.degraded, |s| copy.say(s));
        let open = !matches!(state, Some(VisitorState::SoldOut | VisitorState::Closed));
        let here = page.path.without_own_parameters().unwrap_or_else(|| page.path.target());
        let stopped = page.path.parameter(REFRESH) == Some("off");
        let stop_href = with_parameter(&here, "fg_refresh=off");
        let (ahead, behind) = page.status.map_or((None, 0), |s| (s.ahead, s.behind.unwrap_or(0)));
        let starts_at_ms = page.status.map_or(page.settings.starts_at_ms, |s| s.starts_at_ms);
        let template = WaitTemplate {
            copy,
            lang: page.lang.code(),
            other_lang: page.lang.other().code(),
            lang_href: with_parameter(&here, &format!("fg_lang={}", page.lang.other().code())),
            refresh_href: if stopped { stop_href.clone() } else { here.clone() },
            stop_href,
            here,
            title: &page.settings.title,
            heading: say.heading,
            text: say.text,
            notice: page.settings.notice.as_deref().unwrap_or(""),
            off_text: if page.degraded { copy.degraded.text } else { copy.offline },
            room: page.settings.room.as_str(),
            countdown: countdown(starts_at_ms - page.now_ms),
            ahead: grouped(ahead.unwrap_or(0)),
            behind: grouped(behind),
            eta: copy.eta_text(page.status.and_then(|s| s.eta_seconds)),
            percent: (behind.saturating_mul(100)) / (ahead.unwrap_or(0) + behind + 1),
            number: page.number.unwrap_or(0),
            refreshes: open && !stopped,
            degraded: page.degraded,
            counting: matches!(state, Some(VisitorState::Scheduled | VisitorState::Lobby))
                && starts_at_ms > page.now_ms,
            in_line: ahead.is_some(),
            entering: matches!(state, Some(VisitorState::Called | VisitorState::Inside)),
            missed: state == Some(VisitorState::Missed),
            has_place: page.number.is_some() && !matches!(state, Some(VisitorState::Missed)) && open,
            open,
            json: self.json(page, copy),
            css: &self.css,
            js: &self.js,
        };
        self.html(200, page.lang, template.render())
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
        self.html(status, lang, template.render())
    }

    fn html(&self, status: u16, lang: Lang, body: askama::Result<String>) -> Reply {
        let body = match body {
            Ok(body) => body,
            Err(error) => return Reply::problem(&service_kit::problem::Problem::internal(&error)),
        };
        Reply::new(status, "text/html; charset=utf-8", body)
            .with(header::CONTENT_SECURITY_POLICY, &self.csp)
            .with(header::REFERRER_POLICY, "same-origin")
            .with(header::X_CONTENT_TYPE_OPTIONS, "nosniff")
            .with(header::CONTENT_LANGUAGE, lang.code())
            .with(header::VARY, "Accept, Accept-Language, Cookie")
            .with(HeaderName::from_static("x-robots-tag"), "noindex")
    }

    /// What the script needs, as JSON that cannot end the element it stands in.
    fn json(&self, page: &Waiting<'_>, copy: &Copy) -> String {
        let text = serde_json::json!({
            "room": page.settings.room,
            "state": page.status.map(|s| s.state),
            "lang": page.lang.code(),
            "now": page.now_ms,
            "starts": page.status.map_or(page.settings.starts_at_ms, |s| s.starts_at_ms),
            // Without a number the page reloads as soon as one can be taken.
            "placed": page.number.is_some(),
            "next": page.status.map_or(FIRST_POLL_MS, |s| s.next_poll_ms),
            "t": {
                "title": page.settings.title,
                "turn": copy.called.heading,
                "ahead": copy.ahead,
                "eta": copy.eta,
                "unknown": copy.eta_unknown,
                "under": copy.eta_under_a_minute,
                "upto": copy.eta_up_to,
                "range": copy.eta_range,
                "hours": copy.eta_hours,
            },
        });
        text.to_string().replace('<', "\\u003c")
    }
}

/// Adds a query parameter to a target.
fn with_parameter(target: &str, parameter: &str) -> String {
    format!("{target}{}{parameter}", if target.contains('?') { '&' } else { '?' })
}

/// Drops indentation and whole-line comments: bytes that no browser needs.
fn compact(text: &str) -> String {
    text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// `hh:mm:ss`, rounded up.
fn countdown(ms: i64) -> String {
    let s = u64::try_from(ms).unwrap_or(0).div_ceil(1_000);
    format!("{:02}:{:02}:{:02}", s / 3_600, s / 60 % 60, s % 60)
}

#[cfg(test)]
#[path = "page_tests.rs"]
mod tests;

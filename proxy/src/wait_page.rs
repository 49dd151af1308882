//! The waiting page in its three parts: head and tail are the same for everybody with one [`Key`], the block between
//! them is the visitor's.

use crate::copy::{Copy, Lang, Say};
use crate::newcomer::KEEP;
use crate::page::{REFRESH, Waiting};
use crate::script::{colours, compact, hash, squeeze};
use crate::splice::Spliced;
use askama::Template;
use queue::board::{Status, VisitorState};
use queue::lane::{DEMOTED, LANE_SLOTS};
use queue::settings::{Mode, OnePlacePer, Refresh, RoomSettings};
use service_kit::money::grouped;

/// When the script of a page without a status asks first.
const FIRST_POLL_MS: u64 = 3_000;
/// Digits of a commitment that are shown; all of them are in the record, one link away.
const COMMITMENT_DIGITS: usize = 12;
/// States into which an open page changes without being loaded again: those that everybody reaches at once.
const IN_PLACE: [VisitorState; 3] = [VisitorState::Waiting, VisitorState::Called, VisitorState::SoldOut];

/// Everything in which the halves of one room differ. All of it is bounded: nothing a client writes is in here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    lang: Lang,
    state: Option<VisitorState>,
    degraded: bool,
    in_line: bool,
    /// A countdown is visible.
    counting: bool,
    placed: bool,
    demoted: bool,
    /// Loads itself again without JavaScript.
    refreshes: bool,
    /// The address has no query of the shop's: links can then be relative and the same for everybody.
    plain_target: bool,
    mail: Mail,
}

/// The form for a letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Mail {
    No,
    Offered,
    Asked,
}

/// Style, script and policy of one room.
#[derive(Debug)]
pub struct Dress {
    css: String,
    js: String,
    /// The value of `Content-Security-Policy`.
    pub csp: String,
}

#[derive(Template)]
#[template(path = "head.html")]
struct Head<'t> {
    copy: &'t Copy,
    lang: &'static str,
    others: [Lang; 2],
    keep: &'static str,
    say: &'t Say,
    title: &'t str,
    name: Option<&'t str>,
    logo: Option<&'t str>,
    notice: &'t str,
    refresh_to: Option<&'static str>,
    css: &'t str,
    plain_target: bool,
    demoted: bool,
    counting: bool,
    in_line: bool,
}

/// The visitor's part.
#[derive(Template)]
#[template(path = "block.html")]
pub struct Block<'t> {
    copy: &'t Copy,
    others: [Lang; 2],
    counting: bool,
    counts_to: &'static str,
    countdown: String,
    in_line: bool,
    now_ms: i64,
    next_poll_ms: u64,
    percent: u64,
    ahead: String,
    behind: String,
    eta: String,
    draw: Option<DrawShown<'t>>,
    /// The address up to where a parameter can be added, for addresses with a query.
    links: Option<String>,
    coded: bool,
    open: bool,
    refreshes: bool,
    chance: &'static str,
    number: u64,
}

struct DrawShown<'t> {
    entrants: String,
    place: String,
    commitment: &'t str,
}

#[derive(Template)]
#[template(path = "tail.html")]
struct Tail<'t> {
    copy: &'t Copy,
    room: &'t str,
    keep: &'static str,
    degraded: bool,
    entering: bool,
    missed: bool,
    open: bool,
    placed: bool,
    keeps: &'static str,
    rule: &'static str,
    drawn: bool,
    mail_offered: bool,
    mail_asked: bool,
    plain_target: bool,
    refreshes: bool,
    custom: bool,
    coded: bool,
    json: String,
    js: &'t str,
}

/// Whether somebody in line may change over with a code.
fn has_codes(settings: &RoomSettings) -> bool {
    !settings.lanes.is_empty() && settings.one_place_per == OnePlacePer::Visitor
}

fn requeues(settings: &RoomSettings) -> bool {
    settings.refresh == Refresh::Requeue
}

/// What links put before their own parameter, so that following them is no reload in rooms where that costs the place.
fn keep(settings: &RoomSettings) -> &'static str {
    if requeues(settings) { "fg_keep=1&" } else { "" }
}

impl Key {
    /// The key of a page.
    pub fn of(page: &Waiting<'_>) -> Self {
        let state = page.status.map(|s| s.state);
        let query = page.path.without_own_parameters().unwrap_or_else(|| page.path.target()).contains('?');
        let starts_at_ms = page.status.map_or(page.settings.starts_at_ms, |s| s.starts_at_ms);
        let early = matches!(state, Some(VisitorState::Scheduled | VisitorState::Lobby));
        Self {
            lang: page.lang,
            state,
            degraded: page.degraded,
            in_line: page.status.is_some_and(|s| s.ahead.is_some()) && !is_turn(state),
            counting: (early && starts_at_ms > page.now_ms) || page.status.is_some_and(|s| s.claim_by_ms.is_some()),
            placed: page.number.is_some() && state != Some(VisitorState::Missed),
            demoted: page.status.is_some_and(|s| s.lane == DEMOTED && s.number.is_some()),
            refreshes: page.path.parameter(REFRESH) != Some("off") && !(query && requeues(page.settings)),
            plain_target: !query,
            mail: match page.offers.mail {
                false => Mail::No,
                true if page.path.parameter("fg_mail").is_some() => Mail::Asked,
                true => Mail::Offered,
            },
        }
    }
    fn open(self) -> bool {
        !matches!(self.state, Some(VisitorState::SoldOut | VisitorState::Closed))
    }
}

fn is_turn(state: Option<VisitorState>) -> bool {
    matches!(state, Some(VisitorState::Called | VisitorState::Inside))
}

impl Dress {
    /// Prepares style and script; the hashes in the policy are taken from the very bytes that are sent.
    pub fn of(settings: &RoomSettings) -> Self {
        let theme = &settings.theme;
        let mut css = format!("{}{}", colours(theme), compact(include_str!("../page/wait.css")));
        let parts = [
            (theme.logo.is_some(), include_str!("../page/logo.css")),
            (theme.html.is_some(), include_str!("../page/custom.css")),
        ];
        for (_, part) in parts.iter().filter(|(used, _)| *used) {
            css.push('\n');
            css.push_str(part.trim_end());
        }
        let script = include_str!("../page/wait.js");
        let js = if requeues(settings) {
            // Loading the page again the plain way would cost the place.
            let keeping = format!(
                "location.search.includes('{KEEP}') ? location.reload() : location.search += (location.search && '&') + '{KEEP}=1'"
            );
            squeeze(&script.replace("location.reload()", &keeping))
        } else {
            squeeze(script)
        };
        let frame = if theme.html.is_some() { " frame-src 'self';" } else { "" };
        let csp = format!(
            "default-src 'none'; script-src {}; style-src {}; connect-src 'self'; img-src data:;{frame} form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
            hash(&js),
            hash(&css)
        );
        Self { css, js, csp }
    }
}

/// Renders and deflates the halves; blocks will be about `block_bytes` long.
///
/// # Errors
/// When a template cannot be rendered.
pub fn halves(
    settings: &RoomSettings,
    dress: &Dress,
    key: Key,
    lang: Lang,
    block_bytes: usize,
) -> askama::Result<Spliced> {
    let copy = lang.copy();
    let say = key.state.map_or(&copy.degraded, |state| copy.say(state, settings));
    let refresh_to = if requeues(settings) { ";url=?fg_keep=1" } else { "" };
    let head = Head {
        copy,
        lang: lang.code(),
        others: lang.others(),
        keep: keep(settings),
        say,
        title: &settings.title,
        name: settings.theme.name.as_deref(),
        logo: settings.theme.logo.as_deref(),
        notice: settings.notice.as_ref().map_or("", |n| n.text(lang.code())),
        refresh_to: (key.open() && key.refreshes).then_some(refresh_to),
        css: &dress.css,
        plain_target: key.plain_target,
        demoted: key.demoted,
        counting: key.counting,
        in_line: key.in_line,
    };
    let drawn = settings.mode == Mode::Draw;
    let tail = Tail {
        copy,
        room: settings.room.as_str(),
        keep: keep(settings),
        degraded: key.degraded,
        entering: is_turn(key.state),
        missed: key.state == Some(VisitorState::Missed),
        open: key.open(),
        placed: key.placed,
        keeps: if requeues(settings) { copy.requeue } else { copy.safe },
        // The text of that lobby says it already.
        rule: match (drawn, key.state) {
            (true, Some(VisitorState::Lobby)) => "",
            (true, _) => copy.fair_draw,
            (false, _) => copy.fair,
        },
        drawn,
        mail_offered: key.mail == Mail::Offered,
        mail_asked: key.mail == Mail::Asked,
        plain_target: key.plain_target,
        refreshes: key.refreshes,
        custom: settings.theme.html.is_some(),
        coded: has_codes(settings),
        json: json(settings, key, copy),
        js: &dress.js,
    };
    // Line ends between elements are for those who read the templates; text that others wrote has no `<` or `>`.
    let tight = |text: String| text.trim_end().replace(">\n<", "><");
    Ok(Spliced::new(tight(head.render()?), tight(tail.render()?), block_bytes))
}

/// What the script needs, as JSON that cannot end the element it stands in.
fn json(settings: &RoomSettings, key: Key, copy: &Copy) -> String {
    let states: serde_json::Map<_, _> = IN_PLACE
        .into_iter()
        .filter(|state| Some(*state) != key.state)
        .filter_map(|state| {
            let name = serde_json::to_value(state).ok()?.as_str()?.to_owned();
            let say = copy.say(state, settings);
            // The heading says enough where figures or a button stand below it.
            let words = if state == VisitorState::SoldOut { vec![say.heading, say.text] } else { vec![say.heading] };
            Some((name, serde_json::json!(words)))
        })
        .collect();
    let mut document = serde_json::json!({
        "room": settings.room,
        "state": key.state,
        "starts": settings.starts_at_ms,
        // Without a number the page loads again as soon as one can be taken.
        "placed": key.placed,
        "eta": [copy.eta_unknown, copy.eta_under_a_minute, copy.eta_up_to, copy.eta_range, copy.eta_hours],
        "within": copy.enter_within,
        "left": copy.seconds_left,
        "s": states,
        "chance": {},
    });
    if settings.stock_aware
        && let Some(chance) = document.get_mut("chance")
    {
        *chance = serde_json::json!({
            "plenty": copy.chance_plenty, "low": copy.chance_low, "unlikely": copy.chance_unlikely,
        });
    }
    document.to_string().replace('<', "\\u003c")
}

impl<'t> Block<'t> {
    /// The visitor's part of a page.
    pub fn of(page: &Waiting<'t>, key: Key) -> Self {
        let copy = page.lang.copy();
        let (ahead, behind) = page.status.map_or((0, 0), |s| (s.ahead.unwrap_or(0), s.behind.unwrap_or(0)));
        let starts_at_ms = page.status.map_or(page.settings.starts_at_ms, |s| s.starts_at_ms);
        let claim_by_ms = page.status.and_then(|s| s.claim_by_ms);
        let here = page.path.without_own_parameters().unwrap_or_else(|| page.path.target());
        Self {
            copy,
            others: page.lang.others(),
            counting: key.counting,
            counts_to: if claim_by_ms.is_some() { copy.enter_within } else { copy.starts_in },
            countdown: countdown(claim_by_ms.unwrap_or(starts_at_ms) - page.now_ms),
            in_line: key.in_line,
            now_ms: page.now_ms,
            next_poll_ms: page.status.map_or(FIRST_POLL_MS, |s| s.next_poll_ms),
            percent: (behind.saturating_mul(100)) / (ahead.saturating_add(behind).saturating_add(1)),
            ahead: grouped(ahead),
            behind: grouped(behind),
            eta: copy.eta_text(page.status.and_then(|s| s.eta_seconds)),
            draw: (page.settings.mode == Mode::Draw && key.open()).then(|| DrawShown {
                entrants: grouped(page.offers.entrants),
                place: page.status.and_then(drawn_place).map_or_else(String::new, grouped),
                commitment: page.offers.commitment.and_then(|hex| hex.get(..COMMITMENT_DIGITS)).unwrap_or(""),
            }),
            coded: has_codes(page.settings),
            links: (!key.plain_target).then(|| format!("{here}&{}", keep(page.settings))),
            open: key.open(),
            refreshes: key.refreshes,
            chance: page.status.and_then(|s| s.chance).map_or("", |chance| copy.chance(chance)),
            number: page.number.unwrap_or(0),
        }
    }
}

/// The place that people compare with each other: without the lane.
fn drawn_place(status: &Status) -> Option<u64> {
    status.place.filter(|place| *place > 0).map(|place| place / LANE_SLOTS)
}

/// `hh:mm:ss`, rounded up.
pub(crate) fn countdown(ms: i64) -> String {
    let s = u64::try_from(ms).unwrap_or(0).div_ceil(1_000);
    format!("{:02}:{:02}:{:02}", s / 3_600, s / 60 % 60, s % 60)
}

//! Tests of the waiting page: size, policy, languages, states, escaping, and what is kept of it.

use super::*;
use crate::copy::Copy;
use crate::wait_page::countdown;
use base64::Engine as _;
use flate2::read::GzDecoder;
use queue::board::{Chance, Eta, VisitorState};
use queue::lane::DEMOTED;
use queue::settings::{Mode, Refresh};
use queue::theme::{Look, Theme};
use service_kit::money::grouped;
use sha2::{Digest as _, Sha256};
use std::io::Read as _;

const STATES: [VisitorState; 11] = [
    VisitorState::Scheduled,
    VisitorState::Lobby,
    VisitorState::Waiting,
    VisitorState::Called,
    VisitorState::Inside,
    VisitorState::Missed,
    VisitorState::Paused,
    VisitorState::Hold,
    VisitorState::Standby,
    VisitorState::SoldOut,
    VisitorState::Closed,
];

/// A room as merchants have them: stock-aware, named by a deal's id.
fn settings() -> RoomSettings {
    serde_json::from_value(serde_json::json!({
        "room": "deal-0191f1a0-7c9e-7b3e-8000-1234567890ab", "title": "도자기 주전자 600ml", "rate_per_s": 10,
        "inside_max": 10, "starts_at_ms": 100_000, "stock_aware": true,
    }))
    .unwrap()
}

fn hostile() -> RoomSettings {
    serde_json::from_value(serde_json::json!({
        "room": "hall", "title": "한정판 <script>alert(1)</script> & Shoes", "rate_per_s": 10, "inside_max": 10,
        "starts_at_ms": 100_000, "notice": "</script><script>alert(2)</script> \"배송\" 안내",
        "theme": { "name": "\"><script>alert(3)</script>" },
    }))
    .unwrap()
}

fn status(state: VisitorState) -> Status {
    Status {
        room: "hall".parse().unwrap(),
        state,
        number: Some(12_345),
        place: Some(8 * 12_345),
        lane: 0,
        ahead: Some(1_234_567),
        behind: Some(400),
        eta_seconds: Some(Eta { low: 125, high: 290 }),
        chance: Some(Chance::Low),
        next_poll_ms: 5_000,
        now_ms: 10_000,
        starts_at_ms: 100_000,
        called_at_ms: None,
        claim_by_ms: None,
    }
}

/// What is asked for, and how.
struct Case {
    target: &'static str,
    lang: Lang,
    settings: RoomSettings,
    status: Option<Status>,
    degraded: bool,
    offers: Offers<'static>,
}

impl Case {
    fn of(state: VisitorState) -> Self {
        Self {
            target: "/buy",
            lang: Lang::En,
            settings: settings(),
            status: Some(status(state)),
            degraded: false,
            offers: Offers::default(),
        }
    }
    fn reply(&self, pages: &Pages, gzip: bool) -> Reply {
        let path = CanonicalPath::parse(self.target.as_bytes()).unwrap();
        pages.waiting(&Waiting {
            lang: self.lang,
            path: &path,
            settings: &Arc::new(self.settings.clone()),
            status: self.status.as_ref(),
            degraded: self.degraded,
            number: Some(12_345),
            now_ms: 10_000,
            gzip,
            offers: self.offers,
        })
    }
    fn body(&self) -> String {
        text(&self.reply(&Pages::new(), false))
    }
}

fn text(reply: &Reply) -> String {
    String::from_utf8(reply.body.to_vec()).unwrap()
}

fn between<'t>(body: &'t str, open: &str, close: &str) -> &'t str {
    body.split_once(open).unwrap().1.split_once(close).unwrap().0
}

#[test]
fn every_state_is_small_complete_and_the_same_in_gzip() {
    let pages = Pages::new();
    let mut largest = (0, 0);
    for lang in Lang::ALL {
        for state in STATES.map(Some).into_iter().chain([None]) {
            for degraded in [false, true] {
                let case = Case { lang, status: state.map(status), degraded, ..Case::of(VisitorState::Waiting) };
                let body = text(&case.reply(&pages, false));
                let say = state.map_or(&lang.copy().degraded, |s| lang.copy().say(s, &case.settings));
                assert_eq!(body.matches("<h1 ").count(), 1);
                assert_eq!(between(&body, "<h1 id=\"head\">", "</h1>"), say.heading.replace('\'', "&#39;"));
                assert!(body.contains(&format!("<html lang=\"{}\">", lang.code())));
                assert!(
                    body.contains("<main>") && body.contains("role=\"status\"") && body.contains("name=\"viewport\"")
                );
                assert!(!body.contains("{{") && !body.contains("{%"));
                assert_eq!(!body.contains("id=\"off\" hidden"), degraded);

                let zipped = case.reply(&pages, true);
                assert_eq!(zipped.header(&header::CONTENT_ENCODING), Some("gzip"));
                assert!(zipped.header(&header::VARY).unwrap().contains("Accept-Encoding"));
                let mut unzipped = String::new();
                GzDecoder::new(&zipped.body[..]).read_to_string(&mut unzipped).unwrap();
                assert_eq!(unzipped, body);
                largest = (largest.0.max(body.len()), largest.1.max(zipped.body.len()));
            }
        }
    }
    println!("largest page: {} bytes, {} in gzip", largest.0, largest.1);
    assert!(largest.0 <= 12 * 1024 && largest.1 <= 5 * 1024, "{largest:?}");
}

#[test]
fn the_policy_names_the_very_bytes_of_every_theme() {
    let themes = [
        Theme::default(),
        Theme { look: Look::Night, accent: Some("#ffcc00".into()), ..Theme::default() },
        Theme { html: Some("<b>x</b>".into()), ..Theme::default() },
    ];
    for refresh in [Refresh::Keep, Refresh::Requeue] {
        for theme in themes.clone() {
            let framed = theme.html.is_some();
            let case =
                Case { settings: RoomSettings { theme, refresh, ..settings() }, ..Case::of(VisitorState::Waiting) };
            let reply = case.reply(&Pages::new(), false);
            let (csp, body) = (reply.header(&header::CONTENT_SECURITY_POLICY).unwrap(), text(&reply));
            for part in [between(&body, "<style>", "</style>"), between(&body, "<script>", "</script>")] {
                let hash = base64::engine::general_purpose::STANDARD.encode(Sha256::digest(part.as_bytes()));
                assert!(csp.contains(&format!("'sha256-{hash}'")), "{csp}");
            }
            assert!(!csp.contains("unsafe") && csp.contains("default-src 'none'"));
            assert_eq!(csp.contains("frame-src 'self'"), framed);
            assert_eq!(body.contains("<iframe sandbox=\"\""), framed);
        }
    }
    let reply = Case::of(VisitorState::Waiting).reply(&Pages::new(), false);
    assert_eq!(reply.header(&header::CACHE_CONTROL), Some("no-store"));
    assert_eq!(reply.header(&header::X_CONTENT_TYPE_OPTIONS), Some("nosniff"));
}

#[test]
fn text_of_others_cannot_become_markup() {
    let case = Case { target: "/buy?x='onload=alert(3)", settings: hostile(), ..Case::of(VisitorState::Waiting) };
    let body = case.body();
    assert!(!body.contains("<script>alert") && !body.contains("</script><script>alert"), "{body}");
    assert_eq!(body.matches("<script").count(), 2);
    let json: serde_json::Value = serde_json::from_str(between(&body, "id=\"fg\">", "</script>")).unwrap();
    assert_eq!(json["room"], "hall");
    assert!(body.contains("href=\"/buy?x=&#39;onload=alert(3)&#38;fg_lang=ko\""), "{body}");
}

#[test]
fn without_javascript_the_refresh_can_be_stopped() {
    let refresh = "<noscript><meta http-equiv=\"refresh\" content=\"20\"></noscript>";
    let page = |target, state| Case { target, ..Case::of(state) }.body();
    let body = page("/buy", VisitorState::Waiting);
    assert!(body.contains(refresh) && body.contains("href=\"?fg_refresh=off\""), "{body}");
    let body = page("/buy?a=1", VisitorState::Waiting);
    assert!(body.contains(refresh) && body.contains("/buy?a=1&#38;fg_refresh=off"), "{body}");
    for target in ["/buy?fg_refresh=off", "/buy?a=1&fg_refresh=off"] {
        let body = page(target, VisitorState::Waiting);
        assert!(!body.contains("http-equiv") && body.contains("Start automatic refresh"), "{body}");
        assert_eq!(body.matches("fg_refresh=").count(), 1, "one link, to start it: {body}");
    }
    assert!(!page("/buy", VisitorState::SoldOut).contains("http-equiv"), "a final state does not refresh");
}

#[test]
fn numbers_are_in_the_page_itself() {
    let body = Case::of(VisitorState::Waiting).body();
    assert!(body.contains(">1,234,567<") && body.contains(">2 to 5 minutes<") && body.contains(">12345</b>"), "{body}");
    assert!(body.contains("value=\"0\" data-now=\"10000\" data-next=\"5000\""), "{body}");
    assert!(body.contains("Little is left"));
    let lobby = Case { lang: Lang::Ko, ..Case::of(VisitorState::Lobby) }.body();
    assert!(lobby.contains(">00:01:30</b>") && lobby.contains("시작까지"));
    let called = Status { claim_by_ms: Some(55_000), ahead: Some(0), ..status(VisitorState::Called) };
    let called = Case { status: Some(called), degraded: true, ..Case::of(VisitorState::Called) }.body();
    assert!(called.contains(">00:00:45</b>") && called.contains("Enter within"), "the time to claim is visible");
    assert_eq!((grouped(0), grouped(999), grouped(1_000)), ("0".into(), "999".into(), "1,000".into()));
    assert_eq!((countdown(-5), countdown(3_661_001)), ("00:00:00".into(), "01:01:02".into()));
}

#[test]
fn forms_are_there_when_they_are_needed() {
    let has = |state, part: &str| Case { settings: hostile(), ..Case::of(state) }.body().contains(part);
    assert!(has(VisitorState::Waiting, "/_floodgate/rooms/hall/leave\""));
    assert!(!has(VisitorState::SoldOut, "/_floodgate/rooms/hall/leave\""));
    assert!(has(VisitorState::Missed, "/_floodgate/rooms/hall/tickets\""));
    assert!(!has(VisitorState::Waiting, "/_floodgate/rooms/hall/tickets\""));
    assert!(has(VisitorState::Called, "<p id=\"go\"><a class=\"button\" id=\"enter\" href=\"\">"));
    assert!(has(VisitorState::Waiting, "<p id=\"go\" hidden>"));
    let mail =
        |target, mail| Case { target, offers: Offers { mail, ..Offers::default() }, ..Case::of(VisitorState::Waiting) };
    assert!(!mail("/buy", false).body().contains("type=\"email\""));
    assert!(mail("/buy", true).body().contains("/mail\"><p><label for=\"mail\">"));
    let asked = mail("/buy?fg_mail=on", true).body();
    assert!(!asked.contains("type=\"email\"") && asked.contains("You will get an e-mail"));
}

#[test]
fn both_other_languages_are_one_link_away() {
    for lang in Lang::ALL {
        let body = Case { lang, ..Case::of(VisitorState::Waiting) }.body();
        for other in lang.others() {
            let code = other.code();
            let link = format!("<a href=\"?fg_lang={code}\" hreflang=\"{code}\" lang=\"{code}\">{}</a>", other.name());
            assert!(body.contains(&link), "{body}");
        }
        assert_eq!(body.matches("hreflang").count(), 2);
    }
}

#[test]
fn where_a_reload_costs_the_place_nothing_on_the_page_is_one() {
    let settings = RoomSettings { refresh: Refresh::Requeue, ..settings() };
    let case = Case { settings: settings.clone(), ..Case::of(VisitorState::Waiting) };
    let body = case.body();
    assert!(body.contains("content=\"20;url=?fg_keep=1\"") && body.contains(Lang::En.copy().requeue), "{body}");
    assert!(!body.contains(Lang::En.copy().safe));
    for href in body.match_indices("href=\"?").map(|(i, _)| &body[i..i + 20]) {
        assert!(href.contains("fg_keep=1"), "{href}");
    }
    assert!(body.contains("location.search.includes('fg_keep')?location.reload()"), "{body}");
    let body = Case { target: "/buy?a=1", ..case }.body();
    assert!(!body.contains("http-equiv") && body.contains("/buy?a=1&#38;fg_keep=1&#38;fg_refresh=on"), "{body}");
}

#[test]
fn a_lobby_of_a_draw_shows_what_was_promised() {
    let settings = RoomSettings { mode: Mode::Draw, ..settings() };
    let offers = Offers {
        entrants: 12_345,
        commitment: Some("c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00"),
        mail: false,
    };
    let undrawn = Status { place: None, ahead: None, behind: None, eta_seconds: None, ..status(VisitorState::Lobby) };
    let lobby = Case { settings, offers, status: Some(undrawn), ..Case::of(VisitorState::Lobby) };
    let body = lobby.body();
    let copy: &Copy = Lang::En.copy();
    for part in
        [copy.lobby_draw.heading, "<b>12,345</b>", "<code>c0ffee00c0ff…</code>", "id=\"line\" hidden", "/draw/check\""]
    {
        assert!(body.contains(part), "{part}: {body}");
    }
    assert!(body.contains("id=\"drawn\" hidden"));
    let body = Case { status: Some(status(VisitorState::Waiting)), ..lobby }.body();
    assert!(body.contains(copy.fair_draw));
    assert!(body.contains("<p id=\"drawn\">Your drawn place <b id=\"place\">12,345</b></p>"), "{body}");
}

#[test]
fn who_stands_behind_for_a_reason_is_told() {
    let demoted = |lane| Case {
        status: Some(Status { lane, ..status(VisitorState::Waiting) }),
        ..Case::of(VisitorState::Waiting)
    };
    assert!(demoted(DEMOTED).body().contains("tell the shop your number"));
    assert!(!demoted(0).body().contains("tell the shop your number"));
}

#[test]
fn own_html_is_served_with_a_policy_that_lets_nothing_through() {
    let pages = Pages::new();
    assert!(pages.custom(&settings()).is_none());
    let theme = Theme { html: Some("<h2>Teapots</h2>".into()), ..Theme::default() };
    let reply = pages.custom(&RoomSettings { theme, ..settings() }).unwrap();
    let policy = reply.header(&header::CONTENT_SECURITY_POLICY).unwrap();
    assert!(policy.starts_with("sandbox; default-src 'none'; ") && !policy.contains("allow-"), "{policy}");
    assert!(text(&reply).ends_with("<h2>Teapots</h2>"));
}

#[test]
fn halves_are_made_once_per_version_of_the_settings() {
    let pages = Pages::new();
    let kept = || pages.rooms.load().values().map(|r| r.halves.load().len()).sum::<usize>();
    let case = Case::of(VisitorState::Waiting);
    for target in ["/buy", "/other", "/buy?fg_lang=en"] {
        let _ = Case { target, ..Case::of(VisitorState::Waiting) }.reply(&pages, true);
    }
    assert_eq!(kept(), 1, "neither the address nor a new Arc of equal settings makes another half");
    let _ = Case { lang: Lang::Ja, ..Case::of(VisitorState::Waiting) }.reply(&pages, true);
    assert_eq!(kept(), 2);
    let changed = Case { settings: RoomSettings { title: "Other".into(), ..settings() }, ..case };
    assert!(text(&changed.reply(&pages, false)).contains("Other"));
    assert_eq!(kept(), 1, "the old version is gone");
    let one = pages.rooms.load().values().next().unwrap().halves.load_full();
    let crowd = (0..HALVES_MAX).map(|i| {
        let settings = Arc::new(RoomSettings { room: format!("r{i}").parse().unwrap(), ..settings() });
        let dress = Dress::of(&settings);
        (settings.room.clone(), Arc::new(RoomPages { settings, dress, halves: ArcSwap::new(one.clone()) }))
    });
    pages.rooms.store(Arc::new(crowd.collect()));
    assert_eq!(kept(), HALVES_MAX);
    let _ = Case::of(VisitorState::Paused).reply(&pages, true);
    assert!(kept() <= 2, "{}", kept());
}

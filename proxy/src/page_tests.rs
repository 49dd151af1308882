//! Tests of the waiting page: size, policy, languages, states, escaping.

use super::*;
use queue::board::Eta;

const STATES: [VisitorState; 10] = [
    VisitorState::Scheduled,
    VisitorState::Lobby,
    VisitorState::Waiting,
    VisitorState::Called,
    VisitorState::Inside,
    VisitorState::Missed,
    VisitorState::Paused,
    VisitorState::Standby,
    VisitorState::SoldOut,
    VisitorState::Closed,
];

fn settings() -> RoomSettings {
    serde_json::from_value(serde_json::json!({
        "room": "hall", "title": "한정판 <script>alert(1)</script> & Shoes", "rate_per_s": 10, "inside_max": 10,
        "starts_at_ms": 100_000, "notice": "</script><script>alert(2)</script> \"배송\" 안내",
    }))
    .unwrap()
}

fn status(state: VisitorState) -> Status {
    Status {
        room: "hall".parse().unwrap(),
        state,
        place: Some(12_345),
        ahead: Some(1_234_567),
        behind: Some(400),
        eta_seconds: Some(Eta { low: 125, high: 290 }),
        next_poll_ms: 5_000,
        notice: None,
        now_ms: 10_000,
        starts_at_ms: 100_000,
        claim_by_ms: None,
    }
}

fn page(target: &str, lang: Lang, state: Option<VisitorState>, degraded: bool) -> (Reply, String) {
    let path = CanonicalPath::parse(target.as_bytes()).unwrap();
    let (settings, status) = (settings(), state.map(status));
    let reply = Pages::new().waiting(&Waiting {
        lang,
        path: &path,
        settings: &settings,
        status: status.as_ref(),
        degraded,
        number: Some(12_345),
        now_ms: 10_000,
    });
    let body = String::from_utf8(reply.body.to_vec()).unwrap();
    (reply, body)
}

#[test]
fn every_state_is_small_complete_and_well_formed() {
    for lang in [Lang::Ko, Lang::En] {
        for state in STATES.map(Some).into_iter().chain([None]) {
            for degraded in [false, true] {
                let (_, body) = page("/deals/x/buy?a=1", lang, state, degraded);
                assert!(body.len() <= 12 * 1024, "{state:?}: {} bytes", body.len());
                let say = state.map_or(&lang.copy().degraded, |s| lang.copy().say(s));
                assert_eq!(body.matches("<h1>").count(), 1);
                assert!(body.contains(&format!("<h1>{}</h1>", say.heading.replace('\'', "&#39;"))), "{state:?}");
                assert!(body.contains(&format!("<html lang=\"{}\">", lang.code())));
                assert!(
                    body.contains("<main>") && body.contains("role=\"status\"") && body.contains("name=\"viewport\"")
                );
                assert!(!body.contains("{{") && !body.contains("{%"));
                assert_eq!(!body.contains("id=\"off\" hidden"), degraded);
            }
        }
    }
}

#[test]
fn the_policy_names_the_very_bytes() {
    let (reply, body) = page("/buy", Lang::Ko, Some(VisitorState::Waiting), false);
    let csp = reply.header(&header::CONTENT_SECURITY_POLICY).unwrap();
    let between = |open: &str, close: &str| body.split_once(open).unwrap().1.split_once(close).unwrap().0.to_owned();
    for text in [between("<style>", "</style>"), between("<script>", "</script>")] {
        let hash = base64::engine::general_purpose::STANDARD.encode(Sha256::digest(text.as_bytes()));
        assert!(csp.contains(&format!("'sha256-{hash}'")), "{csp}");
    }
    assert!(!csp.contains("unsafe") && csp.contains("default-src 'none'"));
    assert_eq!(reply.header(&header::CACHE_CONTROL), Some("no-store"));
    assert_eq!(reply.header(&header::X_CONTENT_TYPE_OPTIONS), Some("nosniff"));
}

#[test]
fn text_of_others_cannot_become_markup() {
    let (_, body) = page("/buy?x='onload=alert(3)", Lang::En, Some(VisitorState::Waiting), false);
    assert!(!body.contains("<script>alert") && !body.contains("</script><script>alert"), "{body}");
    assert_eq!(body.matches("<script").count(), 2);
    let json = body.split_once("id=\"fg\">").unwrap().1.split_once("</script>").unwrap().0;
    let json: serde_json::Value = serde_json::from_str(json).unwrap();
    assert_eq!(json["t"]["title"], settings().title);
}

#[test]
fn without_javascript_the_refresh_can_be_stopped() {
    let refresh = "<noscript><meta http-equiv=\"refresh\" content=\"20\"></noscript>";
    let (_, body) = page("/buy?a=1", Lang::En, Some(VisitorState::Waiting), false);
    assert!(body.contains(refresh) && body.contains("/buy?a=1&#38;fg_refresh=off"), "{body}");
    let (_, body) = page("/buy?a=1&fg_refresh=off", Lang::En, Some(VisitorState::Waiting), false);
    assert!(!body.contains("http-equiv") && body.contains("Start automatic refresh"));
    let (_, body) = page("/buy", Lang::En, Some(VisitorState::SoldOut), false);
    assert!(!body.contains("http-equiv"), "a final state does not refresh");
}

#[test]
fn numbers_are_in_the_page_itself() {
    let (_, body) = page("/buy", Lang::En, Some(VisitorState::Waiting), false);
    assert!(body.contains("1,234,567") && body.contains("2 to 5 minutes") && body.contains("<b>12345</b>"));
    let (_, body) = page("/buy", Lang::Ko, Some(VisitorState::Lobby), false);
    assert!(body.contains("00:01:30"));
    assert_eq!((grouped(0), grouped(999), grouped(1_000)), ("0".into(), "999".into(), "1,000".into()));
    assert_eq!((countdown(-5), countdown(3_661_001)), ("00:00:00".into(), "01:01:02".into()));
}

#[test]
fn forms_are_there_when_they_are_needed() {
    let has = |state, part: &str| page("/buy", Lang::En, Some(state), false).1.contains(part);
    assert!(has(VisitorState::Waiting, "/_floodgate/rooms/hall/leave\""));
    assert!(!has(VisitorState::SoldOut, "/_floodgate/rooms/hall/leave\""));
    assert!(has(VisitorState::Missed, "/_floodgate/rooms/hall/tickets\""));
    assert!(!has(VisitorState::Waiting, "/_floodgate/rooms/hall/tickets\""));
    assert!(has(VisitorState::Called, "<p id=\"go\"><a class=\"button\" id=\"enter\" href=\"/buy\">"));
    assert!(has(VisitorState::Waiting, "<p id=\"go\" hidden>"));
}

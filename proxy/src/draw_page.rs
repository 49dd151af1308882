//! `GET /_floodgate/rooms/{room}/draw/check`: a page that recomputes a drawn place in the browser, from the published
//! document alone. Where a script cannot (or may not), it tells the command that does the same.

use crate::copy::{Copy, Lang};
use crate::page::html;
use crate::reply::Reply;
use crate::script::{colours, compact, hash};
use askama::Template;
use queue::settings::RoomSettings;
use service_kit::problem::Problem;

#[derive(Template)]
#[template(path = "draw.html")]
struct DrawTemplate<'t> {
    copy: &'t Copy,
    lang: &'static str,
    others: [Lang; 2],
    title: &'t str,
    room: &'t str,
    back: &'t str,
    number: String,
    json: String,
    css: &'t str,
    js: &'t str,
}

/// The page. `number` is the visitor's own, to begin with.
pub fn draw_page(lang: Lang, settings: &RoomSettings, number: Option<u64>) -> Reply {
    let css = format!("{}{}", colours(&settings.theme), compact(include_str!("../page/wait.css")));
    let js = compact(include_str!("../page/draw.js"));
    let csp = format!(
        "default-src 'none'; script-src {}; style-src {}; connect-src 'self'; img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
        hash(&js),
        hash(&css)
    );
    let copy = lang.copy();
    let json = serde_json::json!({
        "not_yet": copy.check_not_yet,
        "good": copy.check_good,
        "bad": copy.check_bad,
        "outside": copy.check_outside,
        "cannot": copy.check_cannot,
        "record": copy.check_own_record,
        "nonce": copy.check_nonce,
        "lost": copy.check_lost,
        "room": settings.room,
        "own": number,
    });
    let template = DrawTemplate {
        copy,
        lang: lang.code(),
        others: lang.others(),
        title: &settings.title,
        room: settings.room.as_str(),
        back: &settings.enter_path,
        number: number.map_or_else(String::new, |n| n.to_string()),
        json: json.to_string().replace('<', "\\u003c"),
        css: &css,
        js: &js,
    };
    match template.render() {
        Ok(body) => html(200, lang, &csp, body),
        Err(error) => Reply::problem(&Problem::internal(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header;

    #[test]
    fn it_names_the_number_the_record_and_the_command() {
        let settings: RoomSettings = serde_json::from_value(serde_json::json!({
            "room": "hall", "title": "</script><b>", "rate_per_s": 1, "inside_max": 1, "mode": "draw",
        }))
        .unwrap();
        for lang in Lang::ALL {
            let reply = draw_page(lang, &settings, Some(17));
            let body = String::from_utf8(reply.body.to_vec()).unwrap();
            assert!(body.contains("value=\"17\"") && body.contains("href=\"/_floodgate/rooms/hall/draw\""), "{body}");
            assert!(body.contains("floodgate verify-draw") && body.contains(lang.copy().check.heading));
            assert!(!body.contains("</script><b>") && body.matches("</script>").count() == 2, "{body}");
            let script = body.rsplit_once("<script>").unwrap().1.split_once("</script>").unwrap().0;
            let policy = reply.header(&header::CONTENT_SECURITY_POLICY).unwrap();
            assert!(policy.contains(&hash(script)) && !policy.contains("unsafe"), "{policy}");
            assert!(body.len() <= 12 * 1024, "{} bytes", body.len());
        }
        assert!(!String::from_utf8(draw_page(Lang::En, &settings, None).body.to_vec()).unwrap().contains("value=\"1"));
    }
}

//! The page before a place in the lobby of a draw whose beacon is its entrants: the browser makes a random value, keeps
//! it, and brings it along with the join. Without JavaScript people may write one themselves, or go on without. A value
//! that the gate makes would prove nothing, so there is none. Texts included.

use crate::ask_page::{Sheet, with_parameter};
use crate::copy::Lang;
use crate::reply::Reply;
use askama::Template;
use service_kit::ids::RoomId;

/// The query parameter that carries the value; empty = without one.
pub const NONCE: &str = "fg_nonce";

/// Why the page is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// It has not been seen yet.
    First,
    /// A value came, but not the cookie that this page leaves: it may be the value of somebody else's link.
    Cookie,
    /// What came is no nonce.
    Well,
}

struct Texts {
    heading: &'static str,
    text: &'static str,
    cookie: &'static str,
    well: &'static str,
    label: &'static str,
    rule: &'static str,
    go_on: &'static str,
    without: &'static str,
    fair: &'static str,
}

const EN: Texts = Texts {
    heading: "Your part in the draw",
    text: "The order is drawn from values that everybody throws in. Your browser makes a random one now and keeps it. After the draw you can check that it counted.",
    cookie: "Your browser did not send the cookie of this page along. Allow cookies for this site and go on.",
    well: "That is no such value. It has 16 to 64 characters.",
    label: "A value that nobody can guess",
    rule: "16 to 64 characters: A–Z, a–z, 0–9, - and _. Write it down to check the draw later.",
    go_on: "Go on",
    without: "Go on without a value",
    fair: "Nobody's chance depends on it.",
};
const KO: Texts = Texts {
    heading: "추첨에 값을 보탭니다",
    text: "순서는 모두가 보탠 값으로 추첨합니다. 브라우저가 무작위 값을 만들어 보관하고, 추첨이 끝나면 그 값이 반영되었는지 확인할 수 있습니다.",
    cookie: "브라우저가 이 페이지의 쿠키를 보내지 않았습니다. 이 사이트의 쿠키를 허용한 뒤 계속해 주세요.",
    well: "쓸 수 없는 값입니다. 16~64자로 입력해 주세요.",
    label: "아무도 짐작할 수 없는 값",
    rule: "영문자, 숫자, -, _ 16~64자. 나중에 확인하려면 적어 두세요.",
    go_on: "계속하기",
    without: "값 없이 계속하기",
    fair: "값이 있든 없든 당첨 기회는 같습니다.",
};
const JA: Texts = Texts {
    heading: "抽選に値を加えます",
    text: "順番は、全員が加えた値から抽選します。ブラウザーが無作為な値を作って保管し、抽選の後でその値が使われたことを確かめられます。",
    cookie: "ブラウザーがこのページのクッキーを送りませんでした。このサイトのクッキーを許可してから続けてください。",
    well: "使えない値です。16~64文字で入力してください。",
    label: "誰にも当てられない値",
    rule: "半角英数字と - と _ で16~64文字。後で確かめるために控えておいてください。",
    go_on: "続ける",
    without: "値なしで続ける",
    fair: "値の有無で当たりやすさは変わりません。",
};

fn texts(lang: Lang) -> &'static Texts {
    match lang.code() {
        "ko" => &KO,
        "ja" => &JA,
        _ => &EN,
    }
}

#[derive(Template)]
#[template(path = "nonce.html")]
struct NonceTemplate<'t> {
    t: &'t Texts,
    lang: &'static str,
    wrong: Option<&'static str>,
    action: &'t str,
    kept: Vec<(String, String)>,
    without_href: &'t str,
    json: String,
    css: &'t str,
    js: &'t str,
}

/// The page's fixed parts.
#[derive(Debug)]
pub struct NoncePages {
    sheet: Sheet,
}

impl Default for NoncePages {
    fn default() -> Self {
        Self::new()
    }
}

impl NoncePages {
    /// Prepares the fixed parts.
    pub fn new() -> Self {
        Self { sheet: Sheet::new(include_str!("../page/nonce.js")) }
    }

    /// The page; `here` is the target with everything else that was brought. 200: nothing is wrong, a step is missing.
    pub fn page(&self, lang: Lang, wanted: Wanted, room: &RoomId, here: &str) -> Reply {
        let t = texts(lang);
        let to = with_parameter(here, &format!("{NONCE}="));
        let (action, query) = here.split_once('?').unwrap_or((here, ""));
        // Where a try came back, another one by itself would go round in circles.
        let json = serde_json::json!({ "to": to, "room": room, "go": wanted == Wanted::First });
        let template = NonceTemplate {
            t,
            lang: lang.code(),
            wrong: match wanted {
                Wanted::First => None,
                Wanted::Cookie => Some(t.cookie),
                Wanted::Well => Some(t.well),
            },
            action,
            // The browser puts the fields in the place of the query, so what was in it goes along as fields.
            kept: form_urlencoded::parse(query.as_bytes()).into_owned().collect(),
            without_href: &to,
            json: json.to_string().replace('<', "\\u003c"),
            css: self.sheet.css(),
            js: self.sheet.js(),
        };
        self.sheet.html(if wanted == Wanted::Well { 422 } else { 200 }, lang, template.render())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(lang: Lang, wanted: Wanted, here: &str) -> (u16, String) {
        let reply = NoncePages::new().page(lang, wanted, &"hall".parse().unwrap(), here);
        let policy = reply.header(&http::header::CONTENT_SECURITY_POLICY).unwrap();
        assert!(policy.contains("script-src 'sha256-") && !policy.contains("unsafe"), "{policy}");
        assert_eq!(reply.header(&http::header::CACHE_CONTROL), Some("no-store"));
        (reply.status, String::from_utf8(reply.body.to_vec()).unwrap())
    }

    #[test]
    fn it_works_with_and_without_javascript() {
        let (status, body) = page(Lang::En, Wanted::First, "/buy?a=b+c&fg_code=SPRING");
        assert!(status == 200 && body.len() < 8_192, "{status}, {} bytes", body.len());
        assert!(body.contains(r#"<form method="get" action="/buy" id="ask">"#), "{body}");
        for field in [r#"name="a" value="b c""#, r#"name="fg_code" value="SPRING""#, r#"name="fg_nonce""#] {
            assert!(body.contains(field), "{field}: {body}");
        }
        assert!(body.contains(r#"href="/buy?a=b+c&#38;fg_code=SPRING&#38;fg_nonce=""#), "{body}");
        assert!(body.contains(r#""go":true"#) && body.contains(r#""to":"/buy?a=b+c&fg_code=SPRING&fg_nonce=""#));
    }

    #[test]
    fn what_came_back_is_explained_and_not_tried_again_by_itself() {
        for (wanted, status, said) in [(Wanted::Cookie, 200, "쿠키를 허용"), (Wanted::Well, 422, "쓸 수 없는 값")]
        {
            let (found, body) = page(Lang::Ko, wanted, "/buy");
            assert!(found == status && body.contains(said) && body.contains(r#""go":false"#), "{found}: {body}");
        }
        let (_, hostile) = page(Lang::Ja, Wanted::First, "/buy?%22%3E%3Cscript%3E='</script>");
        assert_eq!(hostile.matches("</script>").count(), 2, "{hostile}");
    }
}

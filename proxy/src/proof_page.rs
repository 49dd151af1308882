//! The page that lets a newcomer's device prove some work; without JavaScript it waits instead. Texts included.

use crate::ask_page::{Sheet, with_parameter};
use crate::copy::Lang;
use crate::proof::{WAITED, wait_ms};
use crate::reply::Reply;
use askama::Template;

/// The query parameter that carries the solution.
pub const PROOF: &str = "fg_proof";

/// What the page is about.
#[derive(Debug, Clone, Copy)]
pub struct Check<'c> {
    /// In which language.
    pub lang: Lang,
    /// Where the newcomer wants to go, without the gate's own parameters except a code.
    pub here: &'c str,
    /// The challenge.
    pub challenge: &'c str,
    /// Its leading zero bits.
    pub bits: u8,
    /// How long until waiting counts, in ms.
    pub wait_ms: i64,
}

struct Texts {
    heading: &'static str,
    text: &'static str,
    /// `{n}` seconds.
    no_script: &'static str,
    go_on: &'static str,
}

const EN: Texts = Texts {
    heading: "A short check",
    text: "Many requests arrive at once, so your device solves a small puzzle before it gets a number. It runs by itself and does not change your place.",
    no_script: "Without JavaScript this takes {n} seconds. Then this page goes on by itself, or you use the link.",
    go_on: "Go on",
};
const KO: Texts = Texts {
    heading: "잠시 확인하고 있습니다",
    text: "접속이 한꺼번에 몰려, 번호를 드리기 전에 기기가 간단한 계산을 합니다. 자동으로 진행되며 순번에는 영향을 주지 않습니다.",
    no_script: "자바스크립트가 꺼져 있으면 {n}초가 걸립니다. 그 뒤 자동으로 넘어가며, 아래 링크를 눌러도 됩니다.",
    go_on: "계속하기",
};
const JA: Texts = Texts {
    heading: "少しだけ確認しています",
    text: "アクセスが集中しているため、番号をお渡しする前に端末が簡単な計算をします。自動で進み、順番には影響しません。",
    no_script: "JavaScriptが無効の場合は{n}秒かかります。そのあと自動で進みます。下のリンクも使えます。",
    go_on: "続ける",
};

fn texts(lang: Lang) -> &'static Texts {
    match lang.code() {
        "ko" => &KO,
        "ja" => &JA,
        _ => &EN,
    }
}

#[derive(Template)]
#[template(path = "check.html")]
struct CheckTemplate<'t> {
    t: &'t Texts,
    lang: &'static str,
    wait_s: i64,
    waited_href: String,
    no_script: String,
    json: String,
    css: &'t str,
    js: &'t str,
}

/// The page's fixed parts.
#[derive(Debug)]
pub struct CheckPages {
    sheet: Sheet,
}

impl Default for CheckPages {
    fn default() -> Self {
        Self::new()
    }
}

impl CheckPages {
    /// Prepares the fixed parts.
    pub fn new() -> Self {
        Self { sheet: Sheet::new(include_str!("../page/check.js")) }
    }

    /// The page. 200: nothing is wrong with the request, it only needs one more step.
    pub fn page(&self, check: &Check<'_>) -> Reply {
        let t = texts(check.lang);
        let to = with_parameter(check.here, &format!("{PROOF}="));
        // A second more, so that nobody comes a moment too early.
        let wait_s = check.wait_ms.max(0) / 1_000 + 1;
        let json = serde_json::json!({
            "to": to, "challenge": check.challenge, "bits": check.bits, "wait": check.wait_ms.min(wait_ms(check.bits)),
        });
        let template = CheckTemplate {
            t,
            lang: check.lang.code(),
            wait_s,
            waited_href: format!("{to}{}.{WAITED}", check.challenge),
            no_script: t.no_script.replace("{n}", &wait_s.to_string()),
            json: json.to_string().replace('<', "\\u003c"),
            css: self.sheet.css(),
            js: self.sheet.js(),
        };
        self.sheet.html(200, check.lang, template.render())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_works_with_and_without_javascript() {
        let check =
            Check { lang: Lang::En, here: "/buy?a=1", challenge: "1.hall.5.n.14.k.m", bits: 14, wait_ms: 15_000 };
        let reply = CheckPages::new().page(&check);
        let body = String::from_utf8(reply.body.to_vec()).unwrap();
        assert_eq!(reply.status, 200);
        assert!(body.len() < 8_192, "{} bytes", body.len());
        assert!(body.contains(r#"content="16;url=/buy?a=1&#38;fg_proof=1.hall.5.n.14.k.m.wait""#), "{body}");
        assert!(body.contains(r#""to":"/buy?a=1&fg_proof=""#) && body.contains("takes 16 seconds"));
        let policy = reply.header(&http::header::CONTENT_SECURITY_POLICY).unwrap();
        assert!(policy.contains("script-src 'sha256-") && !policy.contains("unsafe"), "{policy}");
        assert_eq!(reply.header(&http::header::CACHE_CONTROL), Some("no-store"));
    }

    #[test]
    fn an_address_cannot_end_the_script() {
        let check = Check { lang: Lang::Ko, here: "/buy?a='</script>", challenge: "c", bits: 8, wait_ms: 1 };
        let body = String::from_utf8(CheckPages::new().page(&check).body.to_vec()).unwrap();
        assert_eq!(body.matches("</script>").count(), 2, "{body}");
        assert!(body.contains("잠시 확인하고 있습니다"));
    }
}

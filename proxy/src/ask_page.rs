//! Pages that ask something before there is a place in line: for a code, or where to go on with a foreign pass. They
//! have no script: a form that sends `?fg_code=` with GET is enough. Texts included.

use crate::canonical::CanonicalPath;
use crate::copy::Lang;
use crate::desk::Asked;
use crate::reply::Reply;
use askama::Template;
use base64::Engine as _;
use http::{HeaderName, header};
use sha2::{Digest as _, Sha256};

/// What a page asks or says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// Who has a code may enter it.
    Code,
    /// The room is for invited people.
    Invitation,
    /// The code is not one of this room. `true`: without one there is no number here.
    WrongCode(bool),
    /// The code is used up. `true`: as above.
    UsedCode(bool),
    /// The pass belongs to another browser.
    ForeignPass,
    /// A search engine's robot without a rule that lets it by.
    Crawler,
}

impl Ask {
    fn status(self) -> u16 {
        match self {
            Self::Code => 200,
            Self::Crawler => 503,
            _ => 403,
        }
    }
}

/// The query parameter by which a browser lets go of a pass that is not its own.
pub const DROP: &str = "fg_drop";

struct Texts {
    have: (&'static str, &'static str),
    invitation: (&'static str, &'static str),
    wrong: (&'static str, &'static str),
    used: (&'static str, &'static str),
    foreign: (&'static str, &'static str),
    crawler: (&'static str, &'static str),
    code: &'static str,
    go_on: &'static str,
    without: &'static str,
    own_number: &'static str,
}

const EN: Texts = Texts {
    have: ("Do you have a code?", "Enter it to stand in the lane that it opens."),
    invitation: ("For invited people", "Enter the code of your invitation to get a number."),
    wrong: ("The code is not right", "It is not a code of this waiting room. Enter it just as you got it."),
    used: ("The code is used up", "It was used as often as it may be. Ask those who gave it to you."),
    foreign: (
        "This pass belongs to another browser",
        "A pass works where it was given. Go on in that browser, or take a number of your own here.",
    ),
    crawler: ("Please come back later", "This page is behind a waiting room just now."),
    code: "Code",
    go_on: "Go on",
    without: "Go on without a code",
    own_number: "Take a number here",
};
const KO: Texts = Texts {
    have: ("코드가 있으신가요?", "코드를 입력하면 해당하는 줄로 옮겨 드립니다."),
    invitation: ("초대받은 분만 입장할 수 있습니다", "받은 초대 코드를 입력하면 번호를 드립니다."),
    wrong: ("코드가 맞지 않습니다", "이 대기실의 코드가 아닙니다. 받은 그대로 다시 입력해 주세요."),
    used: ("이미 사용한 코드입니다", "정해진 횟수만큼 모두 사용되었습니다. 코드를 준 곳에 문의해 주세요."),
    foreign: (
        "다른 브라우저의 입장권입니다",
        "입장권은 받은 브라우저에서만 쓸 수 있습니다. 그 브라우저에서 계속하거나, 여기에서 새 번호를 받아 주세요.",
    ),
    crawler: ("나중에 다시 방문해 주세요", "지금은 이 페이지 앞에서 대기실을 운영하고 있습니다."),
    code: "코드",
    go_on: "계속하기",
    without: "코드 없이 계속하기",
    own_number: "여기에서 번호 받기",
};
const JA: Texts = Texts {
    have: ("コードをお持ちですか?", "コードを入力すると、対応する列にご案内します。"),
    invitation: ("招待された方のみ入場できます", "届いた招待コードを入力すると番号をお渡しします。"),
    wrong: ("コードが正しくありません", "この待合室のコードではありません。届いたとおりに入力してください。"),
    used: ("使用済みのコードです", "決められた回数まで使われています。コードの発行元にお問い合わせください。"),
    foreign: (
        "別のブラウザーの入場券です",
        "入場券は受け取ったブラウザーでのみ使えます。そのブラウザーで続けるか、ここで番号をお取りください。",
    ),
    crawler: ("しばらくしてからお越しください", "現在このページの前に待合室を設けています。"),
    code: "コード",
    go_on: "続ける",
    without: "コードなしで続ける",
    own_number: "ここで番号を取る",
};

fn texts(lang: Lang) -> &'static Texts {
    match lang.code() {
        "ko" => &KO,
        "ja" => &JA,
        _ => &EN,
    }
}

#[derive(Template)]
#[template(path = "ask.html")]
struct AskTemplate<'t> {
    t: &'t Texts,
    lang: &'static str,
    heading: &'static str,
    text: &'static str,
    asks_code: bool,
    action: &'t str,
    kept: Vec<(String, String)>,
    href: String,
    link: &'static str,
    css: &'t str,
}

/// The fixed parts of these pages.
#[derive(Debug)]
pub struct AskPages {
    sheet: Sheet,
}

impl Default for AskPages {
    fn default() -> Self {
        Self::new()
    }
}

impl AskPages {
    /// Prepares the fixed parts.
    pub fn new() -> Self {
        Self { sheet: Sheet::new("") }
    }

    /// The page; `here` is the canonical target that the browser wants to reach.
    pub fn page(&self, lang: Lang, ask: Ask, here: &str) -> Reply {
        let t = texts(lang);
        let (heading, text) = match ask {
            Ask::Code => t.have,
            Ask::Invitation => t.invitation,
            Ask::WrongCode(_) => t.wrong,
            Ask::UsedCode(_) => t.used,
            Ask::ForeignPass => t.foreign,
            Ask::Crawler => t.crawler,
        };
        let (href, link) = match ask {
            Ask::Code | Ask::WrongCode(false) | Ask::UsedCode(false) => (here.to_owned(), t.without),
            Ask::ForeignPass => (with_parameter(here, &format!("{DROP}=1")), t.own_number),
            _ => (String::new(), ""),
        };
        let (action, query) = here.split_once('?').unwrap_or((here, ""));
        let template = AskTemplate {
            t,
            lang: lang.code(),
            heading,
            text,
            asks_code: !matches!(ask, Ask::ForeignPass | Ask::Crawler),
            action,
            // The browser puts the fields in the place of the query, so what was in it goes along as fields.
            kept: form_urlencoded::parse(query.as_bytes()).into_owned().collect(),
            href,
            link,
            css: self.sheet.css(),
        };
        self.sheet.html(ask.status(), lang, template.render())
    }
}

/// Style, script and the headers that go with them.
#[derive(Debug)]
pub(crate) struct Sheet {
    css: String,
    js: String,
    policy: String,
}

impl Sheet {
    /// The side pages' style with this script; the hashes in the policy are taken from the very bytes that are sent.
    pub(crate) fn new(script: &str) -> Self {
        let compact = |text: &str| {
            text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with("//")).collect::<Vec<_>>().join("\n")
        };
        let (css, js) = (compact(include_str!("../page/side.css")), compact(script));
        let hash = |text: &str| base64::engine::general_purpose::STANDARD.encode(Sha256::digest(text.as_bytes()));
        let script = if js.is_empty() { "'none'".to_owned() } else { format!("'sha256-{}'", hash(&js)) };
        let policy = format!(
            "default-src 'none'; script-src {script}; style-src 'sha256-{}'; img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
            hash(&css)
        );
        Self { css, js, policy }
    }
    pub(crate) fn css(&self) -> &str {
        &self.css
    }
    pub(crate) fn js(&self) -> &str {
        &self.js
    }
    /// The answer with its headers.
    pub(crate) fn html(&self, status: u16, lang: Lang, body: askama::Result<String>) -> Reply {
        let body = match body {
            Ok(body) => body,
            Err(error) => return Reply::problem(&service_kit::problem::Problem::internal(&error)),
        };
        Reply::new(status, "text/html; charset=utf-8", body)
            .with(header::CONTENT_SECURITY_POLICY, &self.policy)
            .with(header::REFERRER_POLICY, "same-origin")
            .with(header::X_CONTENT_TYPE_OPTIONS, "nosniff")
            .with(header::CONTENT_LANGUAGE, lang.code())
            .with(header::VARY, "Accept, Accept-Language, Cookie")
            .with(HeaderName::from_static("x-robots-tag"), "noindex")
    }
}

/// Adds a query parameter to a target.
pub(crate) fn with_parameter(target: &str, parameter: &str) -> String {
    format!("{target}{}{parameter}", if target.contains('?') { '&' } else { '?' })
}

/// A target without the gate's own parameters.
pub(crate) fn clean(path: &CanonicalPath) -> String {
    path.without_own_parameters().unwrap_or_else(|| path.target())
}

/// A target with what the request has brought so far. What cannot stand in an address is neither code nor proof.
pub(crate) fn carrying(asked: &Asked<'_>, here: &str, names: &[&str]) -> String {
    names.iter().fold(here.to_owned(), |target, name| match asked.path.parameter(name) {
        Some(value) => with_parameter(&target, &format!("{name}={value}")),
        None => target,
    })
}

/// The sign-in page with the way back in `next`.
pub(crate) fn sign_in(path: &str, here: &str) -> String {
    let mut next = String::with_capacity(here.len());
    for c in here.chars() {
        match c {
            '%' => next.push_str("%25"),
            '&' => next.push_str("%26"),
            '+' => next.push_str("%2B"),
            other => next.push(other),
        }
    }
    with_parameter(path, &format!("next={next}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(lang: Lang, ask: Ask, here: &str) -> (u16, String) {
        let reply = AskPages::new().page(lang, ask, here);
        (reply.status, String::from_utf8(reply.body.to_vec()).unwrap())
    }

    #[test]
    fn a_form_keeps_what_was_asked_for() {
        let (status, page) = body(Lang::En, Ask::Invitation, "/buy?size=%EA%B0%80&x=a+b&bare");
        assert_eq!(status, 403);
        assert!(page.contains(r#"<form method="get" action="/buy">"#), "{page}");
        for field in [r#"name="size" value="가""#, r#"name="x" value="a b""#, r#"name="bare" value="""#] {
            assert!(page.contains(field), "{field}: {page}");
        }
        assert!(!page.contains("<script") && !page.contains("Go on without"), "{page}");
        let (_, hostile) = body(Lang::En, Ask::Invitation, "/buy?%22%3E%3Cscript%3E=%3Cb%3E");
        assert!(!hostile.contains("<script") && !hostile.contains("<b>"), "{hostile}");
    }

    #[test]
    fn each_page_has_its_words_and_its_way_out() {
        let (_, wrong) = body(Lang::Ko, Ask::WrongCode(false), "/buy?a=1");
        assert!(wrong.contains("코드가 맞지 않습니다") && wrong.contains(r#"href="/buy?a=1""#), "{wrong}");
        let (_, used) = body(Lang::En, Ask::UsedCode(true), "/buy");
        assert!(used.contains("used up") && !used.contains("without a code"));
        let (status, foreign) = body(Lang::En, Ask::ForeignPass, "/buy?a=1");
        assert!(status == 403 && foreign.contains(r#"href="/buy?a=1&#38;fg_drop=1""#), "{foreign}");
        assert!(!foreign.contains("<form"));
        assert_eq!(body(Lang::En, Ask::Crawler, "/buy").0, 503);
        let (status, code) = body(Lang::Ja, Ask::Code, "/buy");
        assert!(status == 200 && code.contains("コードをお持ちですか") && code.contains("<form"), "{code}");
    }

    #[test]
    fn the_way_back_survives_the_sign_in() {
        assert_eq!(sign_in("/login", "/deals/1/buy"), "/login?next=/deals/1/buy");
        let target = sign_in("/login?x=1", "/buy?a=b+c&d=%EA%B0%80");
        assert_eq!(target, "/login?x=1&next=/buy?a=b%2Bc%26d=%25EA%25B0%2580");
        let (_, query) = target.split_once('?').unwrap();
        let next = form_urlencoded::parse(query.as_bytes()).find(|(n, _)| n == "next").unwrap().1.into_owned();
        assert_eq!(next, "/buy?a=b+c&d=%EA%B0%80");
    }
}

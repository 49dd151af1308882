//! Which language a page is written in: the shopper's choice, else the browser's, else Korean.

use super::text::{EN, KO, Text};
use axum::http::{HeaderMap, header};

/// Name of the cookie that remembers a choice made by the link in the header.
pub const COOKIE: &str = "fg_lang";
/// How many entries of `Accept-Language` are looked at.
const ACCEPT_ENTRIES_MAX: usize = 16;

/// A language of the pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lang {
    /// 한국어, the default.
    Ko,
    /// English.
    En,
}

impl Lang {
    /// The BCP 47 code, as in `<html lang>`.
    pub fn code(self) -> &'static str {
        match self {
            Self::Ko => "ko",
            Self::En => "en",
        }
    }
    /// The language with exactly this code.
    pub fn of_code(code: &str) -> Option<Self> {
        [Self::Ko, Self::En].into_iter().find(|l| l.code() == code)
    }
    /// Every sentence in this language.
    pub fn text(self) -> &'static Text {
        match self {
            Self::Ko => &KO,
            Self::En => &EN,
        }
    }
    /// The language for a request: `?lang=` beats the cookie, the cookie beats `Accept-Language`.
    pub fn negotiate(query: Option<&str>, headers: &HeaderMap) -> Self {
        chosen(query)
            .or_else(|| service_kit::http::cookie(headers, COOKIE).and_then(Self::of_code))
            .or_else(|| headers.get(header::ACCEPT_LANGUAGE).and_then(|v| v.to_str().ok()).and_then(accepted))
            .unwrap_or(Self::Ko)
    }
}

/// The language named by `lang=` in a query string.
pub fn chosen(query: Option<&str>) -> Option<Lang> {
    query?.split('&').find_map(|pair| pair.strip_prefix("lang=")).and_then(Lang::of_code)
}

/// The best of our languages by weight (RFC 9110 §12.5.4); the first listed wins a tie.
fn accepted(header: &str) -> Option<Lang> {
    let mut best: Option<(f32, Lang)> = None;
    for entry in header.split(',').take(ACCEPT_ENTRIES_MAX) {
        let mut parts = entry.split(';').map(str::trim);
        let primary = parts.next().and_then(|tag| tag.split('-').next()).unwrap_or_default().to_ascii_lowercase();
        let weight = parts.find_map(|p| p.strip_prefix("q=")).map_or(1.0, |q| q.parse().unwrap_or(0.0));
        if let Some(lang) = Lang::of_code(&primary)
            && weight > best.map_or(0.0, |(w, _)| w)
        {
            best = Some((weight, lang));
        }
    }
    best.map(|(_, lang)| lang)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lang(query: Option<&str>, cookie: &str, accept: &str) -> Lang {
        let mut headers = HeaderMap::new();
        headers.insert("cookie", cookie.parse().unwrap());
        headers.insert("accept-language", accept.parse().unwrap());
        Lang::negotiate(query, &headers)
    }

    #[test]
    fn a_choice_beats_a_cookie_beats_the_browser_beats_korean() {
        assert_eq!(lang(Some("lang=en"), "fg_lang=ko", "ko"), Lang::En);
        assert_eq!(lang(Some("after=1&lang=ko"), "fg_lang=en", "en"), Lang::Ko);
        assert_eq!(lang(Some("lang=xx"), "fg_lang=en", "ko"), Lang::En);
        assert_eq!(lang(None, "fg_lang=<script>", "en-GB"), Lang::En);
        assert_eq!(lang(None, "a=b", "fr, de;q=0.9"), Lang::Ko);
        assert_eq!(Lang::negotiate(None, &HeaderMap::new()), Lang::Ko);
    }

    #[test]
    fn weights_are_obeyed() {
        assert_eq!(accepted("ko;q=0.5, en;q=0.9"), Some(Lang::En));
        assert_eq!(accepted("en, ko"), Some(Lang::En));
        assert_eq!(accepted("ja, ko-KR;q=0.8, en;q=0.7"), Some(Lang::Ko));
        assert_eq!(accepted("en;q=0, ko;q=0.1"), Some(Lang::Ko));
        assert_eq!(accepted("en;q=nonsense"), None);
    }
}

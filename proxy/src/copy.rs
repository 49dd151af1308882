//! Every text of the waiting page, in Korean, English and Japanese. One struct, three constants: a text that is
//! missing in one language does not compile.

mod en;
mod ja;
mod ko;

pub use en::EN;
pub use ja::JA;
pub use ko::KO;

use http::{HeaderMap, header};
use queue::board::{Chance, Eta, VisitorState};
use queue::settings::{Mode, RoomSettings};
use serde::Serialize;

/// A language of the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lang {
    /// Korean, the default.
    Ko,
    /// English.
    En,
    /// Japanese.
    Ja,
}

impl Lang {
    /// All of them, in the order of the switch.
    pub const ALL: [Self; 3] = [Self::Ko, Self::En, Self::Ja];

    /// The language of a code, e.g. of the `fg_lang` cookie.
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|lang| lang.code() == code)
    }
    /// Its code.
    pub fn code(self) -> &'static str {
        match self {
            Self::Ko => "ko",
            Self::En => "en",
            Self::Ja => "ja",
        }
    }
    /// Its name in itself, for the switch.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ko => "한국어",
            Self::En => "English",
            Self::Ja => "日本語",
        }
    }
    /// The two others, for the switch.
    pub fn others(self) -> [Self; 2] {
        match self {
            Self::Ko => [Self::En, Self::Ja],
            Self::En => [Self::Ko, Self::Ja],
            Self::Ja => [Self::Ko, Self::En],
        }
    }
    /// Its texts.
    pub fn copy(self) -> &'static Copy {
        match self {
            Self::Ko => &KO,
            Self::En => &EN,
            Self::Ja => &JA,
        }
    }
    /// Chosen by cookie, else by `Accept-Language` (highest weight, first among equals), else Korean.
    pub fn of(headers: &HeaderMap) -> Self {
        if let Some(lang) = service_kit::http::cookie(headers, crate::cookie::LANG).and_then(Self::from_code) {
            return lang;
        }
        let mut best = (Self::Ko, 0_u32);
        for item in headers
            .get_all(header::ACCEPT_LANGUAGE)
            .iter()
            .filter_map(|v| v.to_str().ok())
            .flat_map(|v| v.split(','))
            .take(16)
        {
            let mut parts = item.trim().split(';');
            let tag = parts.next().unwrap_or("").to_ascii_lowercase();
            let weight = parts.find_map(|p| p.trim().strip_prefix("q=")?.parse::<f32>().ok()).unwrap_or(1.0);
            let weight = (weight.clamp(0.0, 1.0) * 1_000.0) as u32;
            if let Some(lang) = tag.split('-').next().and_then(Self::from_code)
                && weight > best.1
            {
                best = (lang, weight);
            }
        }
        best.0
    }
}

/// Heading and explanation of one state.
#[derive(Debug, Serialize)]
pub struct Say {
    /// The `h1`.
    pub heading: &'static str,
    /// One or two plain sentences.
    pub text: &'static str,
}

/// All texts of one language.
#[derive(Debug, Serialize)]
#[expect(missing_docs, reason = "each is explained by its text")]
pub struct Copy {
    pub scheduled: Say,
    pub lobby: Say,
    pub lobby_draw: Say,
    pub waiting: Say,
    pub called: Say,
    pub inside: Say,
    pub missed: Say,
    pub paused: Say,
    pub hold: Say,
    pub standby: Say,
    pub sold_out: Say,
    pub closed: Say,
    pub degraded: Say,
    pub left: Say,
    pub busy: Say,
    pub upstream_away: Say,
    pub check: Say,
    pub ahead: &'static str,
    pub behind: &'static str,
    pub eta: &'static str,
    pub eta_unknown: &'static str,
    pub eta_under_a_minute: &'static str,
    /// `{n}` minutes at most.
    pub eta_up_to: &'static str,
    /// `{a}` to `{b}` minutes.
    pub eta_range: &'static str,
    /// About `{n}` hours.
    pub eta_hours: &'static str,
    pub progress: &'static str,
    pub starts_in: &'static str,
    pub enter_within: &'static str,
    /// `{n}` seconds.
    pub seconds_left: &'static str,
    pub updated: &'static str,
    pub number: &'static str,
    pub place: &'static str,
    pub safe: &'static str,
    pub requeue: &'static str,
    pub fair: &'static str,
    pub fair_draw: &'static str,
    pub demoted: &'static str,
    pub have_code: &'static str,
    pub chance_plenty: &'static str,
    pub chance_low: &'static str,
    pub chance_unlikely: &'static str,
    pub entrants: &'static str,
    pub commitment: &'static str,
    pub check_link: &'static str,
    pub why_question: &'static str,
    pub why_answer: &'static str,
    pub notice: &'static str,
    pub enter: &'static str,
    pub join_again: &'static str,
    pub refresh_now: &'static str,
    pub refresh_stop: &'static str,
    pub refresh_start: &'static str,
    pub refresh_on: &'static str,
    pub tell: &'static str,
    pub mail_label: &'static str,
    pub mail_do: &'static str,
    pub mail_on: &'static str,
    pub leave: &'static str,
    pub leave_sure: &'static str,
    pub leave_do: &'static str,
    pub back: &'static str,
    pub offline: &'static str,
    pub shop_says: &'static str,
    pub check_number: &'static str,
    pub check_do: &'static str,
    pub check_not_yet: &'static str,
    /// Number `{n}`, place `{p}`, of `{c}` people.
    pub check_good: &'static str,
    pub check_bad: &'static str,
    pub check_outside: &'static str,
    pub check_cannot: &'static str,
    pub back_to_line: &'static str,
    pub check_command: &'static str,
    pub check_record: &'static str,
    pub check_own_record: &'static str,
    pub check_nonce: &'static str,
    pub check_lost: &'static str,
}

impl Copy {
    /// Heading and explanation of a state.
    pub fn say(&self, state: VisitorState, settings: &RoomSettings) -> &Say {
        match state {
            VisitorState::Scheduled => &self.scheduled,
            VisitorState::Lobby if settings.mode == Mode::Draw => &self.lobby_draw,
            VisitorState::Lobby => &self.lobby,
            VisitorState::Waiting => &self.waiting,
            VisitorState::Called => &self.called,
            VisitorState::Inside => &self.inside,
            VisitorState::Missed => &self.missed,
            VisitorState::Paused => &self.paused,
            VisitorState::Hold => &self.hold,
            VisitorState::Standby => &self.standby,
            VisitorState::SoldOut => &self.sold_out,
            VisitorState::Closed => &self.closed,
        }
    }
    /// Whether something may be left to buy, in words.
    pub fn chance(&self, chance: Chance) -> &'static str {
        match chance {
            Chance::Plenty => self.chance_plenty,
            Chance::Low => self.chance_low,
            Chance::Unlikely => self.chance_unlikely,
        }
    }
    /// A waiting time in words: rounded up, never in seconds. The page's script does the same.
    pub fn eta_text(&self, eta: Option<Eta>) -> String {
        let Some(eta) = eta else { return self.eta_unknown.to_owned() };
        let (low, high) = (eta.low / 60, eta.high.div_ceil(60));
        if high <= 1 {
            self.eta_under_a_minute.to_owned()
        } else if high >= 120 {
            self.eta_hours.replace("{n}", &high.div_ceil(60).to_string())
        } else if low == 0 || low == high {
            self.eta_up_to.replace("{n}", &high.to_string())
        } else {
            self.eta_range.replace("{a}", &low.to_string()).replace("{b}", &high.to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// Every text by its key, `state.heading` and `state.text` for the states.
    fn texts(copy: &Copy) -> BTreeMap<String, String> {
        let serde_json::Value::Object(fields) = serde_json::to_value(copy).unwrap() else { panic!("an object") };
        fields
            .into_iter()
            .flat_map(|(key, value)| match value {
                serde_json::Value::Object(say) => say
                    .into_iter()
                    .map(|(part, text)| (format!("{key}.{part}"), text.as_str().unwrap().to_owned()))
                    .collect::<Vec<_>>(),
                text => vec![(key, text.as_str().unwrap().to_owned())],
            })
            .collect()
    }

    // pages A9
    #[test]
    fn every_language_has_every_text_in_its_own_script() {
        let hangul = |t: &str| t.chars().any(|c| ('가'..='힣').contains(&c));
        let kana_or_kanji = |t: &str| t.chars().any(|c| ('ぁ'..='ヿ').contains(&c) || ('一'..='鿿').contains(&c));
        let (ko, en, ja) = (texts(&KO), texts(&EN), texts(&JA));
        assert!(ko.len() > 80, "{}", ko.len());
        assert!(ko.keys().eq(en.keys()) && ko.keys().eq(ja.keys()));
        for (key, text) in &en {
            assert!(!text.is_empty() && !hangul(text) && !kana_or_kanji(text), "{key}: {text}");
            assert!(hangul(&ko[key]) && !kana_or_kanji(&ko[key]), "{key}: {}", ko[key]);
            assert!(kana_or_kanji(&ja[key]) && !hangul(&ja[key]), "{key}: {}", ja[key]);
            for placeholder in ["{n}", "{a}", "{b}", "{p}", "{c}"] {
                let count = |t: &str| t.matches(placeholder).count();
                assert_eq!((count(&ko[key]), count(&ja[key])), (count(text), count(text)), "{key} {placeholder}");
            }
        }
    }

    #[test]
    fn waiting_times_are_ranges_in_minutes() {
        let eta = |low, high| EN.eta_text(Some(Eta { low, high }));
        assert_eq!(EN.eta_text(None), "not known yet");
        assert_eq!(eta(5, 40), "less than a minute");
        assert_eq!(eta(30, 170), "up to 3 minutes");
        assert_eq!(eta(125, 290), "2 to 5 minutes");
        assert_eq!(eta(4_000, 9_000), "about 3 hours");
    }

    #[test]
    fn the_language_is_cookie_then_weight_then_korean() {
        let of = |pairs: &[(&'static str, &'static str)]| {
            let headers: HeaderMap = pairs
                .iter()
                .map(|(n, v)| (http::HeaderName::from_static(n), http::HeaderValue::from_static(v)))
                .collect();
            Lang::of(&headers)
        };
        assert_eq!(of(&[]), Lang::Ko);
        assert_eq!(of(&[("accept-language", "fr, en-GB;q=0.8, ko;q=0.3")]), Lang::En);
        assert_eq!(of(&[("accept-language", "ko-KR,ko;q=0.9,en;q=0.8")]), Lang::Ko);
        assert_eq!(of(&[("accept-language", "ja-JP, en;q=0.9")]), Lang::Ja);
        assert_eq!(of(&[("accept-language", "en"), ("cookie", "fg_lang=ko")]), Lang::Ko);
        assert_eq!(of(&[("accept-language", "xx;q=zz,,;")]), Lang::Ko);
        for lang in Lang::ALL {
            assert_eq!(Lang::from_code(lang.code()), Some(lang));
            assert!(!lang.others().contains(&lang));
        }
    }
}

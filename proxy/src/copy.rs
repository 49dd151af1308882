//! Every text of the waiting page, in Korean and English. One struct, two constants: a text that is
//! missing in one language does not compile.

use http::{HeaderMap, header};
use queue::board::{Eta, VisitorState};

/// A language of the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lang {
    /// Korean, the default.
    Ko,
    /// English.
    En,
}

impl Lang {
    /// The language of a code, e.g. of the `fg_lang` cookie.
    pub fn from_code(code: &str) -> Option<Self> {
        match code {
            "ko" => Some(Self::Ko),
            "en" => Some(Self::En),
            _ => None,
        }
    }
    /// Its code.
    pub fn code(self) -> &'static str {
        match self {
            Self::Ko => "ko",
            Self::En => "en",
        }
    }
    /// The other one, for the switch.
    pub fn other(self) -> Self {
        match self {
            Self::Ko => Self::En,
            Self::En => Self::Ko,
        }
    }
    /// Its texts.
    pub fn copy(self) -> &'static Copy {
        match self {
            Self::Ko => &KO,
            Self::En => &EN,
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
#[derive(Debug)]
pub struct Say {
    /// The `h1`.
    pub heading: &'static str,
    /// One or two plain sentences.
    pub text: &'static str,
}

/// All texts of one language.
#[derive(Debug)]
#[expect(missing_docs, reason = "each is explained by its text")]
pub struct Copy {
    pub scheduled: Say,
    pub lobby: Say,
    pub waiting: Say,
    pub called: Say,
    pub inside: Say,
    pub missed: Say,
    pub paused: Say,
    pub standby: Say,
    pub sold_out: Say,
    pub closed: Say,
    pub degraded: Say,
    pub left: Say,
    pub busy: Say,
    pub upstream_away: Say,
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
    pub updated: &'static str,
    pub number: &'static str,
    pub safe: &'static str,
    pub fair: &'static str,
    pub why_question: &'static str,
    pub why_answer: &'static str,
    pub notice: &'static str,
    pub enter: &'static str,
    pub join_again: &'static str,
    pub refresh_now: &'static str,
    pub refresh_stop: &'static str,
    pub refresh_start: &'static str,
    pub refresh_on: &'static str,
    pub leave: &'static str,
    pub leave_sure: &'static str,
    pub leave_do: &'static str,
    pub back: &'static str,
    pub offline: &'static str,
    pub other_language: &'static str,
}

impl Copy {
    /// Heading and explanation of a state.
    pub fn say(&self, state: VisitorState) -> &Say {
        match state {
            VisitorState::Scheduled => &self.scheduled,
            VisitorState::Lobby => &self.lobby,
            VisitorState::Waiting => &self.waiting,
            VisitorState::Called => &self.called,
            VisitorState::Inside => &self.inside,
            VisitorState::Missed => &self.missed,
            VisitorState::Paused => &self.paused,
            VisitorState::Standby => &self.standby,
            VisitorState::SoldOut => &self.sold_out,
            VisitorState::Closed => &self.closed,
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

/// Korean.
pub const KO: Copy = Copy {
    scheduled: Say {
        heading: "곧 대기실이 열립니다", text: "대기실이 열리면 이 페이지에서 자동으로 순번을 받습니다."
    },
    lobby: Say {
        heading: "시작을 기다리고 있습니다",
        text: "순번을 받았습니다. 시작 시각이 되면 순번대로 입장합니다.",
    },
    waiting: Say { heading: "대기 중입니다", text: "접속이 몰려 순서대로 입장하고 있습니다." },
    called: Say { heading: "입장하실 차례입니다", text: "아래 버튼을 누르면 바로 입장합니다." },
    inside: Say { heading: "입장하셨습니다", text: "아래 버튼을 누르면 이어서 진행합니다." },
    missed: Say {
        heading: "차례가 지나갔습니다",
        text: "정해진 시간 안에 입장하지 않았거나 이용 시간이 끝났습니다. 다시 줄을 설 수 있습니다.",
    },
    paused: Say {
        heading: "입장이 잠시 멈췄습니다",
        text: "운영자가 입장을 잠시 멈췄습니다. 순번은 그대로 유지되며, 다시 시작되면 자동으로 이어집니다.",
    },
    standby: Say {
        heading: "모든 수량이 결제 중입니다",
        text: "취소분이 나올 수 있습니다. 나오면 순번대로 바로 입장합니다.",
    },
    sold_out: Say {
        heading: "모두 판매되었습니다",
        text: "준비된 수량이 모두 판매되었습니다. 결제된 금액은 없습니다.",
    },
    closed: Say {
        heading: "대기실이 닫혔습니다", text: "이 판매는 끝났습니다. 결제된 금액은 없습니다."
    },
    degraded: Say {
        heading: "잠시 연결을 확인하고 있습니다",
        text: "저장소와의 연결이 끊겨 입장이 잠시 멈췄습니다. 순번은 유지되며, 연결되면 자동으로 이어집니다.",
    },
    left: Say {
        heading: "줄에서 나왔습니다", text: "순번을 반납했습니다. 다시 줄을 서면 새 순번을 받습니다."
    },
    busy: Say {
        heading: "잠시만 기다려 주세요",
        text: "같은 네트워크에서 요청이 너무 많습니다. 받은 순번은 유지됩니다. 몇 초 뒤에 다시 시도해 주세요.",
    },
    upstream_away: Say {
        heading: "상점이 응답하지 않습니다",
        text: "잠시 후 다시 시도해 주세요. 입장 자격은 그대로 유지됩니다.",
    },
    ahead: "내 앞 대기 인원",
    behind: "내 뒤 대기 인원",
    eta: "예상 대기 시간",
    eta_unknown: "계산 중",
    eta_under_a_minute: "1분 이내",
    eta_up_to: "최대 {n}분",
    eta_range: "{a}~{b}분",
    eta_hours: "약 {n}시간",
    progress: "현재 줄에서의 위치",
    starts_in: "시작까지",
    updated: "마지막 확인",
    number: "대기 번호",
    safe: "새로고침하거나 화면을 꺼도, 나갔다 다시 와도 순번은 유지됩니다.",
    fair: "도착한 순서대로 입장합니다. 새치기는 없습니다.",
    why_question: "왜 기다리나요?",
    why_answer: "한꺼번에 많은 분이 들어오면 결제가 실패할 수 있어, 안전하게 처리할 수 있는 만큼씩 순서대로 모십니다.",
    notice: "안내",
    enter: "입장하기",
    join_again: "다시 줄 서기",
    refresh_now: "지금 새로고침",
    refresh_stop: "자동 새로고침 끄기",
    refresh_start: "자동 새로고침 켜기",
    refresh_on: "이 페이지는 20초마다 자동으로 새로고침됩니다.",
    leave: "줄에서 나가기",
    leave_sure: "나가면 지금 순번은 사라집니다.",
    leave_do: "순번을 버리고 나가기",
    back: "처음으로",
    offline: "연결이 끊겼습니다. 순번은 유지되며 다시 연결하고 있습니다.",
    other_language: "English",
};

/// English.
pub const EN: Copy = Copy {
    scheduled: Say {
        heading: "The waiting room opens soon",
        text: "When it opens, you get your number on this page by itself.",
    },
    lobby: Say {
        heading: "Waiting for the start",
        text: "You have your number. At the start, everyone enters in that order.",
    },
    waiting: Say { heading: "You are in line", text: "Many people came at once, so everyone enters in order." },
    called: Say { heading: "It's your turn", text: "Press the button to enter now." },
    inside: Say { heading: "You are in", text: "Press the button to go on." },
    missed: Say {
        heading: "Your turn has passed",
        text: "You did not enter in time, or your time inside is over. You can join the line again.",
    },
    paused: Say {
        heading: "Entry is paused",
        text: "The shop has paused entry for a moment. Your place is kept, and it goes on by itself.",
    },
    standby: Say {
        heading: "All units are in checkout",
        text: "Some may come back. If they do, the next in line enter at once.",
    },
    sold_out: Say { heading: "Sold out", text: "All units are sold. Nothing was charged." },
    closed: Say { heading: "The waiting room is closed", text: "This sale is over. Nothing was charged." },
    degraded: Say {
        heading: "Checking the connection",
        text: "The connection to the store is lost, so entry has stopped for a moment. Your place is kept; it goes on by itself.",
    },
    left: Say {
        heading: "You left the line",
        text: "Your number was given back. If you join again, you get a new one.",
    },
    busy: Say {
        heading: "One moment, please",
        text: "There are too many requests from your network. A place in line is kept. Try again in a few seconds.",
    },
    upstream_away: Say {
        heading: "The shop does not answer",
        text: "Please try again in a moment. Your right to enter is kept.",
    },
    ahead: "People ahead of you",
    behind: "People behind you",
    eta: "Expected wait",
    eta_unknown: "not known yet",
    eta_under_a_minute: "less than a minute",
    eta_up_to: "up to {n} minutes",
    eta_range: "{a} to {b} minutes",
    eta_hours: "about {n} hours",
    progress: "Where you are in the line",
    starts_in: "Starts in",
    updated: "Last checked",
    number: "Your number",
    safe: "You can refresh, lock your phone or come back. Your place is kept.",
    fair: "Everyone enters in order of arrival. Nobody can skip.",
    why_question: "Why do I wait?",
    why_answer: "If everyone came in at once, payments could fail. So we let in as many people as can be served safely, in order.",
    notice: "Notice",
    enter: "Enter",
    join_again: "Join the line again",
    refresh_now: "Refresh now",
    refresh_stop: "Stop automatic refresh",
    refresh_start: "Start automatic refresh",
    refresh_on: "This page refreshes by itself every 20 seconds.",
    leave: "Leave the line",
    leave_sure: "If you leave, your number is gone.",
    leave_do: "Give up my number and leave",
    back: "Back to the start page",
    offline: "Connection lost. Your place is safe; trying again.",
    other_language: "한국어",
};

#[cfg(test)]
mod tests {
    use super::*;

    /// Every quoted text of a constant, read from its debug form.
    fn texts(copy: &Copy) -> Vec<(String, String)> {
        let debug = format!("{copy:?}");
        let mut out = Vec::new();
        for piece in debug.split(", ") {
            if let Some((key, value)) = piece.split_once(": \"") {
                out.push((
                    key.rsplit([' ', '{']).next().unwrap_or("").to_owned(),
                    value.trim_end_matches([' ', '}', '"']).to_owned(),
                ));
            }
        }
        out
    }

    #[test]
    fn both_languages_are_complete_and_in_their_own_script() {
        let hangul = |t: &str| t.chars().any(|c| ('가'..='힣').contains(&c));
        let (ko, en) = (texts(&KO), texts(&EN));
        assert!(ko.len() > 40);
        assert_eq!(
            ko.iter().map(|(k, _)| k).collect::<Vec<_>>().len(),
            en.iter().map(|(k, _)| k).collect::<Vec<_>>().len()
        );
        for (key, text) in &ko {
            assert!(hangul(text) || key == "other_language", "{key}: {text}");
        }
        for (key, text) in &en {
            assert!(!text.is_empty() && (!hangul(text) || key == "other_language"), "{key}: {text}");
        }
        for placeholder in ["{n}", "{a}", "{b}"] {
            let with = |c: &Copy| [c.eta_up_to, c.eta_range, c.eta_hours].map(|t| t.contains(placeholder));
            assert_eq!(with(&KO), with(&EN));
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
        assert_eq!(of(&[("accept-language", "en"), ("cookie", "fg_lang=ko")]), Lang::Ko);
        assert_eq!(of(&[("accept-language", "xx;q=zz,,;")]), Lang::Ko);
    }
}

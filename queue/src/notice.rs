//! A message to the people in line, in one or several languages. Plain text: pages escape it.

use serde::{Deserialize, Serialize};
use service_kit::config::{ConfigError, require};

/// Longest notice, in characters per language.
pub const NOTICE_CHARS_MAX: usize = 500;

/// One text for everybody, or one per language.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Notice {
    /// The same words in every language.
    One(String),
    /// By language; a language without a text of its own gets the first one that is there.
    ByLanguage(Texts),
}

/// Texts by language.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Texts {
    /// Korean.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ko: Option<String>,
    /// English.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub en: Option<String>,
    /// Japanese.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ja: Option<String>,
}

impl Notice {
    /// The text for a reader of `language` (`ko`, `en`, `ja`).
    pub fn text(&self, language: &str) -> &str {
        match self {
            Self::One(text) => text,
            Self::ByLanguage(texts) => {
                let own = match language {
                    "ko" => &texts.ko,
                    "ja" => &texts.ja,
                    _ => &texts.en,
                };
                [own, &texts.en, &texts.ko, &texts.ja].into_iter().flatten().next().map_or("", String::as_str)
            }
        }
    }

    /// Checks every text.
    ///
    /// # Errors
    /// Names the field `notice`.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let good = |text: &String| {
            (1..=NOTICE_CHARS_MAX).contains(&text.chars().count()) && text.chars().all(|c| !c.is_control() || c == '\n')
        };
        let all_good = match self {
            Self::One(text) => good(text),
            Self::ByLanguage(t) => {
                let given: Vec<_> = [&t.ko, &t.en, &t.ja].into_iter().flatten().collect();
                !given.is_empty() && given.into_iter().all(good)
            }
        };
        require(all_good, "notice", "at most 500 characters of plain text, in at least one language")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_gets_the_own_language_or_the_next_best() {
        let notice: Notice = serde_json::from_str(r#"{"ko":"곧 시작","en":"Soon"}"#).unwrap();
        assert_eq!((notice.text("ko"), notice.text("en"), notice.text("ja")), ("곧 시작", "Soon", "Soon"));
        let one: Notice = serde_json::from_str(r#""Soon""#).unwrap();
        assert_eq!(one.text("ja"), "Soon");
        assert!(serde_json::from_str::<Notice>(r#"{"de":"Bald"}"#).is_err());
    }

    #[test]
    fn only_short_plain_text() {
        for bad in [r#""""#, r#"{}"#, "\"\\u001b[0m\"", &format!("\"{}\"", "x".repeat(501))] {
            assert!(serde_json::from_str::<Notice>(bad).unwrap().validate().is_err(), "{bad}");
        }
    }
}

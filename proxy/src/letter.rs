//! The letter "your turn is near": its words in three languages, and its form (RFC 5322, MIME). Pure.
//!
//! It carries no ticket and no pass, only the way to the room: whoever reads somebody's mail gets nobody's place.

use crate::copy::Lang;
use base64::Engine as _;
use queue::settings::RoomSettings;
use service_kit::ids::RoomId;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

/// Longest address, in characters (RFC 5321 §4.5.3.1).
pub const ADDRESS_CHARS_MAX: usize = 254;
/// Longest part before the `@`.
const LOCAL_CHARS_MAX: usize = 64;
/// Longest label of a host name.
const LABEL_CHARS_MAX: usize = 63;
/// Longest line of a body in base64.
const BASE64_LINE: usize = 76;
/// Bytes per encoded word of a header: its text stays below 75 characters (RFC 2047 §2).
const WORD_BYTES: usize = 42;

/// Words of one language.
struct Words {
    subject: &'static str,
    body: &'static str,
}

const KO: Words = Words {
    subject: "곧 입장 순서입니다: {title}",
    body: "{title} 대기실의 입장 순서가 가까워졌습니다.\n\n번호표를 받은 브라우저에서 아래 주소를 열어 두세요. 순서가 되면 바로 입장할 수 있습니다.\n{link}\n\n이 메일에는 번호표나 입장권이 들어 있지 않습니다. 다른 기기나 브라우저에서 열면 새 번호를 받게 됩니다.\n요청하신 알림은 이 한 통으로 끝나며, 메일 주소는 삭제됩니다.\n",
};
const EN: Words = Words {
    subject: "Your turn is near: {title}",
    body: "Your turn in the waiting room of {title} is near.\n\nOpen this address in the browser in which you took your number, and keep it open. When it is your turn you can enter at once.\n{link}\n\nThis message holds neither a ticket nor a pass: another device or browser would get a new number.\nIt is the only one that you get; your address is deleted now.\n",
};
const JA: Words = Words {
    subject: "まもなく入場の順番です: {title}",
    body: "{title} の待合室で、まもなく入場の順番になります。\n\n番号を受け取ったブラウザーで次のアドレスを開いたままお待ちください。順番になるとすぐに入場できます。\n{link}\n\nこのメールには整理券も入場券も含まれていません。別の端末やブラウザーで開くと新しい番号になります。\nお知らせはこの一通だけで、メールアドレスは削除されます。\n",
};

/// What a letter is made of.
#[derive(Debug)]
pub struct Draft<'d> {
    /// The room.
    pub settings: &'d RoomSettings,
    /// Whose turn is near.
    pub number: u64,
    /// In which language.
    pub lang: Lang,
    /// From whom.
    pub from: &'d str,
    /// To whom.
    pub to: &'d str,
    /// How shoppers reach the gate, without a path.
    pub public_url: &'d str,
    /// `host[:port]` of it.
    pub public_host: &'d str,
    /// When it is written, by our clock.
    pub now_ms: i64,
}

/// Whether this is an address that every mail server takes: `local@host.tld` in plain ASCII, without quotes, comments or
/// address literals. Stricter than the standard on purpose: what passes cannot change the meaning of a header.
pub fn is_address(text: &str) -> bool {
    let Some((local, host)) = text.split_once('@') else { return false };
    let local_ok = (1..=LOCAL_CHARS_MAX).contains(&local.len())
        && local.split('.').all(|atom| {
            !atom.is_empty() && atom.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{}~".contains(&b))
        });
    let label = |l: &str| {
        (1..=LABEL_CHARS_MAX).contains(&l.len())
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !l.starts_with('-')
            && !l.ends_with('-')
    };
    let top_ok = host.rsplit('.').next().is_some_and(|top| top.len() >= 2 && !top.bytes().all(|b| b.is_ascii_digit()));
    text.len() <= ADDRESS_CHARS_MAX && local_ok && host.contains('.') && host.split('.').all(label) && top_ok
}

/// The same for every copy of the letter to one number, so that duplicates collapse.
pub fn message_id(room: &RoomId, number: u64, public_host: &str) -> String {
    let host = public_host.split(':').next().unwrap_or("floodgate");
    format!("<near.{number}.{room}@{host}>")
}

/// The whole letter, ready for `DATA`.
pub fn letter(draft: &Draft<'_>) -> String {
    let words = match draft.lang {
        Lang::Ko => KO,
        Lang::En => EN,
        Lang::Ja => JA,
    };
    let link = format!("{}{}", draft.public_url, draft.settings.enter_path);
    let title = draft.settings.title.replace('\n', " ");
    let subject = encoded(&words.subject.replace("{title}", &title));
    // The link first: a title that reads `{link}` stays what it is.
    let body = words.body.replace("{link}", &link).replace("{title}", &title);
    let date = OffsetDateTime::from_unix_timestamp(draft.now_ms / 1_000).ok().and_then(|t| t.format(&Rfc2822).ok());
    let mut text = String::new();
    for (name, value) in [
        ("Date", date.as_deref().unwrap_or("Thu, 01 Jan 1970 00:00:00 +0000")),
        ("From", draft.from),
        ("To", draft.to),
        ("Subject", &subject),
        ("Message-ID", &message_id(&draft.settings.room, draft.number, draft.public_host)),
        // No answer by a robot is wanted (RFC 3834 §5.1).
        ("Auto-Submitted", "auto-generated"),
        ("Content-Language", draft.lang.code()),
        ("MIME-Version", "1.0"),
        ("Content-Type", "text/plain; charset=utf-8"),
        ("Content-Transfer-Encoding", "base64"),
    ] {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    let body = base64::engine::general_purpose::STANDARD.encode(body.replace('\n', "\r\n"));
    for line in body.as_bytes().chunks(BASE64_LINE) {
        text.push_str(&String::from_utf8_lossy(line));
        text.push_str("\r\n");
    }
    text
}

/// A header's text as encoded words, none of them cut inside a character.
fn encoded(text: &str) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (head, tail) = rest.split_at(rest.floor_char_boundary(WORD_BYTES.min(rest.len())));
        words.push(format!("=?utf-8?B?{}?=", base64::engine::general_purpose::STANDARD.encode(head)));
        rest = tail;
    }
    words.join("\r\n ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(settings: &RoomSettings, lang: Lang) -> String {
        letter(&Draft {
            settings,
            number: 17,
            lang,
            from: "Shop <no-reply@shop.example>",
            to: "a@b.example",
            public_url: "https://shop.example:8443",
            public_host: "shop.example:8443",
            now_ms: 1_800_000_000_000,
        })
    }

    fn room(title: &str) -> RoomSettings {
        RoomSettings { enter_path: "/buy".into(), ..RoomSettings::new("shoes".parse().unwrap(), title.into(), 1, 1) }
    }

    fn decoded(base64_text: &str) -> String {
        let bytes = base64::engine::general_purpose::STANDARD.decode(base64_text.replace("\r\n", "")).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn addresses_are_checked_strictly() {
        for good in ["a@b.co", "first.last+tag@shop.example", "x_y-z@a-b.example.kr", "o'neil@b.example"] {
            assert!(is_address(good), "{good}");
        }
        for bad in [
            "",
            "a",
            "@b.co",
            "a@",
            "a@b",
            "a@@b.co",
            "a b@c.co",
            "a@b.c",
            "a@b..co",
            ".a@b.co",
            "a.@b.co",
            "a@-b.co",
            "a@b-.co",
            "\"a\"@b.co",
            "a@[127.0.0.1]",
            "a@127.0.0.1",
            "a@b.co\r\nBcc: c@d.co",
            "a@b.co,c@d.co",
            "<a@b.co>",
            "a|b@c.co",
            "한글@b.co",
            "a@한글.kr",
        ] {
            assert!(!is_address(bad), "{bad:?}");
        }
        assert!(is_address(&format!("{}@b.co", "a".repeat(64))) && !is_address(&format!("{}@b.co", "a".repeat(65))));
        let long = format!("a@{}.co", ["b".repeat(63), "c".repeat(63), "d".repeat(63), "e".repeat(63)].join("."));
        assert!(!is_address(&long));
    }

    #[test]
    fn a_letter_in_each_language_has_the_link_and_no_token() {
        for (lang, word) in [(Lang::Ko, "입장"), (Lang::En, "Your turn"), (Lang::Ja, "順番")] {
            let text = draft(&room("Shoes {link}"), lang);
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            let body = decoded(body);
            assert!(body.contains(word) && body.contains("https://shop.example:8443/buy\r\n"), "{body}");
            assert!(body.contains("Shoes {link}"), "{body}");
            assert!(head.contains("Message-ID: <near.17.shoes@shop.example>\r\n"), "{head}");
            assert!(head.contains("Date: Fri, 15 Jan 2027 08:00:00 +0000\r\n"), "{head}");
            assert!(text.lines().all(|line| line.len() <= 78), "{text}");
            assert!(!body.contains("{title}") && !body.contains("fg_"));
        }
    }

    #[test]
    fn a_title_cannot_add_a_header() {
        let text = draft(&room("여름 신발\nBcc: everybody@shop.example, 아주 긴 제목이 여기에 이어집니다"), Lang::Ko);
        let head = text.split_once("\r\n\r\n").unwrap().0;
        assert!(!head.contains("Bcc"), "{head}");
        let subject: String = head
            .split_once("Subject: ")
            .unwrap()
            .1
            .split_once("\r\nMessage-ID")
            .unwrap()
            .0
            .split("\r\n ")
            .map(|word| {
                assert!(word.len() <= 75, "{word}");
                decoded(word.strip_prefix("=?utf-8?B?").unwrap().strip_suffix("?=").unwrap())
            })
            .collect();
        assert!(subject.starts_with("곧 입장 순서입니다: 여름 신발 Bcc:"), "{subject}");
    }
}

//! Who wants a number, and whether they get one: crawler, code, person, proof, too many from one address. In this order,
//! cheapest first, and all of it before the store is asked.
//!
//! The *join key* makes one place of what could be many: the account of a signed-in person, else the number that this
//! one follows, else the nonce of the proof, else the key that an app chose. The same key always gets the same number.

use crate::ask_page::{Ask, AskPages, carrying, clean, sign_in, with_parameter};
use crate::code::{Code, Codes, word};
use crate::copy::Lang;
use crate::desk::{Asked, Desk};
use crate::entry;
use crate::limits::Limited;
use crate::nonce_page::{NONCE, NoncePages, Wanted};
use crate::people_metric as metric;
use crate::proof::{How, LIFE_MS, NotProven, Proofs, wait_ms};
use crate::proof_page::{Check, CheckPages, PROOF};
use crate::reply::Reply;
use crate::rooms::Room;
use crate::session::Browsers;
use crate::visit::{Claimed, JoinRefused, JoinedNow, Wish};
use http::header;
use metrics::counter;
use queue::lane::{DEMOTED, LANES_MAX};
use queue::line::{CodeUse, Presence};
use queue::settings::{Mode, OnePlacePer, ProofOfWork, RoomSettings};
use queue::ticket::Ticket;
use service_kit::ids::VisitorId;
use service_kit::keys::KeyRing;
use service_kit::network::Networks;
use service_kit::problem::{Problem, Slug};
use service_kit::session::SessionTokens;

/// The query parameter that carries a code.
pub const CODE: &str = "fg_code";
/// The query parameter of reloads that keep the place in rooms where a reload gives it up.
pub const KEEP: &str = "fg_keep";
/// Most numbers that one person takes in a room, one after the other.
const PERSON_NUMBERS_MAX: u32 = 64;
/// When a crawler may come back, in seconds.
const CRAWLER_RETRY_S: u64 = 600;

/// What the checks need; part of the desk.
#[derive(Debug)]
pub struct Door {
    codes: Codes,
    proofs: Proofs,
    /// Who is signed in.
    pub sessions: SessionTokens,
    crawlers: Networks,
    asks: AskPages,
    checks: CheckPages,
    nonces: NoncePages,
    /// Fingerprints of browsers.
    pub browsers: Browsers,
}

impl Door {
    /// Signers from the key ring; `crawlers` are the networks of search engines.
    pub fn new(ring: &KeyRing, crawlers: Networks) -> Self {
        Self {
            codes: Codes::new(ring),
            proofs: Proofs::new(ring),
            sessions: SessionTokens::new(ring),
            crawlers,
            asks: AskPages::new(),
            checks: CheckPages::new(),
            nonces: NoncePages::new(),
            browsers: Browsers::new(ring),
        }
    }
    /// Whether the address belongs to a search engine.
    pub fn is_crawler(&self, client: std::net::IpAddr) -> bool {
        !self.crawlers.is_empty() && self.crawlers.contains(client)
    }
    /// A page that asks or says something before there is a place.
    pub fn ask(&self, lang: Lang, ask: Ask, here: &str) -> Reply {
        self.asks.page(lang, ask, here)
    }
}

/// What a newcomer brings along.
#[derive(Debug, Clone, Copy, Default)]
pub struct Brings<'b> {
    /// The key that an app chose.
    pub key: Option<&'b str>,
    /// The ticket before this one, whose turn is over or which is given up.
    pub old: Option<&'b Ticket>,
    /// It is given up by a reload, and the new number follows it.
    pub requeues: bool,
}

/// A newcomer who may have a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Welcome {
    /// What to ask the line for.
    pub wish: Wish,
    /// The account, where each person has one place.
    pub person: Option<String>,
}

/// Why a newcomer gets no number (yet).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// Too many from one address; seconds to wait.
    Limited(u64),
    /// The room is for invited people.
    InvitationRequired,
    /// The code is not one of this room. `true`: the room is for invited people.
    CodeInvalid(bool),
    /// The code is used up. `true`: as above.
    CodeUsed(bool),
    /// One place per person: sign in first, here.
    NotSignedIn(String),
    /// Some work, or some waiting, has to be done first.
    Proof {
        /// The challenge.
        challenge: String,
        /// Its leading zero bits.
        bits: u8,
        /// How long until waiting counts, in ms.
        wait_ms: i64,
    },
    /// The draw takes a value of the entrant's own, and the page that makes one has not been seen yet.
    Nonce(Wanted),
    /// The line has no room for more people.
    Full,
    /// The store does not answer.
    Away,
}

/// Checks a newcomer. Counts as a join for the limits.
///
/// # Errors
/// The first thing that is missing.
pub fn check(
    desk: &Desk,
    asked: &Asked<'_>,
    room: &Room,
    settings: &RoomSettings,
    brings: Brings<'_>,
) -> Result<Welcome, Refused> {
    let is_attacked = room.people.count_join(settings.attack_joins_per_s);
    let successor = brings.old.filter(|old| brings.requeues || follows(settings, old));
    let code = match successor {
        Some(_) => None,
        None => code(desk, asked, room, settings)?,
    };
    if settings.invite_only && code.is_none() && successor.is_none() {
        return Err(Refused::InvitationRequired);
    }
    let person = match settings.one_place_per {
        OnePlacePer::Visitor => None,
        OnePlacePer::Person => Some(
            desk.door
                .sessions
                .account(asked.headers, room.now_ms())
                .ok_or_else(|| Refused::NotSignedIn(settings.sign_in_path.clone()))?,
        ),
    };
    let is_asked = match settings.proof_of_work {
        ProofOfWork::Off => false,
        ProofOfWork::UnderAttack => is_attacked,
        ProofOfWork::Always => true,
    };
    let (nonce, entry) = entry::nonce(asked, room, settings, successor).map_err(Refused::Nonce)?;
    let proven = proof(desk, asked, room, settings, is_asked)?;
    let mut lane = successor.map(Ticket::lane).filter(|l| *l != DEMOTED).or(code.as_ref().map(|c| c.lane)).unwrap_or(0);
    let mut code = code.and_then(|c| Some(CodeUse { uses_max: Some(c.uses_max?), id: c.id }));
    // A code that only so many people can use is no means of an attack.
    if desk.limits.is_greedy(asked.client) && code.is_none() {
        if settings.mode == Mode::Draw {
            return Err(Refused::Limited(1));
        }
        counter!(metric::DEMOTED).increment(1);
        (lane, code) = (DEMOTED, None);
    }
    let key = match (successor, proven, brings.key, entry) {
        (Some(old), ..) => Some(successor_key(old)),
        (None, Some(proven), ..) => Some(format!("proof:{proven}")),
        (None, None, Some(key), _) => Some(format!("api:{key}")),
        // A number that is over is followed by another one, not by itself.
        (None, None, None, Some(entry)) => Some(format!("entry:{entry}:{}", brings.old.map_or(0, |old| old.number))),
        (None, None, None, None) => None,
    };
    Ok(Welcome { wish: Wish { key, lane, code, nonce }, person })
}

/// Whether a number that is over is followed by another without a new code: who was invited once stays invited. One
/// number has one successor, so an old ticket does not become many.
fn follows(settings: &RoomSettings, old: &Ticket) -> bool {
    settings.invite_only || (1..=LANES_MAX).contains(&usize::from(old.lane()))
}

/// The join key of the number that follows another.
pub fn successor_key(old: &Ticket) -> String {
    format!("after:{}", old.number)
}

/// The code of a request, checked. `None` when it has none.
///
/// # Errors
/// [`Refused::CodeInvalid`], or [`Refused::Limited`] for who tries too often.
pub fn code(desk: &Desk, asked: &Asked<'_>, room: &Room, settings: &RoomSettings) -> Result<Option<Code>, Refused> {
    let Some(text) = presented(asked, "floodgate-code", CODE) else { return Ok(None) };
    let text = text.replace('+', " ");
    if let Ok(code) = desk.door.codes.signed(&text, &room.id, &settings.lanes) {
        counter!(metric::CODES, "result" => "signed").increment(1);
        return Ok(Some(code));
    }
    // Words can be guessed: right or wrong, each try counts.
    desk.limits.check(Limited::Code, asked.client).map_err(|seconds| {
        desk.hot.limited_code.increment(1);
        Refused::Limited(seconds)
    })?;
    match word(&text, &settings.lanes) {
        Ok(code) => {
            counter!(metric::CODES, "result" => "word").increment(1);
            Ok(Some(code))
        }
        Err(_) => {
            counter!(metric::CODES, "result" => "wrong").increment(1);
            Err(Refused::CodeInvalid(settings.invite_only))
        }
    }
}

/// The nonce of the proof that the request brings. Without one: a new challenge, if the room asks for it.
fn proof(
    desk: &Desk,
    asked: &Asked<'_>,
    room: &Room,
    settings: &RoomSettings,
    is_asked: bool,
) -> Result<Option<String>, Refused> {
    if settings.proof_of_work == ProofOfWork::Off {
        return Ok(None);
    }
    let count = |result: &'static str| counter!(metric::PROOFS, "result" => result).increment(1);
    let now_ms = room.now_ms();
    let refused =
        match presented(asked, "floodgate-proof", PROOF).map(|text| desk.door.proofs.check(text, &room.id, now_ms)) {
            Some(Ok(proven)) => {
                count(if proven.how == How::Solved { "solved" } else { "waited" });
                return Ok(Some(proven.nonce));
            }
            Some(Err(NotProven::TooEarly { challenge, bits, remaining_ms })) => {
                count("early");
                Some(Refused::Proof { challenge, bits, wait_ms: remaining_ms })
            }
            Some(Err(NotProven::Wrong)) => {
                count("wrong");
                None
            }
            None => None,
        };
    if !is_asked {
        return Ok(None);
    }
    Err(refused.unwrap_or_else(|| {
        count("asked");
        let bits = settings.proof_bits;
        let challenge = desk.door.proofs.challenge(&room.id, bits, &VisitorId::new(), now_ms);
        Refused::Proof { challenge, bits, wait_ms: wait_ms(bits) }
    }))
}

/// What a request presents in a header, else in the query.
fn presented<'r>(asked: &Asked<'r>, header: &str, parameter: &str) -> Option<&'r str> {
    let header = asked.headers.get(header).map(|v| v.to_str().unwrap_or("?"));
    header.or_else(|| asked.path.parameter(parameter)).filter(|text| !text.is_empty())
}

/// Whether the query of a request brings what a newcomer brings.
pub fn brings_something(asked: &Asked<'_>) -> bool {
    [CODE, PROOF].iter().any(|name| asked.path.parameter(name).is_some())
}

/// Takes the number.
///
/// # Errors
/// [`Refused::CodeUsed`], [`Refused::Full`], or [`Refused::Away`]: then the same request finds the same number.
pub async fn join(desk: &Desk, asked: &Asked<'_>, room: &Room, welcome: Welcome) -> Result<JoinedNow, Refused> {
    let refused = |error: JoinRefused| match error {
        JoinRefused::CodeUsed => {
            counter!(metric::CODES, "result" => "used").increment(1);
            Refused::CodeUsed(room.settings.load().invite_only)
        }
        JoinRefused::Full => Refused::Full,
        JoinRefused::Away(why) => {
            tracing::warn!(room = %room.id, why, "join failed");
            Refused::Away
        }
    };
    let Welcome { wish, person } = welcome;
    let Some(account) = person else { return desk.visits.join(room, wish).await.map_err(refused) };
    // One number at a time: the next one only when the one before is over.
    for nth in 0..PERSON_NUMBERS_MAX {
        let key = if nth == 0 { format!("person:{account}") } else { format!("person:{account}:{nth}") };
        let joined = desk.visits.join(room, Wish { key: Some(key), ..wish.clone() }).await.map_err(refused)?;
        if joined.is_new || joined.called || !is_over(desk, asked, room, &joined.ticket).await? {
            return Ok(joined);
        }
    }
    Err(Refused::Limited(CRAWLER_RETRY_S))
}

/// Whether a number has had its turn. The store is asked where this gate does not know; a claim out of turn changes nothing.
async fn is_over(desk: &Desk, asked: &Asked<'_>, room: &Room, ticket: &Ticket) -> Result<bool, Refused> {
    if matches!(room.presences.get(ticket.number), Some(Presence::Missed | Presence::Left)) {
        return Ok(true);
    }
    let browser = desk.door.browsers.fingerprint(asked.headers);
    match desk.visits.claim(&desk.rooms, room, ticket, browser).await {
        Ok(Claimed::Pass { .. } | Claimed::NotYourTurn) => Ok(false),
        Ok(Claimed::Missed | Claimed::Left) => Ok(true),
        Err(error) => {
            tracing::warn!(room = %room.id, %error, "asking after a number failed");
            Err(Refused::Away)
        }
    }
}

impl Refused {
    /// The label in metrics.
    pub fn outcome(&self) -> &'static str {
        match self {
            Self::Limited(_) | Self::Full => "limited",
            Self::Proof { .. } | Self::Nonce(_) => "queued",
            Self::Away => "error",
            _ => "denied",
        }
    }

    /// The answer for a program.
    pub fn problem(&self) -> Reply {
        Reply::problem(&match self {
            Self::Limited(seconds) => {
                Problem::new(Slug::TooManyRequests, "Too many people come from your network at once. Try again later.")
                    .retry_after_s(*seconds)
            }
            Self::InvitationRequired => {
                Problem::new(Slug::InvitationRequired, "Send the code of your invitation as `Floodgate-Code`.")
            }
            Self::CodeInvalid(_) => {
                Problem::new(Slug::CodeInvalid, "Check the code in `Floodgate-Code`; small and capital letters are the same.")
            }
            Self::CodeUsed(_) => {
                Problem::new(Slug::CodeUsed, "Ask those who gave you the code for another one.")
            }
            Self::NotSignedIn(path) => Problem::new(
                Slug::NotSignedIn,
                "Each person has one place in this room: send the session as `Authorization: Bearer` or in its cookie.",
            )
            .with("sign_in_path", path.as_str()),
            Self::Proof { challenge, bits, wait_ms } => Problem::new(
                Slug::ProofRequired,
                "Find a whole number n such that SHA-256 of `<challenge>.<n>` begins with `bits` zero bits, and send `Floodgate-Proof: <challenge>.<n>`; or send `<challenge>.wait` after `wait_ms`.",
            )
            .with("challenge", challenge.as_str())
            .with("bits", *bits)
            .with("wait_ms", *wait_ms)
            .with("good_for_ms", LIFE_MS),
            Self::Nonce(_) => Problem::field("Floodgate-Nonce", "must be 16–64 characters of A-Z, a-z, 0-9, `-` and `_`; or leave it out"),
            Self::Full => Problem::new(Slug::TooManyRequests, "The line has no room for more people just now.").retry_after_s(30),
            Self::Away => return crate::api::store_away(),
        })
    }

    /// The answer for a browser that wants to reach `here`, a canonical target.
    pub fn page(&self, desk: &Desk, asked: &Asked<'_>, room: &Room, here: &str) -> Reply {
        let lang = lang(asked);
        match self {
            Self::Limited(seconds) => desk.pages.busy(lang).with(header::RETRY_AFTER, &seconds.to_string()),
            Self::Full => desk.pages.busy(lang).with(header::RETRY_AFTER, "30"),
            Self::Away => desk.pages.store_away(lang).with(header::RETRY_AFTER, "2"),
            Self::InvitationRequired => desk.door.ask(lang, Ask::Invitation, here),
            Self::CodeInvalid(needed) => desk.door.ask(lang, Ask::WrongCode(*needed), here),
            Self::CodeUsed(needed) => desk.door.ask(lang, Ask::UsedCode(*needed), here),
            Self::NotSignedIn(path) => Reply::see_other(&sign_in(path, here)),
            Self::Proof { challenge, bits, wait_ms } => desk.door.checks.page(&Check {
                lang,
                here: &carrying(asked, here, &[CODE, NONCE]),
                challenge,
                bits: *bits,
                wait_ms: *wait_ms,
            }),
            Self::Nonce(wanted) => {
                let page = desk.door.nonces.page(lang, *wanted, &room.id, &carrying(asked, here, &[CODE, PROOF]));
                page.cookies([entry::cookie(desk, asked, room)])
            }
        }
    }
}

/// The language of an answer: chosen in the address, else as the headers say.
pub fn lang(asked: &Asked<'_>) -> Lang {
    asked.path.parameter(crate::cookie::LANG).and_then(Lang::from_code).unwrap_or_else(|| Lang::of(asked.headers))
}

/// Where a browser goes on after it got a number: without what it brought, and in the place that it got.
pub fn onward(settings: &RoomSettings, here: &str) -> String {
    match settings.refresh {
        queue::settings::Refresh::Keep => here.to_owned(),
        queue::settings::Refresh::Requeue => with_parameter(here, &format!("{KEEP}=1")),
    }
}

/// The answer for a crawler without a rule: 503 keeps a page in a search engine's index, a waiting page would replace it.
pub fn crawler(desk: &Desk, asked: &Asked<'_>) -> Reply {
    counter!(metric::CRAWLERS).increment(1);
    desk.door.ask(lang(asked), Ask::Crawler, &clean(asked.path)).with(header::RETRY_AFTER, &CRAWLER_RETRY_S.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_a_status_and_a_way_out() {
        let proof = Refused::Proof { challenge: "c".into(), bits: 14, wait_ms: 1 };
        for (refused, status, said) in [
            (Refused::Limited(7), 429, "too-many-requests"),
            (Refused::InvitationRequired, 403, "Floodgate-Code"),
            (Refused::CodeInvalid(true), 403, "code-invalid"),
            (Refused::CodeUsed(false), 403, "code-used"),
            (Refused::NotSignedIn("/login".into()), 401, "/login"),
            (proof, 403, r#""bits":14"#),
            (Refused::Nonce(Wanted::Well), 422, "Floodgate-Nonce"),
            (Refused::Full, 429, "no room"),
            (Refused::Away, 503, "store-unavailable"),
        ] {
            let reply = refused.problem();
            let text = String::from_utf8(reply.body.to_vec()).unwrap();
            assert!(reply.status == status && text.contains(said), "{refused:?}: {text}");
        }
    }
}

//! What a page says about a deal: badge, bar, price, countdown and button, from the API's own values.
//! Pure: the same [`DealView`] and the same instant give the same words.

use super::format;
use super::lang::Lang;
use super::text::fill;
use crate::view::{DealState, DealView};

/// Where a deal stands, in the words shoppers know. `AllHeld` and `SoldOut` differ: held units may return.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Before its start.
    Scheduled,
    /// Selling.
    Live,
    /// Every unit is sold or in checkout.
    AllHeld,
    /// Every unit is sold.
    SoldOut,
    /// After its end.
    Ended,
}

impl Standing {
    /// From the API's state and counters.
    pub fn of(deal: &DealView) -> Self {
        match deal.state {
            DealState::Scheduled => Self::Scheduled,
            DealState::Ended => Self::Ended,
            DealState::Open | DealState::SoldOut if deal.available > 0 => Self::Live,
            DealState::Open | DealState::SoldOut if deal.held > 0 => Self::AllHeld,
            DealState::Open | DealState::SoldOut => Self::SoldOut,
        }
    }
    /// The badge.
    pub fn badge(self, lang: Lang) -> Badge {
        let t = lang.text();
        let (class, label) = match self {
            Self::Scheduled => ("scheduled", t.badge_scheduled),
            Self::Live => ("live", t.badge_live),
            Self::AllHeld => ("busy", t.badge_all_held),
            Self::SoldOut => ("bad", t.badge_sold_out),
            Self::Ended => ("", t.badge_ended),
        };
        Badge { class, label }
    }
}

/// A state in one or two words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Badge {
    /// CSS class of its colour; the label alone says everything.
    pub class: &'static str,
    /// The words.
    pub label: &'static str,
}

/// How much of the stock is claimed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bar {
    /// Units held or sold.
    pub claimed: i64,
    /// Units there are.
    pub total: i64,
    /// The same in words.
    pub text: String,
}

/// The bar of a deal that sells or has sold; before and after the sale there is none.
pub fn bar(deal: &DealView, lang: Lang) -> Option<Bar> {
    if matches!(Standing::of(deal), Standing::Scheduled | Standing::Ended) {
        return None;
    }
    let total = deal.stock.max(1);
    let claimed = deal.held.saturating_add(deal.sold).clamp(0, total);
    // Rounded down: 100 % only when the last unit is claimed.
    let percent = claimed.saturating_mul(100) / total;
    Some(Bar { claimed, total, text: fill(lang.text().claimed, &[("percent", &percent.to_string())]) })
}

/// How many units are left or exist, in words; nothing where the badge says it.
pub fn stock_words(deal: &DealView, lang: Lang) -> String {
    let t = lang.text();
    match Standing::of(deal) {
        Standing::Scheduled => fill(t.units_total, &[("total", &format::grouped(deal.stock))]),
        Standing::Live => fill(t.units_left, &[("left", &format::grouped(deal.available))]),
        Standing::AllHeld | Standing::SoldOut | Standing::Ended => String::new(),
    }
}

/// When it opens, ends or ended, in words.
pub fn when(deal: &DealView, lang: Lang) -> String {
    let t = lang.text();
    let (sentence, at_ms) = match Standing::of(deal) {
        Standing::Scheduled => (t.opens_at, deal.starts_at_ms),
        Standing::Ended => (t.ended_at, deal.ends_at_ms),
        _ => (t.ends_at, deal.ends_at_ms),
    };
    fill(sentence, &[("time", &format::date_time(at_ms, lang))])
}

/// A countdown to an instant of the server's clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Countdown {
    /// What it counts down to.
    pub label: &'static str,
    /// The instant.
    pub until_ms: i64,
    /// What is read without JavaScript.
    pub text: String,
}

/// A link that leads on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Action {
    /// Where.
    pub href: String,
    /// The words on it.
    pub label: &'static str,
    /// Whether it is the thing to do here.
    pub primary: bool,
}

/// What the deal page says in one phase of the sale. The page carries the coming phases hidden, so
/// that at the opening instant every open page changes by itself, without a million requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Phase {
    /// `before`, `open` or `ended`, as in the script.
    pub name: &'static str,
    /// Whether it is shown now.
    pub current: bool,
    /// The badge.
    pub badge: Badge,
    /// What runs, if anything does.
    pub countdown: Option<Countdown>,
    /// One sentence.
    pub note: &'static str,
    /// The button.
    pub action: Action,
}

/// The present phase of a deal and those that time alone will bring.
pub fn phases(deal: &DealView, now_ms: i64, lang: Lang) -> Vec<Phase> {
    let standing = Standing::of(deal);
    let mut all = vec![phase(deal, standing, now_ms, lang)];
    if standing == Standing::Scheduled {
        all.push(phase(deal, Standing::Live, now_ms, lang));
    }
    if matches!(standing, Standing::Scheduled | Standing::Live | Standing::AllHeld) {
        all.push(phase(deal, Standing::Ended, now_ms, lang));
    }
    for later in all.iter_mut().skip(1) {
        later.current = false;
    }
    all
}

fn phase(deal: &DealView, standing: Standing, now_ms: i64, lang: Lang) -> Phase {
    let t = lang.text();
    let count = |label, until_ms: i64| {
        Some(Countdown { label, until_ms, text: format::left(until_ms.saturating_sub(now_ms), lang) })
    };
    let enter = |label| Action { href: format!("/deals/{}/buy", deal.id), label, primary: true };
    let elsewhere = Action { href: "/deals".to_owned(), label: t.other_deals, primary: false };
    let (name, countdown, note, action) = match standing {
        Standing::Scheduled => ("before", count(t.starts_in, deal.starts_at_ms), t.buy_note, enter(t.enter_lobby)),
        Standing::Live => ("open", count(t.ends_in, deal.ends_at_ms), t.buy_note, enter(t.buy)),
        Standing::AllHeld => ("open", count(t.ends_in, deal.ends_at_ms), t.held_note, enter(t.wait_for_units)),
        Standing::SoldOut => ("open", None, t.sold_out_note, elsewhere),
        Standing::Ended => ("ended", None, t.ended_note, elsewhere),
    };
    Phase { name, current: true, badge: standing.badge(lang), countdown, note, action }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::view::AdmissionView;
    use service_kit::ids::{DealId, RoomId};
    use service_kit::money::{Currency, Money};

    /// A deal with 100 units from 1,000 s to 2,000 s, of which `held` and `sold` are gone.
    pub fn deal(state: DealState, held: i64, sold: i64) -> DealView {
        let id = DealId::new();
        DealView {
            id,
            room: RoomId::of_deal(id),
            title: "Apples".into(),
            description: "Sweet".into(),
            price: Money::new(12_900, Currency::KRW).unwrap(),
            stock: 100,
            available: 100 - held - sold,
            held,
            sold,
            mode: queue::settings::Mode::Fifo,
            lobby_opens_at_ms: 0,
            per_user_limit: 3,
            starts_at_ms: 1_000_000,
            ends_at_ms: 2_000_000,
            state,
            admission: AdmissionView { rate_per_s: 10, inside_max: 100 },
        }
    }

    #[test]
    fn each_state_has_its_badge_bar_and_button() {
        let cases = [
            (deal(DealState::Scheduled, 0, 0), "오픈 예정", None, "대기실로 가기"),
            (deal(DealState::Open, 10, 27), "LIVE", Some(37), "구매하기"),
            (deal(DealState::SoldOut, 1, 99), "모두 결제 중", Some(100), "취소분 기다리기"),
            (deal(DealState::Open, 1, 99), "모두 결제 중", Some(100), "취소분 기다리기"),
            (deal(DealState::SoldOut, 0, 100), "품절", Some(100), "다른 딜 보기"),
            (deal(DealState::Ended, 0, 50), "종료", None, "다른 딜 보기"),
        ];
        for (deal, badge, claimed, button) in cases {
            let now = phases(&deal, 1_500_000, Lang::Ko).remove(0);
            assert_eq!((now.badge.label, now.action.label), (badge, button));
            assert_eq!(bar(&deal, Lang::Ko).map(|b| b.claimed), claimed, "bar = held + sold");
        }
    }

    #[test]
    fn a_hundred_percent_means_every_unit() {
        let mut nearly = deal(DealState::Open, 0, 0);
        (nearly.stock, nearly.sold, nearly.available) = (1_000_000, 999_999, 1);
        assert!(bar(&nearly, Lang::En).unwrap().text.starts_with("99%"));
    }

    #[test]
    fn exactly_one_phase_shows_and_the_coming_ones_wait() {
        let names = |d: &DealView| phases(d, 0, Lang::En).into_iter().map(|p| (p.name, p.current)).collect::<Vec<_>>();
        assert_eq!(names(&deal(DealState::Scheduled, 0, 0)), [("before", true), ("open", false), ("ended", false)]);
        assert_eq!(names(&deal(DealState::Open, 0, 0)), [("open", true), ("ended", false)]);
        assert_eq!(names(&deal(DealState::SoldOut, 0, 100)), [("open", true)]);
        assert_eq!(names(&deal(DealState::Ended, 0, 0)), [("ended", true)]);
    }

    #[test]
    fn buying_always_leads_through_the_protected_path() {
        for held in [0, 100] {
            let deal = deal(DealState::Open, held, 0);
            let action = phases(&deal, 0, Lang::En).remove(0).action;
            assert_eq!(action.href, format!("/deals/{}/buy", deal.id));
        }
    }
}

//! Every page in both languages, looked at as a browser and a screen reader would: structure, names,
//! escaping, size. Texts with markup in them stand everywhere where text comes from outside.

use super::accounts::{Entered, LoginPage, SignupPage};
use super::buy::{Accounts, Alert, BuyPage, OrderForm};
use super::deal_facts::tests::deal;
use super::deals::{Card, DealPage, DealsPage};
use super::lang::Lang;
use super::order_facts::tests::order;
use super::orders::{OrderPage, OrdersPage, Row};
use super::visit::{Frame, Tab};
use crate::request::IdempotencyKey;
use crate::view::{DealState, DealView, OrderState};
use askama::Template as _;
use std::collections::{BTreeMap, BTreeSet};

const HOSTILE: &str = r#""><script>alert(1)</script><img src=x onerror=alert(1)>'&{{ f.t.site }}{site}"#;
const PROVIDER: &str = "https://pay.example/pc";

struct Tag {
    name: String,
    attributes: BTreeMap<String, String>,
}

impl Tag {
    fn get(&self, name: &str) -> Option<&str> {
        self.attributes.get(name).map(String::as_str)
    }
}

/// The opening tags, in order; panics where the markup is not balanced.
fn tags(html: &str) -> Vec<Tag> {
    const VOID: [&str; 5] = ["meta", "link", "input", "br", "!doctype"];
    let (mut found, mut open, mut rest) = (Vec::new(), Vec::new(), html);
    while let Some((_, after)) = rest.split_once('<') {
        let (inside, tail) = after.split_once('>').expect("a tag ends");
        rest = tail;
        if let Some(name) = inside.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(name), "closed in order");
            continue;
        }
        let name = inside.split_whitespace().next().unwrap_or_default().to_owned();
        let mut attributes = BTreeMap::new();
        let mut left = inside[name.len()..].trim_start();
        while !left.is_empty() {
            let end = left.find(['=', ' ', '\n']).unwrap_or(left.len());
            let key = left[..end].to_owned();
            left = &left[end..];
            let mut value = String::new();
            if let Some(quoted) = left.strip_prefix("=\"") {
                let (v, tail) = quoted.split_once('"').expect("a value ends");
                (value, left) = (v.to_owned(), tail);
            }
            assert!(attributes.insert(key.clone(), value).is_none(), "{key} twice in <{inside}>");
            left = left.trim_start();
        }
        if !VOID.contains(&name.as_str()) {
            open.push(name.clone());
        }
        found.push(Tag { name, attributes });
    }
    assert!(open.is_empty(), "left open: {open:?}");
    found
}

fn frame(lang: Lang, tab: Tab, signed_in: bool) -> Frame {
    Frame {
        t: lang.text(),
        lang,
        tab,
        now_ms: 1_500_000,
        clock: super::text::fill(lang.text().server_time, &[("time", "20:00:12")]),
        ko_href: "/deals?lang=ko".into(),
        en_href: "/deals?lang=en".into(),
        login_href: "/login?next=/deals".into(),
        signup_href: "/signup?next=/deals".into(),
        css: super::assets::css(),
        js: super::assets::js(),
        signed_in,
        csrf: "token.1.k.mac".into(),
    }
}

fn hostile(state: DealState, held: i64, sold: i64) -> DealView {
    let mut deal = deal(state, held, sold);
    (deal.title, deal.description) = (HOSTILE.into(), HOSTILE.into());
    deal
}

fn wrong(lang: Lang) -> Entered {
    Entered {
        email: HOSTILE.into(),
        name: HOSTILE.into(),
        email_error: Some(lang.text().error_email),
        password_error: Some(lang.text().error_password),
        name_error: Some(lang.text().error_name),
        alert: Some(("title", "body")),
        ..Entered::default()
    }
}

/// Every page in every state worth looking at, by name.
fn pages(lang: Lang) -> Vec<(String, String)> {
    let mut all = Vec::new();
    let deals: Vec<DealView> = [
        (DealState::Scheduled, 0, 0),
        (DealState::Open, 10, 20),
        (DealState::SoldOut, 1, 99),
        (DealState::SoldOut, 0, 100),
        (DealState::Ended, 0, 7),
    ]
    .into_iter()
    .map(|(state, held, sold)| hostile(state, held, sold))
    .collect();
    let cards = |n: usize| deals.iter().cycle().take(n).map(|d| Card::new(d, lang)).collect::<Vec<_>>();
    let list = |n, more: Option<&str>| DealsPage {
        f: frame(lang, Tab::Deals, true),
        cards: cards(n),
        more: more.map(str::to_owned),
    };
    all.push(("deals".into(), list(12, Some("/deals?after=x")).render().unwrap()));
    all.push(("no deals".into(), list(0, None).render().unwrap()));
    for deal in &deals {
        let page = DealPage::new(frame(lang, Tab::Deals, false), deal);
        all.push((format!("deal {:?}", deal.state), page.render().unwrap()));
    }
    for signed_in in [true, false] {
        let f = frame(lang, Tab::Deals, signed_in);
        let mut form = OrderForm::new(&deals[1], IdempotencyKey::random(), 2, &f);
        form.error = Some(f.t.error_quantity);
        let page = BuyPage {
            deal_href: "/deals/x".into(),
            title: HOSTILE.into(),
            price: "12,900".into(),
            held_note: Some(f.t.held_note),
            alert: Some(Alert { title: "title", body: "body", incident: HOSTILE.into() }),
            order: signed_in.then_some(form),
            accounts: (!signed_in).then(|| Accounts { login: wrong(lang), signup: wrong(lang) }),
            f,
        };
        all.push((format!("buy, signed in: {signed_in}"), page.render().unwrap()));
    }
    for (state, payment) in [
        (OrderState::Held, ""),
        (OrderState::Paying, "requested"),
        (OrderState::Paying, "ready"),
        (OrderState::Paying, "unknown"),
        (OrderState::Paid, "captured"),
        (OrderState::Released, "failed"),
        (OrderState::Refunding, "captured"),
        (OrderState::Refunded, "captured"),
    ] {
        let mut order = order(state, payment, Some("payment_declined"));
        order.hold_expires_at_ms = 2_000_000;
        if let Some(p) = order.payment.as_mut() {
            p.failure_message = Some(HOSTILE.into());
        }
        let mut page = OrderPage::new(
            frame(lang, Tab::Orders, true),
            &order,
            HOSTILE.into(),
            &["kakaopay", "toss", "stripe"],
            false,
            true,
        );
        page.alert = Some(Alert { title: "title", body: "body", incident: HOSTILE.into() });
        all.push((format!("order {state:?} {payment}"), page.render().unwrap()));
    }
    let rows = |n| {
        let badge = super::order_facts::Stage::Paid.badge(lang);
        (0..n)
            .map(|_| Row {
                href: "/orders/x".into(),
                title: HOSTILE.into(),
                badge,
                amount: "1".into(),
                quantity: "1".into(),
                at: "1".into(),
            })
            .collect()
    };
    all.push((
        "orders".into(),
        OrdersPage { f: frame(lang, Tab::Orders, true), rows: rows(10), more: Some("/orders?after=x".into()) }
            .render()
            .unwrap(),
    ));
    all.push((
        "no orders".into(),
        OrdersPage { f: frame(lang, Tab::Orders, true), rows: rows(0), more: None }.render().unwrap(),
    ));
    all.push(("login".into(), LoginPage { f: frame(lang, Tab::Login, false), login: wrong(lang) }.render().unwrap()));
    all.push((
        "signup".into(),
        SignupPage { f: frame(lang, Tab::Signup, false), signup: wrong(lang) }.render().unwrap(),
    ));
    all
}

fn each(check: impl Fn(&str, &str, &[Tag])) {
    for lang in [Lang::Ko, Lang::En] {
        for (name, html) in pages(lang) {
            println!("{name} in {}", lang.code());
            check(&name, &html, &tags(&html));
        }
    }
}

#[test]
fn one_heading_a_language_landmarks_and_a_way_to_skip() {
    each(|name, html, tags| {
        let count = |n: &str| tags.iter().filter(|t| t.name == n).count();
        assert_eq!(
            (count("h1"), count("main"), count("header"), count("footer"), count("title")),
            (1, 1, 1, 1, 1),
            "{name}"
        );
        assert!(html.contains(r#"<html lang="ko">"#) || html.contains(r#"<html lang="en">"#));
        assert!(tags.iter().filter(|t| t.name == "nav").all(|t| t.get("aria-label").is_some_and(|l| !l.is_empty())));
        let first = tags.iter().find(|t| t.name == "a").unwrap();
        assert_eq!((first.get("class"), first.get("href")), (Some("skip"), Some("#main")), "the first link skips");
        assert!(tags.iter().all(|t| t.get("tabindex").is_none_or(|i| i == "-1")), "order of focus is order of text");
    });
}

#[test]
fn every_control_has_a_name_and_every_reference_a_target() {
    each(|name, _, tags| {
        let ids: Vec<&str> = tags.iter().filter_map(|t| t.get("id")).collect();
        let unique: BTreeSet<&str> = ids.iter().copied().collect();
        assert_eq!(ids.len(), unique.len(), "{name}: an id twice");
        let labels: BTreeSet<&str> = tags.iter().filter(|t| t.name == "label").filter_map(|t| t.get("for")).collect();
        for tag in tags {
            let hidden = tag.get("type") == Some("hidden");
            if ["input", "select"].contains(&tag.name.as_str()) && !hidden {
                let id = tag.get("id").expect("a control has an id");
                assert!(labels.contains(id), "{name}: no label for {id}");
                assert!(tag.name == "select" || tag.get("autocomplete").is_some(), "{name}: {id} without autocomplete");
            }
            for id in tag.get("aria-describedby").unwrap_or_default().split_whitespace() {
                assert!(unique.contains(id), "{name}: {id} is not there");
            }
            assert!(
                tag.get("aria-invalid").is_none() || tag.get("aria-describedby").is_some(),
                "{name}: an error without words"
            );
            assert!(tag.name != "progress" || tag.get("aria-label").is_some());
            assert!(
                tag.get("checked").is_none() && tag.get("autofocus").is_none(),
                "{name}: nothing is chosen or focused for people"
            );
        }
    });
}

#[test]
fn every_form_posts_to_us_with_a_token_and_every_purchase_with_a_key() {
    each(|name, html, tags| {
        let forms = tags.iter().filter(|t| t.name == "form").count();
        assert_eq!(html.matches(r#"<input type="hidden" name="csrf" value="token.1.k.mac">"#).count(), forms, "{name}");
        for form in tags.iter().filter(|t| t.name == "form") {
            let action = form.get("action").unwrap();
            assert!(
                form.get("method") == Some("post") && action.starts_with('/') && !action.starts_with("//"),
                "{name}"
            );
        }
        let acting = |t: &&Tag| t.get("action").is_some_and(|a| !["/login", "/signup", "/logout"].contains(&a));
        let keys = tags.iter().filter(|t| t.get("name") == Some("key")).count();
        assert_eq!(keys, tags.iter().filter(acting).count(), "{name}: one idempotency key per acting form");
    });
}

#[test]
fn nothing_inline_nothing_foreign_nothing_unescaped() {
    each(|name, html, tags| {
        for tag in tags {
            for (key, value) in &tag.attributes {
                assert!(!key.starts_with("on") && key != "style", "{name}: {key} in <{}>", tag.name);
                let address = ["href", "src", "action"].contains(&key.as_str());
                let ours = value.starts_with('/') && !value.starts_with("//")
                    || ["#main", "data:,", PROVIDER].contains(&value.as_str());
                assert!(!address || ours, "{name}: {key}={value}");
            }
            assert!(
                !["img", "style", "iframe", "object", "base"].contains(&tag.name.as_str()),
                "{name}: <{}>",
                tag.name
            );
            assert!(
                tag.name != "script" || tag.get("src").is_some_and(|s| s == super::assets::js()),
                "{name}: a script"
            );
        }
        let words = html.replace("{{ f.t.site }}{site}", "");
        assert!(!words.contains('{') && !words.contains('}'), "{name}: a place was not filled");
    });
}

#[test]
fn both_languages_have_the_same_page() {
    for ((name, ko), (_, en)) in pages(Lang::Ko).into_iter().zip(pages(Lang::En)) {
        let shape = |html: &str| tags(html).into_iter().map(|t| t.name).collect::<Vec<_>>();
        assert_eq!(shape(&ko), shape(&en), "{name}");
        let foreign: String = en.replace("한국어", "");
        assert!(!foreign.chars().any(|c| ('가'..='힣').contains(&c)), "{name}: Korean on an English page");
    }
}

#[test]
fn pages_fit_the_first_round_trip() {
    each(|name, html, _| assert!(html.len() <= 14 * 1_024, "{name}: {} bytes uncompressed", html.len()));
}

#[test]
fn a_moving_order_refreshes_without_script_and_can_be_stopped() {
    let ready = order(OrderState::Paying, "ready", None);
    let draw = |may| {
        OrderPage::new(frame(Lang::Ko, Tab::Orders, true), &ready, String::new(), &["kakaopay"], false, may)
            .render()
            .unwrap()
    };
    assert!(draw(true).contains(r#"<noscript><meta http-equiv="refresh""#) && draw(true).contains("?refresh=off"));
    assert!(!draw(false).contains("http-equiv"));
    assert!(draw(true).contains(&format!(r#"<a class="button" data-provider href="{PROVIDER}""#)));
    let paid = order(OrderState::Paid, "captured", None);
    let page = OrderPage::new(frame(Lang::Ko, Tab::Orders, true), &paid, String::new(), &["kakaopay"], false, true)
        .render()
        .unwrap();
    assert!(!page.contains("http-equiv") && !page.contains("data-events"), "an ended order asks nothing any more");
}

#[test]
fn what_is_shown_is_what_is_charged() {
    let f = frame(Lang::Ko, Tab::Deals, true);
    let mut deal = deal(DealState::Open, 0, 98);
    let totals = |deal: &DealView| {
        OrderForm::new(deal, IdempotencyKey::random(), 9, &f)
            .choices
            .into_iter()
            .map(|c| (c.quantity, c.total, c.selected))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        totals(&deal),
        [(1, "12,900원".into(), false), (2, "25,800원".into(), true)],
        "two are left of a limit of three"
    );
    (deal.available, deal.held) = (0, 2);
    assert_eq!(totals(&deal).len(), 1, "held units may return");
}

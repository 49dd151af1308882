//! Payments of one provider, holds and pages, while another provider hangs.

use super::crowd::come_back_paced;
use super::steps::{self, BESIDE_PER_S, Orders, Round};
use super::{Figures, Measured};
use crate::Options;
use crate::goals::quantile;
use crate::house::House;
use crate::processes::between;
use crate::wire::{Connection, Job, Outcome, at_once, get, paced, post};
use service_kit::clock::now_ms;
use service_kit::ids::DealId;
use std::sync::Arc;

/// Connections of each kind of request.
const CONNECTIONS: usize = 8;
/// How long the provider hangs, in ms.
const HANG_MS: u64 = 30_000;

/// The same twice: while every provider answers, and while Toss does not.
pub async fn beside(house: &House, round: &Round, options: &Options) -> anyhow::Result<Measured> {
    steps::all_ready(house, &round.hanging, "toss").await?;
    let hanging = steps::paid_at_toss(house, round.hanging.deal).await?;
    let [first, second] = &round.beside;
    let (first, second) = (at_page(house, first).await?, at_page(house, second).await?);
    let answers = format!("delay-before={}", options.provider_ms);
    let mut figures = Figures::new();
    let before = house.cpu()?;

    house.faults(&[("kakaopay", "approve", answers.clone())]).await?;
    look(house, round, &round.beside[0], first, "before", &mut figures).await?;
    let hang = format!("delay-before={HANG_MS}");
    house
        .faults(&[("kakaopay", "approve", answers), ("toss", "confirm", hang.clone()), ("toss", "query", hang)])
        .await?;
    at_once(&steps::job(house, hanging, CONNECTIONS, 303)).await?.whole("come back to a provider that hangs")?;
    look(house, round, &round.beside[1], second, "beside", &mut figures).await?;

    for what in ["pay", "hold", "page"] {
        let of = |when: &str| figures.get(&format!("{what}_p50_ms_{when}")).copied().unwrap_or(f64::NAN);
        let ratio = of("beside") / of("before");
        figures.insert(format!("{what}_p50_ratio"), ratio);
    }
    let after = house.cpu()?;
    house.faults(&[]).await?;
    Ok(Measured { figures, cpu: between(&before, &after) })
}

/// Shoppers of KakaoPay who stand at the provider's page and have paid there.
async fn at_page(house: &House, orders: &Orders) -> anyhow::Result<Vec<(uuid::Uuid, Vec<u8>)>> {
    steps::all_ready(house, orders, "kakaopay").await?;
    let sql = "SELECT p.order_id, p.redirect_pc FROM payment p JOIN orders o ON o.id = p.order_id WHERE o.deal_id = $1";
    let mut there = Connection::new(house.simulator);
    let mut back = Vec::new();
    for row in house.sql.query(sql, &[&orders.deal.0]).await? {
        let (order, page): (uuid::Uuid, String) = (row.get(0), row.get(1));
        let answer = steps::ask_provider(&mut there, &steps::press(steps::path(&page)?)?).await?;
        back.push((order, steps::come_back(&answer)?));
    }
    Ok(back)
}

/// Payments, holds and pages at fixed rates, all at the same time.
async fn look(
    house: &House,
    round: &Round,
    orders: &Orders,
    returns: Vec<(uuid::Uuid, Vec<u8>)>,
    when: &str,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    let (ids, requests): (Vec<_>, Vec<_>) = returns.into_iter().unzip();
    let total = requests.len();
    let holds = holds(house, round.fresh, &round.shoppers, total, when)?;
    let page = get(&format!("/deals/{}", orders.deal), "");
    let page = Job { requests: Arc::new(vec![page]), total, ..steps::job(house, Vec::new(), CONNECTIONS, 200) };
    let began_ms = now_ms();
    let (back, holds, pages) = tokio::join!(
        come_back_paced(house, requests, BESIDE_PER_S),
        paced(&holds, BESIDE_PER_S, Arc::default()),
        paced(&page, BESIDE_PER_S, Arc::default()),
    );
    back?.whole("come back")?;
    let paid = steps::all_paid(house, orders.deal, orders.held.len()).await?;
    // Each came back at its own moment: the n-th after n ÷ rate.
    let due_ms = |n: usize| began_ms as f64 + n as f64 * 1_000.0 / BESIDE_PER_S;
    let took = ids.iter().enumerate().filter_map(|(n, id)| paid.get(id).map(|at| *at as f64 - due_ms(n))).collect();
    let mut note = |what: &str, latencies_ms: &[f64]| {
        for (name, share) in [("p50", 0.5), ("p99", 0.99)] {
            figures.insert(format!("{what}_{name}_ms_{when}"), quantile(latencies_ms, share));
        }
    };
    let took: Vec<f64> = took;
    note("pay", &took);
    let of = |outcome: anyhow::Result<Outcome>, what: &str| outcome?.whole(what);
    note("hold", &of(holds, "holds")?.latencies_ms);
    note("page", &of(pages, "pages")?.latencies_ms);
    Ok(())
}

fn holds(
    house: &House,
    deal: DealId,
    shoppers: &[service_kit::ids::AccountId],
    n: usize,
    when: &str,
) -> anyhow::Result<Job> {
    let mut requests = Vec::new();
    for (number, account) in (1..).zip(shoppers.iter().take(n)) {
        let (session, pass) = (house.session(*account)?, house.pass(deal, number)?);
        let headers = format!("{session}{pass}idempotency-key: {when}-{deal}\r\n");
        requests.push(post(&format!("/api/v1/deals/{deal}/holds"), &headers, "application/json", r#"{"quantity":1}"#));
    }
    Ok(steps::job(house, requests, CONNECTIONS, 201))
}

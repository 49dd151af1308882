use super::*;

fn queue(url: &str) -> Queue {
    let mut queue = Queue::new(&Config::local(([127, 0, 0, 1], 0).into(), ([127, 0, 0, 1], 0).into()));
    queue.set_target(Provider::Toss, url);
    queue.set_target(Provider::Stripe, url);
    queue
}

fn message(provider: Provider, event: &str) -> Message {
    let seal = match provider {
        Provider::Stripe => Seal::Stripe { secret: "whsec_x".into() },
        _ => Seal::Toss { transmission_id: "t-1".into(), secret: None },
    };
    let (event, payment) = (event.to_owned(), "p-1".to_owned());
    Message { provider, event, payment, body: "{}".into(), content_type: "application/json".into(), seal }
}

/// The times, in minutes, at which a shop that never takes it is tried.
fn tries(provider: Provider) -> Vec<i64> {
    let mut queue = queue("http://127.0.0.1:9/");
    queue.push(message(provider, "e"), 0);
    let mut times = Vec::new();
    while let Some(due_ms) = queue.next_due_ms() {
        assert!(queue.take_due(due_ms - 1).is_none(), "not before its time");
        let job = queue.take_due(due_ms).unwrap();
        times.push(due_ms / 60_000);
        assert!(!queue.finish(job.id, Ok(500)));
    }
    assert_eq!(queue.view()["webhooks"][0]["state"], "gave-up");
    times
}

#[test]
fn toss_tries_seven_more_times_in_three_days_and_nineteen_hours() {
    let times = tries(Provider::Toss);
    assert_eq!(times, [0, 1, 5, 21, 85, 341, 1_365, 5_461]);
    assert_eq!(times.last().unwrap() / 60, 3 * 24 + 19);
}

#[test]
fn stripe_tries_three_times_over_hours() {
    assert_eq!(tries(Provider::Stripe), [0, 60, 240]);
}

#[test]
fn toss_wants_exactly_200_and_stripe_any_success() {
    for (provider, status, taken) in [
        (Provider::Toss, 200, true),
        (Provider::Toss, 204, false),
        (Provider::Stripe, 204, true),
        (Provider::Stripe, 302, false),
    ] {
        let mut queue = queue("http://127.0.0.1:9/");
        queue.push(message(provider, "e"), 0);
        let job = queue.take_due(0).unwrap();
        assert!(!queue.is_idle(0), "on the wire");
        assert_eq!(queue.finish(job.id, Ok(status)), taken, "{provider:?} {status}");
        assert!(queue.is_idle(0));
    }
}

#[test]
fn the_count_of_retries_is_told() {
    let mut queue = queue("http://127.0.0.1:9/");
    queue.push(message(Provider::Toss, "e"), 0);
    let first = queue.take_due(0).unwrap();
    queue.finish(first.id, Err("refused".into()));
    let second = queue.take_due(60_000).unwrap();
    let count = |job: &Job| job.headers.iter().find(|h| h.0.ends_with("retried-count")).unwrap().1.clone();
    assert_eq!((count(&first).as_str(), count(&second).as_str()), ("0", "1"));
}

#[test]
fn without_an_address_or_when_lost_nothing_is_sent() {
    let mut queue = queue("");
    queue.push(message(Provider::Toss, "e"), 0);
    queue.set_target(Provider::Toss, "http://127.0.0.1:9/");
    queue.lose_next(Provider::Toss, 1);
    queue.push(message(Provider::Toss, "e"), 0);
    queue.push(message(Provider::Toss, "e"), 0);
    let states: Vec<Value> =
        queue.view()["webhooks"].as_array().unwrap().iter().map(|webhook| webhook["state"].clone()).collect();
    assert_eq!(states, ["no-target", "lost", "waiting"]);
}

#[test]
fn the_oldest_is_forgotten_when_too_many_are_remembered() {
    let mut queue = queue("http://127.0.0.1:9/");
    for _ in 0..=WEBHOOKS_MAX {
        queue.push(message(Provider::Toss, "e"), 0);
    }
    let view = queue.view();
    assert_eq!((view["webhooks"].as_array().unwrap().len(), &view["forgotten"]), (WEBHOOKS_MAX, &json!(1)));
    assert_eq!(queue.due.len(), WEBHOOKS_MAX);
}

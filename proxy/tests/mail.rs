//! Letters to people whose turn is near: the form, a real mail server on a socket, and what is left afterwards.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

mod common;

use base64::Engine as _;
use common::{World, client, free_port};
use queue::keys::RoomKeys;
use queue::settings::RoomSettings;
use serde_json::Value;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, mpsc};

/// Nothing here takes longer unless it is broken.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the mail server got: envelope and text.
#[derive(Debug)]
struct Received {
    from: String,
    to: String,
    text: String,
}

impl Received {
    fn header(&self, name: &str) -> &str {
        self.text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).unwrap()
    }
    fn body(&self) -> String {
        let encoded = self.text.split_once("\r\n\r\n").unwrap().1.replace("\r\n", "");
        String::from_utf8(base64::engine::general_purpose::STANDARD.decode(encoded).unwrap()).unwrap()
    }
}

/// A mail server that gives the `answers` to the first recipients and takes everything afterwards.
struct Smtp {
    port: u16,
    received: mpsc::UnboundedReceiver<Received>,
}

impl Smtp {
    async fn start(port: u16, answers: &[&'static str]) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sender, received) = mpsc::unbounded_channel();
        let answers = Arc::new(Mutex::new(answers.iter().copied().collect::<VecDeque<_>>()));
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(talk(socket, sender.clone(), answers.clone()));
            }
        });
        Self { port, received }
    }

    async fn next(&mut self) -> Received {
        tokio::time::timeout(PATIENCE, self.received.recv()).await.expect("a letter in time").unwrap()
    }
}

async fn talk(
    socket: TcpStream,
    received: mpsc::UnboundedSender<Received>,
    answers: Arc<Mutex<VecDeque<&'static str>>>,
) -> Option<()> {
    let mut wire = BufReader::new(socket);
    let mut letter = Received { from: String::new(), to: String::new(), text: String::new() };
    wire.write_all(b"220 mail.example\r\n").await.ok()?;
    loop {
        let mut line = String::new();
        wire.read_line(&mut line).await.ok().filter(|n| *n > 0)?;
        let answer = match line.get(..4)? {
            "MAIL" => {
                letter.from = line.trim().to_owned();
                "250 ok"
            }
            "RCPT" => {
                letter.to = line.trim().to_owned();
                answers.lock().await.pop_front().unwrap_or("250 ok")
            }
            "DATA" => {
                wire.write_all(b"354 go on\r\n").await.ok()?;
                letter.text.clear();
                loop {
                    let mut line = String::new();
                    wire.read_line(&mut line).await.ok().filter(|n| *n > 0)?;
                    if line == ".\r\n" {
                        break;
                    }
                    letter.text.push_str(&line);
                }
                let taken = Received { from: letter.from.clone(), to: letter.to.clone(), text: letter.text.clone() };
                received.send(taken).ok()?;
                "250 taken"
            }
            "QUIT" => return None,
            _ => "250 ok",
        };
        wire.write_all(format!("{answer}\r\n").as_bytes()).await.ok()?;
    }
}

/// One person is inside, the room holds no more: everybody else waits at the front.
fn full(room: &mut RoomSettings) {
    room.inside_max = 1;
}

async fn world(port: u16) -> World {
    World::start_with(full, |config| {
        config["mail"] = serde_json::json!({
            "smtp_url": format!("smtp://127.0.0.1:{port}"), "from": "The shop <no-reply@shop.example>", "near_people": 100,
        });
    })
    .await
}

async fn join(world: &World) -> (String, u64) {
    let body: Value = client().post(world.room_url("tickets")).send().await.unwrap().json().await.unwrap();
    let number = body["ticket"].as_str().unwrap().split('.').nth(2).unwrap().parse().unwrap();
    (body["ticket"].as_str().unwrap().to_owned(), number)
}

/// Somebody who waits behind somebody who was called first.
async fn second_in_line(world: &World) -> (String, u64) {
    join(world).await;
    join(world).await
}

async fn ask(world: &World, ticket: &str, address: &str) -> reqwest::Response {
    client()
        .post(world.room_url("mail"))
        .header("floodgate-ticket", ticket)
        .form(&[("address", address)])
        .send()
        .await
        .unwrap()
}

async fn until_forgotten(world: &World) {
    let mailto = RoomKeys::new(&world.room).mailto();
    for _ in 0..600 {
        if world.redis.command("HLEN", &[&mailto]).await.unwrap().int() == Ok(0) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("an address is still kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_comes_when_the_turn_is_near_and_nothing_is_kept() {
    let mut smtp = Smtp::start(0, &[]).await;
    let world = world(smtp.port).await;
    let (ticket, number) = second_in_line(&world).await;
    let cookie = format!("fg_t_{}={ticket}; fg_lang=ja", world.room);
    let sent = client()
        .post(world.room_url("mail"))
        .header("accept", "text/html")
        .header("cookie", &cookie)
        .header("referer", world.buy_url())
        .form(&[("address", "visitor@home.example")])
        .send()
        .await
        .unwrap();
    assert_eq!(sent.status(), 303);
    assert_eq!(sent.headers()["location"], format!("{}?fg_mail=on", world.buy()).as_str());
    let letter = smtp.next().await;
    assert_eq!(
        (letter.from.contains("<no-reply@shop.example>"), letter.to.contains("<visitor@home.example>")),
        (true, true)
    );
    assert_eq!(letter.header("To"), "visitor@home.example");
    assert_eq!(letter.header("From"), "The shop <no-reply@shop.example>");
    assert_eq!(letter.header("Content-Language"), "ja");
    assert_eq!(letter.header("Message-ID"), format!("<near.{number}.{}@127.0.0.1>", world.room));
    let body = letter.body();
    assert!(body.contains("順番") && body.contains(&world.buy_url()), "{body}");
    let mac = ticket.rsplit('.').next().unwrap();
    assert!(!body.contains(mac) && !body.contains("fg_"), "neither a ticket nor a parameter: {body}");
    until_forgotten(&world).await;
    let again = ask(&world, &ticket, "visitor@home.example").await;
    assert_eq!(again.status(), 409, "one letter per number");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_for_now_is_tried_again_and_one_for_ever_is_not() {
    let mut smtp = Smtp::start(0, &["451 later", "550 nobody here"]).await;
    let world = world(smtp.port).await;
    let (ticket, _) = second_in_line(&world).await;
    assert_eq!(ask(&world, &ticket, "first@home.example").await.status(), 204);
    // Refused for now, then for ever.
    until_forgotten(&world).await;
    let (ticket, _) = join(&world).await;
    assert_eq!(ask(&world, &ticket, "second@home.example").await.status(), 204);
    assert!(smtp.next().await.to.contains("second@home.example"));
    assert!(smtp.received.try_recv().is_err(), "the first one never went out");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_server_that_is_away_loses_no_letter() {
    let port = free_port();
    let world = world(port).await;
    let (ticket, number) = second_in_line(&world).await;
    assert_eq!(ask(&world, &ticket, "visitor@home.example").await.status(), 204);
    let mailto = RoomKeys::new(&world.room).mailto();
    let mark = async || {
        let value = world.redis.command("HGET", &[&mailto, &number.to_string()]).await.unwrap();
        value.text().unwrap_or_default().split('|').next().unwrap().to_owned()
    };
    for _ in 0..600 {
        if mark().await == "f1" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(mark().await, "f1", "tried once, and known not to have gone out");
    let mut smtp = Smtp::start(port, &[]).await;
    assert!(smtp.next().await.to.contains("visitor@home.example"));
    until_forgotten(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_is_forgotten_at_once() {
    let world = world(free_port()).await;
    let (ticket, _) = second_in_line(&world).await;
    assert_eq!(ask(&world, &ticket, "visitor@home.example").await.status(), 204);
    let mailto = RoomKeys::new(&world.room).mailto();
    assert_eq!(world.redis.command("HLEN", &[&mailto]).await.unwrap().int(), Ok(1));
    let left = client().delete(world.room_url("ticket")).header("floodgate-ticket", &ticket).send().await.unwrap();
    assert_eq!(left.status(), 204);
    assert_eq!(world.redis.command("HLEN", &[&mailto]).await.unwrap().int(), Ok(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_visitor_of_this_site_leaves_an_address_and_only_a_good_one() {
    let world = world(free_port()).await;
    let (ticket, _) = second_in_line(&world).await;
    let http = client();
    let url = world.room_url("mail");
    let form = |request: reqwest::RequestBuilder| request.form(&[("address", "visitor@home.example")]);
    let mine = || http.post(&url).header("floodgate-ticket", &ticket);
    for (request, status) in [
        (http.get(&url).header("floodgate-ticket", &ticket), 405),
        (form(http.post(&url)), 401),
        (form(http.post(&url)).header("floodgate-ticket", "2.forged"), 401),
        (form(mine()).header("origin", "https://evil.example"), 403),
        (form(mine()).header("sec-fetch-site", "cross-site"), 403),
        (mine().json(&serde_json::json!({ "address": "visitor@home.example" })), 400),
        (mine().form(&[("address", "a".repeat(2_000))]), 413),
        (mine().form(&[("address", "nobody")]), 422),
        (mine().form(&[("address", "a@b.example\r\nBcc: c@d.example")]), 422),
        (mine().form(&[("other", "visitor@home.example")]), 422),
        (form(http.post(format!("{}/_floodgate/rooms/nowhere/mail", world.base))).header("floodgate-ticket", "x"), 404),
    ] {
        let answer = request.send().await.unwrap();
        let got = answer.status();
        assert_eq!(got, status, "{}", answer.text().await.unwrap());
    }
    // A browser is sent back to the form.
    let form = mine().header("accept", "text/html").form(&[("address", "nobody")]).send().await.unwrap();
    assert_eq!((form.status().as_u16(), form.headers()["location"].to_str().unwrap()), (303, world.buy().as_str()));
    let mailto = RoomKeys::new(&world.room).mailto();
    assert_eq!(world.redis.command("HLEN", &[&mailto]).await.unwrap().int(), Ok(0));
    assert!(world.log().await.is_empty(), "nothing of this reaches the origin");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_mail_server_nobody_is_asked() {
    let world = World::start(full).await;
    let (ticket, _) = second_in_line(&world).await;
    assert_eq!(ask(&world, &ticket, "visitor@home.example").await.status(), 404);
}

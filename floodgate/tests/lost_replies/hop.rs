//! A line between two processes that understands what is said on it: it counts replies by the request they answer, and
//! loses exactly one of them. The request has gone through and its effect is complete; then the connection closes.
//!
//! A reply is named by its request and its turn ("the second reply to `EVALSHA hold`"), because workers poll beside the
//! story and would shift plain numbers. (The bench of `e2e/faults` harms lines in other ways, without reading them.)

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::Mutex;

/// Where a line leads, and the language on it.
#[derive(Clone)]
pub enum Target {
    Redis(PathBuf),
    Postgres(PathBuf),
    Http(SocketAddr),
}

/// Replies by what they answer.
pub type Counts = BTreeMap<String, usize>;

#[derive(Default)]
struct Book {
    seen: Counts,
    /// The reply to lose: which of those to this request.
    armed: Option<(String, usize)>,
    lost: bool,
}

impl Book {
    /// Counts a reply; says whether it is to be lost.
    fn reply(&mut self, label: &str) -> bool {
        let count = self.seen.entry(label.to_owned()).or_default();
        *count += 1;
        let mine = self.armed.as_ref().is_some_and(|(armed, turn)| armed == label && *turn == *count);
        if mine {
            (self.armed, self.lost) = (None, true);
        }
        mine
    }
}

pub struct Hop {
    pub name: &'static str,
    pub address: SocketAddr,
    book: Arc<Mutex<Book>>,
}

impl Hop {
    pub async fn open(name: &'static str, target: Target) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let book = Arc::new(Mutex::new(Book::default()));
        let (kept, names) = (book.clone(), Arc::new(script_names()));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let _ = client.set_nodelay(true);
                tokio::spawn(serve(client, target.clone(), kept.clone(), names.clone()));
            }
        });
        Self { name, address, book }
    }

    /// Counts from zero, and loses this reply when it comes.
    pub async fn begin(&self, lose: Option<(String, usize)>) {
        *self.book.lock().await = Book { armed: lose, ..Book::default() };
    }

    /// What was counted since, and whether a reply was lost.
    pub async fn end(&self) -> (Counts, bool) {
        let book = std::mem::take(&mut *self.book.lock().await);
        (book.seen, book.lost)
    }
}

async fn serve(client: TcpStream, target: Target, book: Arc<Mutex<Book>>, names: Arc<HashMap<String, String>>) {
    let (client_read, client_write) = client.into_split();
    let waiting = Arc::new(Mutex::new(VecDeque::new()));
    let speech = match &target {
        Target::Redis(_) => Speech::Redis { names },
        Target::Postgres(_) => {
            Speech::Postgres { is_begun: false, texts: HashMap::new(), unit: None, before: String::new() }
        }
        Target::Http(_) => Speech::Http,
    };
    let kind = target.clone();
    let (there, back): (Box<dyn AsyncWrite + Send + Unpin>, Box<dyn AsyncRead + Send + Unpin>) = match target {
        Target::Redis(path) | Target::Postgres(path) => {
            let Ok(server) = UnixStream::connect(path).await else { return };
            let (read, write) = server.into_split();
            (Box::new(write), Box::new(read))
        }
        Target::Http(address) => {
            let Ok(server) = TcpStream::connect(address).await else { return };
            let _ = server.set_nodelay(true);
            let (read, write) = server.into_split();
            (Box::new(write), Box::new(read))
        }
    };
    // Whichever way ends, the other ends with it: both ends see a closed connection.
    tokio::select! {
        _ = requests(client_read, there, speech, &waiting) => {}
        _ = replies(back, client_write, kind, &waiting, &book) => {}
    }
}

type Waiting = Arc<Mutex<VecDeque<String>>>;

async fn requests(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut speech: Speech,
    waiting: &Waiting,
) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    while from.read_buf(&mut bytes).await? > 0 {
        while let Some((length, label)) = speech.request(&bytes) {
            waiting.lock().await.extend(label);
            to.write_all(&bytes[..length]).await?;
            bytes.drain(..length);
        }
        to.flush().await?;
    }
    Ok(())
}

async fn replies(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    kind: Target,
    waiting: &Waiting,
    book: &Mutex<Book>,
) -> std::io::Result<()> {
    let (mut bytes, mut unit) = (Vec::new(), Vec::new());
    while from.read_buf(&mut bytes).await? > 0 {
        while let Some((length, is_end)) = piece(&kind, &bytes) {
            unit.extend(bytes.drain(..length));
            let is_asked = !waiting.lock().await.is_empty();
            // What nobody asked for (a notification, the rest of a long answer) goes on at once.
            if is_asked && !is_end {
                continue;
            }
            if is_asked {
                let label = waiting.lock().await.pop_front().unwrap();
                if book.lock().await.reply(&label) {
                    return Ok(());
                }
            }
            to.write_all(&unit).await?;
            unit.clear();
        }
        to.flush().await?;
    }
    Ok(())
}

/// The length of the first whole piece of an answer, and whether an answer is complete with it.
fn piece(kind: &Target, bytes: &[u8]) -> Option<(usize, bool)> {
    match kind {
        Target::Redis(_) => Some((resp(bytes)?, true)),
        Target::Postgres(_) => {
            let length = message(bytes.get(1..)?)? + 1;
            Some((length, bytes[0] == b'Z'))
        }
        // The effect is there before the first byte of the answer.
        Target::Http(_) => (!bytes.is_empty()).then_some((bytes.len(), true)),
    }
}

/// The length of a message that begins with its length, if it is whole.
fn message(bytes: &[u8]) -> Option<usize> {
    let length = usize::try_from(u32::from_be_bytes(bytes.get(..4)?.try_into().unwrap())).unwrap();
    (bytes.len() >= length).then_some(length)
}

fn line(bytes: &[u8]) -> Option<usize> {
    Some(bytes.windows(2).position(|pair| pair == b"\r\n")? + 2)
}

/// The length of the first value in Redis' protocol, if it is whole.
fn resp(bytes: &[u8]) -> Option<usize> {
    let head = line(bytes)?;
    let number = || std::str::from_utf8(&bytes[1..head - 2]).unwrap().parse::<i64>().unwrap();
    let length = match bytes[0] {
        b'$' => head + usize::try_from(number()).map_or(0, |length| length + 2),
        b'*' => {
            let mut at = head;
            for _ in 0..number() {
                at += resp(bytes.get(at..)?)?;
            }
            at
        }
        b'+' | b'-' | b':' => head,
        other => panic!("Redis says {:?}", char::from(other)),
    };
    (bytes.len() >= length).then_some(length)
}

/// What a client says, read only as far as it names a request.
enum Speech {
    Redis {
        names: Arc<HashMap<String, String>>,
    },
    Postgres {
        is_begun: bool,
        /// The texts of prepared statements by their names.
        texts: HashMap<String, String>,
        /// What the messages since the last sync say.
        unit: Option<String>,
        /// The last statement that was run: a commit is named after it.
        before: String,
    },
    Http,
}

impl Speech {
    /// The length of the first whole piece, and the name of the request that it completes, if it completes one.
    fn request(&mut self, bytes: &[u8]) -> Option<(usize, Option<String>)> {
        match self {
            Self::Redis { names } => {
                let length = resp(bytes)?;
                let text = String::from_utf8_lossy(&bytes[..length]);
                let mut words = text.split("\r\n").skip(2).step_by(2);
                let (verb, first) = (words.next().unwrap().to_ascii_uppercase(), words.next().unwrap_or_default());
                let label = match verb.as_str() {
                    "EVALSHA" => format!("EVALSHA {}", names.get(first).map_or(first, String::as_str)),
                    _ => verb,
                };
                Some((length, Some(label)))
            }
            Self::Postgres { is_begun, texts, unit, before } => {
                if !*is_begun {
                    let length = message(bytes)?;
                    *is_begun = true;
                    return Some((length, Some("connect".to_owned())));
                }
                let length = message(bytes.get(1..)?)? + 1;
                let mut words =
                    bytes[5..length].split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned());
                let label = match bytes[0] {
                    b'P' => {
                        let (name, text) = (words.next().unwrap(), short(&words.next().unwrap()));
                        *unit = Some(format!("prepare {text}"));
                        texts.insert(name, text);
                        None
                    }
                    b'B' => {
                        let text = texts.get(&words.nth(1).unwrap()).unwrap().clone();
                        before.clone_from(&text);
                        *unit = Some(text);
                        None
                    }
                    b'Q' => Some(match short(&words.next().unwrap()) {
                        end if end.starts_with("COMMIT") => format!("COMMIT after {before}"),
                        text => text,
                    }),
                    b'S' => Some(unit.take().unwrap_or_else(|| "close".to_owned())),
                    _ => None,
                };
                Some((length, label))
            }
            Self::Http => {
                let head = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
                let text = String::from_utf8_lossy(&bytes[..head]).into_owned();
                let body: usize = text
                    .lines()
                    .find_map(|header| {
                        header.to_ascii_lowercase().strip_prefix("content-length:").map(|n| n.trim().parse().unwrap())
                    })
                    .unwrap_or(0);
                let mut words = text.split([' ', '?']);
                let (verb, path) = (words.next().unwrap(), words.next().unwrap());
                let is_id = |part: &&str| part.len() > 4 && part.contains(|c: char| c.is_ascii_digit());
                let path: Vec<&str> = path.split('/').map(|part| if is_id(&part) { "…" } else { part }).collect();
                (bytes.len() >= head + body).then(|| (head + body, Some(format!("{verb} {}", path.join("/")))))
            }
        }
    }
}

/// A statement on one line, told apart from others that begin like it.
fn short(text: &str) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let sum = words.bytes().fold(0_u16, |sum, byte| sum.rotate_left(3) ^ u16::from(byte));
    let begin: String = words.chars().take(60).collect();
    if begin == words { begin } else { format!("{begin}… ({sum:04x})") }
}

/// The names of our scripts by their digests.
fn script_names() -> HashMap<String, String> {
    let root = std::path::Path::new("..");
    let mut names = HashMap::new();
    for folder in ["deal-service/src/fast_stock/scripts", "queue/src/scripts"] {
        for entry in std::fs::read_dir(root.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
            names.insert(service_kit::redis::sha1_hex(&text), stem);
        }
    }
    names
}

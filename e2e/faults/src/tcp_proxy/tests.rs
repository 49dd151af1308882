//! Each toxic against an echo server that counts what it hears.

use super::*;
use service_kit::clock::monotonic;
use tokio::time::timeout;

/// A server that answers every line with the same line; the counter says how many bytes reached it.
async fn echo() -> (SocketAddr, Arc<AtomicU64>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let (address, heard) = (listener.local_addr().unwrap(), Arc::new(AtomicU64::new(0)));
    let count = heard.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let count = count.clone();
            tokio::spawn(async move {
                let mut chunk = [0_u8; 1_024];
                while let Ok(length @ 1..) = stream.read(&mut chunk).await {
                    count.fetch_add(length as u64, Ordering::SeqCst);
                    if stream.write_all(&chunk[..length]).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
    (address, heard)
}

async fn proxy() -> (TcpProxy, Arc<AtomicU64>) {
    let (address, heard) = echo().await;
    (TcpProxy::start(Target::Tcp(address), 1).await.unwrap(), heard)
}

async fn ask(stream: &mut TcpStream, text: &[u8]) -> std::io::Result<Vec<u8>> {
    stream.write_all(text).await?;
    let mut reply = vec![0_u8; text.len()];
    stream.read_exact(&mut reply).await?;
    Ok(reply)
}

const SOON: Duration = Duration::from_millis(300);

#[tokio::test]
async fn nothing_is_changed_by_default_and_a_closed_half_still_reads() {
    let (proxy, _) = proxy().await;
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    assert_eq!(ask(&mut stream, b"hello").await.unwrap(), b"hello");
    stream.write_all(b"last").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"last");
}

#[tokio::test]
async fn latency_and_bandwidth_take_their_time() {
    let (proxy, _) = proxy().await;
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    proxy.set(Toxics { latency_ms: 60, jitter_ms: 20, ..Toxics::default() });
    let began = monotonic();
    ask(&mut stream, b"hello").await.unwrap();
    assert!(began.elapsed() >= Duration::from_millis(120), "both ways");
    proxy.set(Toxics { bandwidth_bytes_per_s: 1_000, slice_bytes: 10, ..Toxics::default() });
    let began = monotonic();
    ask(&mut stream, &[7; 100]).await.unwrap();
    assert!(began.elapsed() >= Duration::from_millis(90), "{:?}", began.elapsed());
}

#[tokio::test]
async fn one_direction_can_be_held_and_goes_on_when_healed() {
    let (proxy, heard) = proxy().await;
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    ask(&mut stream, b"before").await.unwrap();
    proxy.set(Toxics { hold: Some(Way::Reply), ..Toxics::default() });
    stream.write_all(b"after").await.unwrap();
    let mut reply = [0_u8; 5];
    assert!(timeout(SOON, stream.read_exact(&mut reply)).await.is_err(), "no reply, and no error either");
    assert_eq!(heard.load(Ordering::SeqCst), 11, "the request went through");
    proxy.heal();
    timeout(SOON * 4, stream.read_exact(&mut reply)).await.unwrap().unwrap();
    assert_eq!(&reply, b"after");
}

#[tokio::test]
async fn a_cut_resets_what_is_open_and_refusing_resets_what_comes() {
    let (proxy, _) = proxy().await;
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    ask(&mut stream, b"x").await.unwrap();
    proxy.cut();
    let error = stream.read(&mut [0_u8; 1]).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    let mut next = TcpStream::connect(proxy.address).await.unwrap();
    ask(&mut next, b"x").await.unwrap();
    proxy.set(Toxics { refuse: true, ..Toxics::default() });
    let mut refused = TcpStream::connect(proxy.address).await.unwrap();
    assert!(ask(&mut refused, b"x").await.is_err());
    assert!(ask(&mut next, b"y").await.is_ok(), "open ones stay");
}

#[tokio::test]
async fn a_swallowed_reply_leaves_its_effect() {
    let (proxy, heard) = proxy().await;
    proxy.swallow(1, b"pay");
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    assert_eq!(ask(&mut stream, b"look").await.unwrap(), b"look", "another request is not meant");
    assert!(ask(&mut stream, b"pay 5").await.is_err());
    assert_eq!((heard.load(Ordering::SeqCst), proxy.swallowed()), (9, 1), "the server heard it");
    let mut again = TcpStream::connect(proxy.address).await.unwrap();
    assert_eq!(ask(&mut again, b"pay 5").await.unwrap(), b"pay 5", "only once");
}

#[tokio::test]
async fn replies_can_be_cut_in_the_middle() {
    let (proxy, _) = proxy().await;
    proxy.set(Toxics { limit_reply_bytes: Some(4), slice_bytes: 1, ..Toxics::default() });
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    stream.write_all(b"abcdefgh").await.unwrap();
    let mut got = Vec::new();
    let end = stream.read_to_end(&mut got).await;
    assert!(end.is_err() && got.len() <= 4, "{end:?} {got:?}");
}

#[tokio::test]
async fn nobody_listens_after_the_last_handle() {
    let (proxy, _) = proxy().await;
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    ask(&mut stream, b"x").await.unwrap();
    let address = proxy.address;
    drop(proxy);
    assert!(stream.read(&mut [0_u8; 1]).await.is_err());
    let gone = async {
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON * 4, gone).await.unwrap();
}

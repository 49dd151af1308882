//! Asks whether a role answers: one HTTP GET over a connection of its own.

use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Longest wait for one answer.
const ANSWER_MS: u64 = 2_000;
/// Longest answer that is read, in bytes.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// Status and body of `GET path`.
///
/// # Errors
/// When nobody answers in time, or not in HTTP.
pub async fn get(address: SocketAddr, path: &str) -> anyhow::Result<(u16, String)> {
    let talk = async {
        let mut stream = TcpStream::connect(address).await?;
        // HTTP/1.0: the server closes after the answer, so reading to the end is enough.
        stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes()).await?;
        let mut bytes = Vec::new();
        stream.take(ANSWER_BYTES_MAX).read_to_end(&mut bytes).await?;
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&bytes).into_owned())
    };
    let answer = tokio::time::timeout(Duration::from_millis(ANSWER_MS), talk).await??;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Ok((status.ok_or_else(|| anyhow::anyhow!("the answer is not HTTP"))?, body.to_owned()))
}

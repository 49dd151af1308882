//! An answer of the gate's own, free of Pingora until it is sent.

use bytes::Bytes;
use http::header;
use http::{HeaderName, HeaderValue, StatusCode};
use pingora::http::ResponseHeader;
use pingora::proxy::Session;
use service_kit::problem::Problem;

/// Nothing that a gate says is for a cache.
const NO_STORE: &str = "no-store";

/// Status, headers and a whole body.
#[derive(Debug, Clone)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    headers: Vec<(HeaderName, HeaderValue)>,
    /// The body; not sent for `HEAD`.
    pub body: Bytes,
}

impl Reply {
    /// An answer that no cache may keep.
    pub fn new(status: u16, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        let headers = vec![
            (header::CONTENT_TYPE, HeaderValue::from_static(content_type)),
            (header::CACHE_CONTROL, HeaderValue::from_static(NO_STORE)),
        ];
        Self { status, headers, body: body.into() }
    }
    /// JSON that no cache may keep.
    pub fn json(status: u16, body: impl Into<Bytes>) -> Self {
        Self::new(status, "application/json", body)
    }
    /// A redirect that turns into GET. `to` is a path of this site.
    pub fn see_other(to: &str) -> Self {
        Self::new(303, "text/plain; charset=utf-8", "").with(header::LOCATION, to)
    }
    /// 204.
    pub fn empty() -> Self {
        Self {
            status: 204,
            headers: vec![(header::CACHE_CONTROL, HeaderValue::from_static(NO_STORE))],
            body: Bytes::new(),
        }
    }
    /// A problem document.
    pub fn problem(problem: &Problem) -> Self {
        Self::problem_as(problem.status(), problem)
    }
    /// A problem document with a status that has no slug of its own.
    pub fn problem_as(status: u16, problem: &Problem) -> Self {
        let reply = Self::new(status, "application/problem+json", problem.to_json());
        match problem.retry_after_s {
            Some(seconds) => reply.with(header::RETRY_AFTER, &seconds.to_string()),
            None => reply,
        }
    }
    /// Adds a header. A value that no header may have (a control character) is left out.
    #[must_use]
    pub fn with(mut self, name: HeaderName, value: &str) -> Self {
        self.headers.extend(HeaderValue::from_str(value).map(|value| (name, value)));
        self
    }
    /// Puts a header in the place of one that is there.
    #[must_use]
    pub fn instead(mut self, name: HeaderName, value: &str) -> Self {
        self.headers.retain(|(n, _)| *n != name);
        self.with(name, value)
    }
    /// Adds cookies.
    #[must_use]
    pub fn cookies(mut self, cookies: impl IntoIterator<Item = String>) -> Self {
        let values = cookies.into_iter().filter_map(|c| HeaderValue::try_from(c).ok());
        self.headers.extend(values.map(|value| (header::SET_COOKIE, value)));
        self
    }
    /// The first value of a header.
    pub fn header(&self, name: &HeaderName) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).and_then(|(_, v)| v.to_str().ok())
    }

    /// Writes the whole answer for a connection that stays open, as HTTP/1.1.
    pub fn write(&self, wire: &mut Vec<u8>, date: &HeaderValue) {
        let reason = StatusCode::from_u16(self.status).ok().and_then(|s| s.canonical_reason()).unwrap_or("");
        let line = |wire: &mut Vec<u8>, name: &str, value: &[u8]| {
            for part in [name.as_bytes(), b": ", value, b"\r\n"] {
                wire.extend_from_slice(part);
            }
        };
        wire.extend_from_slice(b"HTTP/1.1 ");
        wire.extend_from_slice(HeaderValue::from(self.status).as_bytes());
        wire.push(b' ');
        wire.extend_from_slice(reason.as_bytes());
        wire.extend_from_slice(b"\r\n");
        for (name, value) in &self.headers {
            line(wire, name.as_str(), value.as_bytes());
        }
        if self.status != 204 {
            line(wire, "content-length", HeaderValue::from(self.body.len()).as_bytes());
        }
        line(wire, "date", date.as_bytes());
        line(wire, "connection", b"keep-alive");
        wire.extend_from_slice(b"\r\n");
        wire.extend_from_slice(&self.body);
    }

    /// Sends it. `content-length` is always there, so the connection can be used again.
    ///
    /// # Errors
    /// When the client is gone.
    pub async fn send(self, session: &mut Session, head_only: bool) -> pingora::Result<()> {
        let mut head = ResponseHeader::build(self.status, Some(self.headers.len() + 2))?;
        for (name, value) in self.headers {
            head.append_header(name, value)?;
        }
        if self.status != 204 {
            head.insert_header(header::CONTENT_LENGTH, HeaderValue::from(self.body.len()))?;
        }
        let no_body = head_only || self.status == 204 || self.body.is_empty();
        session.write_response_header(Box::new(head), no_body).await?;
        if !no_body {
            session.write_response_body(Some(self.body), true).await?;
        }
        Ok(())
    }
}

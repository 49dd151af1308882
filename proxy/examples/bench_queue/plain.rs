//! Three bare Pingora servers to compare with: one answers a constant, one forwards, one joins by one EVALSHA each.

use async_trait::async_trait;
use bytes::Bytes;
use http::header;
use pingora::apps::HttpServerOptions;
use pingora::http::ResponseHeader;
use pingora::proxy::{ProxyHttp, ProxyServiceBuilder, Session};
use pingora::server::configuration::ServerConf;
use pingora::server::{RunArgs, Server};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType};
use service_kit::ids::VisitorId;
use service_kit::redis::Redis;
use service_kit::script;
use std::net::SocketAddr;

script!(
    /// One join per call.
    PLAIN_JOIN,
    "plain",
    "plain.lua"
);

/// Answers every request with the same bytes.
pub struct Constant {
    pub body: Bytes,
}

/// Forwards every request.
pub struct Forward {
    pub origin: SocketAddr,
}

/// Joins with one script call per request.
pub struct Joins {
    pub redis: Redis,
    pub keys: Vec<String>,
}

async fn answer(session: &mut Session, status: u16, body: Bytes) -> pingora::Result<bool> {
    let mut head = ResponseHeader::build(status, Some(3))?;
    head.insert_header(header::CONTENT_TYPE, "application/json")?;
    head.insert_header(header::CACHE_CONTROL, "no-store")?;
    head.insert_header(header::CONTENT_LENGTH, body.len().to_string())?;
    session.write_response_header(Box::new(head), false).await?;
    session.write_response_body(Some(body), true).await?;
    Ok(true)
}

#[async_trait]
impl ProxyHttp for Constant {
    type CTX = ();
    fn new_ctx(&self) {}
    async fn request_filter(&self, session: &mut Session, (): &mut ()) -> pingora::Result<bool> {
        answer(session, 200, self.body.clone()).await
    }
    async fn upstream_peer(&self, _session: &mut Session, (): &mut ()) -> pingora::Result<Box<HttpPeer>> {
        Err(Error::new(ErrorType::InternalError))
    }
}

#[async_trait]
impl ProxyHttp for Forward {
    type CTX = ();
    fn new_ctx(&self) {}
    async fn upstream_peer(&self, _session: &mut Session, (): &mut ()) -> pingora::Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(self.origin, false, String::new())))
    }
}

#[async_trait]
impl ProxyHttp for Joins {
    type CTX = ();
    fn new_ctx(&self) {}
    async fn request_filter(&self, session: &mut Session, (): &mut ()) -> pingora::Result<bool> {
        let visitor = VisitorId::new();
        let args = ["5000000".to_owned(), format!("web:{visitor}"), visitor.to_string()];
        let (status, body) = match self.redis.run(&PLAIN_JOIN, &self.keys, &args).await {
            Ok(reply) => {
                let number = reply.at(0).and_then(service_kit::redis::Reply::int).unwrap_or(0);
                (201, format!(r#"{{"number":{number},"visitor":"{visitor}"}}"#))
            }
            Err(error) => (503, error.to_string()),
        };
        answer(session, status, body.into()).await
    }
    async fn upstream_peer(&self, _session: &mut Session, (): &mut ()) -> pingora::Result<Box<HttpPeer>> {
        Err(Error::new(ErrorType::InternalError))
    }
}

/// Serves until the parent ends this process; the same settings as the gate's own.
pub fn serve<P>(proxy: P, listen: SocketAddr, threads: usize)
where
    P: ProxyHttp + Send + Sync + 'static,
    P::CTX: Send + Sync,
{
    let conf = ServerConf { threads, max_retries: 1, ..ServerConf::default() };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let mut options = HttpServerOptions::default();
    options.keepalive_request_limit = Some(10_000);
    let mut service =
        ProxyServiceBuilder::new(&server.configuration, proxy).name("bare").server_options(options).build();
    service.add_tcp(&listen.to_string());
    server.add_service(service);
    server.run(RunArgs::default());
}

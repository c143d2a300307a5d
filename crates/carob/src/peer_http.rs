//! HTTPS requests whose bodies stream in both directions, one connection each: for blobs, which
//! are too large to hold in memory and few enough that a handshake does not matter.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use http::{Request, Response, Uri, header};
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use images::registry::{Body, BoxError};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// How long the other end may take to accept a connection and to begin its answer.
const CONNECT_WITHIN: Duration = Duration::from_secs(3);
/// A body of the largest allowed size over a slow link.
const ANSWER_WITHIN: Duration = Duration::from_secs(600);

/// Sends requests under one identity.
#[derive(Clone)]
pub(crate) struct PeerHttp {
    tls: Arc<rustls::ClientConfig>,
}

impl PeerHttp {
    /// Requests that show what `tls` holds.
    pub(crate) fn new(mut tls: rustls::ClientConfig) -> PeerHttp {
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        PeerHttp { tls: Arc::new(tls) }
    }

    /// Sends `request`, of which only method, path and headers count, to the server at `url`.
    pub(crate) async fn send(
        &self,
        url: &str,
        mut request: Request<Body>,
    ) -> Result<Response<Body>> {
        let base: Uri = url.parse().with_context(|| format!("{url} is no URL"))?;
        let host = base
            .host()
            .with_context(|| format!("{url} names no host"))?
            .to_owned();
        let port = base.port_u16().unwrap_or(443);
        let connect = async {
            let tcp = TcpStream::connect((host.trim_matches(['[', ']']), port)).await?;
            tcp.set_nodelay(true)?;
            let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned())?;
            let tls = TlsConnector::from(Arc::clone(&self.tls))
                .connect(name, tcp)
                .await?;
            anyhow::Ok(hyper::client::conn::http1::handshake(TokioIo::new(tls)).await?)
        };
        let (mut sender, connection) = tokio::time::timeout(CONNECT_WITHIN, connect)
            .await
            .context("no connection in time")??;
        // Ends with the answer's body, or when either side gives up.
        tokio::spawn(connection);
        let path = request
            .uri()
            .path_and_query()
            .map_or("/", |p| p.as_str())
            .to_owned();
        *request.uri_mut() = path.parse()?;
        let authority = base
            .authority()
            .map(ToString::to_string)
            .unwrap_or_default();
        request
            .headers_mut()
            .insert(header::HOST, authority.parse()?);
        let answer = tokio::time::timeout(ANSWER_WITHIN, sender.send_request(request))
            .await
            .context("no answer in time")??;
        Ok(answer.map(|body| body.map_err(|e| -> BoxError { e.into() }).boxed_unsync()))
    }
}

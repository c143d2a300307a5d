//! `proxy`: requests that this server passes on, to pods, to what is behind Services, and to nodes' metrics.

mod head;
mod location;
mod node;
mod place;

use std::net::Ipv4Addr;

use api::Status;
use bytes::Bytes;
use http::header::{HOST, LOCATION};
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;

use super::tunnel;
use crate::body::{AsItIs, Body, Response};
use crate::dispatch::Call;
use crate::payload::Payload;
use location::Prefix;
use place::{Place, Scheme};

pub(super) use node::{page as node_page, serves as serves_node};
pub(super) use place::Asked;

/// Whether requests of this resource are passed on whole.
pub(super) fn serves(call: &Call) -> bool {
    call.path.passes_on()
}

/// Answers `…/pods/NAME/proxy/…` and `…/services/NAME/proxy/…` with what the pod answers.
pub(super) async fn proxy(call: &Call) -> Result<Response, Status> {
    let prefix = Prefix::of(&call.uri);
    let upgrade = call
        .upgrade
        .clone()
        .filter(|_| super::upgrade::asked_for(&call.headers).is_some());
    if prefix.rest.is_none()
        && upgrade.is_none()
        && matches!(call.method, Method::GET | Method::HEAD)
    {
        return Ok(with_slash(call));
    }
    let place = Place::of(call).await?;
    let connection = tunnel::open(place.agent, place.target).await;
    let (from, to) = connection.map_err(|status| unreachable(status.message()))?;
    let connection = tokio::io::join(from, to);
    let answered = match place.scheme {
        Scheme::Http => ask(call, &prefix, connection).await,
        Scheme::Https => {
            let config = client::tls::trusting_anybody().map_err(unreachable)?;
            let client = TlsConnector::from(config);
            // No name is asked for.
            let nameless = ServerName::IpAddress(Ipv4Addr::LOCALHOST.into());
            let secured = client.connect(nameless, connection).await;
            let secured = secured.map_err(unreachable)?;
            ask(call, &prefix, secured).await
        }
    };
    let (mut answer, driver) = answered?;
    head::strip_answer(answer.headers_mut());
    relocate(call, &prefix, answer.headers_mut());
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        return switched(call, upgrade, answer, driver);
    }
    let mut answer = answer.map(|body| {
        let body = body.map_err(move |e| {
            // It is kept for as long as somebody may read: what of the request is not sent by then never is.
            let _driver = &driver;
            client::Error::transport("proxy", e)
        });
        body.boxed_unsync()
    });
    answer.extensions_mut().insert(AsItIs);
    Ok(answer)
}

/// What moves the bytes of a connection to a pod. The connection ends with it, also where the pod takes nothing.
type Driver = AbortOnDropHandle<()>;

/// Sends the request, and reads the head of its answer.
async fn ask(
    call: &Call,
    prefix: &Prefix<'_>,
    connection: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
) -> Result<(http::Response<Incoming>, Driver), Status> {
    let failed = |e: hyper::Error| unreachable(e);
    let (mut sender, connection) = http1::handshake::<_, Body>(TokioIo::new(connection))
        .await
        .map_err(failed)?;
    let driver = AbortOnDropHandle::new(tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            debug!(%error, "a proxied connection broke");
        }
    }));
    let mut request = Request::new(body(call));
    *request.method_mut() = call.method.clone();
    *request.uri_mut() = prefix.passed_on(&call.uri);
    *request.headers_mut() = head::passed_on(call);
    let answer = sender.send_request(request).await.map_err(failed)?;
    Ok((answer, driver))
}

fn body(call: &Call) -> Body {
    match call.unread_body.lock().take() {
        Some(Payload::Wire(incoming)) => incoming
            .map_err(|e| client::Error::transport("proxy", e))
            .boxed_unsync(),
        Some(Payload::Whole(bytes)) => client::full(bytes),
        None => client::full(Bytes::new()),
    }
}

/// The protocol changes on both connections, and this server carries bytes.
fn switched(
    call: &Call,
    upgrade: Option<hyper::upgrade::OnUpgrade>,
    mut answer: http::Response<Incoming>,
    driver: Driver,
) -> Result<Response, Status> {
    let refused = || unreachable("it changes the protocol unasked");
    let upgrade = upgrade.ok_or_else(refused)?;
    let pod = hyper::upgrade::on(&mut answer);
    super::upgrade::serve(call, upgrade, async move |mut client| {
        let _driver = driver;
        if let Ok(pod) = pod.await {
            // Whichever breaks off, the other hears of it by the end of its connection.
            let _ = tokio::io::copy_bidirectional(&mut client, &mut TokioIo::new(pod)).await;
        }
    });
    Ok(answer.map(|_| client::empty()))
}

/// Where a page lies has to end with a slash, or its relative links would lead elsewhere.
fn with_slash(call: &Call) -> Response {
    let query = call.uri.query().map(|q| format!("?{q}"));
    let to = format!("{}/{}", call.uri.path(), query.unwrap_or_default());
    let mut answer = http::Response::new(client::empty());
    *answer.status_mut() = StatusCode::MOVED_PERMANENTLY;
    if let Ok(to) = HeaderValue::try_from(to) {
        answer.headers_mut().insert(LOCATION, to);
    }
    answer
}

/// Leads redirects through this server again.
fn relocate(call: &Call, prefix: &Prefix<'_>, headers: &mut http::HeaderMap) {
    let host = call.host();
    let location = headers.get(LOCATION).and_then(|v| v.to_str().ok());
    let rewritten = location.and_then(|location| prefix.rewrite(location, host.as_deref()));
    if let Some(Ok(location)) = rewritten.map(HeaderValue::try_from) {
        headers.insert(LOCATION, location);
    }
}

/// 503 for what cannot be reached.
fn unreachable(why: impl std::fmt::Display) -> Status {
    Status::service_unavailable(format!("error trying to reach service: {why}"))
}

impl Call {
    /// The host that the client asked: HTTP/2 has it in the URI.
    fn host(&self) -> Option<String> {
        let header = self.headers.get(HOST).and_then(|v| v.to_str().ok());
        let authority = || self.uri.authority().map(|a| a.as_str());
        header.or_else(authority).map(str::to_owned)
    }
}

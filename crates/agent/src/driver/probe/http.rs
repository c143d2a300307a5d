//! A probe by an HTTP request, and a hook by one.

use ::http::header::USER_AGENT as AGENT;
use ::http::header::{ACCEPT, CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, LOCATION};
use ::http::{Method, Request, Response, StatusCode};
use bytes::{Bytes, BytesMut};
use futures::future::{Either, select};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::HTTPGetAction;
use rustls::pki_types::ServerName;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use url::Url;

use super::dial::{Dialer, Io, authority};
use super::{Outcome, USER_AGENT};

/// How much of a response's body is read.
const LONGEST_BODY: usize = 10 << 10;
/// How much of a response's head is read.
const LONGEST_HEAD: usize = 64 << 10;
/// How many redirects are followed, as by Go's client.
const MOST_REDIRECTS: usize = 10;

/// What was answered.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

/// Asks for what `action` says, at a port that has its number by now.
pub(super) async fn get(
    dialer: &Dialer<'_>,
    action: &HTTPGetAction,
    port: u16,
    deadline: Instant,
) -> Outcome {
    let answer = answer(dialer, action, port, USER_AGENT, deadline).await;
    answer.map_or_else(Outcome::Failure, |answer| judge(&answer))
}

/// Sends a hook's request to a port that has its number by now. As with the kubelet, any answer will do.
pub(in crate::driver) async fn tell(
    dialer: &Dialer<'_>,
    action: &HTTPGetAction,
    port: u16,
    agent: &'static str,
    deadline: Instant,
) -> Result<(), String> {
    let answer = answer(dialer, action, port, agent, deadline).await;
    answer.map(drop)
}

/// What is answered in the end, after redirects.
async fn answer(
    dialer: &Dialer<'_>,
    action: &HTTPGetAction,
    port: u16,
    agent: &'static str,
    deadline: Instant,
) -> Result<Answer, String> {
    let (mut url, mut headers) = (url(dialer, action, port)?, headers(action, agent)?);
    let host = url.host_str().map(str::to_owned);
    for _ in 0..MOST_REDIRECTS {
        let failed = |why: String| format!("Get \"{}\": {why}", shown(&url));
        let exchange = exchange(dialer, &url, &headers, deadline);
        let answer = timeout_at(deadline, exchange).await;
        let answer = answer
            .unwrap_or_else(|_| Err(timed_out()))
            .map_err(failed)?;
        match next(&url, &answer) {
            None => return Ok(answer),
            Some(Err(why)) => return Err(failed(why)),
            Some(Ok((to, relative))) => {
                // As the kubelet does it: a pod may send its probe elsewhere in itself, but not to anybody else.
                if to.host_str() != host.as_deref() {
                    return Ok(answer);
                }
                if !relative {
                    headers.remove(HOST);
                }
                url = to;
            }
        }
    }
    Err(format!(
        "Get \"{}\": stopped after {MOST_REDIRECTS} redirects",
        shown(&url)
    ))
}

/// Whom a URL means, with the port even where it is the scheme's own: as Go has it in its requests and words.
fn at(url: &Url) -> String {
    let port = url.port_or_known_default().unwrap_or(80);
    format!("{}:{port}", url.host_str().unwrap_or_default())
}

fn target(url: &Url) -> &str {
    &url[url::Position::BeforePath..url::Position::AfterQuery]
}

fn shown(url: &Url) -> String {
    format!("{}://{}{}", url.scheme(), at(url), target(url))
}

fn timed_out() -> String {
    "context deadline exceeded (Client.Timeout exceeded while awaiting headers)".to_owned()
}

fn judge(answer: &Answer) -> Outcome {
    match answer.status.as_u16() {
        200..300 => Outcome::Success,
        300..400 => Outcome::Warning(format!(
            "Probe terminated redirects, Response body: {}",
            String::from_utf8_lossy(&answer.body)
        )),
        status => Outcome::Failure(format!("HTTP probe failed with statuscode: {status}")),
    }
}

/// Where a redirect leads, and whether it names a path alone; `None` where the answer is none.
fn next(from: &Url, answer: &Answer) -> Option<Result<(Url, bool), String>> {
    if !matches!(answer.status.as_u16(), 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let location = answer.headers.get(LOCATION)?;
    let text = String::from_utf8_lossy(location.as_bytes());
    let to = from
        .join(&text)
        .map_err(|e| format!("failed to parse Location header {text:?}: {e}"));
    Some(to.map(|to| (to, Url::parse(&text).is_err())))
}

fn url(dialer: &Dialer<'_>, action: &HTTPGetAction, port: u16) -> Result<Url, String> {
    let scheme = match action.scheme.as_deref() {
        Some("HTTPS") => "https",
        _ => "http",
    };
    let host = match action.host.as_deref() {
        None | Some("") => dialer.address.to_string(),
        Some(host) => host.to_owned(),
    };
    let at = authority(&host, port);
    let mut url = Url::parse(&format!("{scheme}://{at}/"))
        .map_err(|e| format!("parse {:?}: {e}", format!("{scheme}://{at}")))?;
    let path = action.path.as_deref().unwrap_or("/");
    let path = path.split_once('#').map_or(path, |(path, _)| path);
    match path.split_once('?') {
        Some((path, query)) => {
            url.set_path(path);
            url.set_query(Some(query));
        }
        None => url.set_path(path),
    }
    Ok(url)
}

/// The headers that are asked for, and those that the kubelet adds.
fn headers(action: &HTTPGetAction, agent: &'static str) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for header in action.http_headers.iter().flatten() {
        let name = HeaderName::from_bytes(header.name.as_bytes())
            .map_err(|_| format!("net/http: invalid header field name {:?}", header.name))?;
        let value = HeaderValue::from_bytes(header.value.as_bytes())
            .map_err(|_| format!("net/http: invalid header field value for {:?}", header.name))?;
        headers.append(name, value);
    }
    let agent = HeaderValue::from_static(agent);
    headers.entry(AGENT).or_insert(agent);
    let anything = HeaderValue::from_static("*/*");
    let accept = headers.entry(ACCEPT).or_insert(anything);
    if accept.is_empty() {
        headers.remove(ACCEPT);
    }
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    Ok(headers)
}

async fn exchange(
    dialer: &Dialer<'_>,
    url: &Url,
    headers: &HeaderMap,
    deadline: Instant,
) -> Result<Answer, String> {
    let host = url.host_str().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let port = url.port_or_known_default().unwrap_or(80);
    let io = dialer.dial(bare, port, deadline).await?;
    let io: Box<dyn Io> = match url.scheme() {
        "https" => {
            let name = ServerName::try_from(bare.to_owned()).map_err(|e| e.to_string())?;
            // As the kubelet's probes do: nothing is told to whoever answers.
            let config = client::tls::trusting_anybody().map_err(|e| e.to_string())?;
            let connector = TlsConnector::from(config);
            let tls = connector.connect(name, io).await;
            Box::new(tls.map_err(|e| e.to_string())?)
        }
        _ => io,
    };
    let request = request(url, headers)?;
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(LONGEST_HEAD)
        .handshake(TokioIo::new(io))
        .await
        .map_err(words)?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(words)?;
        read(response).await
    };
    // The connection is driven here, so that a probe is one task. It may end before all that came by it is read.
    match select(Box::pin(answer), Box::pin(connection)).await {
        Either::Left((answer, _)) => answer,
        Either::Right((_, answer)) => answer.await,
    }
}

fn request(url: &Url, headers: &HeaderMap) -> Result<Request<Empty<Bytes>>, String> {
    let mut request = Request::builder()
        .method(Method::GET)
        .uri(target(url))
        .body(Empty::new())
        .map_err(|e| e.to_string())?;
    *request.headers_mut() = headers.clone();
    let host = HeaderValue::from_str(&at(url)).map_err(|e| e.to_string())?;
    request.headers_mut().entry(HOST).or_insert(host);
    Ok(request)
}

async fn read(response: Response<Incoming>) -> Result<Answer, String> {
    let (head, mut rest) = response.into_parts();
    let mut body = BytesMut::new();
    while body.len() < LONGEST_BODY {
        let Some(frame) = rest.frame().await else {
            break;
        };
        if let Ok(data) = frame.map_err(words)?.into_data() {
            let room = LONGEST_BODY - body.len();
            body.extend_from_slice(&data[..data.len().min(room)]);
        }
    }
    Ok(Answer {
        status: head.status,
        headers: head.headers,
        body: body.freeze(),
    })
}

/// The inmost cause says the most: hyper's own words are of its parts.
fn words(error: hyper::Error) -> String {
    if error.is_incomplete_message() {
        return "EOF".to_owned();
    }
    match std::error::Error::source(&error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

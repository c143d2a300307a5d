//! `wget`: what an HTTP server answers, by the pod's network.

mod exchange;
#[cfg(test)]
mod tests;

use std::time::Duration;

use ::http::header::{
    ACCEPT, AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue,
    LOCATION, USER_AGENT,
};
use ::http::{Method, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::time::timeout;
use url::Url;

use super::options::{Options, Spec};
use super::streams::Output;
use super::{Answer, Call, Stop, failed, shown, words};
use exchange::{Asked, Exchange};

/// Options that have no letter.
const HEADER: char = '\u{1}';
const POST: char = '\u{2}';
const SPIDER: char = '\u{3}';
const TRUSTING: char = '\u{4}';

const SPEC: Spec = Spec {
    flags: "qS\u{3}\u{4}",
    values: "OTU\u{1}\u{2}",
    long: &[
        ("header", HEADER),
        ("no-check-certificate", TRUSTING),
        ("output-document", 'O'),
        ("post-data", POST),
        ("quiet", 'q'),
        ("server-response", 'S'),
        ("spider", SPIDER),
        ("timeout", 'T'),
        ("user-agent", 'U'),
    ],
    leading: false,
};

/// How long each step may take where nothing is said: busybox' own bound.
const PATIENCE: u64 = 900;

/// Redirections that are followed, as busybox does.
const MOST_REDIRECTS: usize = 5;

/// What is to be got, and how.
struct Wanted {
    quiet: bool,
    shows_head: bool,
    spider: bool,
    trusting: bool,
    patience: Duration,
    /// `-` for the standard output; none for a name of the URL's.
    output: Option<String>,
    headers: HeaderMap,
    body: Option<Bytes>,
}

impl Wanted {
    fn of(options: &Options) -> Result<Self, Stop> {
        let seconds = options.value('T').map_or(Ok(PATIENCE), str::parse);
        let seconds = seconds.ok().filter(|seconds| *seconds > 0);
        let seconds = seconds.ok_or_else(|| failed("invalid number of -T"))?;
        Ok(Self {
            quiet: options.has('q'),
            shows_head: options.has('S'),
            spider: options.has(SPIDER),
            trusting: options.has(TRUSTING),
            // A timer takes no more.
            patience: Duration::from_secs(seconds.min(1 << 30)),
            output: options.value('O').map(str::to_owned),
            headers: headers(options)?,
            body: options.value(POST).map(|body| Bytes::from(body.to_owned())),
        })
    }

    fn method(&self) -> Method {
        match (self.spider, &self.body) {
            (true, _) => Method::HEAD,
            (_, Some(_)) => Method::POST,
            _ => Method::GET,
        }
    }
}

fn headers(options: &Options) -> Result<HeaderMap, Stop> {
    let mut headers = HeaderMap::new();
    let given = options
        .values(HEADER)
        .map(|line| line.split_once(':').ok_or(line));
    let agent = options.value('U').map(|agent| Ok(("User-Agent", agent)));
    for line in given.chain(agent) {
        let parsed = line.ok().and_then(|(name, value)| {
            let name = HeaderName::from_bytes(name.trim().as_bytes()).ok()?;
            Some((name, HeaderValue::from_str(value.trim()).ok()?))
        });
        let (name, value) = parsed.ok_or_else(|| failed("invalid header"))?;
        headers.append(name, value);
    }
    headers
        .entry(USER_AGENT)
        .or_insert(HeaderValue::from_static("Wget"));
    headers
        .entry(ACCEPT)
        .or_insert(HeaderValue::from_static("*/*"));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    if options.has(POST) {
        let form = HeaderValue::from_static("application/x-www-form-urlencoded");
        headers.entry(CONTENT_TYPE).or_insert(form);
    }
    Ok(headers)
}

pub(super) async fn wget(call: &mut Call) -> Answer {
    let options = Options::of(&call.args, SPEC)?;
    let wanted = Wanted::of(&options)?;
    let url = match options.operands.as_slice() {
        [url] => parse(url)?,
        [] => return Err(failed("missing URL")),
        [_, more, ..] => {
            return Err(failed(format!(
                "more than one URL is not supported: {more}"
            )));
        }
    };
    let exchange = answered(call, &wanted, url.clone()).await?;
    if wanted.spider {
        say(call, &wanted, "remote file exists").await;
        return Ok(0);
    }
    save(call, &wanted, &url, exchange).await
}

fn parse(text: &str) -> Result<Url, Stop> {
    let bad = || failed(format!("bad address '{text}'"));
    // Behind the address, the rest may be about another one.
    let scheme = text.split_once("://").map(|(scheme, _)| scheme);
    let url = match scheme.is_some_and(|scheme| !scheme.contains(['/', '?', '#'])) {
        true => Url::parse(text),
        false => Url::parse(&format!("http://{text}")),
    };
    let url = url.map_err(|_| bad())?;
    match (url.scheme(), url.host_str()) {
        ("http" | "https", Some(host)) if !host.is_empty() => Ok(url),
        ("http" | "https", _) => Err(bad()),
        (scheme, _) => Err(failed(format!("not an http or https url: {scheme}"))),
    }
}

async fn say(call: &mut Call, wanted: &Wanted, what: &str) {
    if !wanted.quiet {
        call.say(&format!("{what}\n")).await;
    }
}

/// The answer that is none of redirection, or why there is none.
async fn answered(call: &mut Call, wanted: &Wanted, mut url: Url) -> Result<Exchange, Stop> {
    let (mut method, mut body) = (wanted.method(), wanted.body.clone());
    let mut headers = wanted.headers.clone();
    for _ in 0..=MOST_REDIRECTS {
        let asked = Asked {
            method: method.clone(),
            headers: with_host(&headers, &url)?,
            body: body.clone(),
            trusting: wanted.trusting,
            patience: wanted.patience,
            quiet: wanted.quiet,
        };
        let exchange = asked.of(call, &url).await?;
        let response = &exchange.response;
        if wanted.shows_head {
            call.say(&head(response)).await;
        }
        let status = response.status();
        if status.is_success() {
            return Ok(exchange);
        }
        let next = response
            .headers()
            .get(LOCATION)
            .filter(|_| status.is_redirection());
        let Some(next) = next else {
            let why = status.canonical_reason().unwrap_or_default();
            let said = format!("{:?} {} {why}", response.version(), status.as_u16());
            return Err(failed(format!(
                "server returned error: {}",
                said.trim_end()
            )));
        };
        let next = url.join(&String::from_utf8_lossy(next.as_bytes()));
        let next = next.map_err(|_| failed("bad redirection"))?;
        if next.origin() != url.origin() {
            // They are this server's, and nobody else's.
            headers.remove(AUTHORIZATION);
            headers.remove(HOST);
        }
        url = parse(next.as_str())?;
        // As browsers do, and busybox: what was posted is posted again only where that is said.
        if !matches!(status.as_u16(), 307 | 308) && method == Method::POST {
            (method, body) = (Method::GET, None);
        }
    }
    Err(failed("too many redirections"))
}

fn with_host(headers: &HeaderMap, url: &Url) -> Result<HeaderMap, Stop> {
    let bad = |_| failed("bad address");
    let mut headers = headers.clone();
    let host = &url[url::Position::BeforeHost..url::Position::AfterPort];
    headers
        .entry(HOST)
        .or_insert(HeaderValue::from_str(host).map_err(bad)?);
    if !url.username().is_empty() {
        let [user, password] =
            [url.username(), url.password().unwrap_or_default()].map(percent_decoded);
        let both = BASE64_STANDARD.encode(format!("{user}:{password}"));
        let basic = HeaderValue::from_str(&format!("Basic {both}")).map_err(bad)?;
        headers.entry(AUTHORIZATION).or_insert(basic);
    }
    Ok(headers)
}

fn percent_decoded(text: &str) -> String {
    // As a form's value is written, but for its spaces.
    let plain = text.replace('+', "%2B");
    let mut pairs = url::form_urlencoded::parse(plain.as_bytes());
    pairs
        .next()
        .map_or_else(String::new, |(name, _)| name.into_owned())
}

fn head(response: &Response<Incoming>) -> String {
    let mut text = format!("  {:?} {}\n", response.version(), response.status());
    for (name, value) in response.headers() {
        let value = String::from_utf8_lossy(value.as_bytes());
        text += &format!("  {name}: {}\n", shown(&value));
    }
    text
}

/// The last part of a URL's path, which is no way out of a directory.
fn name_of(url: &Url) -> String {
    let last = url.path_segments().and_then(|mut parts| parts.next_back());
    match last.unwrap_or_default() {
        "" | "." | ".." => "index.html".to_owned(),
        last => last.to_owned(),
    }
}

async fn save(call: &mut Call, wanted: &Wanted, url: &Url, mut exchange: Exchange) -> Answer {
    let name = wanted.output.clone().unwrap_or_else(|| name_of(url));
    let to_stdout = name == "-";
    let mut into = match to_stdout {
        true => call.stdout.clone(),
        false => file(call, &name, wanted.output.is_some()).await?,
    };
    let (begins, ended) = match to_stdout {
        true => (
            "writing to stdout".to_owned(),
            "written to stdout".to_owned(),
        ),
        false => (format!("saving to '{name}'"), format!("'{name}' saved")),
    };
    say(call, wanted, &begins).await;
    loop {
        let frame = timeout(wanted.patience, exchange.response.body_mut().frame()).await;
        let Some(frame) = frame.map_err(|_| failed("download timed out"))? else {
            break;
        };
        let frame = frame.map_err(|_| failed("connection closed prematurely"))?;
        if let Ok(data) = frame.into_data() {
            written(&mut into, &data, &name, to_stdout).await?;
        }
    }
    flushed(&mut into, &name, to_stdout).await?;
    say(call, wanted, &ended).await;
    Ok(0)
}

async fn file(call: &Call, name: &str, replaces: bool) -> Result<Output, Stop> {
    let path = name.to_owned();
    let _paid = call.pay_names(1).await;
    let opened = call.files(move |view| {
        if !replaces && view.info(&path, false).is_ok() {
            return Err(rustix::io::Errno::EXIST.into());
        }
        view.create(&path, false)
    });
    let opened = opened
        .await
        .map_err(|e| failed(format!("can't open '{name}': {}", words(&e))));
    Ok(call.paid_file(opened?))
}

fn unwritten(error: std::io::Error, name: &str, to_stdout: bool) -> Stop {
    match to_stdout {
        true => Stop::Output(error),
        false => failed(format!("'{name}': {}", words(&error))),
    }
}

async fn written(into: &mut Output, data: &[u8], name: &str, to_stdout: bool) -> Result<(), Stop> {
    let written = tokio::io::AsyncWriteExt::write_all(into, data).await;
    written.map_err(|error| unwritten(error, name, to_stdout))
}

async fn flushed(into: &mut Output, name: &str, to_stdout: bool) -> Result<(), Stop> {
    let flushed = tokio::io::AsyncWriteExt::flush(into).await;
    flushed.map_err(|error| unwritten(error, name, to_stdout))
}

//! What becomes of a request's and an answer's headers on their way through. Pure.

use std::net::SocketAddrV4;

use http::header::{
    CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, FORWARDED, HOST, HeaderMap, HeaderName,
    HeaderValue, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{Uri, Version, request};

/// Fields that are about one connection: RFC 9110, section 7.6.1, and those that older ones name. `Trailer` goes with `TE`:
/// pods are not asked for trailers, and what is not asked for is not announced.
static HOP_BY_HOP: [HeaderName; 9] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    HeaderName::from_static("proxy-connection"),
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Who asks, and by which door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Client {
    /// Its address.
    pub(super) address: SocketAddrV4,
    /// The port that it came to.
    pub(super) port: u16,
    /// It came by TLS.
    pub(super) tls: bool,
}

/// The host that a request is for: of HTTP/2 and of whole URLs the authority, else the one `Host`.
///
/// # Errors
/// When it has more or, at a version that demands it, less than one: RFC 9112, section 3.2.
pub(super) fn host(request: &request::Parts) -> Result<HeaderValue, &'static str> {
    if let Some(authority) = request.uri.authority() {
        // Who speaks for somebody does not do so by the host.
        let text = authority.as_str();
        let host = text.rsplit_once('@').map_or(text, |(_, host)| host);
        return HeaderValue::from_str(host).map_err(|_| "the request's authority is malformed");
    }
    let mut hosts = request.headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) if host.to_str().is_ok() => Ok(host.clone()),
        (None, _) if request.version < Version::HTTP_11 => Ok(HeaderValue::from_static("")),
        _ => Err("a request has one Host"),
    }
}

/// What a request asks to go over to, if it does and may: WebSockets. Other protocols would carry further requests that
/// no rule is asked about and that say of themselves whom they are from. Who asks for them is answered as if he had not.
pub(super) fn upgrade(request: &request::Parts) -> Option<HeaderValue> {
    let asked = request.version == Version::HTTP_11 && names(&request.headers, "upgrade");
    let mut all = request.headers.get_all(UPGRADE).iter();
    match (all.next(), all.next()) {
        (Some(to), None) if asked && is_websocket(to) => Some(to.clone()),
        _ => None,
    }
}

/// Whether this is the one protocol that connections go over to.
pub(super) fn is_websocket(to: &HeaderValue) -> bool {
    to.as_bytes().eq_ignore_ascii_case(b"websocket")
}

/// Whether `Connection` names something.
fn names(headers: &HeaderMap, wanted: &str) -> bool {
    tokens(headers).any(|name| name.eq_ignore_ascii_case(wanted))
}

fn tokens(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let all = headers.get_all(CONNECTION).iter();
    let all = all.filter_map(|value| value.to_str().ok());
    all.flat_map(|value| value.split(',')).map(str::trim)
}

/// Takes away what is about this connection alone.
pub(super) fn strip(headers: &mut HeaderMap) {
    // Where both say how long a body is, only the one that is taken away here is true: RFC 9112, section 6.3.
    if headers.contains_key(TRANSFER_ENCODING) {
        headers.remove(CONTENT_LENGTH);
    }
    let named: Vec<HeaderName> = tokens(headers)
        .filter_map(|name| name.parse().ok())
        .collect();
    for name in HOP_BY_HOP.iter().chain(&named) {
        headers.remove(name);
    }
}

/// Makes a client's request the one that a pod gets, over HTTP/1.1 and a connection of its own.
pub(super) fn onward(
    mut request: request::Parts,
    host: HeaderValue,
    client: Client,
    upgrade: Option<HeaderValue>,
) -> request::Parts {
    let path = request.uri.path_and_query().cloned();
    request.uri = path.map_or_else(Uri::default, Uri::from);
    request.version = Version::HTTP_11;
    let headers = &mut request.headers;
    strip(headers);
    // The node has already told the client to go on.
    headers.remove(EXPECT);
    join_cookies(headers);
    forwarded(headers, &host, client);
    match host.is_empty() {
        true => headers.remove(HOST),
        false => headers.insert(HOST, host),
    };
    match upgrade {
        Some(to) => go_over(headers, to),
        None => drop(headers.insert(CONNECTION, HeaderValue::from_static("close"))),
    }
    request
}

/// Says that the connection goes over to another protocol.
pub(super) fn go_over(headers: &mut HeaderMap, to: HeaderValue) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, to);
}

/// HTTP/2 may split what HTTP/1.1 has in one field: RFC 9113, section 8.2.3.
fn join_cookies(headers: &mut HeaderMap) {
    let all: Vec<&[u8]> = headers
        .get_all(COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    if all.len() < 2 {
        return;
    }
    if let Ok(joined) = HeaderValue::from_bytes(&all.join(&b"; "[..])) {
        headers.insert(COOKIE, joined);
    }
}

/// Says whom the request is from. What clients themselves say of that is not believed.
fn forwarded(headers: &mut HeaderMap, host: &HeaderValue, client: Client) {
    headers.remove(FORWARDED);
    let address = HeaderValue::from_str(&client.address.ip().to_string()).ok();
    let scheme = if client.tls { "https" } else { "http" };
    for (name, value) in [
        ("x-forwarded-for", address.clone()),
        ("x-real-ip", address),
        ("x-forwarded-host", Some(host.clone())),
        ("x-forwarded-proto", Some(HeaderValue::from_static(scheme))),
        ("x-forwarded-port", Some(HeaderValue::from(client.port))),
    ] {
        match value {
            Some(value) => drop(headers.insert(name, value)),
            None => drop(headers.remove(name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn parts(lines: &[(&str, &str)], uri: &str, version: Version) -> request::Parts {
        let mut request = Request::builder().uri(uri).version(version);
        for (name, value) in lines {
            request = request.header(*name, *value);
        }
        request.body(()).expect("a request").into_parts().0
    }

    #[test]
    fn hosts() {
        for (uri, version, lines, due) in [
            ("/", Version::HTTP_11, &[("host", "a:80")][..], Some("a:80")),
            ("http://b/", Version::HTTP_11, &[("host", "a")], Some("b")),
            ("http://u:p@b:1/", Version::HTTP_2, &[], Some("b:1")),
            ("/", Version::HTTP_10, &[], Some("")),
            ("/", Version::HTTP_11, &[], None),
            ("/", Version::HTTP_11, &[("host", "a"), ("host", "b")], None),
        ] {
            let found = host(&parts(lines, uri, version)).ok();
            let found = found.map(|host| host.to_str().expect("text").to_owned());
            assert_eq!(found.as_deref(), due, "{uri} {lines:?}");
        }
    }

    #[test]
    fn what_pods_get() {
        let client = Client {
            address: "192.0.2.1:5000".parse().expect("an address"),
            port: 443,
            tls: true,
        };
        let lines = [
            ("host", "old"),
            ("connection", "X-Own, keep-alive"),
            ("x-own", "1"),
            ("keep-alive", "5"),
            ("te", "trailers"),
            ("trailer", "x-sum"),
            ("transfer-encoding", "chunked"),
            ("content-length", "7"),
            ("expect", "100-continue"),
            ("cookie", "a=1"),
            ("cookie", "b=2"),
            ("x-forwarded-for", "6.6.6.6"),
            ("x-real-ip", "6.6.6.6"),
            ("forwarded", "for=6.6.6.6"),
            ("accept", "a"),
            ("accept", "b"),
        ];
        let asked = parts(&lines, "https://x:1/a?b=c", Version::HTTP_2);
        let host = host(&asked).expect("a host");
        let sent = onward(asked, host, client, None);
        assert_eq!(
            (sent.uri.to_string(), sent.version),
            ("/a?b=c".to_owned(), Version::HTTP_11)
        );
        let mut all: Vec<_> = sent
            .headers
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().expect("text")))
            .collect();
        all.sort();
        assert_eq!(
            all,
            [
                "accept: a",
                "accept: b",
                "connection: close",
                "cookie: a=1; b=2",
                "host: x:1",
                "x-forwarded-for: 192.0.2.1",
                "x-forwarded-host: x:1",
                "x-forwarded-port: 443",
                "x-forwarded-proto: https",
                "x-real-ip: 192.0.2.1",
            ]
        );
    }

    #[test]
    fn upgrades() {
        for (version, lines, due) in [
            (
                Version::HTTP_11,
                &[
                    ("connection", "keep-alive, Upgrade"),
                    ("upgrade", "websocket"),
                ][..],
                true,
            ),
            (
                Version::HTTP_11,
                &[("connection", "upgrade"), ("upgrade", "WebSocket")],
                true,
            ),
            (
                Version::HTTP_11,
                &[
                    ("connection", "upgrade, http2-settings"),
                    ("upgrade", "h2c"),
                    ("http2-settings", "AAMAAABkAARAAAAAAAIAAAAA"),
                ],
                false,
            ),
            (
                Version::HTTP_11,
                &[("connection", "upgrade"), ("upgrade", "websocket, h2c")],
                false,
            ),
            (
                Version::HTTP_11,
                &[
                    ("connection", "upgrade"),
                    ("upgrade", "websocket"),
                    ("upgrade", "h2c"),
                ],
                false,
            ),
            (Version::HTTP_11, &[("upgrade", "websocket")], false),
            (Version::HTTP_11, &[("connection", "upgrade")], false),
            (
                Version::HTTP_10,
                &[("connection", "upgrade"), ("upgrade", "websocket")],
                false,
            ),
        ] {
            let asked = upgrade(&parts(lines, "/", version));
            assert_eq!(asked.is_some(), due, "{version:?} {lines:?}");
        }
        let asked = parts(
            &[
                ("host", "x"),
                ("connection", "upgrade"),
                ("upgrade", "websocket"),
            ],
            "/",
            Version::HTTP_11,
        );
        let to = upgrade(&asked);
        let client = Client {
            address: "192.0.2.1:5000".parse().expect("an address"),
            port: 80,
            tls: false,
        };
        let sent = onward(asked, HeaderValue::from_static("x"), client, to);
        assert_eq!(
            (&sent.headers["connection"], &sent.headers["upgrade"]),
            (&"upgrade".parse().unwrap(), &"websocket".parse().unwrap())
        );
    }
}

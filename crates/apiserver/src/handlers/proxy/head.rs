//! Headers that go through the proxy, and those that do not.

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    AUTHORIZATION, CONNECTION, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE,
    TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::dispatch::Call;
use crate::handlers::upgrade::{asked_for, named_by_connection};

/// What is of one connection (RFC 9110, 7.6.1), besides what `Connection` names. `Trailer` is not: it says what comes at the
/// end of a body, and trailers are passed on.
const HOP_BY_HOP: [HeaderName; 8] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
];
/// What a pod must not let a browser do with this server, as in Kubernetes.
const CROSS_ORIGIN: [HeaderName; 6] = [
    ACCESS_CONTROL_ALLOW_CREDENTIALS,
    ACCESS_CONTROL_ALLOW_HEADERS,
    ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS,
    ACCESS_CONTROL_MAX_AGE,
];
/// What says to this server, or to one before it, who asks.
const IDENTITY: [&str; 2] = ["impersonate-", "x-remote-"];

/// Takes out what is of one connection; an upgrade stays.
fn strip(headers: &mut HeaderMap) {
    let upgrade = asked_for(headers).cloned();
    let named: Vec<HeaderName> = named_by_connection(headers)
        .filter_map(|name| name.parse().ok())
        .collect();
    // Asked for by those who can read them, and passed on as they come.
    let trailers = headers.get(TE).is_some_and(|te| te == "trailers");
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    if let Some(upgrade) = upgrade {
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, upgrade);
    }
}

/// What is left of an answer's headers.
pub(super) fn strip_answer(headers: &mut HeaderMap) {
    strip(headers);
    CROSS_ORIGIN.iter().for_each(|name| {
        headers.remove(name);
    });
}

/// What the pod gets: who asks is this server's to know alone.
pub(super) fn passed_on(call: &Call) -> HeaderMap {
    let mut headers = call.headers.clone();
    strip(&mut headers);
    headers.remove(AUTHORIZATION);
    let private: Vec<HeaderName> = headers
        .keys()
        .filter(|name| {
            IDENTITY
                .iter()
                .any(|private| name.as_str().starts_with(private))
        })
        .cloned()
        .collect();
    private.iter().for_each(|name| {
        headers.remove(name);
    });
    let mut set = |name: &'static str, value: Option<String>| {
        let value = value.and_then(|value| HeaderValue::try_from(value).ok());
        if let Some(value) = value {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    let host = call.host();
    set("x-forwarded-uri", Some(call.uri.path().to_owned()));
    set("x-forwarded-host", host.clone());
    set("x-forwarded-proto", Some("https".to_owned()));
    if let Some(peer) = call.connection.peer {
        let before = call.headers.get_all("x-forwarded-for").into_iter();
        let before = before.filter_map(|v| v.to_str().ok().map(str::to_owned));
        let all: Vec<String> = before.chain([peer.to_string()]).collect();
        set("x-forwarded-for", Some(all.join(", ")));
    }
    // HTTP/1.1 has it here.
    let host = host.and_then(|host| HeaderValue::try_from(host).ok());
    headers.insert(
        HOST,
        host.unwrap_or(const { HeaderValue::from_static("localhost") }),
    );
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_of_one_connection_goes_no_further() {
        let headers = |all: &[(&'static str, &'static str)]| -> HeaderMap {
            let all = all.iter().map(|(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                )
            });
            all.collect()
        };
        for (given, want) in [
            (
                &[("accept", "x"), ("keep-alive", "5")][..],
                &[("accept", "x")][..],
            ),
            (
                &[
                    ("connection", "close, X-Mine"),
                    ("x-mine", "1"),
                    ("x-yours", "2"),
                ],
                &[("x-yours", "2")],
            ),
            (
                &[
                    ("connection", "keep-alive, Upgrade"),
                    ("upgrade", "websocket"),
                ],
                &[("connection", "Upgrade"), ("upgrade", "websocket")],
            ),
            (&[("upgrade", "h2c")], &[]),
            (
                &[("te", "trailers"), ("transfer-encoding", "chunked")],
                &[("te", "trailers")],
            ),
            (&[("trailer", "x-sum")], &[("trailer", "x-sum")]),
            (&[("te", "gzip"), ("access-control-allow-origin", "*")], &[]),
        ] {
            let mut left = headers(given);
            strip_answer(&mut left);
            assert_eq!(left, headers(want), "{given:?}");
        }
    }
}

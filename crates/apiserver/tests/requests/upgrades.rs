//! Changes of protocol that nobody should ask for: a connection is taken over where everything is right, refused with a
//! status of Kubernetes' where it is not, and ends once its client has said all.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio_util::codec::Encoder as _;

use crate::agent::PODS;
use crate::frames::{Attached, normal_close};
use crate::harness::{Random, prove};
use crate::mutate::damage;

/// How long an answer is waited for: of requests that have none, and of those that have.
const WAITS: Duration = Duration::from_millis(300);
const PATIENCE: Duration = Duration::from_secs(5);

const PATHS: &[&str] = &[
    "p/attach?stdin=true&stdout=true",
    "p/attach?container=c&stderr=true&tty=perhaps",
    "p/portforward",
    "p/portforward?ports=80",
    "p/portforward?ports=80,0,99999",
    "q/portforward?ports=80",
    "p/exec?command=cat&stdin=true&stdout=true",
    "p/exec?command=echo&stdout=true&stderr=true&tty=true",
    "p/exec?command=a",
    "p/proxy/x",
    "p/log?follow=true",
    "p",
];
const CONNECTION: &[&str] = &[
    "Upgrade",
    "keep-alive, upgrade",
    "close",
    "upgrade, close",
    "",
];
const UPGRADE: &[&str] = &[
    "websocket",
    "WebSocket",
    "SPDY/3.1",
    "spdy/3.1",
    "h2c",
    "websocket, SPDY/3.1",
    "",
];
const HEADERS: &[(&str, &[&str])] = &[
    ("Sec-WebSocket-Version", &["13", "8", ""]),
    ("Sec-WebSocket-Key", &["dGhlIHNhbXBsZSBub25jZQ==", "x", ""]),
    (
        "Sec-WebSocket-Protocol",
        &[
            "v5.channel.k8s.io",
            "v4.channel.k8s.io, v5.channel.k8s.io",
            "SPDY/3.1+portforward.k8s.io",
            "v5.portforward.carob.dev",
            "base64.channel.k8s.io",
            ",, ,",
        ],
    ),
    (
        "X-Stream-Protocol-Version",
        &[
            "portforward.k8s.io",
            "v4.channel.k8s.io",
            "v5, v1, channel.k8s.io",
            "\t,",
        ],
    ),
    ("Content-Length", &["0", "5", "-1", "99999999999999999999"]),
    ("Transfer-Encoding", &["chunked", "gzip"]),
    ("Expect", &["100-continue"]),
];

fn head(random: &mut Random) -> Vec<u8> {
    let method = random.pick(&["GET", "GET", "GET", "POST", "CONNECT"]);
    let mut head = format!(
        "{method} {PODS}/{} HTTP/1.1\r\nHost: x\r\n",
        random.pick(PATHS)
    );
    let mut add = |name: &str, value: &str| head.push_str(&format!("{name}: {value}\r\n"));
    add("Connection", random.pick(CONNECTION));
    add("Upgrade", random.pick(UPGRADE));
    for (name, values) in HEADERS {
        // All that a WebSocket needs is there mostly.
        let chance = if name.starts_with("Sec-") { 85 } else { 10 };
        if random.percent(chance) {
            let at = if random.percent(70) {
                0
            } else {
                random.below(values.len())
            };
            add(name, values[at]);
        }
    }
    head.push_str("\r\n");
    head.into_bytes()
}

/// What comes after the head, whether or not it is spoken there.
fn rest(random: &mut Random) -> Vec<u8> {
    match random.below(4) {
        0 => Vec::new(),
        1 => normal_close(),
        2 => {
            let mut bytes = BytesMut::new();
            let frame = super::streams::frame(random);
            let mut encoder = apiserver::spdy::frame::Encoder::default();
            encoder.encode(frame, &mut bytes).unwrap();
            bytes.to_vec()
        }
        _ => (0..random.below(200))
            .map(|_| random.bits() as u8)
            .collect(),
    }
}

/// The answers' codes: those before the last are 100.
fn codes(mut got: &[u8]) -> Result<Vec<u16>, String> {
    let shown = || got.escape_ascii().to_string();
    let mut codes = Vec::new();
    loop {
        let code = got
            .strip_prefix(b"HTTP/1.1 ")
            .and_then(|rest| rest.get(..3));
        let code = code.and_then(|code| std::str::from_utf8(code).ok()?.parse().ok());
        codes.push(code.ok_or_else(shown)?);
        let end = got.windows(4).position(|four| four == b"\r\n\r\n");
        got = &got[end.ok_or_else(shown)? + 4..];
        if codes.last() != Some(&100) {
            return Ok(codes);
        }
    }
}

#[test]
fn any_change_of_protocol_is_made_or_refused() {
    let attached = Attached::new();
    let make = |random: &mut Random| {
        let head = head(random);
        let head = match random.percent(40) {
            true => damage(head, random),
            false => head,
        };
        [head, rest(random)].concat()
    };
    prove(
        "any_change_of_protocol_is_made_or_refused",
        make,
        |sent: &Vec<u8>| {
            let head = Head::of(sent);
            let wait = match (head.is_answered(), head.is_whole) {
                (true, _) => PATIENCE,
                // It may wait for a body, which does not come.
                (false, true) => WAITS,
                (false, false) => Duration::ZERO,
            };
            let got = attached.said(sent, wait)?;
            if got.is_empty() {
                return match head.is_answered() {
                    true => Err("no answer".to_owned()),
                    false => Ok(()),
                };
            }
            let code = codes(&got)?.last().copied().unwrap_or_default();
            match code {
                101 if !head.asks() => {
                    Err("a protocol is changed that nobody asked for".to_owned())
                }
                // Not everything that Kubernetes has is served.
                101 | 200 | 400..=499 | 501 | 503 => Ok(()),
                code => Err(format!("{code}: {}", Bytes::from(got).escape_ascii())),
            }
        },
    );
}

/// What a request says of itself, as far as it can be made out.
struct Head {
    /// It has an end.
    is_whole: bool,
    /// Its lines but the first, in small letters.
    fields: Vec<String>,
}

impl Head {
    fn of(sent: &[u8]) -> Self {
        let text = String::from_utf8_lossy(sent)
            .to_ascii_lowercase()
            .replace('\r', "");
        let text = text.trim_start_matches('\n');
        let (head, is_whole) = match text.split_once("\n\n") {
            Some((head, _)) => (head, true),
            None => (text, false),
        };
        let fields = head.lines().skip(1).map(str::to_owned).collect();
        Self { is_whole, fields }
    }

    fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let fields = self.fields.iter().filter_map(|field| field.split_once(':'));
        let named = fields.filter(move |(field, _)| *field == name);
        named.map(|(_, value)| value.trim())
    }

    /// Some wait for a body that does not come.
    fn is_answered(&self) -> bool {
        let body = ["content-length", "transfer-encoding", "expect"];
        self.is_whole && body.iter().all(|name| self.values(name).next().is_none())
    }

    /// Whether a protocol of the server's is asked for in the place of HTTP.
    fn asks(&self) -> bool {
        let mut words = self.values("connection").flat_map(|value| value.split(','));
        let mut wanted = self.values("upgrade");
        words.any(|word| word.trim() == "upgrade")
            && wanted.any(|protocol| ["websocket", "spdy/3.1"].contains(&protocol))
    }
}
#[test]
fn what_is_asked_for_rightly_is_made() {
    let attached = Attached::new();
    let socket = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
        Sec-WebSocket-Protocol: ";
    let (attach, forward) = ("attach?stdout=true", "portforward?ports=80");
    let exec = "exec?command=echo&stdout=true";
    let version = |versions: &str| format!("X-Stream-Protocol-Version: {versions}\r\n");
    for (path, upgrade, rest, code) in [
        (
            attach,
            "websocket",
            format!("{socket}v5.channel.k8s.io\r\n"),
            101,
        ),
        (
            exec,
            "websocket",
            format!("{socket}v4.channel.k8s.io\r\n"),
            101,
        ),
        (
            exec,
            "websocket",
            format!("{socket}v3.channel.k8s.io\r\n"),
            400,
        ),
        (attach, "SPDY/3.1", version("v4.channel.k8s.io"), 101),
        (
            exec,
            "SPDY/3.1",
            version("v5.channel.k8s.io, v2.channel.k8s.io"),
            101,
        ),
        (exec, "SPDY/3.1", String::new(), 101),
        (exec, "SPDY/3.1", version("v5.channel.k8s.io"), 403),
        (exec, "h2c", version("v4.channel.k8s.io"), 400),
        (
            forward,
            "websocket",
            format!("{socket}v4.channel.k8s.io\r\n"),
            101,
        ),
        (forward, "SPDY/3.1", version("portforward.k8s.io"), 101),
        (forward, "SPDY/3.1", version("others"), 403),
        (forward, "websocket", format!("{socket}others\r\n"), 400),
        (forward, "h2c", String::new(), 400),
    ] {
        let head = format!(
            "GET {PODS}/p/{path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: {upgrade}\r\n{rest}\r\n"
        );
        let got = attached.said(head.as_bytes(), PATIENCE).unwrap();
        assert_eq!(
            codes(&got),
            Ok(vec![code]),
            "{head}: {}",
            got.escape_ascii()
        );
    }
}

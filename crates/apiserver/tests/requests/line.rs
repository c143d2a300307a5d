//! A request's line and headers: whatever stands there, the answer is one that Kubernetes gives, and who has no
//! rights gets nothing.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Uri};

use crate::harness::{Input, Random, prove};
use crate::judge::{of_resource, refusal};
use crate::world::{Answer, Who, World};

const METHODS: &[&str] = &[
    "GET", "GET", "GET", "HEAD", "DELETE", "POST", "PUT", "PATCH", "OPTIONS", "TRACE", "BREW",
];
const PATHS: &[&str] = &[
    "/api/v1/namespaces/default/configmaps/a",
    "/api/v1/namespaces/default/pods",
    "/api/v1/namespaces/default/pods/a/log",
    "/api/v1/nodes/n/proxy/metrics",
    "/api/v1/namespaces/default/services/https:a:443/proxy/x",
    "/api/v1/namespaces/default/status",
    "/apis/apps/v1/deployments",
    "/apis/apps/v1/namespaces/default/deployments/a/scale",
    "/api/v1/watch/pods",
    "/api/v1",
    "/apis",
    "/apis/apps",
    "/openapi/v3/apis/apps/v1",
    "/openapi/v2",
    "/version/",
    "/healthz/ping",
    "/readyz",
    "/metrics",
    "/",
];
const QUERIES: &[&str] = &[
    "",
    "labelSelector=a%3Db",
    "fieldSelector=metadata.name%3Da",
    "limit=1",
    "limit=-1",
    "limit=99999999999999999999",
    "continue=eyJ2IjoibWV0YS5rOHMuaW8vdjEifQ",
    "continue=%7B%22rv%22%3A1%7D",
    "resourceVersion=0",
    "resourceVersion=-1",
    "resourceVersionMatch=Exact",
    "resourceVersionMatch=NotOlderThan",
    "watch=1",
    "allowWatchBookmarks=true",
    "sendInitialEvents=true",
    "timeoutSeconds=0",
    "timeoutSeconds=-5",
    "pretty=true",
    "dryRun=All",
    "dryRun=None",
    "fieldManager=%00",
    "fieldValidation=Perhaps",
    "force=true",
    "propagationPolicy=Orphan",
    "gracePeriodSeconds=-1",
    "includeObject=Object",
    "container=a",
    "tailLines=-1",
    "sinceSeconds=0",
    "%ff=%ff",
    "=&=&",
];
const HEADERS: &[(&str, &str)] = &[
    ("accept", "application/json"),
    (
        "accept",
        "application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
    ),
    (
        "accept",
        "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
    ),
    ("accept", "application/vnd.kubernetes.protobuf;stream=watch"),
    ("accept", "application/yaml;q=0.5, */*;q=0.1"),
    ("accept", "text/html;q=NaN"),
    (
        "accept",
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
    ),
    ("accept-encoding", "gzip;q=0, identity"),
    ("content-type", "application/merge-patch+json"),
    (
        "content-type",
        "application/apply-patch+yaml; charset=utf-8",
    ),
    ("content-type", "application/vnd.kubernetes.protobuf"),
    ("content-type", "multipart/form-data; boundary=\""),
    ("content-encoding", "gzip"),
    ("impersonate-user", "jane"),
    ("impersonate-user", "system:serviceaccount:default:a"),
    ("impersonate-user", ""),
    ("impersonate-group", "system:masters"),
    ("impersonate-uid", "0"),
    ("impersonate-extra-a%2fb", "c"),
    ("impersonate-extra-%", "%ff"),
    ("authorization", "Bearer a.b.c"),
    ("authorization", "Basic ="),
    ("if-none-match", "\"a\""),
    ("upgrade", "websocket"),
    ("connection", "upgrade"),
    ("user-agent", "kubectl/v1 (\u{7f})"),
    ("user-agent", ""),
    ("x-remote-user", "admin"),
];

/// A request's line and headers.
#[derive(Clone)]
struct Asked {
    method: &'static str,
    path: Vec<u8>,
    query: Vec<u8>,
    headers: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Asked {
    fn draw(random: &mut Random) -> Self {
        let query = (0..random.below(4)).map(|_| random.pick(QUERIES).as_bytes());
        let query: Vec<&[u8]> = query.collect();
        let headers = (0..random.below(5)).map(|_| {
            let (name, value) = HEADERS[random.below(HEADERS.len())];
            (name.as_bytes().to_vec(), value.as_bytes().to_vec())
        });
        let headers: Vec<_> = headers.collect();
        Self {
            method: METHODS[random.below(METHODS.len())],
            path: match random.pick(PATHS).as_bytes().to_vec() {
                path if random.percent(30) => path,
                path => damaged(path, random),
            },
            query: damaged(query.join(&b"&"[..]), random),
            headers: headers
                .into_iter()
                .map(|(name, value)| (name, damaged(value, random)))
                .collect(),
        }
    }

    /// None: no HTTP server reads such a request.
    fn request(&self) -> Option<Request<Bytes>> {
        let line = [&self.path[..], b"?", &self.query].concat();
        let mut request = Request::builder()
            .method(Method::from_bytes(self.method.as_bytes()).ok()?)
            .uri(Uri::try_from(line).ok()?);
        for (name, value) in &self.headers {
            let name = HeaderName::from_bytes(name).ok()?;
            request = request.header(name, HeaderValue::from_bytes(value).ok()?);
        }
        let request = request.body(Bytes::new()).ok()?;
        request.uri().path().starts_with('/').then_some(request)
    }
}

impl Input for Asked {
    fn smaller(&self) -> Vec<Self> {
        let headers = (0..self.headers.len()).map(|at| {
            let mut less = self.clone();
            less.headers.remove(at);
            less
        });
        let query = self.query.smaller().into_iter();
        let query = query.map(|query| Self {
            query,
            ..self.clone()
        });
        let path = self.path.smaller().into_iter();
        let path = path.map(|path| Self {
            path,
            ..self.clone()
        });
        headers.chain(query).chain(path).collect()
    }

    fn show(&self) -> String {
        let headers = self.headers.iter();
        let headers: Vec<_> = headers
            .map(|(n, v)| format!("{}: {}", n.show(), v.show()))
            .collect();
        let (path, query) = (self.path.show(), self.query.show());
        format!("{} {path}?{query}\n{}", self.method, headers.join("\n"))
    }
}

/// Bytes that paths, queries and headers give a meaning, put anywhere.
fn damaged(mut bytes: Vec<u8>, random: &mut Random) -> Vec<u8> {
    const PIECES: &[&str] = &[
        "/", "//", "%", "%2", "%2f", "%2F..", "%00", "%ff", "..", ".", ";", ",", "=", "&", "+",
        "%20", ":", "-1", "a", "~", "*", "\"", "default", "%E9", "é", "q=1",
    ];
    for _ in 0..random.below(4) {
        let at = random.below(bytes.len() + 1);
        let end = at + random.below((bytes.len() - at).min(8) + 1);
        let piece = random.pick(PIECES).as_bytes();
        match random.below(4) {
            0 => drop(bytes.drain(at..end)),
            1 => drop(bytes.splice(at..end, piece.iter().copied())),
            2 => drop(bytes.splice(at..at, piece.repeat(1 + random.below(30)))),
            _ => drop(bytes.splice(at..at, piece.iter().copied())),
        }
    }
    bytes
}

fn fuzz(name: &str, who: Who, check: impl Fn(&Asked, &Answer) -> Result<(), String>) {
    let world = World::start();
    prove(name, Asked::draw, |asked| {
        let Some(request) = asked.request() else {
            return Ok(());
        };
        let answer = world.ask_bounded(who, request)?;
        check(asked, &answer)
    });
}

fn judge(asked: &Asked, answer: &Answer) -> Result<(), String> {
    let path = String::from_utf8_lossy(&asked.path);
    refusal(answer, asked.method, &path)
}

#[test]
fn any_request_is_answered() {
    fuzz("any_request_is_answered", Who::Admin, judge);
}

#[test]
fn who_has_no_rights_gets_nothing() {
    let name = "who_has_no_rights_gets_nothing";
    fuzz(name, Who::Nobody, |asked, answer| {
        let path = String::from_utf8_lossy(&asked.path);
        if answer.code < 400 && of_resource(&path) {
            return Err(format!("{}: {path}", answer.code));
        }
        judge(asked, answer)
    });
}

//! Other registries: the pulling half of the OCI distribution API, over HTTPS.
//!
//! Bearer tokens are fetched as registries ask for them, redirects are followed (never from HTTPS to HTTP, and never
//! with the credentials to another host). Registries on the machine itself are spoken to in plain HTTP, as other
//! engines do it.

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use bytes::Bytes;
use futures::TryStreamExt as _;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use images::{Digest, Error, Name, Reader, Source};
use parking_lot::Mutex;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use url::{Host, Url};

use super::MANIFESTS;

/// How long a registry may take to connect, to begin an answer, and to give a short one whole.
const PATIENCE: Duration = Duration::from_secs(30);
const REDIRECTS: usize = 5;
/// The largest answer of a token server.
const MAX_TOKEN: usize = 64 << 10;

/// Where systems keep the certificates of the authorities that they trust.
const BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// A user's name and password at one registry.
pub(crate) type Login = (String, String);

/// One image's registry.
pub(super) struct Remote {
    base: Url,
    repository: String,
    login: Option<Login>,
    token: Mutex<Option<String>>,
}

impl Remote {
    /// The registry at `host`, as it stands in an image's name.
    pub(super) fn new(host: &str, repository: &str, login: Option<Login>) -> Result<Self, Error> {
        let (host, repository) = match host {
            // What its name has meant since before there were other registries.
            "docker.io" if !repository.contains('/') => {
                ("registry-1.docker.io", format!("library/{repository}"))
            }
            "docker.io" => ("registry-1.docker.io", repository.to_owned()),
            other => (other, repository.to_owned()),
        };
        let unusable = |e| Error::Unavailable(format!("{host} is no registry's address: {e}"));
        let mut base = Url::parse(&format!("https://{host}/")).map_err(unusable)?;
        if on_this_machine(&base) {
            base = Url::parse(&format!("http://{host}/")).map_err(unusable)?;
        }
        Ok(Self {
            base,
            repository,
            login,
            token: Mutex::default(),
        })
    }

    async fn fetch(&self, path: &str, what: &str) -> Result<Response<Incoming>, Error> {
        let unavailable = |why: String| Error::Unavailable(format!("{what}: {why}"));
        let mut url = self
            .base
            .join(path)
            .map_err(|e| unavailable(e.to_string()))?;
        let mut asked_for_token = false;
        for _ in 0..REDIRECTS {
            let token = self
                .token
                .lock()
                .clone()
                .filter(|_| same_place(&url, &self.base));
            let answer = get(&url, token.as_deref(), MANIFESTS)
                .await
                .map_err(unavailable)?;
            match answer.status() {
                StatusCode::OK => return Ok(answer),
                StatusCode::NOT_FOUND => return Err(Error::NotFound(what.to_owned())),
                StatusCode::UNAUTHORIZED if !asked_for_token && same_place(&url, &self.base) => {
                    asked_for_token = true;
                    let token = self.authorize(&answer).await.map_err(unavailable)?;
                    let token = token.ok_or_else(|| Error::Denied(what.to_owned()))?;
                    *self.token.lock() = Some(token);
                }
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                    return Err(Error::Denied(what.to_owned()));
                }
                status if status.is_redirection() => {
                    let location = answer
                        .headers()
                        .get(header::LOCATION)
                        .and_then(|l| l.to_str().ok());
                    let next = location.and_then(|l| url.join(l).ok());
                    let next =
                        next.ok_or_else(|| unavailable("a redirect to nowhere".to_owned()))?;
                    if url.scheme() == "https" && next.scheme() != "https" {
                        return Err(unavailable("a redirect away from HTTPS".to_owned()));
                    }
                    url = next;
                }
                status => return Err(unavailable(format!("the registry answered {status}"))),
            }
        }
        Err(unavailable("too many redirects".to_owned()))
    }

    /// What to send as `Authorization`, given a registry's challenge; `None` if nothing would help.
    async fn authorize(&self, answer: &Response<Incoming>) -> Result<Option<String>, String> {
        let basic = self.login.as_ref().map(|(user, password)| {
            let encoded =
                base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
            format!("Basic {encoded}")
        });
        let challenge = answer
            .headers()
            .get(header::WWW_AUTHENTICATE)
            .and_then(|c| c.to_str().ok());
        let Some((scheme, rest)) = challenge.and_then(|c| c.split_once(' ')) else {
            return Ok(basic);
        };
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Ok(basic);
        }
        let parameter = |name: &str| parameter(rest, name);
        let realm = parameter("realm").ok_or("a challenge without a realm")?;
        let mut url = Url::parse(&realm).map_err(|e| format!("the realm {realm:?}: {e}"))?;
        if self.base.scheme() == "https" && url.scheme() != "https" {
            return Err(format!("the realm {realm:?} is not HTTPS"));
        }
        let scope =
            parameter("scope").unwrap_or_else(|| format!("repository:{}:pull", self.repository));
        url.query_pairs_mut()
            .extend_pairs(parameter("service").map(|s| ("service", s)))
            .append_pair("scope", &scope);
        let answer = get(&url, basic.as_deref(), "application/json").await?;
        if !answer.status().is_success() {
            return Ok(None);
        }
        let body = whole(answer, MAX_TOKEN).await?;
        let body: serde_json::Value = serde_json::from_slice(&body).map_err(|e| e.to_string())?;
        let token = body["token"].as_str().or(body["access_token"].as_str());
        Ok(token.map(|t| format!("Bearer {t}")))
    }
}

#[async_trait]
impl Source for Remote {
    async fn manifest(&self, name: &Name) -> Result<Bytes, Error> {
        let path = format!(
            "v2/{}/manifests/{}",
            self.repository,
            name.manifest_reference()
        );
        let answer = self.fetch(&path, &name.to_string()).await?;
        let limit = usize::try_from(images::MAX_MANIFEST).unwrap_or(usize::MAX);
        let body = whole(answer, limit).await;
        body.map_err(|e| Error::Unavailable(format!("{name}: {e}")))
    }

    async fn blob(&self, name: &Name, digest: &Digest) -> Result<Reader, Error> {
        let path = format!("v2/{}/blobs/{digest}", self.repository);
        let answer = self.fetch(&path, &format!("{digest} of {name}")).await?;
        let stream = answer
            .into_body()
            .into_data_stream()
            .map_err(io::Error::other);
        Ok(Box::pin(tokio_util::io::StreamReader::new(stream)))
    }
}

/// An answer's whole body, of at most `limit` bytes.
async fn whole(answer: Response<Incoming>, limit: usize) -> Result<Bytes, String> {
    let body = Limited::new(answer.into_body(), limit).collect();
    match tokio::time::timeout(PATIENCE, body).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no whole answer within {} s", PATIENCE.as_secs())),
    }
}

/// One request on a connection of its own: a pull makes three or four.
async fn get(
    url: &Url,
    authorization: Option<&str>,
    accept: &str,
) -> Result<Response<Incoming>, String> {
    tokio::time::timeout(PATIENCE, exchange(url, authorization, accept))
        .await
        .unwrap_or_else(|_| {
            Err(format!(
                "no answer from {} within {} s",
                place(url),
                PATIENCE.as_secs()
            ))
        })
}

async fn exchange(
    url: &Url,
    authorization: Option<&str>,
    accept: &str,
) -> Result<Response<Incoming>, String> {
    let at = |e: &dyn std::fmt::Display| format!("{}: {e}", place(url));
    let host = url.host_str().ok_or("a URL without a host")?;
    let port = url.port_or_known_default().ok_or("a URL without a port")?;
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((bare, port)).await.map_err(|e| at(&e))?;
    let path = match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    };
    let mut request = Request::get(path)
        .header(header::HOST, place(url))
        .header(header::ACCEPT, accept)
        .header(
            header::USER_AGENT,
            concat!("carob/", env!("CARGO_PKG_VERSION")),
        );
    if let Some(authorization) = authorization {
        request = request.header(header::AUTHORIZATION, authorization);
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(|e| at(&e))?;
    match url.scheme() {
        "https" => {
            let name = ServerName::try_from(bare.to_owned()).map_err(|e| at(&e))?;
            let stream = connector()?
                .connect(name, stream)
                .await
                .map_err(|e| at(&e))?;
            send(stream, request).await.map_err(|e| at(&e))
        }
        _ => send(stream, request).await.map_err(|e| at(&e)),
    }
}

async fn send<S>(
    stream: S,
    request: Request<Empty<Bytes>>,
) -> Result<Response<Incoming>, hyper::Error>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a registry's connection broke");
        }
    });
    sender.send_request(request).await
}

/// TLS that trusts what the machine trusts.
fn connector() -> Result<TlsConnector, String> {
    static CONNECTOR: OnceLock<Result<TlsConnector, String>> = OnceLock::new();
    CONNECTOR.get_or_init(make_connector).clone()
}

fn make_connector() -> Result<TlsConnector, String> {
    let chosen = std::env::var("SSL_CERT_FILE").ok();
    let mut bundles = chosen.iter().map(String::as_str).chain(BUNDLES);
    let pem = bundles.find_map(|path| std::fs::read_to_string(path).ok());
    let pem = pem.ok_or("this machine has no bundle of trusted certificates (ca-certificates), so that no registry can be trusted")?;
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(client::tls::certificates(&pem).map_err(|e| e.to_string())?);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// `HOST[:PORT]`, as the `Host` header has it.
fn place(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

fn same_place(a: &Url, b: &Url) -> bool {
    a.scheme() == b.scheme()
        && a.host() == b.host()
        && a.port_or_known_default() == b.port_or_known_default()
}

fn on_this_machine(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

/// One parameter of a challenge such as `realm="https://x/token",service="x"`.
fn parameter(challenge: &str, name: &str) -> Option<String> {
    let mut rest = challenge;
    loop {
        let (key, after) = rest.split_once('=')?;
        let key = key.trim_start_matches([',', ' ']);
        let (value, next) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => after.split_once(',').unwrap_or((after, "")),
        };
        if key.eq_ignore_ascii_case(name) {
            return Some(value.to_owned());
        }
        rest = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::Full;
    use hyper::service::service_fn;
    use std::convert::Infallible;
    use tokio::net::TcpListener;

    /// A registry of one image, which wants a token for manifests and redirects for blobs.
    async fn registry(manifest: Bytes, module: Bytes) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let own = host.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (manifest, module, own) = (manifest.clone(), module.clone(), own.clone());
                let service = service_fn(move |request: Request<Incoming>| {
                    let (uri, authorization) = (
                        request.uri().clone(),
                        request.headers().get(header::AUTHORIZATION).cloned(),
                    );
                    let authorized = authorization.as_ref().is_some_and(|a| a == "Bearer t0ken");
                    let known = authorization.as_ref().is_some_and(|a| a == "Basic dTpw");
                    let answer = |code: u16| Response::builder().status(code);
                    let response = match uri.path() {
                        "/token" if known => {
                            answer(200).body(Full::new(Bytes::from("{\"token\":\"t0ken\"}")))
                        }
                        "/token" => answer(401).body(Full::default()),
                        "/elsewhere" => answer(200).body(Full::new(module.clone())),
                        _ if !authorized => answer(401)
                            .header(
                                "www-authenticate",
                                format!("Bearer realm=\"http://{own}/token\",service=\"s\""),
                            )
                            .body(Full::default()),
                        "/v2/team/app/manifests/v1" => {
                            answer(200).body(Full::new(manifest.clone()))
                        }
                        path if path.contains("/blobs/") => answer(307)
                            .header("location", "/elsewhere")
                            .body(Full::default()),
                        _ => answer(404).body(Full::default()),
                    };
                    async move { Ok::<_, Infallible>(response.unwrap()) }
                });
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service);
                tokio::spawn(connection);
            }
        });
        host
    }

    #[tokio::test]
    async fn an_image_is_pulled_with_a_token_and_through_a_redirect() {
        let module = Bytes::from_static(b"\0asm\x01\0\0\0");
        let layer = images::Descriptor::of(images::media_types::WASM, &module);
        let config = images::Descriptor::of(images::media_types::WASM_CONFIG, b"{}");
        let manifest = Bytes::from(images::Manifest::of(None, config, vec![layer]).encode());
        let host = registry(manifest, module.clone()).await;

        let dir = tempfile::tempdir().unwrap();
        let blobs = images::Blobs::open(dir.path()).unwrap();
        let name = |text: &str| format!("{host}/{text}").parse::<Name>().unwrap();
        let pull = async |text: &str, login: Option<Login>| {
            let name = name(text);
            let remote = Remote::new(&host, &name.repository, login).unwrap();
            images::pull(&name, images::Wanted::Module, &remote, &blobs).await
        };
        let login = || Some(("u".to_owned(), "p".to_owned()));
        let (pulled, _hold) = pull("team/app:v1", login()).await.unwrap();
        assert_eq!(*pulled.digest(), Digest::of(&module));
        assert!(matches!(
            pull("team/app:v2", login()).await,
            Err(Error::NotFound(_))
        ));
        assert!(matches!(
            pull("team/app:v1", None).await,
            Err(Error::Denied(_))
        ));
    }

    #[test]
    fn challenges_are_taken_apart() {
        let challenge =
            "realm=\"https://auth.x/token\",service=\"x.y\", scope=\"a:b,c\",error=none";
        assert_eq!(
            parameter(challenge, "realm").as_deref(),
            Some("https://auth.x/token")
        );
        assert_eq!(parameter(challenge, "scope").as_deref(), Some("a:b,c"));
        assert_eq!(parameter(challenge, "error").as_deref(), Some("none"));
        assert_eq!(parameter(challenge, "nope"), None);
        assert_eq!(parameter("realm=\"open", "realm"), None);
    }
}

mod forms;

use std::collections::BTreeMap;
use std::io::Write as _;

use http::{Method, StatusCode};
use http_body_util::Full;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::*;
use crate::{Descriptor, Manifest, media_types};

#[derive(Default)]
struct MemoryTags(Mutex<BTreeMap<(String, String), Digest>>);

#[async_trait]
impl Tags for MemoryTags {
    async fn get(&self, repository: &str, tag: &str) -> Result<Option<Digest>, Error> {
        Ok(self
            .0
            .lock()
            .get(&(repository.to_owned(), tag.to_owned()))
            .copied())
    }
    async fn put(&self, repository: &str, tag: &str, digest: &Digest) -> Result<(), Error> {
        self.0
            .lock()
            .insert((repository.to_owned(), tag.to_owned()), *digest);
        Ok(())
    }
    async fn delete(&self, repository: &str, tag: &str) -> Result<bool, Error> {
        Ok(self
            .0
            .lock()
            .remove(&(repository.to_owned(), tag.to_owned()))
            .is_some())
    }
    async fn list(&self, repository: &str) -> Result<Vec<(String, Digest)>, Error> {
        let tags = self.0.lock();
        Ok(tags
            .iter()
            .filter(|((name, _), _)| name == repository)
            .map(|((_, tag), d)| (tag.clone(), *d))
            .collect())
    }
    async fn repositories(&self) -> Result<Vec<String>, Error> {
        let mut names: Vec<String> = self.0.lock().keys().map(|(name, _)| name.clone()).collect();
        names.dedup();
        Ok(names)
    }
}

/// Servers in one process that reach each other by their registries' own peer endpoints.
#[derive(Default)]
struct Network {
    servers: Mutex<BTreeMap<String, Registry>>,
    dead: Mutex<Vec<String>>,
    /// Servers that send other bytes than they are asked for.
    lying: Mutex<Vec<String>>,
}

struct Link {
    from: String,
    all: Vec<String>,
    network: Arc<Network>,
}

impl Link {
    fn server(&self, peer: &str) -> Result<Registry, Error> {
        if self.network.dead.lock().iter().any(|dead| dead == peer) {
            return Err(Error::Unavailable("connection refused".to_owned()));
        }
        Ok(self.network.servers.lock()[peer].clone())
    }

    async fn ask(
        &self,
        peer: &str,
        method: Method,
        digest: &Digest,
        body: Bytes,
    ) -> Result<Response<Body>, Error> {
        let request = Request::builder()
            .method(method)
            .uri(format!("{PEER_PREFIX}{digest}"))
            .body(Full::new(body));
        Ok(self.server(peer)?.handle(request.unwrap()).await)
    }
}

#[async_trait]
impl Peers for Link {
    fn names(&self) -> Vec<String> {
        self.all
            .iter()
            .filter(|name| **name != self.from)
            .cloned()
            .collect()
    }
    async fn has(&self, peer: &str, digest: &Digest) -> Result<bool, Error> {
        Ok(self
            .ask(peer, Method::HEAD, digest, Bytes::new())
            .await?
            .status()
            .is_success())
    }
    async fn put(&self, peer: &str, digest: &Digest, size: u64, path: &Path) -> Result<(), Error> {
        let content = std::fs::read(path).unwrap();
        assert_eq!(content.len() as u64, size);
        let answer = self.ask(peer, Method::PUT, digest, content.into()).await?;
        assert_eq!(answer.status(), StatusCode::CREATED);
        Ok(())
    }
    async fn get(&self, peer: &str, digest: &Digest) -> Result<Option<Reader>, Error> {
        let answer = self.ask(peer, Method::GET, digest, Bytes::new()).await?;
        if !answer.status().is_success() {
            return Ok(None);
        }
        let mut content = answer
            .into_body()
            .collect()
            .await
            .unwrap()
            .to_bytes()
            .to_vec();
        if self.network.lying.lock().iter().any(|name| name == peer) {
            content.push(0);
        }
        Ok(Some(Box::pin(std::io::Cursor::new(content))))
    }
    async fn delete(&self, peer: &str, digest: &Digest) -> Result<(), Error> {
        self.ask(peer, Method::DELETE, digest, Bytes::new())
            .await
            .map(drop)
    }
    async fn forward(&self, peer: &str, request: Request<Body>) -> Result<Response<Body>, Error> {
        Ok(self.server(peer)?.handle(request).await)
    }
}

struct Cluster {
    network: Arc<Network>,
    _dir: tempfile::TempDir,
}

fn cluster(count: usize) -> Cluster {
    let dir = tempfile::tempdir().unwrap();
    let network = Arc::new(Network::default());
    let tags = Arc::new(MemoryTags::default());
    let all: Vec<String> = (1..=count).map(|n| format!("s-{n}")).collect();
    for name in &all {
        let blobs = Blobs::open(dir.path().join(name)).unwrap();
        let link = Link {
            from: name.clone(),
            all: all.clone(),
            network: network.clone(),
        };
        let registry = Registry::new(name.as_str(), blobs, tags.clone(), Arc::new(link));
        network.servers.lock().insert(name.clone(), registry);
    }
    Cluster { network, _dir: dir }
}

struct Answer {
    status: StatusCode,
    headers: http::HeaderMap,
    body: Bytes,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
    fn code(&self) -> String {
        self.json()["errors"][0]["code"]
            .as_str()
            .unwrap()
            .to_owned()
    }
}

impl Cluster {
    fn server(&self, n: usize) -> Registry {
        self.network.servers.lock()[&format!("s-{n}")].clone()
    }

    fn kill(&self, n: usize) {
        self.network.dead.lock().push(format!("s-{n}"));
    }

    async fn send(
        &self,
        n: usize,
        method: &str,
        uri: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request
            .body(Full::new(Bytes::copy_from_slice(body)))
            .unwrap();
        let answer = self.server(n).handle(request).await;
        let (parts, body) = answer.into_parts();
        Answer {
            status: parts.status,
            headers: parts.headers,
            body: body.collect().await.unwrap().to_bytes(),
        }
    }

    async fn get(&self, n: usize, uri: &str) -> Answer {
        self.send(n, "GET", uri, &[], b"").await
    }

    /// As `oras push` does: POST, then PUT of the whole blob.
    async fn push_blob(&self, n: usize, name: &str, content: &[u8]) -> Answer {
        let digest = Digest::of(content);
        let started = self
            .send(n, "POST", &format!("/v2/{name}/blobs/uploads/"), &[], b"")
            .await;
        assert_eq!(started.status, StatusCode::ACCEPTED);
        let location = format!("{}?digest={digest}", started.header("location"));
        self.send(n, "PUT", &location, &[], content).await
    }

    async fn push(&self, n: usize, name: &str, tag: &str, content: &[u8]) -> Digest {
        assert_eq!(
            self.push_blob(n, name, content).await.status,
            StatusCode::CREATED
        );
        assert_eq!(
            self.push_blob(n, name, b"{}").await.status,
            StatusCode::CREATED
        );
        let manifest = manifest(content);
        let answer = self.put_manifest(n, name, tag, &manifest).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{:?}", answer.body);
        assert_eq!(
            answer.header("docker-content-digest"),
            Digest::of(&manifest).to_string()
        );
        Digest::of(&manifest)
    }

    async fn put_manifest(&self, n: usize, name: &str, tag: &str, manifest: &[u8]) -> Answer {
        let uri = format!("/v2/{name}/manifests/{tag}");
        self.send(
            n,
            "PUT",
            &uri,
            &[("content-type", media_types::MANIFEST)],
            manifest,
        )
        .await
    }
}

fn manifest(content: &[u8]) -> Vec<u8> {
    let config = Descriptor::of(media_types::WASM_CONFIG, b"{}");
    Manifest::of(
        None,
        config,
        vec![Descriptor::of(media_types::WASM, content)],
    )
    .encode()
}

#[tokio::test]
async fn pushed_and_pulled_as_by_oras() {
    let cluster = cluster(1);
    let base = cluster.get(1, "/v2/").await;
    assert_eq!(
        (base.status, base.header("docker-distribution-api-version")),
        (StatusCode::OK, "registry/2.0")
    );
    let digest = cluster.push(1, "team/web", "v1", b"module").await;
    for reference in ["v1".to_owned(), digest.to_string()] {
        let uri = format!("/v2/team/web/manifests/{reference}");
        let got = cluster.get(1, &uri).await;
        assert_eq!(
            (got.status, got.header("content-type")),
            (StatusCode::OK, media_types::MANIFEST)
        );
        assert_eq!(got.body, manifest(b"module"));
        let head = cluster.send(1, "HEAD", &uri, &[], b"").await;
        assert_eq!(head.header("content-length"), got.body.len().to_string());
        assert!(head.body.is_empty());
    }
    let blob = Digest::of(b"module");
    let uri = format!("/v2/team/web/blobs/{blob}");
    assert_eq!(cluster.get(1, &uri).await.body, "module");
    let part = cluster
        .send(1, "GET", &uri, &[("range", "bytes=2-3")], b"")
        .await;
    assert_eq!(
        (part.status, part.header("content-range"), &part.body[..]),
        (StatusCode::PARTIAL_CONTENT, "bytes 2-3/6", &b"du"[..])
    );
    let outside = cluster
        .send(1, "GET", &uri, &[("range", "bytes=6-")], b"")
        .await;
    assert_eq!(outside.status, StatusCode::RANGE_NOT_SATISFIABLE);
}

#[tokio::test]
async fn pushed_in_chunks_as_by_docker() {
    let cluster = cluster(1);
    let started = cluster
        .send(1, "POST", "/v2/a/blobs/uploads/", &[], b"")
        .await;
    let session = started.header("location").to_owned();
    let first = cluster
        .send(1, "PATCH", &session, &[("content-range", "0-3")], b"abcd")
        .await;
    assert_eq!(
        (first.status, first.header("range")),
        (StatusCode::ACCEPTED, "0-3")
    );
    let gap = cluster
        .send(1, "PATCH", &session, &[("content-range", "9-9")], b"x")
        .await;
    assert_eq!(gap.status, StatusCode::RANGE_NOT_SATISFIABLE);
    let asked = cluster.get(1, &session).await;
    assert_eq!(
        (asked.status, asked.header("range")),
        (StatusCode::NO_CONTENT, "0-3")
    );
    assert_eq!(
        cluster.send(1, "PATCH", &session, &[], b"ef").await.status,
        StatusCode::ACCEPTED
    );
    let without = cluster.send(1, "PUT", &session, &[], b"").await;
    assert_eq!(
        (without.status, without.code()),
        (StatusCode::BAD_REQUEST, "DIGEST_INVALID".to_owned())
    );
    let end = format!("{session}?digest={}", Digest::of(b"abcdefg"));
    let ended = cluster.send(1, "PUT", &end, &[], b"g").await;
    assert_eq!(ended.status, StatusCode::CREATED);
    assert_eq!(
        cluster.get(1, ended.header("location")).await.body,
        "abcdefg"
    );
    assert_eq!(
        cluster.send(1, "PUT", &end, &[], b"").await.code(),
        "BLOB_UPLOAD_UNKNOWN"
    );
}

#[tokio::test]
async fn pushed_at_once_mounted_and_given_up() {
    let cluster = cluster(1);
    let digest = Digest::of(b"all");
    let uri = format!("/v2/a/blobs/uploads/?digest={digest}");
    assert_eq!(
        cluster.send(1, "POST", &uri, &[], b"other").await.code(),
        "DIGEST_INVALID"
    );
    assert_eq!(
        cluster.send(1, "POST", &uri, &[], b"all").await.status,
        StatusCode::CREATED
    );
    let mount = format!("/v2/b/blobs/uploads/?mount={digest}&from=a");
    assert_eq!(
        cluster.send(1, "POST", &mount, &[], b"").await.status,
        StatusCode::CREATED
    );
    let absent = format!(
        "/v2/b/blobs/uploads/?mount={}&from=a",
        Digest::of(b"absent")
    );
    let started = cluster.send(1, "POST", &absent, &[], b"").await;
    assert_eq!(started.status, StatusCode::ACCEPTED);
    let session = started.header("location").to_owned();
    assert_eq!(
        cluster.send(1, "DELETE", &session, &[], b"").await.status,
        StatusCode::NO_CONTENT
    );
    assert_eq!(cluster.get(1, &session).await.code(), "BLOB_UPLOAD_UNKNOWN");
}

#[tokio::test]
async fn a_session_is_found_from_any_server() {
    let cluster = cluster(3);
    let started = cluster
        .send(1, "POST", "/v2/a/blobs/uploads/", &[], b"")
        .await;
    let session = started.header("location").to_owned();
    assert_eq!(
        cluster.send(2, "PATCH", &session, &[], b"ab").await.status,
        StatusCode::ACCEPTED
    );
    let end = format!("{session}?digest={}", Digest::of(b"abc"));
    assert_eq!(
        cluster.send(3, "PUT", &end, &[], b"c").await.status,
        StatusCode::CREATED
    );
    let other = session.replace("/v2/a/", "/v2/b/");
    assert_eq!(
        cluster.send(1, "PATCH", &other, &[], b"x").await.code(),
        "BLOB_UPLOAD_UNKNOWN"
    );
}

#[tokio::test]
async fn acknowledged_means_on_a_majority() {
    let cluster = cluster(3);
    let content = vec![9; 300 << 10];
    cluster.push(1, "web", "v1", &content).await;
    let digest = Digest::of(&content);
    let holders = (1..=3)
        .filter(|n| cluster.server(*n).blobs().contains(&digest))
        .count();
    assert!(holders >= 2);
    // With one server dead a majority is left; with two, nothing is acknowledged.
    cluster.kill(3);
    let absent = format!("/v2/web/blobs/{}", Digest::of(b"one dead"));
    assert_eq!(cluster.get(1, &absent).await.code(), "BLOB_UNKNOWN");
    assert_eq!(
        cluster.push_blob(1, "web", b"one dead").await.status,
        StatusCode::CREATED
    );
    assert!(cluster.server(2).blobs().contains(&Digest::of(b"one dead")));
    cluster.kill(2);
    // Two that cannot be asked might have it.
    let absent = format!("/v2/web/blobs/{}", Digest::of(b"two dead"));
    assert_eq!(cluster.get(1, &absent).await.code(), "UNAVAILABLE");
    let answer = cluster.push_blob(1, "web", b"two dead").await;
    assert_eq!(
        (answer.status, answer.code()),
        (StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE".to_owned())
    );
    assert!(
        answer.json()["errors"][0]["message"]
            .as_str()
            .unwrap()
            .contains("connection refused")
    );
    // Not even a manifest whose blobs are here alone.
    let answer = cluster
        .put_manifest(1, "web", "v2", &manifest(b"two dead"))
        .await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(
        cluster.get(1, "/v2/web/manifests/v2").await.code(),
        "MANIFEST_UNKNOWN"
    );
}

#[tokio::test]
async fn what_is_missing_is_fetched_and_lies_are_not_believed() {
    let cluster = cluster(3);
    cluster.kill(3);
    let manifest_digest = cluster.push(1, "web", "v1", b"module").await;
    cluster.network.dead.lock().clear();
    let digest = Digest::of(b"module");
    assert!(!cluster.server(3).blobs().contains(&digest));
    // Its own copies are not there for its peers...
    let own = cluster.get(3, &format!("{PEER_PREFIX}{digest}")).await;
    assert_eq!(
        (own.status, own.code()),
        (StatusCode::NOT_FOUND, "BLOB_UNKNOWN".to_owned())
    );
    // ...and clients get what another server has, past one that sends other bytes.
    cluster.network.lying.lock().push("s-1".to_owned());
    assert_eq!(
        cluster
            .get(3, &format!("/v2/web/blobs/{digest}"))
            .await
            .body,
        "module"
    );
    let wanted = cluster.server(3).wanted().await.unwrap();
    assert!(wanted.contains(&digest) && wanted.contains(&manifest_digest) && wanted.len() == 3);
    assert_eq!(
        cluster.server(3).fill(&wanted).await.unwrap(),
        1,
        "the config was still missing"
    );
    assert_eq!(cluster.server(3).fill(&wanted).await.unwrap(), 0);
    assert!(
        cluster
            .server(3)
            .fill(&[Digest::of(b"nobody's")])
            .await
            .is_err()
    );
}

#[tokio::test]
async fn one_lost_manifest_does_not_keep_others_from_healing() {
    let cluster = cluster(1);
    let lost = cluster.push(1, "web", "v1", b"one").await;
    cluster.push(1, "web", "v2", b"two").await;
    cluster.server(1).blobs().delete(&lost).await.unwrap();
    let wanted = cluster.server(1).wanted().await.unwrap();
    assert!(wanted.contains(&lost) && wanted.contains(&Digest::of(b"two")));
    // But nothing is taken for unused while it is not known what the lost one refers to.
    let one = format!("/v2/web/blobs/{}", Digest::of(b"one"));
    let answer = cluster.send(1, "DELETE", &one, &[], b"").await;
    assert!(!answer.status.is_success(), "{}", answer.status);
    assert!(cluster.server(1).blobs().contains(&Digest::of(b"one")));
}

#[tokio::test]
async fn peers_put_only_what_hashes() {
    let cluster = cluster(1);
    let uri = format!("{PEER_PREFIX}{}", Digest::of(b"good"));
    assert_eq!(
        cluster.send(1, "PUT", &uri, &[], b"evil").await.code(),
        "DIGEST_INVALID"
    );
    assert_eq!(
        cluster.send(1, "PUT", &uri, &[], b"good").await.status,
        StatusCode::CREATED
    );
    assert_eq!(cluster.get(1, &uri).await.body, "good");
    assert_eq!(
        cluster.send(1, "PATCH", &uri, &[], b"good").await.code(),
        "UNSUPPORTED"
    );
}

#[tokio::test]
async fn manifests_are_checked() {
    let cluster = cluster(1);
    let missing = cluster
        .put_manifest(1, "web", "v1", &manifest(b"missing"))
        .await;
    assert_eq!(
        (missing.status, missing.code()),
        (StatusCode::BAD_REQUEST, "MANIFEST_BLOB_UNKNOWN".to_owned())
    );
    cluster.push(1, "web", "v1", b"module").await;
    let good = manifest(b"module");
    let wrong = format!("/v2/web/manifests/{}", Digest::of(b"x"));
    let headers = [("content-type", media_types::MANIFEST)];
    assert_eq!(
        cluster.send(1, "PUT", &wrong, &headers, &good).await.code(),
        "DIGEST_INVALID"
    );
    let index = [("content-type", media_types::INDEX)];
    assert_eq!(
        cluster
            .send(1, "PUT", "/v2/web/manifests/x", &index, &good)
            .await
            .code(),
        "MANIFEST_INVALID"
    );
    for bad in [
        &b"{"[..],
        b"[]",
        b"{}",
        br#"{"schemaVersion":1}"#,
        br#"{"schemaVersion":2,"config":{"digest":"x"}}"#,
    ] {
        assert_eq!(
            cluster
                .send(1, "PUT", "/v2/web/manifests/x", &headers, bad)
                .await
                .code(),
            "MANIFEST_INVALID"
        );
    }
    let mut sized: Value = serde_json::from_slice(&good).unwrap();
    sized["layers"][0]["size"] = json!(7);
    assert_eq!(
        cluster
            .put_manifest(1, "web", "x", sized.to_string().as_bytes())
            .await
            .code(),
        "SIZE_INVALID"
    );
    let huge = vec![b' '; crate::MAX_MANIFEST as usize + 1];
    assert_eq!(
        cluster.put_manifest(1, "web", "x", &huge).await.status,
        StatusCode::PAYLOAD_TOO_LARGE
    );
    assert_eq!(
        cluster.put_manifest(1, "web", "-bad", &good).await.code(),
        "TAG_INVALID"
    );
    assert_eq!(
        cluster.put_manifest(1, "Web", "x", &good).await.code(),
        "NAME_INVALID"
    );
    assert_eq!(
        cluster.get(1, "/v2/web/manifests/x").await.code(),
        "MANIFEST_UNKNOWN"
    );
    let head = cluster
        .send(1, "HEAD", "/v2/web/manifests/x", &[], b"")
        .await;
    assert!(head.status == StatusCode::NOT_FOUND && head.body.is_empty());
}

#[tokio::test]
async fn listed_in_pages() {
    let cluster = cluster(1);
    for (name, tag) in [("a/b", "v1"), ("a/b", "v2"), ("c", "v1"), ("a/b", "latest")] {
        cluster.push(1, name, tag, b"module").await;
    }
    assert_eq!(
        cluster.get(1, "/v2/_catalog").await.json(),
        json!({"repositories": ["a/b", "c"]})
    );
    let tags = cluster.get(1, "/v2/a/b/tags/list").await.json();
    assert_eq!(tags, json!({"name": "a/b", "tags": ["latest", "v1", "v2"]}));
    let first = cluster.get(1, "/v2/a/b/tags/list?n=2").await;
    assert_eq!(first.json()["tags"], json!(["latest", "v1"]));
    let link = first
        .header("link")
        .trim_start_matches('<')
        .split('>')
        .next()
        .unwrap()
        .to_owned();
    let rest = cluster.get(1, &link).await;
    assert_eq!(
        (rest.json()["tags"].clone(), rest.header("link")),
        (json!(["v2"]), "")
    );
    assert_eq!(
        cluster.get(1, "/v2/_catalog?n=x").await.code(),
        "PAGINATION_NUMBER_INVALID"
    );
    assert_eq!(
        cluster.get(1, "/v2/none/tags/list").await.code(),
        "NAME_UNKNOWN"
    );
}

#[tokio::test]
async fn deleted() {
    let cluster = cluster(3);
    let digest = cluster.push(1, "web", "v1", b"module").await;
    cluster.push(1, "web", "v2", b"module").await;
    let blob = format!("/v2/web/blobs/{}", Digest::of(b"module"));
    assert_eq!(
        cluster.send(1, "DELETE", &blob, &[], b"").await.code(),
        "DENIED"
    );
    assert_eq!(
        cluster
            .send(1, "DELETE", "/v2/web/manifests/v1", &[], b"")
            .await
            .status,
        StatusCode::ACCEPTED
    );
    assert_eq!(
        cluster
            .send(1, "DELETE", "/v2/web/manifests/v1", &[], b"")
            .await
            .code(),
        "MANIFEST_UNKNOWN"
    );
    let by_digest = format!("/v2/web/manifests/{digest}");
    assert_eq!(cluster.get(1, &by_digest).await.status, StatusCode::OK);
    assert_eq!(
        cluster.send(1, "DELETE", &by_digest, &[], b"").await.status,
        StatusCode::ACCEPTED
    );
    for uri in ["/v2/web/manifests/v2", &by_digest] {
        assert_eq!(cluster.get(1, uri).await.code(), "MANIFEST_UNKNOWN");
    }
    assert_eq!(
        cluster.send(1, "DELETE", &blob, &[], b"").await.status,
        StatusCode::ACCEPTED
    );
    for n in 1..=3 {
        assert_eq!(cluster.get(n, &blob).await.code(), "BLOB_UNKNOWN");
    }
}

#[tokio::test]
async fn referrers_are_found() {
    let cluster = cluster(1);
    let subject = cluster.push(1, "web", "v1", b"module").await;
    let mut signature: Manifest = serde_json::from_slice(&manifest(b"module")).unwrap();
    signature.artifact_type = Some("application/x-signature".to_owned());
    signature.subject = Some(Descriptor::new(
        media_types::MANIFEST,
        subject,
        manifest(b"module").len() as u64,
    ));
    let answer = cluster
        .put_manifest(1, "web", "signature", &signature.encode())
        .await;
    assert_eq!(answer.header("oci-subject"), subject.to_string());
    let uri = format!("/v2/web/referrers/{subject}");
    let list = cluster.get(1, &uri).await.json();
    assert_eq!(
        list["manifests"][0]["digest"],
        Digest::of(&signature.encode()).to_string()
    );
    assert_eq!(list["manifests"].as_array().unwrap().len(), 1);
    let other = cluster
        .get(1, &format!("{uri}?artifactType=x"))
        .await
        .json();
    assert_eq!(other["manifests"], json!([]));
}

//! What every kind of volume has to obey, and what each one does by itself.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use client::{Body, BoxFuture, Client, Transport};
use k8s_openapi::api::core::v1::{Pod, Volume};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::kind::{KINDS, kind_of};
use super::{Context, Failure, Made, payload, set_up, tear_down};
use crate::clock::Clock;
use crate::image::Images;
use crate::resources::Amounts;

mod changes;
mod claims;
mod examples;
mod memory;
mod projections;
mod trees;

pub(crate) use trees::image;

/// An API server of two objects, which gives tokens to one service account. Every answer takes it [`ANSWER`].
#[derive(Default)]
struct Objects {
    tokens: AtomicU32,
    /// Refuses them all.
    down: AtomicBool,
    /// Objects by their paths that are not as they were at first; `None` where they are gone.
    changed: Mutex<BTreeMap<String, Option<Value>>>,
    /// The bodies of all requests for tokens.
    asked: Mutex<Vec<Value>>,
    /// What the cluster's registry has, by its path.
    images: Mutex<BTreeMap<String, Bytes>>,
    /// Which of it was asked for.
    pulled: Mutex<Vec<String>>,
}

const ANSWER: Duration = Duration::from_millis(7);

impl Objects {
    fn token(&self, body: &[u8]) -> Value {
        let mut request: Value = serde_json::from_slice(body).unwrap();
        self.asked.lock().push(request.clone());
        let number = self.tokens.fetch_add(1, Ordering::Relaxed);
        request["status"] = json!({"token": format!("t-{number}")});
        request
    }
}

impl Transport for Objects {
    fn send(
        &self,
        request: http::Request<Bytes>,
    ) -> BoxFuture<'_, Result<http::Response<Body>, client::Error>> {
        let path = request.uri().path();
        if path.contains("/stalls") {
            return Box::pin(std::future::pending());
        }
        if path.starts_with("/v2/") {
            self.pulled.lock().push(path.to_owned());
        }
        let found = match path {
            "/api/v1/namespaces/shop/configmaps/c" => Some(json!({
                "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "shop"},
                "data": {"a": "1", "b": "2"}, "binaryData": {"bin": "AAH/"},
            })),
            "/api/v1/namespaces/shop/secrets/s" => Some(json!({
                "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "shop"},
                "data": {"password": "aHVudGVyMg=="},
            })),
            "/api/v1/namespaces/shop/serviceaccounts/sa/token" => Some(self.token(request.body())),
            _ => None,
        };
        let changed = self.changed.lock().get(path).cloned();
        let found = changed.unwrap_or(found);
        let failure = |code: u16, reason, message| {
            let status = json!({"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": message});
            (code, status)
        };
        let (code, body) = match found {
            _ if self.down.load(Ordering::Relaxed) => failure(503, "ServiceUnavailable", "not now"),
            Some(object) => (200, object),
            None => failure(404, "NotFound", "not found"),
        };
        let (code, body) = match self.images.lock().get(path) {
            Some(content) => (200, content.clone()),
            None => (code, body.to_string().into()),
        };
        let response = http::Response::builder()
            .status(code)
            .body(client::full(body));
        Box::pin(async move {
            tokio::time::sleep(ANSWER).await;
            response.map_err(|e| client::Error::Invalid(e.to_string()))
        })
    }
}

struct Bench {
    dir: tempfile::TempDir,
    server: Arc<Objects>,
    client: Client,
    objects: crate::objects::Objects,
    images: Images,
    disks: super::Disks,
    clock: Clock,
    ended: CancellationToken,
    /// Where the pod's volumes in memory lie.
    memory: Option<PathBuf>,
}

/// What a missing limit stands for.
const MACHINE: Amounts = Amounts {
    milli_cpu: 4000,
    memory: 1 << 30,
    ephemeral: 1 << 40,
};

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let server = Arc::<Objects>::default();
        *server.changed.lock() = claims::there();
        let disks = super::Disks {
            node: "n1".to_owned(),
            own: dir.path().join("own"),
            shared: vec![dir.path().join("shared")],
            host_path: false,
        };
        let client = Client::new(server.clone(), "test");
        let runtime = Arc::new(runtime::Scripted::new());
        let images =
            Images::open(dir.path().join("images"), client.clone(), runtime, false).unwrap();
        let memory = dir.path().join("machine/agent/pod");
        trees::push(dir.path(), &server, "files:v1", "1");
        Self {
            dir,
            server,
            objects: crate::objects::Objects::new(&client),
            client,
            images,
            disks,
            clock: Clock::simulated("2026-11-21T10:00:00Z".parse().unwrap()),
            ended: CancellationToken::new(),
            memory: Some(memory),
        }
    }

    async fn with<T>(&self, pod: &Pod, work: impl AsyncFnOnce(&Context<'_>) -> T) -> T {
        let dir = self.volumes();
        let cx = Context {
            pod,
            client: &self.client,
            objects: &self.objects,
            images: &self.images,
            disks: &self.disks,
            clock: self.clock,
            machine: &MACHINE,
            dir: &dir,
            memory: self.memory.as_deref(),
            ended: &self.ended,
            before: None,
        };
        work(&cx).await
    }

    async fn make(&self, volume: &Value) -> Result<Made, String> {
        match self.with(&pod(volume), set_up).await {
            Ok(all) => Ok(all["v"].clone()),
            Err(Failure::Mount(message)) => Err(message),
            Err(other) => Err(format!("{other:?}")),
        }
    }

    fn volumes(&self) -> PathBuf {
        self.dir.path().join("volumes")
    }
}

/// A pod with this volume.
fn pod(volume: &Value) -> Pod {
    let limits = json!({"limits": {"cpu": "1500m", "memory": "64Mi"}});
    serde_json::from_value(json!({
        "metadata": {
            "name": "web", "namespace": "shop", "uid": "u",
            "labels": {"app": "web", "tier": "front"}, "annotations": {"why": "a \"b\"\nc"},
        },
        "spec": {
            "serviceAccountName": "sa", "volumes": [volume],
            "containers": [{"name": "main", "resources": limits}],
        },
    }))
    .unwrap()
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap());
    let mut all: Vec<String> = entries.filter(|n| !n.starts_with("..")).collect();
    all.sort();
    all
}

#[tokio::test(start_paused = true)]
async fn every_kind_is_made_twice_without_harm_and_leaves_nothing() {
    let b = Bench::new();
    let host = b.dir.path().join("host");
    for kind in KINDS {
        let volume = examples::of(kind.field(), &host).volume;
        let made = b.make(&volume).await.unwrap();
        assert!(made.path.is_dir(), "{volume}");
        let source: Volume = serde_json::from_value(volume.clone()).unwrap();
        let is_written = kind.written(&source).is_some();
        assert_eq!(is_written, !made.read_only, "somebody counts it: {volume}");
        let is_image = kind.image(&source).is_some();
        assert_eq!(is_image, made.hold.is_some(), "its files stay: {volume}");
        let before = names(&made.path);
        if !made.read_only {
            fs::write(made.path.join("mine"), "x").unwrap();
        }
        let again = b.make(&volume).await.unwrap();
        // Made later, a token is due later.
        assert_eq!(
            Made {
                renew_at: made.renew_at,
                ..again
            },
            made,
            "{volume}"
        );
        let after = names(&made.path);
        assert!(before.iter().all(|n| after.contains(n)), "{volume}");
        assert_eq!(
            !made.read_only,
            after.contains(&"mine".to_owned()),
            "taking it up again keeps what is in it: {volume}"
        );
        for dir in [b.volumes(), b.memory.clone().unwrap()] {
            tear_down(&dir).unwrap();
            tear_down(&dir).unwrap();
            assert!(!dir.exists(), "{volume}");
        }
    }
    assert!(host.join("mine").exists(), "what belongs to the host stays");
    for own in ["pvc-data", "pvc-web-v"] {
        let own = b.disks.own.join(own);
        assert!(own.join("mine").exists(), "a claim outlives the pod");
    }
}

#[tokio::test(start_paused = true)]
async fn objects_become_files_with_their_modes() {
    let b = Bench::new();
    let made = b
        .make(&json!({"name": "v", "configMap": {"name": "c", "defaultMode": 0o444}}))
        .await
        .unwrap();
    assert_eq!(names(&made.path), ["a", "b", "bin"]);
    assert_eq!(fs::read(made.path.join("bin")).unwrap(), [0, 1, 255]);
    assert_eq!(
        fs::metadata(made.path.join("a"))
            .unwrap()
            .permissions()
            .mode()
            & 0o777,
        0o444
    );
    assert!(fs::read_link(made.path.join("a")).unwrap().is_relative());

    let items =
        json!([{"key": "a", "path": "deep/er/x", "mode": 0o600}, {"key": "b", "path": "deep/y"}]);
    let made = b
        .make(&json!({"name": "v", "configMap": {"name": "c", "items": items}}))
        .await
        .unwrap();
    assert_eq!(names(&made.path), ["deep"], "what is no longer wanted goes");
    assert_eq!(fs::read(made.path.join("deep/er/x")).unwrap(), b"1");
    assert_eq!(
        fs::metadata(made.path.join("deep/er/x"))
            .unwrap()
            .permissions()
            .mode()
            & 0o777,
        0o600
    );

    let made = b
        .make(&json!({"name": "v", "secret": {"secretName": "s"}}))
        .await
        .unwrap();
    assert_eq!(fs::read(made.path.join("password")).unwrap(), b"hunter2");
}

#[tokio::test(start_paused = true)]
async fn what_is_missing_is_said_in_the_kubelets_words() {
    let b = Bench::new();
    let table = [
        (
            json!({"name": "v", "configMap": {"name": "no"}}),
            "configmap \"no\" not found",
        ),
        (
            json!({"name": "v", "secret": {"secretName": "no"}}),
            "secret \"no\" not found",
        ),
        (
            json!({"name": "v", "configMap": {"name": "c", "items": [{"key": "no", "path": "x"}]}}),
            "configmap references non-existent config key: no",
        ),
        (
            json!({"name": "v", "secret": {"secretName": "s", "items": [{"key": "no", "path": "x"}]}}),
            "references non-existent secret key: no",
        ),
        (
            json!({"name": "v", "hostPath": {"path": "/dev/null"}}),
            "hostPath type check failed: /dev/null is not a directory or a file",
        ),
        (
            json!({"name": "v", "hostPath": {"path": "/dev", "type": "FileOrCreate"}}),
            "hostPath type check failed: /dev is not a file",
        ),
        (
            json!({"name": "v", "hostPath": {"path": "/none/at/all", "type": "File"}}),
            "hostPath type check failed: /none/at/all is not a file",
        ),
        (
            json!({"name": "v", "hostPath": {"path": "/none/at/all", "type": "Directory"}}),
            "hostPath type check failed: /none/at/all is not a directory",
        ),
    ];
    for (volume, why) in table {
        assert_eq!(
            b.make(&volume).await.unwrap_err(),
            format!("MountVolume.SetUp failed for volume \"v\" : {why}")
        );
    }
    for optional in [
        json!({"name": "v", "configMap": {"name": "no", "optional": true}}),
        json!({"name": "v", "secret": {"secretName": "no", "optional": true}}),
        json!({"name": "v", "configMap": {"name": "c", "optional": true, "items": [{"key": "no", "path": "x"}]}}),
    ] {
        let made = b.make(&optional).await.unwrap();
        assert_eq!(names(&made.path), [""; 0], "{optional}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_file_of_the_host_is_made_once_and_never_removed() {
    let b = Bench::new();
    let host = b.dir.path().join("file");
    let volume = |kind| json!({"name": "v", "hostPath": {"path": host, "type": kind}});
    let made = b.make(&volume("FileOrCreate")).await.unwrap();
    assert_eq!(
        (fs::read(&host).unwrap(), made.read_only),
        (Vec::new(), false)
    );
    fs::write(&host, "mine").unwrap();
    for kind in ["FileOrCreate", "File", ""] {
        let again = b.make(&volume(kind)).await.unwrap();
        assert_eq!(
            (again.path, fs::read(&host).unwrap()),
            (host.clone(), b"mine".to_vec())
        );
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_waited_for_when_the_pod_has_ended() {
    let all = KINDS.iter().map(|kind| kind.field());
    for volume in all.flat_map(|field| examples::of(field, Path::new("/")).stalls) {
        let b = Bench::new();
        let mut pod = pod(&volume);
        pod.metadata.name = Some("stalls".to_owned());
        pod.spec.as_mut().unwrap().service_account_name = Some("stalls".to_owned());
        let (made, ()) = tokio::join!(b.with(&pod, set_up), async { b.ended.cancel() });
        assert!(matches!(made, Err(Failure::Ended)), "{volume}");
    }
}

#[test]
fn no_file_leads_outside() {
    let dir = tempfile::tempdir().unwrap();
    let volume = dir.path().join("v");
    for path in ["../x", "/x", "a/../../x", "..data", "", "a/./../../../x"] {
        let file = payload::File::new(b"x".to_vec(), None, None);
        let files = payload::Files::from([(path.to_owned(), file)]);
        assert!(payload::write(&volume, files).is_err(), "{path}");
    }
    assert!(!dir.path().join("x").exists());
}

#[test]
fn the_table_is_sorted_and_each_kind_knows_its_own() {
    let fields: Vec<_> = KINDS.iter().map(|k| k.field()).collect();
    assert!(fields.is_sorted(), "{fields:?}");
    for field in fields {
        let volume = examples::of(field, Path::new("/")).volume;
        let volume: Volume = serde_json::from_value(volume).unwrap();
        assert_eq!(kind_of(&volume).unwrap().field(), field);
    }
}

//! Images come, are needed, and go again, also at the same time.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use client::{Body, BoxFuture, Client, Transport};
use images::{Descriptor, Digest, Upload, Wanted, media_types};
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use runtime::scripted::COMPILED;
use runtime::{
    Compiled, Handler, Metrics, Module, ModuleSource, PrepareError, Running, Runtime, Scripted,
    StartError, Workload,
};
use tokio::sync::watch;

use super::{Images, Keys, key};
use crate::garbage::{Item, Kind, What};

const MODULE: &[u8] = b"\0asm\x0d\0\x01\0component";

/// The cluster's registry. An answer whose path ends as [`Registry::gated`] says waits until it is let go.
struct Registry {
    content: Mutex<BTreeMap<String, Bytes>>,
    asked: Mutex<Vec<String>>,
    gated: Mutex<Option<String>>,
    waits: watch::Sender<bool>,
}

impl Transport for Registry {
    fn send(
        &self,
        request: http::Request<Bytes>,
    ) -> BoxFuture<'_, Result<http::Response<Body>, client::Error>> {
        Box::pin(async move {
            let path = request.uri().path().to_owned();
            self.asked.lock().push(path.clone());
            let gated = self.gated.lock().clone();
            if gated.is_some_and(|end| path.ends_with(&end)) {
                self.waits.send_replace(true);
                let mut waits = self.waits.subscribe();
                waits.wait_for(|waits| !waits).await.unwrap();
            }
            let found = self.content.lock().get(&path).cloned();
            let response = http::Response::builder()
                .status(if found.is_some() { 200 } else { 404 })
                .body(client::full(found.unwrap_or_default()));
            response.map_err(|e| client::Error::Invalid(e.to_string()))
        })
    }
}

/// Scripts of which the next is not prepared while something stands in the way.
#[derive(Clone, Default)]
struct Hindered {
    scripts: Scripted,
    by: Arc<Mutex<Option<PrepareError>>>,
}

#[async_trait::async_trait]
impl Runtime for Hindered {
    async fn prepare(&self, source: ModuleSource) -> Result<Module, PrepareError> {
        let hindrance = self.by.lock().take();
        match hindrance {
            Some(error) => Err(error),
            None => self.scripts.prepare(source).await,
        }
    }

    fn start(&self, workload: Workload) -> Result<Running, StartError> {
        self.scripts.start(workload)
    }

    async fn compiled(&self) -> std::io::Result<Vec<Compiled>> {
        self.scripts.compiled().await
    }

    async fn forget(&self, digest: &str) -> std::io::Result<bool> {
        self.scripts.forget(digest).await
    }

    fn metrics(&self) -> Metrics {
        self.scripts.metrics()
    }
}

struct Bench {
    dir: tempfile::TempDir,
    registry: Arc<Registry>,
    runtime: Hindered,
    images: Images,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let registry = Arc::new(Registry {
            content: Mutex::default(),
            asked: Mutex::default(),
            gated: Mutex::default(),
            waits: watch::Sender::new(false),
        });
        let runtime = Hindered::default();
        let images = open(&dir, &registry, &runtime);
        Self {
            dir,
            registry,
            runtime,
            images,
        }
    }

    /// As the next agent finds things.
    fn reopen(&mut self) {
        self.images = open(&self.dir, &self.registry, &self.runtime);
    }

    fn push(&self, repository: &str, tag: &str, upload: &Upload) {
        let mut content = self.registry.content.lock();
        let below = format!("/v2/{repository}");
        content.insert(format!("{below}/manifests/{tag}"), upload.manifest.clone());
        for blob in &upload.blobs {
            let mut bytes = Vec::new();
            blob.content.open().read_to_end(&mut bytes).unwrap();
            let digest = blob.descriptor.digest;
            content.insert(format!("{below}/blobs/{digest}"), bytes.into());
        }
    }

    fn push_module(&self, tag: &str) -> Digest {
        let file = self.dir.path().join("web.wasm");
        std::fs::write(&file, MODULE).unwrap();
        self.push("web", tag, &Upload::module(&file).unwrap());
        Digest::of(MODULE)
    }

    /// How often the content of the module was sent.
    fn sent(&self) -> usize {
        let end = format!("/blobs/{}", Digest::of(MODULE));
        let asked = self.registry.asked.lock();
        asked.iter().filter(|path| path.ends_with(&end)).count()
    }

    async fn module(&self, image: &str) -> super::Found {
        let keys = Keys::default();
        self.images.module(image, None, &keys).await.unwrap()
    }

    async fn item(&self, digest: &Digest, seconds: i64) -> Option<Item> {
        let items = self.images.items(at(seconds)).await.unwrap();
        items
            .into_iter()
            .find(|item| item.what == What::Content(*digest))
    }

    async fn is_removed(&self, digest: &Digest) -> bool {
        self.images.remove(digest).await.unwrap()
    }

    /// Answers whose path ends so wait from now on.
    fn hold_back(&self, end: impl Into<String>) {
        *self.registry.gated.lock() = Some(end.into());
    }

    /// Returns when an answer is being waited for.
    async fn until_asked(&self) {
        let mut waits = self.registry.waits.subscribe();
        waits.wait_for(|waits| *waits).await.unwrap();
    }

    fn let_go(&self) {
        *self.registry.gated.lock() = None;
        self.registry.waits.send_replace(false);
    }
}

fn open(dir: &tempfile::TempDir, registry: &Arc<Registry>, runtime: &Hindered) -> Images {
    let client = Client::new(registry.clone(), "test");
    let runtime = Arc::new(runtime.clone());
    Images::open(dir.path().join("images"), client, runtime, true).unwrap()
}

fn at(seconds: i64) -> Timestamp {
    let start: Timestamp = "2026-11-21T10:00:00Z".parse().unwrap();
    start + SignedDuration::from_secs(seconds)
}

#[tokio::test]
async fn what_a_container_needs_stays_until_its_end() {
    let b = Bench::new();
    let digest = b.push_module("v1");
    let found = b.module("web:v1").await;
    assert!(!b.is_removed(&digest).await, "pulled, not prepared");
    let ready = b
        .images
        .prepare(found, Handler::default(), || {})
        .await
        .unwrap();
    assert!(!b.is_removed(&digest).await, "prepared");
    let item = b.item(&digest, 0).await.unwrap();
    assert!(item.in_use && item.kind == Kind::Image);
    assert_eq!(item.size, MODULE.len() as u64 + COMPILED);
    assert_eq!((item.first_seen, item.last_used), (at(0), Some(at(0))));

    drop(ready);
    let item = b.item(&digest, 10).await.unwrap();
    assert!(!item.in_use, "its end was its last use");
    assert_eq!(item.last_used, Some(at(10)));
    let item = b.item(&digest, 20).await.unwrap();
    assert_eq!((item.first_seen, item.last_used), (at(0), Some(at(10))));
    assert!(b.is_removed(&digest).await);
    assert!(!b.images.present("web:v1", None).await);
    assert!(b.runtime.compiled().await.unwrap().is_empty());
    assert_eq!(b.item(&digest, 30).await, None);

    // And it comes back.
    let found = b.module("web:v1").await;
    b.images
        .prepare(found, Handler::default(), || {})
        .await
        .unwrap();
    assert_eq!(b.sent(), 2);
    assert!(b.images.present("web:v1", None).await);
}

#[tokio::test]
async fn what_is_removed_while_it_is_being_pulled_is_pulled_anew() {
    let b = Bench::new();
    let digest = b.push_module("v1");
    drop(b.module("web:v1").await);
    // The same content by another name. It is here, and nobody knows yet that it is what the pull will want.
    b.push_module("v2");
    b.hold_back("/manifests/v2");
    let pull = tokio::spawn({
        let images = b.images.clone();
        async move { images.module("web:v2", None, &Keys::default()).await }
    });
    b.until_asked().await;
    assert!(b.is_removed(&digest).await);
    b.let_go();
    let found = pull.await.unwrap().unwrap();
    assert_eq!(b.sent(), 2);
    assert!(!b.is_removed(&digest).await);
    assert!(found.source.path.exists());

    // It is gone again, and the pull waits for the content itself.
    drop(found);
    assert!(b.is_removed(&digest).await);
    b.hold_back(format!("/blobs/{digest}"));
    let pull = tokio::spawn({
        let images = b.images.clone();
        async move { images.module("web:v1", None, &Keys::default()).await }
    });
    b.until_asked().await;
    assert!(!b.is_removed(&digest).await, "it is on its way");
    b.let_go();
    let found = pull.await.unwrap().unwrap();
    assert!(!b.is_removed(&digest).await);
    assert!(
        b.images
            .prepare(found, Handler::default(), || {})
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn a_tree_stays_while_a_volume_shows_it() {
    let b = Bench::new();
    let files = b.dir.path().join("files");
    std::fs::create_dir(&files).unwrap();
    std::fs::write(files.join("a"), "12345").unwrap();
    let upload = Upload::tree(&files, &b.dir.path().join("files.tar")).unwrap();
    b.push("data", "v1", &upload);
    let tree = async || {
        let keys = Keys::default();
        let tree = b.images.tree("data:v1", None, &keys).await;
        let (dir, hold): (PathBuf, _) = tree.unwrap();
        assert_eq!(std::fs::read(dir.join("a")).unwrap(), b"12345");
        (dir, hold)
    };
    let (dir, hold) = tree().await;
    let digest = *hold.digest();
    assert!(!b.is_removed(&digest).await && dir.join("a").exists());
    let item = b.item(&digest, 0).await.unwrap();
    let archive = std::fs::metadata(b.images.0.blobs.path(&digest)).unwrap();
    assert_eq!(item.size, archive.len() + 5);
    // An agent that has lost its record counts it, too.
    b.images.0.record.lock().clear();
    assert_eq!(b.item(&digest, 10).await.unwrap().size, item.size);
    drop(hold);
    assert!(b.is_removed(&digest).await && !dir.exists());
    let below = std::fs::read_dir(dir.parent().unwrap()).unwrap();
    assert_eq!(below.count(), 0);
    let (_, _hold) = tree().await;
}

#[tokio::test]
async fn the_last_use_outlives_the_agent() {
    let mut b = Bench::new();
    let digest = b.push_module("v1");
    let found = b.module("web:v1").await;
    b.item(&digest, 0).await.unwrap();
    drop(found);
    b.item(&digest, 300).await.unwrap();
    b.reopen();
    let item = b.item(&digest, 600).await.unwrap();
    assert_eq!((item.first_seen, item.last_used), (at(0), Some(at(300))));
    // Nothing was seen or used later than now, however far ahead the clock was.
    let item = b.item(&digest, -600).await.unwrap();
    assert_eq!(
        (item.first_seen, item.last_used),
        (at(-600), Some(at(-600)))
    );
    // A record that cannot be read makes everything new, so that nothing goes too early.
    std::fs::write(b.dir.path().join("images/used.json"), "{\"half").unwrap();
    b.reopen();
    let item = b.item(&digest, 900).await.unwrap();
    assert_eq!((item.first_seen, item.last_used), (at(900), None));
}

#[tokio::test]
async fn what_a_pod_names_is_in_use_and_what_nothing_names_dangles() {
    let b = Bench::new();
    let digest = b.push_module("v1");
    drop(b.module("web:v1").await);
    b.item(&digest, 0).await.unwrap();
    let mut items = b.images.items(at(10)).await.unwrap();
    assert_eq!(items.len(), 2, "the manifest is kept, too");
    assert!(
        items
            .iter()
            .all(|item| !item.in_use && item.kind == Kind::Image)
    );
    let other = [key("web:v2", Wanted::Module), key("web:v1", Wanted::Tree)];
    b.images.mark(&mut items, &other.into(), at(10)).await;
    assert!(items.iter().all(|item| !item.in_use));
    let named = [key("web:v1", Wanted::Module)].into();
    assert_eq!(b.images.contents(&named).len(), 2);
    assert!(b.images.contents(&named).contains(&digest));
    b.images.mark(&mut items, &named, at(10)).await;
    assert!(items.iter().all(|item| item.in_use));
    assert_eq!(
        b.item(&digest, 20).await.unwrap().last_used,
        Some(at(10)),
        "which is a use"
    );
    b.images.0.known.lock().clear();
    let item = b.item(&digest, 30).await.unwrap();
    assert_eq!(item.kind, Kind::Dangling);
}

#[tokio::test]
async fn only_damaged_content_is_pulled_again() {
    let b = Bench::new();
    let digest = b.push_module("v1");
    let full = PrepareError::Io {
        what: "writing what was compiled".to_owned(),
        source: std::io::ErrorKind::StorageFull.into(),
    };
    let damaged = PrepareError::Digest {
        expected: digest.to_string(),
        actual: Digest::of(b"other").to_string(),
    };
    for (hindrance, is_present) in [
        (full, true),
        (PrepareError::ShuttingDown, true),
        (damaged, false),
    ] {
        let found = b.module("web:v1").await;
        *b.runtime.by.lock() = Some(hindrance);
        let error = b
            .images
            .prepare(found, Handler::default(), || {})
            .await
            .unwrap_err();
        assert_eq!(error.reason, "ErrImagePull", "{error}");
        assert_eq!(
            b.images.present("web:v1", None).await,
            is_present,
            "{error}"
        );
        let item = b.item(&digest, 0).await.unwrap();
        assert_eq!(item.kind == Kind::Image, is_present, "{error}");
    }
}

#[tokio::test]
async fn an_index_is_needed_as_long_as_what_it_leads_to() {
    let b = Bench::new();
    let digest = b.push_module("v1");
    let index = {
        let mut content = b.registry.content.lock();
        let manifest = content["/v2/web/manifests/v1"].clone();
        let of = Descriptor::of(media_types::MANIFEST, &manifest);
        let index = serde_json::json!({"schemaVersion": 2, "manifests": [of]}).to_string();
        content.insert(format!("/v2/web/manifests/{}", of.digest), manifest);
        content.insert("/v2/web/manifests/all".to_owned(), index.clone().into());
        Digest::of(index.as_bytes())
    };
    let found = b.module("web:all").await;
    let items = b.images.items(at(0)).await.unwrap();
    assert_eq!(items.len(), 3, "index, manifest and module");
    assert!(
        items
            .iter()
            .all(|item| item.in_use && item.kind == Kind::Image)
    );
    assert_eq!(b.item(&index, 10).await.unwrap().last_used, Some(at(10)));
    drop(found);
    assert!(b.is_removed(&digest).await);
    assert_eq!(b.item(&index, 20).await.unwrap().kind, Kind::Dangling);
}

#[tokio::test]
async fn names_go_with_what_they_lead_to() {
    let mut b = Bench::new();
    let digest = b.push_module("v1");
    drop(b.module("web:v1").await);
    std::fs::remove_file(b.images.0.blobs.path(&digest)).unwrap();
    let items = b.images.items(at(0)).await.unwrap();
    let names = |b: &Bench| b.images.0.known.lock().len();
    let named = [key("web:v1", Wanted::Module)].into();
    b.images.forget_lost(&items, || named).await;
    assert_eq!(names(&b), 1, "a pod may have been told that it is there");
    let hold = b.images.0.blobs.hold(&digest);
    b.images.forget_lost(&items, BTreeSet::new).await;
    assert_eq!(names(&b), 1, "it is on its way");
    drop(hold);
    b.images.forget_lost(&items, BTreeSet::new).await;
    assert_eq!(names(&b), 0);
    b.reopen();
    assert_eq!(names(&b), 0);

    // Where anything is left the name stays.
    drop(b.module("web:v1").await);
    let items = b.images.items(at(10)).await.unwrap();
    b.images.forget_lost(&items, BTreeSet::new).await;
    assert_eq!(names(&b), 1);
}

#[tokio::test]
async fn a_file_is_present_while_it_is_the_one_that_was_read() {
    let b = Bench::new();
    let file = b.dir.path().join("own.wasm");
    let image = format!("file://{}", file.display());
    let present = async || b.images.present(&image, Some("IfNotPresent")).await;
    std::fs::write(&file, MODULE).unwrap();
    assert!(!present().await, "nobody has read it");
    let read = b.module(&image).await.id;
    assert!(present().await);
    assert!(!b.images.present(&image, None).await, "files are read anew");
    let longer = [MODULE, b"longer"].concat();
    std::fs::write(&file, longer).unwrap();
    assert!(!present().await, "it has changed");
    assert_ne!(b.module(&image).await.id, read);
    assert!(present().await);
    std::fs::remove_file(&file).unwrap();
    assert!(!present().await, "it is gone");
}

//! What the tests of the wasm runtime share: a runtime with a cache of its own, modules from text,
//! and guests built by cargo.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use network::names::search::{Hosts, Search};
use runtime::output::Capture;
use runtime::{
    Config, Exit, Handler, Module, ModuleSource, PrepareError, Running, Runtime, Wasm, Workload,
};
use sha2::{Digest as _, Sha256};

/// A runtime in a directory of its own.
pub(crate) struct Bench {
    pub(crate) runtime: Wasm,
    pub(crate) directory: tempfile::TempDir,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::with_threads(2)
    }

    pub(crate) fn with_threads(threads: usize) -> Self {
        Self::with(|config| config.threads = threads)
    }

    pub(crate) fn with(change: impl FnOnce(&mut Config)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut config = config(directory.path(), 2);
        change(&mut config);
        let runtime = Wasm::new(config).unwrap();
        Self { runtime, directory }
    }

    /// Writes bytes as a file and names it by its digest.
    pub(crate) fn source(&self, bytes: &[u8]) -> ModuleSource {
        let digest = hex::encode(Sha256::digest(bytes));
        let path = self.directory.path().join(format!("{digest}.wasm"));
        std::fs::write(&path, bytes).unwrap();
        ModuleSource {
            path,
            digest: format!("sha256:{digest}"),
            keep: true,
            handler: Handler::default(),
        }
    }

    pub(crate) async fn text(&self, text: &str) -> Result<Module, PrepareError> {
        let source = self.source(&wat::parse_str(text).unwrap());
        self.runtime.prepare(source).await
    }

    pub(crate) fn player_source(&self, kind: Player) -> ModuleSource {
        self.source(&std::fs::read(kind.built()).unwrap())
    }

    pub(crate) async fn player(&self, kind: Player) -> Module {
        let source = self.player_source(kind);
        self.runtime.prepare(source).await.unwrap()
    }

    pub(crate) async fn acceptor(&self) -> Module {
        static BUILT: OnceLock<PathBuf> = OnceLock::new();
        let built = BUILT.get_or_init(|| build("tests/guests/acceptor", "wasm32-wasip1", None));
        let source = self.source(&std::fs::read(built).unwrap());
        self.runtime.prepare(source).await.unwrap()
    }

    /// The same, which imports `carob:pod/lifecycle`.
    pub(crate) async fn draining_acceptor(&self) -> Module {
        static BUILT: OnceLock<PathBuf> = OnceLock::new();
        let built =
            BUILT.get_or_init(|| build("tests/guests/acceptor", "wasm32-wasip1", Some("drains")));
        let source = self.source(&std::fs::read(built).unwrap());
        self.runtime.prepare(source).await.unwrap()
    }

    pub(crate) async fn web(&self, kind: Web) -> Module {
        self.runtime
            .prepare(self.source(&kind.bytes()))
            .await
            .unwrap()
    }

    /// The example that tries what it was given.
    pub(crate) async fn inspector(&self, target: &str) -> Module {
        let built = build("../../examples/guests/inspector", target, None);
        let source = self.source(&std::fs::read(built).unwrap());
        self.runtime.prepare(source).await.unwrap()
    }

    /// A directory for a guest to see.
    pub(crate) fn directory(&self, name: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        std::fs::create_dir_all(&path).unwrap();
        path
    }
}

pub(crate) fn config(directory: &Path, threads: usize) -> Config {
    Config {
        cache_dir: directory.join("compiled"),
        threads,
        instances: 64,
        dense_instances: 64,
        ..Config::new("unused")
    }
}

/// The builds of the guest that plays scripts.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Player {
    /// A preview 1 core module.
    Core,
    /// A preview 1 core module that imports `carob:pod/lifecycle`.
    Draining,
    /// A component that imports `carob:pod/lifecycle`.
    Component,
}

impl Player {
    fn built(self) -> &'static Path {
        static CORE: OnceLock<PathBuf> = OnceLock::new();
        static DRAINING: OnceLock<PathBuf> = OnceLock::new();
        static COMPONENT: OnceLock<PathBuf> = OnceLock::new();
        let (built, target, feature) = match self {
            Self::Core => (&CORE, "wasm32-wasip1", None),
            Self::Draining => (&DRAINING, "wasm32-wasip1", Some("drains")),
            Self::Component => (&COMPONENT, "wasm32-wasip2", Some("drains")),
        };
        built.get_or_init(|| build("tests/guests/player", target, feature))
    }
}

/// The guests of `wasi:http`.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Web {
    /// A server that does what requests' paths say.
    Server,
    /// A program that gets the URLs in its arguments.
    Client,
}

impl Web {
    pub(crate) fn bytes(self) -> Vec<u8> {
        std::fs::read(self.built()).unwrap()
    }

    fn built(self) -> PathBuf {
        static BUILT: OnceLock<PathBuf> = OnceLock::new();
        let server = BUILT.get_or_init(|| build("tests/guests/web", "wasm32-wasip2", None));
        match self {
            Self::Server => server.clone(),
            Self::Client => server.with_file_name("fetch.wasm"),
        }
    }
}

/// Builds the package of guests in a directory of the repository, which is named as the directory is, and gives its
/// module's path. With a feature it lies elsewhere, for its name is the same.
fn build(source: &str, target: &str, feature: Option<&str>) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let into = root.join("../../target/guests");
    let into = feature.map_or(into.clone(), |feature| into.join(feature));
    let status = Command::new(env!("CARGO"))
        .args([
            "build",
            "--quiet",
            "--release",
            "--locked",
            "--target",
            target,
        ])
        .args(feature.map(|feature| format!("--features={feature}")))
        .arg("--target-dir")
        .arg(&into)
        .current_dir(root.join(source))
        // Flags for the host, such as a coverage run's, are not for guests.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .status()
        .unwrap();
    assert!(
        status.success(),
        "the test guest cannot be built: `rustup target add {target}`?"
    );
    let package = source.rsplit('/').next().unwrap();
    into.join(target).join(format!("release/{package}.wasm"))
}

/// A workload that plays these steps, and its standard output.
pub(crate) fn script(module: &Module, steps: &[&str]) -> (Workload, Capture) {
    let stdout = Capture::new(1 << 20);
    let mut workload = Workload::new(module.clone());
    workload.argv = std::iter::once("player")
        .chain(steps.iter().copied())
        .map(str::to_owned)
        .collect();
    workload.stdout = Box::new(stdout.clone());
    (workload, stdout)
}

pub(crate) async fn ended(running: &Running) -> Exit {
    tokio::time::timeout(Duration::from_secs(60), running.wait())
        .await
        .expect("it ends")
}

/// Runs a workload to its end.
pub(crate) async fn run(bench: &Bench, workload: Workload) -> Exit {
    ended(&bench.runtime.start(workload).unwrap()).await
}

/// Waits until a condition holds that nothing tells of.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = tokio::time::Instant::now();
    while !condition() {
        assert!(begun.elapsed() < Duration::from_secs(30), "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Names of a pod that knows this one beside its own.
pub(crate) fn named(name: &str, address: Ipv4Addr) -> Arc<Search> {
    let mut hosts = Hosts::new();
    hosts.add(name, address);
    Arc::new(Search::none(hosts))
}

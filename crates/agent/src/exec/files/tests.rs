use async_trait::async_trait;
use runtime::{Compiled, Metrics, PrepareError, Running, Scripted, StartError, Workload};
use tokio::sync::oneshot;

use super::*;

/// Prepares what it may, and remembers it.
struct Compiler {
    scripted: Scripted,
    /// Where the copies lie.
    copies: tempfile::TempDir,
    may: Semaphore,
    prepared: Mutex<Vec<String>>,
}

#[async_trait]
impl Runtime for Compiler {
    async fn prepare(&self, source: ModuleSource) -> Result<Module, PrepareError> {
        let contents = std::fs::read_to_string(&source.path).unwrap();
        let digest = hex::encode(Sha256::digest(&contents));
        assert_eq!(source.digest, format!("sha256:{digest}"));
        let names = std::fs::read_dir(self.copies.path()).unwrap();
        assert_eq!(names.count(), 0, "copies have no names");
        self.prepared.lock().push(contents);
        let _may = self.may.acquire().await.unwrap();
        self.scripted.prepare(source).await
    }

    fn start(&self, workload: Workload) -> Result<Running, StartError> {
        self.scripted.start(workload)
    }

    async fn compiled(&self) -> std::io::Result<Vec<Compiled>> {
        self.scripted.compiled().await
    }

    async fn forget(&self, digest: &str) -> std::io::Result<bool> {
        self.scripted.forget(digest).await
    }

    fn metrics(&self) -> Metrics {
        self.scripted.metrics()
    }
}

/// A node whose runtime may prepare so much at once, and a directory of files.
fn node(may: usize) -> (Arc<Compiler>, Files, tempfile::TempDir) {
    let compiler = Arc::new(Compiler {
        scripted: Scripted::new(),
        copies: tempfile::tempdir().unwrap(),
        may: Semaphore::new(may),
        prepared: Mutex::default(),
    });
    let files = Files::new(compiler.copies.path(), compiler.clone());
    (compiler, files, tempfile::tempdir().unwrap())
}

async fn run(files: &Files, path: PathBuf) {
    let opened = move || File::open(path);
    let module = files.module(opened, Handler::default()).await;
    module.unwrap();
}

#[tokio::test]
async fn the_last_few_stay_ready_for_each() {
    let (compiler, callers, dir) = node(1);
    let path = |name: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, name).unwrap();
        path
    };
    let prepared = || std::mem::take(&mut *compiler.prepared.lock());
    let probes = callers.of_instance();
    run(&probes, path("check")).await;
    run(&probes, path("check")).await;
    assert_eq!(prepared(), ["check"]);
    // More than stay ready.
    let names = ["1", "2", "3", "4", "5", "6", "7", "8", "9"];
    for name in names {
        run(&callers, path(name)).await;
    }
    assert_eq!(prepared(), names);
    run(&callers, path("9")).await;
    run(&callers, path("2")).await;
    assert_eq!(prepared(), [""; 0], "the last are ready");
    run(&callers, path("1")).await;
    assert_eq!(prepared(), ["1"], "the first is not any more");
    // The one that was used last among them longest ago went.
    run(&callers, path("2")).await;
    assert_eq!(prepared(), [""; 0]);
    run(&callers, path("3")).await;
    assert_eq!(prepared(), ["3"]);
    // All that concerns nobody's probes.
    run(&probes, path("check")).await;
    assert_eq!(prepared(), [""; 0]);
}

#[tokio::test]
async fn what_runs_is_what_was_copied() {
    let (compiler, callers, dir) = node(0);
    let files = callers.of_instance();
    let (one, two) = (dir.path().join("one"), dir.path().join("two"));
    std::fs::write(&one, "one").unwrap();
    std::fs::write(&two, "two").unwrap();
    let spawn = |path: PathBuf| {
        let files = files.clone();
        tokio::spawn(async move { run(&files, path).await })
    };
    let first = spawn(one);
    while compiler.prepared.lock().is_empty() {
        tokio::task::yield_now().await;
    }
    let second = spawn(two.clone());
    tokio::task::yield_now().await;
    // An instance's are read one after the other: where the next is opened, this one was read, and waits for its turn.
    let (opened, told) = oneshot::channel();
    let open = move || {
        let _ = opened.send(());
        Err(io::ErrorKind::NotFound.into())
    };
    assert!(files.module(open, Handler::default()).await.is_err());
    told.await.unwrap();
    std::fs::write(&two, "changed").unwrap();
    compiler.may.add_permits(1);
    first.await.unwrap();
    second.await.unwrap();
    assert_eq!(*compiler.prepared.lock(), ["one", "changed"]);
}

#[tokio::test]
async fn small_files_do_not_wait_for_larger_ones() {
    let (compiler, callers, dir) = node(0);
    let (large, small) = (dir.path().join("large"), dir.path().join("small"));
    std::fs::write(&large, vec![b'x'; 1 + (2 << 20)]).unwrap();
    std::fs::write(&small, "small").unwrap();
    let mut running = Vec::new();
    for (path, length) in [(large, 1 + (2 << 20)), (small, 5)] {
        let files = callers.of_instance();
        running.push(tokio::spawn(async move { run(&files, path).await }));
        let is_last = || {
            let prepared = compiler.prepared.lock();
            prepared
                .last()
                .is_some_and(|contents| contents.len() == length)
        };
        while !is_last() {
            tokio::task::yield_now().await;
        }
    }
    compiler.may.add_permits(2);
    for run in running {
        run.await.unwrap();
    }
}

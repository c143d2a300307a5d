//! Commands that write are counted, and wait, as guests that write.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use runtime::Meter;

use super::{Container, Ran, said};

/// A container that may add so much, with a directory of one file.
fn metered(allowance: u64) -> (Container, Arc<Meter>) {
    let mut container = Container::with(&[("dir/file", "text")]);
    let meter = Arc::new(Meter::new(allowance));
    container.view.meter = meter.clone();
    (container, meter)
}

/// Runs a command that has to wait until so many bytes more are allowed.
async fn waits(container: &Container, meter: &Meter, words: &[&str], more: u64) -> Ran {
    let mut ran = pin!(container.run(words, ""));
    tokio::select! {
        biased;
        ran = &mut ran => panic!("{words:?} ended: {ran:?}"),
        () = meter.due() => {}
    }
    meter.allow(Some(more));
    ran.await
}

const NAME: u64 = 4096;

#[tokio::test]
async fn redirections_wait_for_their_allowance() {
    let (container, meter) = metered(NAME);
    let words = ["sh", "-c", "echo 123456789 > /new"];
    // The name was half of what was allowed, the text is too much.
    assert_eq!(waits(&container, &meter, &words, 1 << 20).await, said(""));
    assert_eq!(container.tree("root")["new"], "123456789\n");
    assert!((10..=NAME + 10).contains(&meter.added()), "{meter:?}");
}

#[tokio::test]
async fn directories_wait_for_their_allowance() {
    let (container, meter) = metered(0);
    let ran = waits(&container, &meter, &["mkdir", "-p", "/a/b/c"], 3 * NAME).await;
    assert_eq!((ran, meter.added()), (said(""), 3 * NAME));
    assert_eq!(container.tree("root")["a/b/c"], "/");
}

#[tokio::test]
async fn archives_wait_for_their_allowance() {
    let (container, meter) = metered(0);
    let make = ["tar", "-cf", "/archive", "dir"];
    assert_eq!(waits(&container, &meter, &make, 1 << 20).await, said(""));
    let archive = std::fs::metadata(container.root().join("archive")).unwrap();
    assert_eq!(meter.added(), NAME + archive.len());
    meter.allow(Some(NAME));
    let unpack = ["tar", "-xf", "/archive", "-C", "/dir"];
    assert_eq!(waits(&container, &meter, &unpack, 1 << 20).await, said(""));
    assert_eq!(container.tree("root")["dir/dir/file"], "text");
    assert!(meter.added() > NAME, "{meter:?}");
}

#[tokio::test]
async fn who_waits_holds_nothing_that_others_could_write() {
    let (container, meter) = metered(1 << 30);
    let content = vec![b'x'; 100_000];
    std::fs::write(container.root().join("dir/file"), &content).unwrap();
    let make = ["tar", "-cf", "/archive", "dir"];
    assert_eq!(container.run(&make, "").await, said(""));
    meter.allow(Some(0));
    let unpack = ["tar", "-xf", "/archive", "-C", "/dir"];
    let mut ran = pin!(container.run(&unpack, ""));
    // What is written at once is no more than this, and its names are on the disk by then.
    let measured = async {
        loop {
            tokio::select! {
                biased;
                ran = &mut ran => return ran,
                () = meter.due() => meter.allow(Some(64 << 10)),
            }
            tokio::task::yield_now().await;
        }
    };
    let ran = tokio::time::timeout(Duration::from_secs(60), measured).await;
    assert_eq!(ran.expect("it ends"), said(""));
    let unpacked = std::fs::read(container.root().join("dir/dir/file")).unwrap();
    assert_eq!(unpacked.len(), content.len());
}

#[tokio::test]
async fn reading_costs_nothing() {
    let (container, meter) = metered(0);
    let ran = container.run(&["cat", "/dir/file"], "").await;
    assert_eq!((ran, meter.added()), (said("text"), 0));
}

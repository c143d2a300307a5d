//! What guests add to the disk is counted first, and waits where it is too much.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use runtime::meter::NAME;
use runtime::output::Capture;
use runtime::{Exit, Meter, Running, Runtime};

use crate::mount;
use crate::support::{Bench, Player, ended, script};

const KINDS: [Player; 3] = [Player::Core, Player::Draining, Player::Component];

/// A guest with a root of its own.
struct Guest {
    running: Running,
    stdout: Capture,
    root: PathBuf,
}

async fn begin(bench: &Bench, kind: Player, meter: &Arc<Meter>, steps: &[&str]) -> Guest {
    let root = bench.directory(&format!("root-{kind:?}"));
    let (mut workload, stdout) = script(&bench.player(kind).await, steps);
    workload.mounts = vec![mount(root.clone(), "/", false)];
    workload.meter = Some(meter.clone());
    Guest {
        running: bench.runtime.start(workload).unwrap(),
        stdout,
        root,
    }
}

async fn due(meter: &Meter) {
    let due = tokio::time::timeout(Duration::from_secs(60), meter.due());
    due.await.expect("it is time to measure");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_adds_is_counted() {
    let bench = Bench::new();
    for kind in KINDS {
        let meter = Arc::new(Meter::new(1 << 40));
        let steps = [
            "write 100000",
            "mkdir /directory",
            "link /written /directory/link",
            "grow /sparse 5000000",
            "grow /sparse 1000",
            "print done",
        ];
        let guest = begin(&bench, kind, &meter, &steps).await;
        assert_eq!(ended(&guest.running).await, Exit::Code(0), "{kind:?}");
        assert_eq!(guest.stdout.text(), "done\n", "{kind:?}");
        // Two files, a directory, a link; and a file is opened once more.
        let names = 5 * NAME;
        let written = 25 * 4_096;
        let sizes = 2 * 4_096;
        assert_eq!(meter.added(), written + sizes + names, "{kind:?}");
        let written = std::fs::metadata(guest.root.join("directory/link")).unwrap();
        assert_eq!(written.len(), 100_000, "{kind:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_byte_costs_what_the_disk_takes_for_it() {
    use std::os::unix::fs::MetadataExt as _;
    let bench = Bench::new();
    for kind in KINDS {
        let meter = Arc::new(Meter::new(1 << 40));
        let guest = begin(&bench, kind, &meter, &["scatter /file 1000"]).await;
        assert_eq!(ended(&guest.running).await, Exit::Code(0), "{kind:?}");
        assert_eq!(guest.stdout.text(), "scattered\n", "{kind:?}");
        let taken = std::fs::metadata(guest.root.join("file")).unwrap().blocks() * 512;
        assert!(meter.added() >= taken, "{kind:?}: {meter:?}, {taken}");
        assert_eq!(meter.added(), NAME + 1_000 * 4_096, "{kind:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_made_costs_nothing() {
    let bench = Bench::new();
    for kind in KINDS {
        let meter = Arc::new(Meter::new(1 << 40));
        let steps = [
            "mkdir /directory",
            "rename /none /other",
            "rename /directory /other",
            "write /none/file text",
        ];
        let guest = begin(&bench, kind, &meter, &steps).await;
        assert_eq!(ended(&guest.running).await, Exit::Code(0), "{kind:?}");
        let said = "NotFound\nrenamed\nNotFound\n";
        assert_eq!(guest.stdout.text(), said, "{kind:?}");
        assert_eq!(meter.added(), 2 * NAME, "{kind:?}: made and renamed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_holes_costs_a_block() {
    let bench = Bench::new();
    for kind in KINDS {
        let meter = Arc::new(Meter::new(NAME + 4_096));
        let steps = ["grow /sparse 5000000", "print done"];
        let guest = begin(&bench, kind, &meter, &steps).await;
        assert_eq!(ended(&guest.running).await, Exit::Code(0), "{kind:?}");
        let length = std::fs::metadata(guest.root.join("sparse")).unwrap().len();
        assert_eq!((length, guest.stdout.text()), (5_000_000, "done\n".into()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_adds_nothing_costs_nothing() {
    let bench = Bench::new();
    for kind in KINDS {
        let meter = Arc::new(Meter::new(0));
        let root = bench.directory(&format!("root-{kind:?}"));
        std::fs::write(root.join("file"), "text").unwrap();
        let guest = begin(&bench, kind, &meter, &["cat /file", "ls /"]).await;
        assert_eq!(ended(&guest.running).await, Exit::Code(0), "{kind:?}");
        assert_eq!(guest.stdout.text(), "text\nfile\n", "{kind:?}");
        assert_eq!(meter.added(), 0, "{kind:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_to_be_refused() {
    let bench = Bench::new();
    for kind in KINDS {
        let meter = Arc::new(Meter::new(0));
        let data = bench.directory(&format!("data-{kind:?}"));
        std::fs::write(data.join("file"), "text").unwrap();
        let steps = [
            "write /data/file more",
            "write /data/new text",
            "rename /data/file /data/other",
            "cat /data/file",
        ];
        let (mut workload, stdout) = script(&bench.player(kind).await, &steps);
        workload.mounts = vec![mount(data, "/data", true)];
        workload.meter = Some(meter.clone());
        let running = bench.runtime.start(workload).unwrap();
        assert_eq!(ended(&running).await, Exit::Code(0), "{kind:?}");
        let refused = "PermissionDenied\n".repeat(3);
        assert_eq!(stdout.text(), refused + "text\n", "{kind:?}");
        assert_eq!((meter.added(), meter.wanted()), (0, 0), "{kind:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn guests_share_a_meter() {
    let bench = Bench::new();
    let meter = Arc::new(Meter::new(0));
    let mut guests = Vec::new();
    for kind in KINDS {
        guests.push(begin(&bench, kind, &meter, &["write 1000"]).await);
    }
    due(&meter).await;
    meter.allow(None);
    for guest in &guests {
        assert_eq!(ended(&guest.running).await, Exit::Code(0));
    }
    // Each has written into one block.
    assert_eq!(meter.added(), 3 * (NAME + 4_096));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_waits_for_its_node_and_goes_on() {
    let bench = Bench::new();
    for kind in KINDS {
        let node = Arc::new(Meter::new(0));
        let meter = Arc::new(Meter::within(node.clone(), u64::MAX));
        let guest = begin(&bench, kind, &meter, &["write 100000", "print done"]).await;
        due(&node).await;
        assert!(node.wanted() > 0 && meter.wanted() == 0, "{kind:?}");
        assert_eq!(std::fs::read_dir(&guest.root).unwrap().count(), 0);
        // Little by little: it waits anew.
        node.allow(Some(NAME));
        due(&node).await;
        assert!(guest.running.exit().is_none(), "{kind:?}");
        node.allow(None);
        assert_eq!(ended(&guest.running).await, Exit::Code(0), "{kind:?}");
        assert_eq!(guest.stdout.text(), "done\n", "{kind:?}");
        assert_eq!(meter.added(), NAME + 25 * 4_096, "{kind:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_its_node_can_be_killed() {
    let bench = Bench::new();
    for kind in KINDS {
        let node = Arc::new(Meter::new(0));
        let meter = Arc::new(Meter::within(node.clone(), u64::MAX));
        let guest = begin(&bench, kind, &meter, &["write 100000"]).await;
        due(&node).await;
        guest.running.kill();
        assert_eq!(ended(&guest.running).await, Exit::Killed, "{kind:?}");
        assert_eq!((node.wanted(), node.added()), (0, 0), "{kind:?}");
    }
}

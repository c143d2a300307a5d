//! Single files as mounts.

use runtime::{Exit, Runtime, StartError, Stdin};

use crate::mount;
use crate::support::{Bench, Player, ended, run, script, until};

const KINDS: [Player; 3] = [Player::Core, Player::Draining, Player::Component];

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_seen_at_its_path_and_nothing_else() {
    let bench = Bench::new();
    for kind in KINDS {
        let (root, file) = (
            bench.directory(&format!("root-{kind:?}")),
            bench.directory.path().join(format!("file-{kind:?}")),
        );
        std::fs::write(&file, "old").unwrap();
        let steps = [
            "cat /etc/app/f",
            "size /etc/app/f",
            "write /etc/app/f newer",
            "cat /etc/app/f",
            "size /etc/app/f",
            "grow /etc/app/f 3",
            "cat /etc/app/f",
            "ls /etc/app",
            "ls /etc/app/f",
            "cat /etc/app/f/file",
            "size /etc/app/f/..",
            "remove /etc/app/f",
            "cat /etc/app/f",
        ];
        let (mut workload, stdout) = script(&bench.player(kind).await, &steps);
        workload.mounts = vec![
            mount(root.clone(), "/", false),
            mount(file.clone(), "/etc/app/f", false),
        ];
        assert_eq!(run(&bench, workload).await, Exit::Code(0), "{kind:?}");
        let text = stdout.text();
        let said: Vec<&str> = text.lines().collect();
        let due = [
            "old",
            "3",
            "written",
            "newer",
            "5",
            "new",
            "f",
            "NotADirectory",
            "NotADirectory",
            "NotADirectory",
            "PermissionDenied",
            "new",
        ];
        assert_eq!(said, due, "{kind:?}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "new");
        // It is shown where it is, and is not there.
        assert_eq!(std::fs::read(root.join("etc/app/f")).unwrap(), b"");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_takes_a_files_name_is_another_file() {
    let bench = Bench::new();
    for kind in KINDS {
        let file = bench.directory.path().join(format!("file-{kind:?}"));
        std::fs::write(&file, "old").unwrap();
        let steps = ["cat /f", "read", "cat /f", "write /f mine"];
        let (mut workload, stdout) = script(&bench.player(kind).await, &steps);
        workload.mounts = vec![mount(file.clone(), "/f", false)];
        let (writer, reader) = network::pipe::pipe(1);
        workload.stdin = Stdin::Pipe(reader);
        let running = bench.runtime.start(workload).unwrap();
        until("it has read the file", || stdout.text() == "old\n").await;
        let new = bench.directory.path().join("new");
        std::fs::write(&new, "new").unwrap();
        std::fs::rename(&new, &file).unwrap();
        drop(writer);
        assert_eq!(ended(&running).await, Exit::Code(0), "{kind:?}");
        assert_eq!(stdout.text(), "old\nold\nwritten\n", "{kind:?}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "new");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_may_be_for_reading_only() {
    let bench = Bench::new();
    for kind in KINDS {
        let file = bench.directory.path().join(format!("file-{kind:?}"));
        std::fs::write(&file, "text").unwrap();
        let steps = ["write /f mine", "cat /f"];
        let (mut workload, stdout) = script(&bench.player(kind).await, &steps);
        workload.mounts = vec![mount(file.clone(), "/f", true)];
        assert_eq!(run(&bench, workload).await, Exit::Code(0), "{kind:?}");
        assert_eq!(stdout.text(), "PermissionDenied\ntext\n", "{kind:?}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "text");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_found_from_its_working_directory() {
    let bench = Bench::new();
    for kind in KINDS {
        let root = bench.directory(&format!("root-{kind:?}"));
        let file = bench.directory.path().join(format!("file-{kind:?}"));
        std::fs::write(&file, "text").unwrap();
        let steps = ["cat f", "write f mine", "cat /app/f", "cat sub/f"];
        let (mut workload, stdout) = script(&bench.player(kind).await, &steps);
        workload.working_dir = "/app".into();
        workload.mounts = vec![
            mount(root.clone(), "/", false),
            mount(file.clone(), "/app/f", false),
            mount(file.clone(), "/app/sub/f", true),
        ];
        assert_eq!(run(&bench, workload).await, Exit::Code(0), "{kind:?}");
        assert_eq!(stdout.text(), "text\nwritten\nmine\nmine\n", "{kind:?}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_nowhere_that_a_directory_is() {
    let bench = Bench::new();
    let (root, file) = (bench.directory("root"), bench.directory.path().join("file"));
    std::fs::create_dir(root.join("tmp")).unwrap();
    std::fs::write(&file, "text").unwrap();
    let (mut workload, _) = script(&bench.player(Player::Core).await, &[]);
    workload.mounts = vec![mount(root, "/", false), mount(file, "/tmp", false)];
    let refused = bench.runtime.start(workload);
    assert!(matches!(refused, Err(StartError::Mount { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_no_root() {
    let bench = Bench::new();
    let file = bench.directory.path().join("file");
    std::fs::write(&file, "text").unwrap();
    let (mut workload, _) = script(&bench.player(Player::Core).await, &[]);
    workload.mounts = vec![mount(file, "/", false)];
    let refused = bench.runtime.start(workload);
    assert!(matches!(refused, Err(StartError::Mount { .. })));
}

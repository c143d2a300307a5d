//! What guests have open, and what that leaves to others.

use std::path::Path;

use runtime::output::Capture;
use runtime::{Exit, Module, Runtime, Stdin, Workload};

use crate::mount;
use crate::support::{Bench, Player, ended, run, script, until};

const KINDS: [Player; 3] = [Player::Core, Player::Draining, Player::Component];

fn guest(module: &Module, root: &Path, steps: &[&str]) -> (Workload, Capture) {
    let (mut workload, stdout) = script(module, steps);
    workload.mounts = vec![mount(root.to_owned(), "/", false)];
    (workload, stdout)
}

/// How many descriptors of this process lead to a directory, or to what lies in it.
fn open_at(directory: &Path) -> usize {
    let all = std::fs::read_dir("/proc/self/fd").unwrap();
    let to = all.filter_map(|fd| std::fs::read_link(fd.unwrap().path()).ok());
    to.filter(|to| to.starts_with(directory)).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn directories_are_opened_when_a_guest_looks() {
    let bench = Bench::new();
    for kind in KINDS {
        let [root, data] = ["root", "data"].map(|name| bench.directory(name));
        std::fs::write(data.join("file"), "text").unwrap();
        let module = bench.player(kind).await;
        let (mut workload, stdout) = guest(
            &module,
            &root,
            &["print up", "read", "cat /data/file", "sleep 3600s"],
        );
        workload
            .mounts
            .push(mount(data.clone(), "/data", !matches!(kind, Player::Core)));
        let (writer, reader) = network::pipe::pipe(1);
        workload.stdin = Stdin::Pipe(reader);
        let running = bench.runtime.start(workload).unwrap();
        until("it is up", || stdout.text().contains("up")).await;
        assert_eq!((open_at(&root), open_at(&data)), (0, 0), "{kind:?}");
        drop(writer);
        until("it has looked", || stdout.text().contains("text")).await;
        assert_eq!((open_at(&root), open_at(&data)), (1, 1), "{kind:?}");
        running.kill();
        ended(&running).await;
        until("all is closed", || open_at(&root) + open_at(&data) == 0).await;
    }
}

#[tokio::test]
async fn what_is_somewhere_else_by_then_is_not_found() {
    let bench = Bench::new();
    for kind in KINDS {
        let (root, steps) = (bench.directory("root"), ["print up", "read", "cat /file"]);
        let (mut workload, stdout) = guest(&bench.player(kind).await, &root, &steps);
        let (writer, reader) = network::pipe::pipe(1);
        workload.stdin = Stdin::Pipe(reader);
        let running = bench.runtime.start(workload).unwrap();
        until("it is up", || stdout.text().contains("up")).await;
        std::fs::rename(&root, root.with_file_name("moved")).unwrap();
        std::fs::create_dir(&root).unwrap();
        std::fs::write(root.join("file"), "another").unwrap();
        drop(writer);
        ended(&running).await;
        let text = stdout.text();
        assert!(!text.contains("another"), "{kind:?}: {text}");
        assert!(text.lines().count() > 1, "{kind:?}: {text}");
        std::fs::remove_dir_all(root.with_file_name("moved")).unwrap();
    }
}

#[tokio::test]
async fn mounts_that_find_no_room_are_told_of() {
    let bench = Bench::with(|config| config.open_files = Some(2));
    let (root, data) = (bench.directory("root"), bench.directory("data"));
    let module = bench.player(Player::Core).await;
    let own = |path: &Path, guest: &str| mount(path.to_owned(), guest, false);
    let (mut workload, _) = script(&module, &[]);
    workload.mounts = vec![own(&root, "/"), own(&data, "/a"), own(&data, "/b")];
    let Err(refused) = bench.runtime.start(workload) else {
        panic!("there is room for two");
    };
    assert!(refused.to_string().contains("open files"), "{refused}");
    // Its own ones are no more to be had once the blank ones are.
    let (mut workload, stdout) = script(&module, &["ls /a", "print on"]);
    workload.mounts = vec![own(&root, "/"), own(&data, "/a")];
    assert_eq!(run(&bench, workload).await, Exit::Code(0));
    let text = stdout.text();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines.len() == 2 && !lines[0].is_empty(), "{text}");
    assert_eq!(lines[1], "on");
}

/// How many files a guest says that it could open.
fn count(text: &str) -> usize {
    text.split(' ').next().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_opens_without_end_leaves_some_to_others() {
    let bench = Bench::with(|config| config.open_files = Some(600));
    let root = bench.directory("root");
    std::fs::write(root.join("file"), "text").unwrap();
    for kind in KINDS {
        let module = bench.player(kind).await;
        let (mut workload, stdout) = guest(&module, &root, &["exhaust /file"]);
        let (writer, reader) = network::pipe::pipe(1);
        workload.stdin = Stdin::Pipe(reader);
        let one = bench.runtime.start(workload).unwrap();
        until("it has what it gets", || stdout.text().ends_with('\n')).await;
        let first = count(&stdout.text());
        assert!((30..60).contains(&first), "{kind:?}: {first}");

        let (other, stdout) = guest(&module, &root, &["exhaust /file"]);
        assert_eq!(run(&bench, other).await, Exit::Code(0), "{kind:?}");
        let second = count(&stdout.text());
        assert!((5..first).contains(&second), "{kind:?}: {second}");

        drop(writer);
        assert_eq!(ended(&one).await, Exit::Code(0), "{kind:?}");
        // What is closed, or was open in guests that have ended, is there again.
        let mut steps = vec!["cat /file"; 100];
        steps.push("exhaust /file");
        let (last, stdout) = guest(&module, &root, &steps);
        assert_eq!(run(&bench, last).await, Exit::Code(0), "{kind:?}");
        let text = stdout.text();
        assert_eq!(text.lines().filter(|line| *line == "text").count(), 100);
        assert_eq!(count(text.lines().last().unwrap()), first, "{kind:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_file_holds_up_nobody_else() {
    const WAITING: usize = 70;
    let bench = Bench::with(|config| config.instances = 100);
    let root = bench.directory("root");
    let fifo = root.join("fifo");
    let (dir, mode) = (rustix::fs::CWD, rustix::fs::Mode::RWXU);
    rustix::fs::mknodat(dir, &fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let modules = [bench.player(KINDS[0]).await, bench.player(KINDS[2]).await];
    let waiting: Vec<_> = (0..WAITING)
        .map(|number| guest(&modules[number % 2], &root, &["cat /fifo"]))
        .map(|(workload, stdout)| (bench.runtime.start(workload).unwrap(), stdout))
        .collect();
    let threads = || {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        let name = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("comm"));
        let names = tasks.filter_map(|task| name(task.unwrap()).ok());
        names.filter(|name| name == "carob-files\n").count()
    };
    until(
        "all of them wait for somebody to open it for writing",
        || threads() >= WAITING,
    )
    .await;
    // A guest that is ended is so, though its thread is not.
    waiting[0].0.kill();
    assert_eq!(ended(&waiting[0].0).await, Exit::Killed);
    std::fs::write(root.join("file"), "text").unwrap();
    for module in &modules {
        let (workload, stdout) = guest(module, &root, &["cat /file", "ls /"]);
        assert_eq!(run(&bench, workload).await, Exit::Code(0));
        assert_eq!(stdout.text(), "text\nfifo file\n");
    }
    let other = bench.text(r#"(module (func (export "_start")))"#).await;
    assert_eq!(
        run(&bench, Workload::new(other.unwrap())).await,
        Exit::Code(0)
    );
    let writer = std::fs::File::options().read(true).write(true).open(&fifo);
    for (running, stdout) in &waiting[1..] {
        assert_eq!(ended(running).await, Exit::Code(0));
        // It has no places to read from, which is an error.
        assert_ne!(stdout.text(), "");
    }
    drop(writer);
}

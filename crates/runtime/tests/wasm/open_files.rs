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

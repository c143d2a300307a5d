//! Files, clocks and random numbers as unmodified programs find them: the example `inspector` tries them.

use std::os::unix::fs::symlink;

use runtime::Exit;

use crate::mount;
use crate::support::{Bench, run, script};

const TARGETS: [&str; 2] = ["wasm32-wasip1", "wasm32-wasip2"];

/// The lines that do not say that all is well.
fn complaints(text: &str) -> Vec<&str> {
    text.lines()
        .filter(|line| !line.starts_with("ok: "))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn all_is_as_it_should_be() {
    let bench = Bench::new();
    for target in TARGETS {
        let module = bench.inspector(target).await;
        let root = bench.directory(&format!("root-{target}"));
        let data = bench.directory(&format!("data-{target}"));
        let secret = bench.directory.path().join("secret");
        std::fs::write(&secret, "secret").unwrap();
        // Nobody but who mounts it can have made these.
        symlink(&secret, data.join("absolute")).unwrap();
        symlink("../secret", data.join("up")).unwrap();
        symlink("/proc/self/root", data.join("magic")).unwrap();
        for arguments in [
            &[][..],
            &["/"],
            &["/data", "/data/absolute", "/data/up", "/data/magic"],
        ] {
            let (mut workload, stdout) = script(&module, arguments);
            workload.mounts = vec![
                mount(root.clone(), "/", false),
                mount(data.clone(), "/data", false),
            ];
            let exit = run(&bench, workload).await;
            let text = stdout.text();
            let said = (exit, complaints(&text));
            assert_eq!(said, (Exit::Code(0), Vec::new()), "{target} {arguments:?}");
            let paths = arguments.len().saturating_sub(1);
            assert_eq!(text.lines().count(), CHECKS + paths, "{text}");
        }
        assert_eq!(std::fs::read_to_string(&secret).unwrap(), "secret");
    }
}

/// How many things are tried in a directory.
const CHECKS: usize = 21;

/// The first thing that does not hold is said, and ends it.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_is_told() {
    let bench = Bench::new();
    for target in TARGETS {
        let module = bench.inspector(target).await;
        let data = bench.directory(&format!("data-{target}"));
        std::fs::write(data.join("file"), "text").unwrap();
        let (mut workload, stdout) = script(&module, &["/data"]);
        workload.mounts = vec![mount(data.clone(), "/data", true)];
        assert_eq!(run(&bench, workload).await, Exit::Code(1), "{target}");
        let text = stdout.text();
        assert!(text.starts_with("FAILED: a file is made once"), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
        // Nothing leads out of it here.
        let (mut workload, stdout) = script(&module, &["/", "/data/file"]);
        workload.mounts = vec![
            mount(bench.directory(&format!("root-{target}")), "/", false),
            mount(data, "/data", true),
        ];
        assert_eq!(run(&bench, workload).await, Exit::Code(1), "{target}");
        let told = "FAILED: /data/file leads nowhere: try 0: None";
        assert_eq!(complaints(&stdout.text()), [told]);
    }
}

//! The wasm runtime, run on real modules.

mod bounds;
mod client;
mod commands;
mod dense;
mod http;
mod inspector;
mod interfaces;
mod limits;
mod metered;
mod open_files;
mod outgoing;
mod preview1;
mod singles;
mod sockets;
mod support;

use std::time::Duration;

use runtime::{Exit, Limits, Mount, PrepareError, Runtime, Scripted, StartError, Wasm, Workload};
use support::{Bench, Player, ended, run, script};

#[tokio::test(start_paused = true)]
async fn scripted_conforms() {
    let runtime = Scripted::new();
    let source = runtime::ModuleSource {
        path: "/nowhere".into(),
        digest: "sha256:0".into(),
        keep: true,
        handler: runtime::Handler::default(),
    };
    let module = runtime.prepare(source).await.unwrap();
    runtime::conformance::suite(&runtime, &module, &module).await;
    runtime::conformance::meters(&runtime, &module, &[]).await;
    let source = runtime::ModuleSource {
        path: "/nowhere".into(),
        digest: "sha256:1".into(),
        keep: true,
        handler: runtime::Handler::default(),
    };
    runtime::conformance::forgets(&runtime, source).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wasm_conforms() {
    let bench = Bench::new();
    let core = bench.player(Player::Core).await;
    let root = [mount(bench.directory("root"), "/", false)];
    runtime::conformance::meters(&bench.runtime, &core, &root).await;
    for kind in [Player::Draining, Player::Component] {
        let drains = bench.player(kind).await;
        runtime::conformance::suite(&bench.runtime, &core, &drains).await;
        runtime::conformance::meters(&bench.runtime, &drains, &root).await;
        let unknown = Bench::new();
        let source = unknown.player_source(kind);
        runtime::conformance::forgets(&unknown.runtime, source).await;
    }
}

#[tokio::test]
async fn a_module_is_compiled_once() {
    let bench = Bench::new();
    let wasm = wat::parse_str(r#"(module (func (export "_start")))"#).unwrap();
    let source = bench.source(&wasm);
    let all = (0..8).map(|_| bench.runtime.prepare(source.clone()));
    for module in futures::future::join_all(all).await {
        assert_eq!(module.unwrap().digest(), source.digest);
    }
    let metrics = bench.runtime.metrics();
    assert_eq!((metrics.compilations, metrics.memory_cache_hits), (1, 7));

    let Bench { runtime, directory } = bench;
    drop(runtime);
    let runtime = Wasm::new(support::config(directory.path(), 1)).unwrap();
    std::fs::remove_file(&source.path).unwrap();
    let module = runtime.prepare(source).await.unwrap();
    assert_eq!(
        ended(&runtime.start(Workload::new(module)).unwrap()).await,
        Exit::Code(0)
    );
    let metrics = runtime.metrics();
    assert_eq!((metrics.compilations, metrics.disk_cache_hits), (0, 1));
}

#[tokio::test]
async fn damaged_code_is_compiled_again() {
    let bench = Bench::new();
    let source = bench.source(&wat::parse_str(r#"(module (func (export "_start")))"#).unwrap());
    bench.runtime.prepare(source.clone()).await.unwrap();
    let Bench { runtime, directory } = bench;
    drop(runtime);
    let compiled = std::fs::read_dir(directory.path().join("compiled")).unwrap();
    for file in compiled {
        // A new file in its place: what is mapped must never be written to, and a task of the
        // dropped runtime may still hold the mapping for a moment.
        let (path, new) = (file.unwrap().path(), directory.path().join("damaged"));
        std::fs::write(&new, b"\x7fELF nonsense").unwrap();
        std::fs::rename(new, path).unwrap();
    }
    let runtime = Wasm::new(support::config(directory.path(), 1)).unwrap();
    runtime.prepare(source).await.unwrap();
    assert_eq!(runtime.metrics().compilations, 1);
}

/// A module that imports what nobody offers yet.
const LATER: &str = r#"(module
    (import "carob:pod/lifecycle@0.2.0" "remaining-grace" (func (result i64)))
    (func (export "_start")))"#;

/// A component that imports what nobody offers.
const FLYING_COMPONENT: &str = r#"(component
    (import "test:fly/wings@1.0.0" (instance (export "fly" (func))))
    (instance $run)
    (export "wasi:cli/run@0.2.0" (instance $run)))"#;

#[tokio::test]
async fn what_cannot_run_is_refused() {
    let bench = Bench::new();
    let source = bench.source(b"#!/bin/sh");
    for (source, named) in [
        (source.clone(), "a script"),
        (bench.source(b"\0asm\x01\0\0\0\x01\xff"), "malformed"),
        (
            bench.source(
                &wat::parse_str(r#"(module (import "env" "fly" (func)) (func (export "_start")))"#)
                    .unwrap(),
            ),
            "the module imports env::fly, which carob does not offer",
        ),
        (
            bench.source(&wat::parse_str(LATER).unwrap()),
            "imports carob:pod/lifecycle@0.2.0::remaining-grace, which carob does not offer",
        ),
        (
            bench.source(&wat::parse_str(FLYING_COMPONENT).unwrap()),
            "`test:fly/wings@1.0.0`",
        ),
        (
            runtime::ModuleSource {
                digest: "sha256:../x".into(),
                ..source.clone()
            },
            "is not sha256:",
        ),
    ] {
        match bench.runtime.prepare(source).await {
            Err(PrepareError::Invalid(why)) => assert!(why.contains(named), "{why}"),
            other => panic!("{other:?}"),
        }
    }
    let other = runtime::ModuleSource {
        digest: format!("sha256:{:064}", 0),
        ..source
    };
    let refused = bench.runtime.prepare(other).await;
    assert!(
        matches!(refused, Err(PrepareError::Digest { .. })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn compiled_code_lies_in_a_private_directory() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let cache = directory.path().join("compiled");
    std::fs::create_dir(&cache).unwrap();
    std::fs::set_permissions(&cache, std::fs::Permissions::from_mode(0o770)).unwrap();
    let refused = Wasm::new(support::config(directory.path(), 1))
        .err()
        .unwrap();
    assert!(refused.to_string().contains("chmod 700"), "{refused}");
}

#[tokio::test]
async fn what_another_engine_compiled_is_cleared() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let cache = directory.path().join("compiled");
    std::fs::create_dir(&cache).unwrap();
    std::fs::set_permissions(&cache, std::fs::Permissions::from_mode(0o700)).unwrap();
    let foreign = |kind: &str| cache.join(format!("{:064}-{:016}.{kind}", 1, 2));
    let kinds = ["module", "component", "server"];
    for file in kinds.map(foreign) {
        std::fs::write(file, "code").unwrap();
    }
    std::fs::write(foreign("notes"), "somebody's").unwrap();
    let _runtime = Wasm::new(support::config(directory.path(), 1)).unwrap();
    for file in kinds.map(foreign) {
        assert!(!file.exists(), "{}", file.display());
    }
    assert!(foreign("notes").exists(), "nobody knows whose it is");
}

#[tokio::test]
async fn no_grace_remains_to_be_told_before_termination() {
    let bench = Bench::new();
    for kind in [Player::Draining, Player::Component] {
        let (workload, stdout) = script(&bench.player(kind).await, &["remain"]);
        assert_eq!(run(&bench, workload).await, Exit::Code(0));
        assert_eq!(stdout.text(), "None\n", "{kind:?}");
    }
}

#[tokio::test]
async fn exit_codes_are_bytes() {
    let bench = Bench::new();
    for (code, expected) in [(200, 200), (256, 0), (-1, 255)] {
        let text = format!(
            r#"(module
                (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
                (memory (export "memory") 1)
                (func (export "_start") (call $exit (i32.const {code}))))"#
        );
        let module = bench.text(&text).await.unwrap();
        assert_eq!(
            run(&bench, Workload::new(module)).await,
            Exit::Code(expected)
        );
    }
}

#[tokio::test]
async fn a_trap_tells_where() {
    let bench = Bench::new();
    let text = r#"(module (func $deep unreachable) (func (export "_start") (call $deep)))"#;
    let module = bench.text(text).await.unwrap();
    match run(&bench, Workload::new(module)).await {
        Exit::Trap { backtrace } => {
            assert!(backtrace.contains("unreachable"), "{backtrace}");
            assert!(backtrace.contains("deep"), "{backtrace}");
        }
        other => panic!("{other:?}"),
    }
    for kind in [Player::Core, Player::Component] {
        let (workload, _) = script(&bench.player(kind).await, &["recurse"]);
        match run(&bench, workload).await {
            Exit::Trap { backtrace } => {
                assert!(backtrace.contains("call stack exhausted"), "{backtrace}");
                assert!(backtrace.len() < 20 << 10);
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn memory_is_limited_from_the_start() {
    let bench = Bench::new();
    let text = r#"(module (memory (export "memory") 1000) (func (export "_start")))"#;
    let module = bench.text(text).await.unwrap();
    let mut workload = Workload::new(module.clone());
    workload.limits.memory = Some(1 << 20);
    assert_eq!(run(&bench, workload).await, Exit::OutOfMemory);
    assert_eq!(run(&bench, Workload::new(module)).await, Exit::Code(0));

    let tables = r#"(module (table 1 200000 funcref)
        (func (export "_start") (drop (table.grow (ref.null func) (i32.const 150000)))))"#;
    let mut workload = Workload::new(bench.text(tables).await.unwrap());
    workload.limits.memory = Some(1 << 20);
    assert_eq!(run(&bench, workload).await, Exit::OutOfMemory);
}

#[tokio::test]
async fn a_spinner_is_killed_and_leaves_the_others_alone() {
    let bench = Bench::with_threads(1);
    let spin = r#"(module (func (export "_start") (loop $l (br $l))))"#;
    let spinner = Workload::new(bench.text(spin).await.unwrap());
    let running = bench.runtime.start(spinner).unwrap();
    let (workload, stdout) = script(
        &bench.player(Player::Core).await,
        &["sleep 5ms", "print alive"],
    );
    assert_eq!(run(&bench, workload).await, Exit::Code(0));
    assert_eq!(stdout.text(), "alive\n");
    assert!(running.usage().cpu > Duration::ZERO);
    running.kill();
    assert_eq!(ended(&running).await, Exit::Killed);
}

#[tokio::test]
async fn a_guest_in_debt_is_killed_at_once() {
    let bench = Bench::with_threads(1);
    let spin = r#"(module (func (export "_start") (loop $l (br $l))))"#;
    let mut spinner = Workload::new(bench.text(spin).await.unwrap());
    spinner.limits.cpu_quota = Some(0.001);
    let running = bench.runtime.start(spinner).unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let used = running.usage().cpu;
    running.kill();
    let exit = tokio::time::timeout(Duration::from_millis(500), running.wait()).await;
    assert_eq!(exit.unwrap(), Exit::Killed);
    assert!(used < Duration::from_millis(50), "{used:?}");
}

/// Of a directory that stays where it is.
fn mount(host: std::path::PathBuf, guest: &str, read_only: bool) -> Mount {
    Mount {
        host: runtime::Host::Own(host),
        beneath: String::new(),
        guest: guest.into(),
        read_only,
    }
}

#[tokio::test]
async fn mounts_nest_and_are_enforced() {
    let bench = Bench::new();
    for kind in [Player::Core, Player::Component] {
        let (root, data) = (
            bench.directory(&format!("root-{kind:?}")),
            bench.directory("data"),
        );
        let config = bench.directory("config");
        std::fs::write(config.join("a.conf"), "configured").unwrap();
        std::fs::create_dir_all(root.join("tmp")).unwrap();
        let steps = [
            "ls /",
            "write /data/x 1",
            "cat /data/x",
            "cat /etc/config/a.conf",
            "write /etc/config/a.conf 2",
            "write /tmp/y 3",
            "cat /data/../../secret",
            "cat /nowhere",
            "cwd",
            "write y 4",
            "cat /y",
        ];
        let (mut workload, stdout) = script(&bench.player(kind).await, &steps);
        workload.mounts = vec![
            mount(config, "/etc/config", true),
            mount(data, "/data/", false),
            mount(root.clone(), "/", false),
        ];
        std::fs::write(bench.directory.path().join("secret"), "secret").unwrap();
        assert_eq!(run(&bench, workload).await, Exit::Code(0));
        let text = stdout.text();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "data etc tmp");
        assert_eq!(lines[1..4], ["written", "1", "configured"]);
        assert_eq!(lines[4], "PermissionDenied", "{kind:?}: {text}");
        assert_eq!(lines[5], "written");
        assert_ne!(lines[6], "secret");
        assert_eq!(lines[7], "NotFound");
        assert_eq!(lines[8..11], ["/", "written", "4"]);
        assert_eq!(std::fs::read_to_string(root.join("tmp/y")).unwrap(), "3");
    }
}

#[tokio::test]
async fn what_lies_in_a_mount_shows_there_where_that_can_be_written() {
    let bench = Bench::new();
    for kind in [Player::Core, Player::Component] {
        let [root, outer, fixed, inner] = ["root", "outer", "fixed", "inner"]
            .map(|name| bench.directory(&format!("{name}-{kind:?}")));
        let file = bench.directory.path().join(format!("file-{kind:?}"));
        std::fs::write(&file, "text").unwrap();
        let steps = [
            "ls /v",
            "ls /v/x",
            "write /v/x/f 1",
            "write /v/x/y/g 2",
            "cat /v/z/file",
            "ls /fixed",
            "cat /fixed/x/y/g",
        ];
        let (mut workload, stdout) = script(&bench.player(kind).await, &steps);
        workload.mounts = vec![
            mount(inner.clone(), "/fixed/x/y", false),
            mount(inner.clone(), "/v/x/y", false),
            mount(file.clone(), "/v/z/file", true),
            mount(outer.clone(), "/v", false),
            mount(fixed.clone(), "/fixed", true),
            mount(root.clone(), "/", false),
        ];
        assert_eq!(run(&bench, workload).await, Exit::Code(0));
        let due = "x z\ny\nwritten\nwritten\ntext\n\n2\n";
        assert_eq!(stdout.text(), due, "{kind:?}");
        assert_eq!(std::fs::read(outer.join("x/f")).unwrap(), b"1");
        assert_eq!(std::fs::read(inner.join("g")).unwrap(), b"2");
        assert_eq!(std::fs::read(outer.join("z/file")).unwrap(), b"");
        assert!(!root.join("v/x").exists());
    }
}

#[tokio::test]
async fn relative_paths_start_at_the_working_directory() {
    let bench = Bench::new();
    for kind in [Player::Core, Player::Component] {
        let root = bench.directory(&format!("wd-{kind:?}"));
        std::fs::create_dir_all(root.join("tmp")).unwrap();
        let steps = [
            "write out 1",
            "cat out",
            "cat ./out",
            "write /tmp/t 2",
            "cat /tmp/t",
            "cat /srv/app/out",
            "ls .",
        ];
        let (mut workload, stdout) = script(&bench.player(kind).await, &steps);
        workload.mounts = vec![mount(root.clone(), "/", false)];
        workload.working_dir = "/srv/app".into();
        assert_eq!(run(&bench, workload).await, Exit::Code(0));
        assert_eq!(
            stdout.text(),
            "written\n1\n1\nwritten\n2\n1\nout\n",
            "{kind:?}"
        );
        assert!(root.join("srv/app/out").exists());
        assert!(root.join("tmp/t").exists());
    }
}

#[tokio::test]
async fn wrong_workloads_are_refused() {
    let bench = Bench::new();
    let module = bench
        .text(r#"(module (func (export "_start")))"#)
        .await
        .unwrap();
    let workload = || Workload::new(module.clone());
    let missing = bench.directory.path().join("missing");
    let there = bench.directory("there");
    let cases: [(&str, Workload); 6] = [
        (
            "NUL",
            Workload {
                argv: vec!["a\0b".into()],
                ..workload()
            },
        ),
        (
            "A=B",
            Workload {
                env: vec![("A=B".into(), "".into())],
                ..workload()
            },
        ),
        (
            "quota",
            Workload {
                limits: Limits {
                    cpu_quota: Some(0.0),
                    ..Limits::default()
                },
                ..workload()
            },
        ),
        (
            "not absolute",
            Workload {
                working_dir: "x".into(),
                ..workload()
            },
        ),
        (
            "cannot mount /m",
            Workload {
                mounts: vec![mount(missing, "/m", true)],
                ..workload()
            },
        ),
        (
            "two mounts at /m",
            Workload {
                mounts: vec![mount(there.clone(), "/m", true), mount(there, "/m/", true)],
                ..workload()
            },
        ),
    ];
    for (named, workload) in cases {
        let refused = bench.runtime.start(workload).unwrap_err();
        assert!(refused.to_string().contains(named), "{refused}");
    }
    assert_eq!(bench.runtime.metrics().running, 0);
}

#[tokio::test]
async fn a_full_node_refuses_cleanly() {
    let directory = tempfile::tempdir().unwrap();
    let config = runtime::Config {
        instances: 2,
        ..support::config(directory.path(), 1)
    };
    let bench = Bench {
        runtime: Wasm::new(config).unwrap(),
        directory,
    };
    let module = bench.player(Player::Core).await;
    let start = || bench.runtime.start(script(&module, &["forever"]).0);
    let (one, _two) = (start().unwrap(), start().unwrap());
    assert!(matches!(start(), Err(StartError::Exhausted(_))));
    one.kill();
    ended(&one).await;
    start().unwrap();
}

use std::path::Path;

use futures::FutureExt as _;
use network::names::search::Hosts;
use runtime::output::Capture;
use runtime::{Handler, ModuleSource, Scripted};

use super::*;

/// A file's bytes that the runtime takes for no module, and their digest.
const BROKEN: &[u8] = b"broken";
const BROKEN_DIGEST: &str =
    "sha256:f526795c95399cea27c055c842c3d6ab018ed0fa4f66f701c28ab22dec28237b";

/// A container whose instance plays a script, and the directory that is its root.
struct Bench {
    runtime: Arc<Scripted>,
    root: tempfile::TempDir,
    _copies: tempfile::TempDir,
    main: Running,
    given: Arc<Given>,
    files: Files,
}

impl Bench {
    async fn new(script: &[&str]) -> Self {
        let runtime = Arc::new(Scripted::with_invalid([BROKEN_DIGEST.to_owned()]));
        let (root, copies) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let source = ModuleSource {
            path: "/nowhere".into(),
            digest: "sha256:0".into(),
            keep: true,
            handler: Handler::default(),
        };
        let argv = ["main"].iter().chain(script);
        let given = Given {
            module: runtime.prepare(source).await.unwrap(),
            argv: argv.map(|word| (*word).to_owned()).collect(),
            env: vec![
                ("A".into(), "1".into()),
                ("COLUMNS".into(), "9".into()),
                ("B".into(), "2".into()),
            ],
            mounts: vec![mount(root.path())],
            working_dir: "/app".into(),
            meter: Arc::new(Meter::new(u64::MAX)),
            net: None,
            names: Arc::new(Search::none(Hosts::new())),
            started: Timestamp::UNIX_EPOCH,
        };
        let workload = Workload {
            limits: runtime::Limits {
                memory: Some(100),
                ..runtime::Limits::default()
            },
            ..given.workload()
        };
        Self {
            main: runtime.start(workload).unwrap(),
            files: Files::new(copies.path(), runtime.clone()),
            given: Arc::new(given),
            runtime,
            root,
            _copies: copies,
        }
    }

    fn command(&self, words: &[&str]) -> Command {
        Command {
            words: words.iter().map(|word| (*word).to_owned()).collect(),
            main: self.main.clone(),
            given: Arc::clone(&self.given),
            processes: Vec::new(),
            runtime: self.runtime.clone(),
            files: self.files.clone(),
            places: None,
            workers: Workers::of_node(),
            tls: trust(None).unwrap(),
            span: tracing::Span::none(),
        }
    }

    /// The exit code of a command, and what it prints on both outputs.
    async fn run(&self, words: &[&str]) -> (i32, String) {
        let output = Capture::new(1 << 20);
        let code = self.command(words).run(Streams::into_one(&output)).await;
        (code, output.text())
    }
}

fn mount(host: &Path) -> Mount {
    Mount {
        host: host.into(),
        beneath: String::new(),
        guest: "/".into(),
        read_only: false,
    }
}

#[tokio::test(start_paused = true)]
async fn another_instance_of_the_module() {
    let b = Bench::new(&["forever"]).await;
    for (words, wanted) in [
        (&["main", "args", "exit 3"][..], (3, "main\nargs\nexit 3\n")),
        (&["main", "env"], (0, "A=1\nCOLUMNS=9\nB=2\n")),
        (&["main", "read", "print end"], (0, "end\n")),
        (&["main", "sleep 5s", "eprint e"], (0, "e\n")),
        (&["main", "trap ouch"], (134, "main: ouch\n")),
        // The instance's own limit holds.
        (&["main", "allocate 101"], (137, "main: out of memory\n")),
        (
            &["main", "fly"],
            (126, "main: \"fly\" is no step of a script\n"),
        ),
    ] {
        let (code, printed) = b.run(words).await;
        assert_eq!((code, printed.as_str()), wanted, "{words:?}");
    }
    assert_eq!(b.main.exit(), None);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_there_is_said_before_the_module_runs() {
    let b = Bench::new(&["forever"]).await;
    let instead = "is no applet: running the container's module with these words";
    for (name, shown) in [("bash", "bash"), ("/sbin/ls", "/sbin/ls"), ("a\nb", "a?b")] {
        let ran = b.run(&[name, "print on", "exit 3"]).await;
        let printed = format!("carob: {shown} {instead}\non\n");
        assert_eq!(ran, (3, printed), "{name:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_terminal_is_told_of() {
    let b = Bench::new(&["forever"]).await;
    let output = Capture::new(1 << 10);
    let streams = Streams {
        terminal: Some(Terminal {
            size: Some((80, 24)),
        }),
        ..Streams::into_one(&output)
    };
    assert_eq!(b.command(&["main", "env"]).run(streams).await, 0);
    let wanted = "A=1\nB=2\nTERM=xterm\nCOLUMNS=80\nLINES=24\n";
    assert_eq!(output.text(), wanted);
}

#[tokio::test]
async fn applets_see_the_container() {
    let b = Bench::new(&["forever"]).await;
    assert_eq!(b.run(&["/bin/pwd"]).await, (0, "/app\n".to_owned()));
}

#[tokio::test]
async fn modules_among_the_containers_files() {
    let b = Bench::new(&["forever"]).await;
    let app = b.root.path().join("app");
    std::fs::create_dir_all(app.join("dir.wasm")).unwrap();
    std::fs::write(app.join("tool.wasm"), b"\0asm").unwrap();
    std::fs::write(app.join("broken.wasm"), BROKEN).unwrap();
    let long = std::fs::File::create(app.join("long.wasm")).unwrap();
    long.set_len((64 << 20) + 1).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", app.join("out.wasm")).unwrap();
    let before = b.runtime.metrics().memory_cache_hits;
    for path in ["tool.wasm", "/app/tool.wasm", "./../app/tool.wasm"] {
        let wanted = (4, format!("{path}\nargs\nexit 4\n"));
        assert_eq!(b.run(&[path, "args", "exit 4"]).await, wanted);
    }
    let prepared = b.runtime.metrics().memory_cache_hits - before;
    assert_eq!(prepared, 1, "it stays ready");
    for (path, wanted) in [
        ("none.wasm", (127, "No such file or directory")),
        ("/none/none.wasm", (127, "No such file or directory")),
        ("dir.wasm", (126, "Is a directory")),
        ("long.wasm", (126, "a file of more than 67108864 bytes")),
        ("out.wasm", (126, "Operation not permitted")),
        (
            "broken.wasm",
            (126, &format!("{BROKEN_DIGEST} is declared invalid")),
        ),
    ] {
        let (code, printed) = b.run(&[path]).await;
        assert_eq!(
            (code, printed),
            (wanted.0, format!("{path}: {}\n", wanted.1))
        );
    }
}

#[tokio::test(start_paused = true)]
async fn the_containers_end_is_the_commands() {
    for (script, terminates, code) in [("sleep 5s", false, 137), ("forever", true, 143)] {
        let b = Bench::new(&[script]).await;
        let main = b.main.clone();
        let (ended, ()) = tokio::join!(b.run(&["main", "forever"]), async {
            if terminates {
                main.terminate(std::time::Duration::ZERO);
            }
        });
        assert_eq!(ended, (code, String::new()), "{script}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_has_ended_before_its_container_has_its_own_code() {
    let b = Bench::new(&["forever"]).await;
    let output = Capture::new(1 << 10);
    let command = b.command(&["main", "print end", "exit 3"]);
    let mut ran = std::pin::pin!(command.run(Streams::into_one(&output)));
    // Nobody asks how it went until both have ended, the command first.
    assert_eq!(ran.as_mut().now_or_never(), None);
    while output.text().is_empty() {
        tokio::task::yield_now().await;
    }
    b.main.terminate(std::time::Duration::ZERO);
    b.main.wait().await;
    assert_eq!(ran.await, 3);
}

#[tokio::test(start_paused = true)]
async fn what_nobody_wants_any_more_is_killed() {
    let b = Bench::new(&["forever"]).await;
    let forever = b.run(&["main", "forever"]);
    let patience = std::time::Duration::from_secs(60);
    tokio::time::timeout(patience, forever).await.unwrap_err();
    // A later turn of the runtime's own.
    tokio::time::sleep(patience).await;
    assert_eq!(b.runtime.metrics().running, 1);
}

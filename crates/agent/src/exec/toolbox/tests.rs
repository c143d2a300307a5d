//! The commands as they are run: words, input and files in; outputs, an exit code and files out.

mod files;
mod mounts;
mod paying;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use network::names::search::{Hosts, Search};
use runtime::{Meter, Mount, Usage};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

use super::super::trust;
use super::super::view::Process;
use super::*;

/// A container with a root of its own.
pub(super) struct Container {
    host: tempfile::TempDir,
    pub(super) view: View,
}

/// What came of a command.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ran {
    pub(super) code: i32,
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: String,
}

impl Ran {
    pub(super) fn of(stdout: &str, stderr: &str, code: i32) -> Self {
        Self {
            code,
            stdout: stdout.as_bytes().to_vec(),
            stderr: stderr.to_owned(),
        }
    }
}

/// A mount without anything beneath.
pub(super) fn mount(host: &Path, guest: &str, read_only: bool) -> Mount {
    Mount {
        host: host.into(),
        beneath: String::new(),
        guest: guest.to_owned(),
        read_only,
    }
}

impl Container {
    /// One with these files in its root.
    pub(super) fn with(files: &[(&str, &str)]) -> Self {
        let host = tempfile::tempdir().unwrap();
        let root = host.path().join("root");
        fs::create_dir(&root).unwrap();
        let view = View {
            mounts: vec![mount(&root, "/", false)],
            env: Vec::new(),
            working_dir: "/".to_owned(),
            meter: Arc::new(Meter::new(u64::MAX)),
            net: None,
            names: Arc::new(Search::none(Hosts::new())),
            processes: Vec::new(),
            workers: Workers::of_node(),
            tls: trust(None).unwrap(),
        };
        let container = Self { host, view };
        for (path, text) in files {
            let path = container.root().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        container
    }

    pub(super) fn root(&self) -> PathBuf {
        self.outside("root")
    }

    /// A path on the host, right beside the root.
    pub(super) fn outside(&self, name: &str) -> PathBuf {
        self.host.path().join(name)
    }

    pub(super) async fn run(&self, words: &[&str], stdin: impl AsRef<[u8]>) -> Ran {
        self.run_at(words, stdin, false).await
    }

    pub(super) async fn run_at(
        &self,
        words: &[&str],
        stdin: impl AsRef<[u8]>,
        terminal: bool,
    ) -> Ran {
        let argv = words.iter().map(|word| (*word).to_owned()).collect();
        // Small, so that whoever writes has to wait.
        let ((out, mut out_read), (err, mut err_read)) = (duplex(100), duplex(100));
        let io = Io {
            stdin: Box::new(std::io::Cursor::new(stdin.as_ref().to_vec())),
            stdout: Box::new(out),
            stderr: Box::new(err),
            terminal,
        };
        let (mut stdout, mut stderr) = (Vec::new(), String::new());
        let (code, _, _) = tokio::join!(
            run(argv, Arc::new(self.view.clone()), io),
            out_read.read_to_end(&mut stdout),
            err_read.read_to_string(&mut stderr),
        );
        Ran {
            code,
            stdout,
            stderr,
        }
    }

    /// Runs one after the other: words that white space parts, the input, and what is expected.
    pub(super) async fn all(&self, runs: &[(&str, &str, Ran)]) {
        for (line, stdin, due) in runs {
            let words: Vec<&str> = line.split(' ').collect();
            assert_eq!(self.run(&words, stdin).await, *due, "{line}");
        }
    }

    /// All that is in a directory of the host: files' contents, links' targets after `->`, `/` for directories.
    pub(super) fn tree(&self, name: &str) -> BTreeMap<String, String> {
        let top = self.outside(name);
        let (mut tree, mut pending) = (BTreeMap::new(), vec![top.clone()]);
        while let Some(dir) = pending.pop() {
            for entry in fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                let kind = path.symlink_metadata().unwrap().file_type();
                let what = if kind.is_symlink() {
                    format!("->{}", fs::read_link(&path).unwrap().display())
                } else if kind.is_dir() {
                    pending.push(path.clone());
                    "/".to_owned()
                } else {
                    fs::read_to_string(&path).unwrap()
                };
                let name = path
                    .strip_prefix(&top)
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .to_owned();
                tree.insert(name, what);
            }
        }
        tree
    }
}

pub(super) fn said(stdout: &str) -> Ran {
    Ran::of(stdout, "", 0)
}

pub(super) fn fails(code: i32, stderr: &str) -> Ran {
    Ran::of("", stderr, code)
}

#[test]
fn the_table_is_sorted() {
    assert!(APPLETS.is_sorted_by(|one, next| one.0 < next.0));
    for name in ["ls", "[", "/bin/sh", "/usr/bin/env", "wget"] {
        assert!(offers(name), "{name}");
    }
    for name in [
        "",
        "vi",
        "/sbin/ls",
        "bin/ls",
        "/bin/",
        "/bin//ls",
        "/usr/bin/bin/ls",
        "ls ",
    ] {
        assert!(!offers(name), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_known() {
    let mut container = Container::with(&[]);
    let env = [("A", "1"), ("B", "two words")];
    container.view.env = env
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec();
    let deep = format!("{}echo x", "env ".repeat(20));
    let too_deep = "env: commands run each other too deeply\n";
    container
        .all(&[
            ("env", "", said("A=1\nB=two words\n")),
            ("env C=3 A=x=y env", "", said("A=x=y\nB=two words\nC=3\n")),
            ("env -i", "", said("")),
            ("env -u A", "", said("B=two words\n")),
            ("env A=2 printenv A", "", said("2\n")),
            (
                "env nope",
                "",
                fails(127, "env: nope: not a command of the toolbox\n"),
            ),
            ("env -S x", "", fails(1, "env: unrecognized option: -S\n")),
            ("env -- false", "", fails(1, "")),
            (deep.as_str(), "", fails(126, too_deep)),
            ("printenv", "", said("A=1\nB=two words\n")),
            ("printenv B C", "", Ran::of("two words\n", "", 1)),
            ("echo a  b", "", said("a  b\n")),
            ("echo -n a -n", "", said("a -n")),
            ("true", "", said("")),
            ("false", "", fails(1, "")),
            ("sleep 1.5 1h", "", said("")),
            ("sleep x", "", fails(1, "sleep: invalid number 'x'\n")),
            ("sleep", "", fails(1, "sleep: missing operand\n")),
        ])
        .await;
    let words = vec!["echo"; MOST_WORDS + 2];
    assert_eq!(
        container.run(&words, "").await,
        fails(126, "echo: Argument list too long\n")
    );
    let long = "x".repeat(MOST_BYTES);
    assert_eq!(
        container.run(&["echo", &long], "").await,
        fails(126, "echo: Argument list too long\n")
    );
}

#[tokio::test]
async fn what_runs() {
    let mut container = Container::with(&[]);
    let process = |container: &str, command: &[&str], millis, memory| Process {
        container: container.to_owned(),
        argv: command.iter().map(|word| (*word).to_owned()).collect(),
        started: "2026-01-02T03:04:05.6Z".parse().unwrap(),
        usage: Usage {
            cpu: Duration::from_millis(millis),
            memory,
        },
    };
    container.view.processes = vec![
        process("web", &["web", "--port", "80"], 61_250, 1_536),
        process("sidecar", &["evil\x1b[2J"], 9, 0),
    ];
    let table = "\
        PID  CONTAINER  TIME     COMMAND\n\
        1    web        1:01.25  web --port 80\n\
        2    sidecar    0:00.00  evil?[2J\n";
    let full = "\
        PID  CONTAINER  STARTED               MEMORY  TIME     COMMAND\n\
        1    web        2026-01-02T03:04:05Z  2K      1:01.25  web --port 80\n\
        2    sidecar    2026-01-02T03:04:05Z  0K      0:00.00  evil?[2J\n";
    container
        .all(&[
            ("ps", "", said(table)),
            ("ps ax", "", said(table)),
            ("ps -ef", "", said(full)),
            ("ps aux", "", said(full)),
            ("ps -o pid", "", fails(1, "ps: unrecognized option: -o\n")),
        ])
        .await;
}

#[tokio::test]
async fn what_is_dropped_ends() {
    let container = Container::with(&[]);
    for words in [
        &["cat"][..],
        &["sh", "-c", "cat | cat"],
        &["tar", "xf", "-"],
    ] {
        let argv = words.iter().map(|word| (*word).to_owned()).collect();
        let ((mut input, stdin), (stdout, _output)) = (duplex(100), duplex(100));
        let io = Io {
            stdin: Box::new(stdin),
            stdout: Box::new(stdout),
            stderr: Box::new(tokio::io::sink()),
            terminal: false,
        };
        let mut running = Box::pin(run(argv, Arc::new(container.view.clone()), io));
        assert!(futures::poll!(&mut running).is_pending(), "{words:?}");
        input.write_all(b"x").await.unwrap();
        drop(running);
        input.write_all(b"x").await.unwrap_err();
    }
}

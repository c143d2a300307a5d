//! What the tests of the whole share: a cluster of real processes, and the clients that talk to it.
//!
//! A test file starts one cluster and runs its tests on it one after the other, for they share two
//! cores, ports and nodes. The binary under test is named by `CAROB`, which `cargo xtask test` sets
//! to the release build.

use std::ffi::OsStr;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Failed, Trial};
use serde_json::Value;

/// What a test ends with.
pub type Outcome = Result<(), Failed>;

/// A test: its name and what it does with the file's cluster.
pub type Case = (&'static str, fn(&Cluster) -> Outcome);

/// Runs `cases` on one cluster of three nodes, in order, and ends the process.
pub fn run(cases: &'static [Case]) -> ! {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    if arguments.list {
        let trials = cases
            .iter()
            .map(|(name, _)| Trial::test(*name, || Ok(())))
            .collect();
        libtest_mimic::run(&arguments, trials).exit();
    }
    let cluster = match Cluster::up(3) {
        Ok(cluster) => std::sync::Arc::new(cluster),
        Err(error) => {
            eprintln!("no cluster: {}", error.message().unwrap_or_default());
            std::process::exit(101);
        }
    };
    let failures = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let trials = cases
        .iter()
        .map(|(name, case)| {
            let (cluster, failures) = (cluster.clone(), failures.clone());
            Trial::test(*name, move || {
                case(&cluster).inspect_err(|failed| {
                    let why = failed.message().unwrap_or_default();
                    let line = format!("{name}: {why}");
                    failures
                        .lock()
                        .unwrap_or_else(|e| e.into_inner())
                        .push(line);
                })
            })
        })
        .collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    if conclusion.has_failed() {
        cluster.show_logs();
        // Again, below the logs: whoever sees only the end of a long output sees why.
        for line in failures.lock().unwrap_or_else(|e| e.into_inner()).iter() {
            eprintln!("---- failed: {line}");
        }
    }
    // Ends its processes.
    drop(cluster);
    conclusion.exit();
}

/// Runs `cases` where there is a kubectl to run them with, and says that they are left out where there is none.
pub fn run_with_kubectl(cases: &'static [Case]) {
    run_if(has_kubectl(), "kubectl is missing", cases);
}

/// Runs `cases` if what they need is `there`, else says why they are left out.
pub fn run_if(there: bool, why_not: &str, cases: &'static [Case]) {
    if there {
        run(cases);
    }
    println!("0 passed, 0 failed, {} skipped: {why_not}", cases.len());
}

/// Says what is left out where this machine lacks what it needs, which in CI it must not.
pub fn left_out(what: impl std::fmt::Display) -> Outcome {
    println!("left out: {what}");
    check(
        std::env::var_os("CI").is_none(),
        format!("in CI this must not be left out: {what}"),
    )
}

/// The binary under test.
pub fn carob() -> PathBuf {
    match std::env::var_os("CAROB") {
        Some(path) => PathBuf::from(path),
        None => root().join("target/release/carob"),
    }
}

/// The repository.
pub fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_owned()
}

/// The directory of what `cargo xtask` builds and fetches.
pub fn target() -> PathBuf {
    root().join(std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
}

/// Whether `kubectl` is there. Where it is not, `cargo xtask test` says what is left out.
pub fn has_kubectl() -> bool {
    Command::new("kubectl")
        .args(["version", "--client"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|s| s.success())
}

/// A local cluster in a directory of its own; ended and removed when dropped.
pub struct Cluster {
    dir: tempfile::TempDir,
    /// The port of its shared address.
    pub port: u16,
    /// Its name.
    pub name: String,
}

impl Cluster {
    /// Starts one.
    pub fn up(nodes: u8) -> Result<Cluster, Failed> {
        Cluster::up_with(nodes, &[])
    }

    /// Starts one with further arguments to `carob up`.
    pub fn up_with(nodes: u8, more: &[&str]) -> Result<Cluster, Failed> {
        let dir = tempfile::tempdir()?;
        let cluster = Cluster {
            dir,
            port: free_port()?,
            name: "t".to_owned(),
        };
        cluster.up_again_with(&[&["--nodes", &nodes.to_string()], more].concat())?;
        Ok(cluster)
    }

    /// Runs `carob up` on it once more.
    pub fn up_again(&self) -> Result<String, Failed> {
        self.up_again_with(&[])
    }

    fn up_again_with(&self, more: &[&str]) -> Result<String, Failed> {
        let mut command = Command::new(carob());
        command.args([
            "up",
            "--name",
            &self.name,
            "--api-port",
            &self.port.to_string(),
        ]);
        command
            .arg("--data-dir")
            .arg(self.path())
            .arg("--kubeconfig")
            .arg(self.kubeconfig())
            .args(more);
        succeed(&mut command)
    }

    /// Its directory.
    pub fn path(&self) -> PathBuf {
        self.dir.path().join("cluster")
    }

    /// The kubeconfig of its administrator.
    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.path().join("kubeconfig")
    }

    /// A place for a test's files.
    pub fn scratch(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs `kubectl`, which must succeed; its output.
    pub fn kubectl(&self, args: &str) -> Result<String, Failed> {
        succeed(&mut self.kubectl_command(args))
    }

    /// Runs `kubectl`, which must fail; its errors.
    pub fn kubectl_fails(&self, args: &str) -> Result<String, Failed> {
        fail(&mut self.kubectl_command(args))
    }

    /// Gives `kubectl` a manifest on standard input.
    pub fn kubectl_with(&self, args: &str, input: &str) -> Result<String, Failed> {
        // kubectl takes what begins with a brace for JSON; the comment says YAML.
        with_input(self.kubectl_command(args), &format!("# YAML\n{input}"))
    }

    /// A kubectl command on this cluster.
    pub fn kubectl_command(&self, args: &str) -> Command {
        let mut command = Command::new("kubectl");
        command
            .arg("--kubeconfig")
            .arg(self.kubeconfig())
            .args(words(args));
        command
    }

    /// A carob command on this cluster.
    pub fn carob_command<S: AsRef<OsStr>>(&self, args: &[S]) -> Command {
        let mut command = Command::new(carob());
        command.args(args).env("KUBECONFIG", self.kubeconfig());
        command
    }

    /// Runs carob on this cluster, which must succeed; its output.
    pub fn carob(&self, args: &str) -> Result<String, Failed> {
        succeed(&mut self.carob_command(&words(args)))
    }

    /// Runs carob on this cluster, which must fail; its errors.
    pub fn carob_fails(&self, args: &str) -> Result<String, Failed> {
        fail(&mut self.carob_command(&words(args)))
    }

    /// Creates or updates the objects of a manifest.
    pub fn apply(&self, manifest: &str) -> Result<String, Failed> {
        with_input(self.carob_command(&["apply", "-f", "-"]), manifest)
    }

    /// An object as JSON: `pods/x`, `-n kube-system configmaps/y`.
    pub fn get(&self, what: &str) -> Result<Value, Failed> {
        Ok(serde_json::from_str(
            &self.carob(&format!("get {what} -o json"))?,
        )?)
    }

    /// Waits until `path` of an object is `value`; the object then.
    pub fn wait_for(&self, what: &str, path: &str, value: &str) -> Result<Value, Failed> {
        let mut last = Value::Null;
        let waited = until(
            &format!("{what} {path} = {value}"),
            Duration::from_secs(30),
            || {
                last = self.get(what).unwrap_or(Value::Null);
                let at = last.pointer(path).cloned().unwrap_or(Value::Null);
                let shown = at.as_str().map_or_else(|| at.to_string(), str::to_owned);
                Ok(shown == value)
            },
        );
        if waited.is_err() {
            eprintln!("{what} is {last:#}");
        }
        waited?;
        Ok(last)
    }

    /// `carob status` as JSON.
    pub fn status(&self) -> Result<Value, Failed> {
        Ok(serde_json::from_str(&succeed(&mut self.status_command())?)?)
    }

    /// The command that tells it.
    pub fn status_command(&self) -> Command {
        let mut command = Command::new(carob());
        command
            .args(["status", "-o", "json", "--name", &self.name, "--data-dir"])
            .arg(self.path());
        command
    }

    /// The index of the server that leads.
    pub fn leader(&self) -> Result<usize, Failed> {
        let status = self.status()?;
        let servers = status["servers"].as_array().cloned().unwrap_or_default();
        servers
            .iter()
            .position(|s| s["leader"] == true)
            .ok_or_else(|| "nobody leads".into())
    }

    /// Kills a process of the `index`th node with -9: `servers` or `nodes` (its agent).
    pub fn kill(&self, part: &str, index: usize) -> Outcome {
        let status = self.status()?;
        let pid = status[part][index]["pid"]
            .as_i64()
            .ok_or("it is dead already")?;
        succeed(Command::new("kill").args(["-9", &pid.to_string()])).map(drop)
    }

    /// The whole log of a process (`server` or `agent`) of the `index`th node.
    pub fn log(&self, role: &str, index: usize) -> Result<String, Failed> {
        let dir = self
            .path()
            .join(format!("{}-{}", self.name, index + 1))
            .join(role)
            .join("log");
        let files: Result<Vec<_>, _> = std::fs::read_dir(dir)?.collect();
        let mut files: Vec<_> = files?.iter().map(std::fs::DirEntry::path).collect();
        // Last comes what it printed when it could not start.
        files.sort();
        let texts = files.iter().map(std::fs::read_to_string);
        Ok(texts.collect::<Result<String, _>>()?)
    }

    /// Prints the ends of all logs, for a test that failed.
    pub fn show_logs(&self) {
        for index in 0..3 {
            for role in ["server", "agent"] {
                let text = self.log(role, index).unwrap_or_default();
                let tail: Vec<&str> = text
                    .lines()
                    .filter(|l| !l.contains("\"leases\""))
                    .rev()
                    .take(25)
                    .collect();
                eprintln!("---- {role} {}", index + 1);
                tail.into_iter().rev().for_each(|line| eprintln!("{line}"));
            }
        }
    }

    /// The command lines of all processes that belong to this cluster.
    pub fn processes(&self) -> Vec<String> {
        processes_of(&self.path())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let mut command = Command::new(carob());
        command
            .args(["down", "--purge", "--name", &self.name, "--data-dir"])
            .arg(self.path());
        if let Err(error) = succeed(&mut command) {
            eprintln!("{}", error.message().unwrap_or_default());
        }
    }
}

/// The command lines of all processes whose `--data-dir` lies below `dir`.
pub fn processes_of(dir: &Path) -> Vec<String> {
    let below = format!("--data-dir {}", dir.display());
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| {
            line.contains(&below) && (line.contains(" server ") || line.contains(" agent "))
        })
        .collect()
}

/// Whether a process has ended with all that it held. Its first thread is a zombie before the others have ended, which hold
/// its files and sockets, and are seen among its tasks, until then.
pub fn has_ended(pid: &str) -> bool {
    let process = Path::new("/proc").join(pid);
    let Ok(stat) = std::fs::read_to_string(process.join("stat")) else {
        return true;
    };
    // The command in parentheses may hold anything, blanks and parentheses too.
    let state = stat.rsplit_once(')').map_or("", |(_, rest)| rest.trim());
    let tasks = std::fs::read_dir(process.join("task")).map_or(0, Iterator::count);
    state.starts_with(['Z', 'X']) && tasks <= 1
}

/// A port that nobody uses now.
pub fn free_port() -> Result<u16, Failed> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// Looks at a condition until it holds, for `limit` at most.
pub fn until(
    what: &str,
    limit: Duration,
    mut condition: impl FnMut() -> Result<bool, Failed>,
) -> Outcome {
    let start = Instant::now();
    while !condition()? {
        if start.elapsed() > limit {
            return Err(format!("not so after {limit:?}: {what}").into());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Runs a command that must succeed; what it printed.
pub fn succeed(command: &mut Command) -> Result<String, Failed> {
    let output = command.stdin(Stdio::null()).output()?;
    stdout_of(command, output)
}

/// Runs a command that must fail; what it printed to standard error.
pub fn fail(command: &mut Command) -> Result<String, Failed> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Err(format!(
            "{command:?} succeeded: {}",
            String::from_utf8_lossy(&output.stdout)
        )
        .into());
    }
    Ok(String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Runs a command that must succeed, with this as its standard input; what it printed.
pub fn with_input(mut command: Command, input: &str) -> Result<String, Failed> {
    use std::io::Write;
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut stdin = child.stdin.take().ok_or("no standard input")?;
    // On its own, or both would wait where the command prints as it reads.
    let input = input.to_owned();
    let writing = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output()?;
    let written = writing.join().map_err(|_| "the writer panicked")?;
    let printed = stdout_of(&command, output)?;
    written?;
    Ok(printed)
}

fn stdout_of(command: &Command, output: Output) -> Result<String, Failed> {
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{command:?} failed ({}): {stderr}{stdout}", output.status).into());
    }
    Ok(stdout)
}

/// A p1 module that copies its standard input to its standard output.
pub const CAT: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (func (export "_start")
        (loop $more
            (i32.store (i32.const 0) (i32.const 64))
            (i32.store (i32.const 4) (i32.const 1024))
            (if (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)) (then (return)))
            (if (i32.eqz (i32.load (i32.const 8))) (then (return)))
            (i32.store (i32.const 4) (i32.load (i32.const 8)))
            (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 12)))
            (br $more))))"#;

/// A module given in WebAssembly's text form, as a file.
pub fn guest(cluster: &Cluster, name: &str, text: &str) -> Result<PathBuf, Failed> {
    let file = cluster.scratch(&format!("{name}.wasm"));
    std::fs::write(&file, wat::parse_str(text)?)?;
    Ok(file)
}

/// Checks a condition.
pub fn check(holds: bool, what: impl std::fmt::Display) -> Outcome {
    if holds {
        Ok(())
    } else {
        Err(what.to_string().into())
    }
}

/// Splits a command line at blanks; single quotes keep a word together.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (index, part) in line.split('\'').enumerate() {
        match index % 2 {
            0 => words.extend(part.split_whitespace().map(str::to_owned)),
            _ => words.push(part.to_owned()),
        }
    }
    words
}

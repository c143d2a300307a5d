//! Finding, starting and ending the processes of a cluster.
//!
//! Two independent traces tell whose a process is: the lock that it holds on its data directory
//! (one server, one agent a directory, whoever started them) and `--data-dir` with the absolute
//! path on its command line, by which `down` also finds what has lost its files.

use std::ffi::OsString;
use std::fs;
use std::io::{Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use tokio::process::{Child, Command};
use tokio::time::Instant;

/// Which of a node's two processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    /// `carob agent`.
    Agent,
    /// `carob server`.
    Server,
}

impl Role {
    /// Both, in the order in which they end: agents report to servers until then.
    pub(crate) const ALL: [Role; 2] = [Role::Agent, Role::Server];

    /// The subcommand, which is also the name of the directory under the data directory.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Role::Agent => "agent",
            Role::Server => "server",
        }
    }
}

/// A held lock on a data directory; let go when the process ends, however it ends.
#[derive(Debug)]
pub(crate) struct Lock(fs::File);

/// In the place of the pid, what a process leaves that ended because it was told to.
const TOLD: &str = "told to end";

impl Lock {
    /// Lets go of the directory and says that it was on purpose.
    pub(crate) fn release(mut self) -> Result<()> {
        self.0.set_len(0)?;
        self.0.rewind()?;
        writeln!(self.0, "{TOLD}").context("cannot write the lock file")
    }
}

/// Whether the last process that held `<dir>/lock` ended because it was told to.
pub(crate) fn was_told(dir: &Path) -> bool {
    fs::read_to_string(dir.join("lock")).is_ok_and(|text| text.trim() == TOLD)
}

/// For how long a lock is tried whose holder is not known: who only looks whether it is held holds it for a moment, and who has
/// just taken it says so after one.
const MOMENT: Duration = Duration::from_secs(1);

/// Takes `<dir>/lock` for this process and writes its pid into it.
pub(crate) fn lock(dir: &Path) -> Result<Lock> {
    let path = dir.join("lock");
    let mut file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    let since = Instant::now();
    while flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        let holder = read_pid(&mut file).map(|pid| pid.as_raw_nonzero().get());
        if let Some(pid) = holder.filter(|pid| is_alive(*pid)) {
            bail!("{} is in use by process {pid}", dir.display());
        }
        if since.elapsed() > MOMENT {
            bail!("{} is in use by another process", dir.display());
        }
        std::thread::yield_now();
    }
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())?;
    Ok(Lock(file))
}

/// The live process that holds `<dir>/lock`.
pub(crate) fn holder(dir: &Path) -> Option<Pid> {
    let mut file = fs::File::open(dir.join("lock")).ok()?;
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        // Nobody holds it; ours goes with `file`.
        Ok(()) => None,
        Err(_) => read_pid(&mut file),
    }
}

fn read_pid(file: &mut fs::File) -> Option<Pid> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.take(32).read_to_string(&mut text).ok()?;
    Pid::from_raw(text.trim().parse().ok()?)
}

/// A process of some cluster, as its command line shows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Found {
    /// Server or agent.
    pub(crate) role: Role,
    /// Its process id.
    pub(crate) pid: i32,
    /// Its `--data-dir`.
    pub(crate) data_dir: PathBuf,
}

/// Every server and agent whose data directory lies at or below `dir`, a path without symbolic
/// links as theirs are.
pub(crate) fn find(dir: &Path) -> Vec<Found> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let mut found: Vec<Found> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
            let line = fs::read(entry.path().join("cmdline")).ok()?;
            let (role, data_dir) = parse_command_line(&line)?;
            (data_dir.starts_with(dir) && is_alive(pid)).then_some(Found {
                role,
                pid,
                data_dir,
            })
        })
        .collect();
    found.sort();
    found
}

/// Reads `… carob server|agent … --data-dir DIR …` from the NUL-separated form of `/proc`.
fn parse_command_line(line: &[u8]) -> Option<(Role, PathBuf)> {
    let words: Vec<&str> = line
        .split(|b| *b == 0)
        .map(|w| std::str::from_utf8(w).unwrap_or(""))
        .collect();
    let program = Path::new(words.first()?).file_name()?;
    if program != "carob" {
        return None;
    }
    let role = match *words.get(1)? {
        "server" => Role::Server,
        "agent" => Role::Agent,
        _ => return None,
    };
    let at = words.iter().position(|w| *w == DATA_DIR)?;
    Some((role, PathBuf::from(words.get(at + 1)?)))
}

const DATA_DIR: &str = "--data-dir";

/// Makes sure that this process has `--data-dir` with the directory's one true path on its command
/// line, where [`find`] and `ps` look for it: starts the program anew in the same process if not.
///
/// # Errors
/// When the directory cannot be made, or the program not be started.
pub(crate) fn named_by_true_path(data_dir: &Path) -> Result<PathBuf> {
    super::layout::make_private_dir(data_dir)?;
    let dir = data_dir
        .canonicalize()
        .with_context(|| format!("{} is no usable path", data_dir.display()))?;
    let mut words = std::env::args_os();
    if words.any(|word| word == DATA_DIR)
        && words.next().is_some_and(|word| word == dir.as_os_str())
    {
        return Ok(dir);
    }
    let exe = std::env::current_exe().context("cannot find this program's own file")?;
    let error = std::process::Command::new(exe)
        .arg0("carob")
        .args(with_data_dir(std::env::args_os().skip(1), &dir))
        .exec();
    Err(error).context("cannot start this program with its directory's true path")
}

/// The words of a command line with another `--data-dir`.
fn with_data_dir(words: impl Iterator<Item = OsString>, dir: &Path) -> Vec<OsString> {
    let mut made = Vec::new();
    let mut words = words;
    while let Some(word) = words.next() {
        if word == DATA_DIR {
            words.next();
        } else if !word.as_encoded_bytes().starts_with(b"--data-dir=") {
            made.push(word);
            continue;
        }
        made.extend([DATA_DIR.into(), dir.into()]);
    }
    made
}

/// What becomes readable once the last thread of process `pid` has ended and all that it held is free, which is after its
/// first thread has; none where it was waited for since.
fn end_signal(pid: i32) -> Option<OwnedFd> {
    pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()
}

/// Whether `pid` still runs, or holds anything.
pub(crate) fn is_alive(pid: i32) -> bool {
    let at_once = Some(&Timespec::default());
    end_signal(pid).is_some_and(|fd| poll(&mut [PollFd::new(&fd, PollFlags::IN)], at_once) != Ok(1))
}

/// Sends `signal`; a process that has gone is no error.
pub(crate) fn signal(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        let _ = kill_process(pid, signal);
    }
}

/// Waits until none of `pids` runs, for `limit` at most; the ones that still do.
pub(crate) async fn wait_for_end(pids: &[i32], limit: Duration) -> Vec<i32> {
    let ends = pids.iter().map(|pid| end_of(*pid));
    let _ = tokio::time::timeout(limit, futures::future::join_all(ends)).await;
    pids.iter().copied().filter(|pid| is_alive(*pid)).collect()
}

/// Resolves when process `pid`, which need not be a child of this one, has ended.
pub(crate) async fn end_of(pid: i32) {
    let Some(fd) = end_signal(pid) else {
        return;
    };
    let (ended, end) = tokio::sync::oneshot::channel();
    // A thread of its own: it may wait as long as the process lives, and nobody waits for it.
    std::thread::spawn(move || {
        while let Err(rustix::io::Errno::INTR) = poll(&mut [PollFd::new(&fd, PollFlags::IN)], None)
        {
        }
        let _ = ended.send(());
    });
    let _ = end.await;
}

/// Starts `carob <role> --data-dir DIR …` as a process of its own session, so that it outlives
/// the caller and no terminal signal reaches it. Panics and start-up errors land in
/// `<dir>/<role>/log/stderr.log`.
pub(crate) fn spawn(role: Role, data_dir: &Path, args: &[String]) -> Result<Child> {
    spawn_with(role, data_dir, args, &[])
}

/// As [`spawn`], with additions to the environment.
pub(crate) fn spawn_with(
    role: Role,
    data_dir: &Path,
    args: &[String],
    environment: &[(String, String)],
) -> Result<Child> {
    let log = data_dir.join(role.name()).join("log");
    super::layout::make_private_dir(&log)?;
    let stderr = fs::File::create(log.join("stderr.log"))
        .context("cannot write the log of a starting process")?;
    let exe = std::env::current_exe().context("cannot find this program's own file")?;
    let mut command = Command::new(exe);
    command
        .arg0("carob")
        .arg(role.name())
        .arg("--data-dir")
        .arg(data_dir)
        .args(args)
        .envs(environment.iter().map(|(k, v)| (k, v)))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(stderr)
        .current_dir("/")
        .process_group(0);
    // The child outlives this handle, whatever becomes of it.
    command
        .kill_on_drop(false)
        .spawn()
        .with_context(|| format!("cannot start a {}", role.name()))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

    use super::*;

    #[test]
    fn command_lines_tell_role_and_directory() {
        let parse = |words: &[&str]| parse_command_line(words.join("\0").as_bytes());
        assert_eq!(
            parse(&[
                "carob",
                "server",
                "--data-dir",
                "/c/dev-1",
                "--node-name",
                "dev-1"
            ]),
            Some((Role::Server, "/c/dev-1".into()))
        );
        assert_eq!(
            parse(&[
                "/usr/bin/carob",
                "agent",
                "--node-name",
                "x",
                "--data-dir",
                "/c/x"
            ]),
            Some((Role::Agent, "/c/x".into()))
        );
        assert_eq!(parse(&["carob", "up", "--data-dir", "/c"]), None);
        assert_eq!(parse(&["vim", "server", "--data-dir", "/c"]), None);
        assert_eq!(parse(&["carob", "server", "--data-dir"]), None);
        assert_eq!(parse(&[]), None);
    }

    #[test]
    fn a_directory_is_named_in_one_way() {
        let words = |line: &str| -> Vec<OsString> { line.split(' ').map(OsString::from).collect() };
        let named = |line: &str| with_data_dir(words(line).into_iter(), Path::new("/c/x"));
        let right = words("agent --data-dir /c/x --server u");
        assert_eq!(named("agent --data-dir ../x --server u"), right);
        assert_eq!(named("agent --data-dir=x --server u"), right);
    }

    #[test]
    fn who_looks_keeps_nobody_from_taking_it() {
        let dir = tempfile::tempdir().unwrap();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Relaxed) {
                    holder(dir.path());
                }
            });
            let taken = || lock(dir.path())?.release();
            let all: Result<Vec<()>> = (0..20).map(|_| taken()).collect();
            done.store(true, Relaxed);
            all.unwrap();
        });
    }

    #[tokio::test]
    async fn a_process_has_ended_before_anybody_waits_for_it() {
        let mut command = std::process::Command::new("cat");
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        assert!(is_alive(pid));
        assert_eq!(wait_for_end(&[pid], Duration::ZERO).await, [pid]);
        signal(pid, Signal::KILL);
        let left = wait_for_end(&[pid], Duration::from_secs(60)).await;
        assert!(left.is_empty() && !is_alive(pid));
        child.wait().unwrap();
        assert!(!is_alive(pid));
    }

    #[test]
    fn one_holder_a_directory() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(holder(dir.path()), None);
        let held = lock(dir.path()).unwrap();
        assert_eq!(
            holder(dir.path()).map(|p| p.as_raw_nonzero().get()),
            Some(std::process::id() as i32)
        );
        assert!(
            lock(dir.path())
                .unwrap_err()
                .to_string()
                .contains("in use by process")
        );
        drop(held);
        assert_eq!(holder(dir.path()), None);
        assert!(!was_told(dir.path()));
        lock(dir.path()).unwrap().release().unwrap();
        assert_eq!(holder(dir.path()), None);
        assert!(was_told(dir.path()));
    }
}

//! Finding, starting and ending the processes of a cluster.
//!
//! Two independent traces tell whose a process is: the lock that it holds on its data directory
//! (one server, one agent a directory, whoever started them) and `--data-dir` with the absolute
//! path on its command line, by which `down` also finds what has lost its files.

use std::ffi::OsString;
use std::fs;
use std::io::{Seek, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use tokio::process::{Child, Command};

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

/// In the lock's file, what a process leaves that ended because it was told to.
const TOLD: &str = "told to end";

impl Lock {
    /// Lets go of the directory and says that it was on purpose.
    pub(crate) fn release(mut self) -> Result<()> {
        self.0.set_len(0)?;
        self.0.rewind()?;
        writeln!(self.0, "{TOLD}").context("cannot write the lock file")
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // A process that is being started has the same open file until its program begins.
        let _ = on_lock(&self.0, OnLock::LetGo);
    }
}

/// Whether the last process that held `<dir>/lock` ended because it was told to.
pub(crate) fn was_told(dir: &Path) -> bool {
    fs::read_to_string(dir.join("lock")).is_ok_and(|text| text.trim() == TOLD)
}

/// Takes `<dir>/lock` for this process.
pub(crate) fn lock(dir: &Path) -> Result<Lock> {
    let path = dir.join("lock");
    let file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    if let Err(error) = on_lock(&file, OnLock::Take) {
        if let Some(pid) = holder_of(&file) {
            let pid = pid.as_raw_nonzero();
            bail!("{} is in use by process {pid}", dir.display());
        }
        return Err(error).with_context(|| format!("cannot lock {}", path.display()));
    }
    // What the last one left.
    file.set_len(0)?;
    Ok(Lock(file))
}

/// The live process that holds `<dir>/lock`.
pub(crate) fn holder(dir: &Path) -> Option<Pid> {
    holder_of(&fs::File::open(dir.join("lock")).ok()?)
}

fn holder_of(file: &fs::File) -> Option<Pid> {
    let met = on_lock(file, OnLock::Look).ok()?;
    let is_held = i32::from(met.l_type) != libc::F_UNLCK;
    let pid = i32::try_from(met.l_len).ok().filter(|_| is_held)?;
    Pid::from_raw(pid)
}

/// What is done to a lock.
#[derive(Clone, Copy)]
enum OnLock {
    /// This process takes it, or fails.
    Take,
    /// This process has it no more.
    LetGo,
    /// It stays as it is. The answer is what is in the way, of the type `F_UNLCK` if nothing is.
    Look,
}

/// A lock is on as many bytes, from the first on, as the id of the process that holds it says: so who looks need not take it for
/// a moment, and knows at once whose it is. It is the open file's, not the process', whose locks would go as soon as anything in
/// it closes the same file: guests may, in an agent.
#[expect(
    unsafe_code,
    reason = "no library has locks of open files that can be looked at"
)]
fn on_lock(file: &fs::File, what: OnLock) -> std::io::Result<libc::flock> {
    let own = std::process::id();
    let (command, kind, bytes) = match what {
        OnLock::Take => (libc::F_OFD_SETLK, libc::F_WRLCK, own),
        OnLock::LetGo => (libc::F_OFD_SETLK, libc::F_UNLCK, own),
        OnLock::Look => (libc::F_OFD_GETLK, libc::F_WRLCK, 1),
    };
    let mut range = libc::flock {
        l_type: kind as _,
        l_whence: libc::SEEK_SET as _,
        l_start: 0,
        l_len: bytes.into(),
        l_pid: 0,
    };
    // SAFETY: both commands want the address of a `struct flock`, which this is, read it, may write to it, and keep nothing of it.
    match unsafe { libc::fcntl(file.as_raw_fd(), command, &raw mut range) } {
        -1 => Err(std::io::Error::last_os_error()),
        _ => Ok(range),
    }
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
/// links as theirs are. One whose last thread is ending is not seen, but may hold its lock for a moment.
pub(crate) fn find(dir: &Path) -> Vec<Found> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let mut found: Vec<Found> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
            let line = command_line(&entry.path())?;
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

/// The command line of what `process` is in `/proc`, by any of its threads: who has ended has none, and the first may be the one
/// that waits for the others.
fn command_line(process: &Path) -> Option<Vec<u8>> {
    let of = |thread: &Path| {
        let line = fs::read(thread.join("cmdline")).ok();
        line.filter(|line| !line.is_empty())
    };
    of(process).or_else(|| {
        let mut threads = fs::read_dir(process.join("task")).ok()?;
        threads.find_map(|thread| of(&thread.ok()?.path()))
    })
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

    use rustix::process::getpid;

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
    fn a_process_lasts_as_long_as_any_of_its_threads() {
        let dir = tempfile::tempdir().unwrap();
        let thread = |path: &str, line: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(&path).unwrap();
            fs::write(path.join("cmdline"), line).unwrap();
        };
        let line = || command_line(dir.path()).map(|line| String::from_utf8(line).unwrap());
        thread("", "");
        assert_eq!(line(), None);
        thread("task/1", "");
        assert_eq!(line(), None);
        thread("task/2", "carob");
        assert_eq!(line().unwrap(), "carob");
        thread("", "first");
        assert_eq!(line().unwrap(), "first");
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
        let all: Result<Vec<()>> = std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !done.load(Relaxed) {
                        // Whoever is seen is the one who is there.
                        let seen = holder(dir.path());
                        assert!(seen.is_none_or(|pid| pid == getpid()), "{seen:?}");
                    }
                });
            }
            let taken = || lock(dir.path())?.release();
            let all = (0..200).map(|_| taken()).collect();
            done.store(true, Relaxed);
            all
        });
        all.unwrap();
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
        assert_eq!(holder(dir.path()), Some(getpid()));
        // As a guest may, or a backup.
        drop(fs::File::open(dir.path().join("lock")).unwrap());
        let refused = lock(dir.path()).unwrap_err().to_string();
        let by = format!("in use by process {}", std::process::id());
        assert!(refused.ends_with(&by), "{refused}");
        drop(held);
        assert_eq!(holder(dir.path()), None);
        assert!(!was_told(dir.path()));
        lock(dir.path()).unwrap().release().unwrap();
        assert_eq!(holder(dir.path()), None);
        assert!(was_told(dir.path()));
    }
}

//! Termination messages: what a container's status says of its end, within Kubernetes' bounds.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Container;
use runtime::{Exit, Host, Mount};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::root;
use crate::logs;
use crate::volumes::Made;

/// Where a guest may leave a message about its end, if its container does not say.
const PATH: &str = "/dev/termination-log";
/// Bytes of the longest message.
const LONGEST: usize = 4096;
/// How much of a failed container's log serves as its message where the pod asks for that.
const LOG_LINES: usize = 80;
const LOG_BYTES: usize = 2048;

/// Where the container's guest may leave its message.
pub(super) fn path(container: &Container) -> &str {
    container
        .termination_message_path
        .as_deref()
        .filter(|path| !path.is_empty())
        .unwrap_or(PATH)
}

/// What the guest left in its file: the last part of it, as the kubelet reads it.
pub(super) fn left(
    root: &Path,
    container: &Container,
    volumes: &BTreeMap<String, Made>,
    mounts: &[Mount],
) -> Option<String> {
    let path = root::inside(path(container))?;
    // The guest made what lies there, and may have made a pipe that nobody writes to.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK;
    let mounted = mounts.iter().find_map(|mount| match &mount.host {
        Host::File(file) if root::inside(&mount.guest).as_ref() == Some(&path) => Some(file),
        _ => None,
    });
    let opened = match mounted {
        // What takes its name is another file.
        Some(file) => {
            let same = format!("/proc/self/fd/{}", file.as_raw_fd());
            rustix::fs::open(same, flags | OFlags::CLOEXEC, Mode::empty())
        }
        None => {
            let open = |path: &Path| {
                let (dir, path) = root::place_of(root, container, volumes, path)?;
                Some((dir == root, root::open(&dir, &path, flags)))
            };
            match open(&path)? {
                (true, Err(Errno::NOENT)) => open(&in_working_dir(container, &path)?)?.1,
                (_, opened) => opened,
            }
        }
    };
    let mut file = fs::File::from(opened.ok()?);
    let length = file.metadata().ok().filter(fs::Metadata::is_file)?.len();
    let from = length.saturating_sub(LONGEST as u64);
    file.seek(SeekFrom::Start(from)).ok()?;
    let mut bytes = Vec::new();
    file.take(LONGEST as u64).read_to_end(&mut bytes).ok()?;
    (!bytes.is_empty()).then(|| String::from_utf8_lossy(&bytes).into_owned())
}

/// Where else a file right in the root may be: guests' C library takes its name for one in the working directory.
fn in_working_dir(container: &Container, path: &Path) -> Option<PathBuf> {
    let dir = root::inside(container.working_dir.as_deref()?)?;
    (path.components().count() == 1).then(|| dir.join(path))
}

/// The last that an instance has printed.
pub(super) fn from_log(log_dir: &Path, attempt: u32) -> Option<String> {
    let printed = logs::last(log_dir, attempt, LOG_LINES, LOG_BYTES).ok();
    printed.filter(|text| !text.is_empty())
}

/// What the status says of an end: what the guest `left`, else what it printed where the container asks for that, and its
/// trap's backtrace. Of what is too long together the one's end stays and the other's beginning, half of each at least, and never
/// more than the container's `share` of what its pod may say.
pub(super) fn of_end(
    left: Option<String>,
    container: &Container,
    exit: &Exit,
    share: usize,
    printed: impl FnOnce() -> Option<String>,
) -> Option<String> {
    let longest = LONGEST.min(share);
    let policy = container.termination_message_policy.as_deref();
    let text = match left {
        None if policy == Some("FallbackToLogsOnError") && exit.code() != 0 => printed(),
        left => left,
    };
    let Exit::Trap { backtrace } = exit else {
        // Bytes that are no text have become longer than they were.
        return text.map(|mut text| {
            text.truncate(text.floor_char_boundary(longest));
            text
        });
    };
    let text = text.map(|text| format!("{}\n", text.trim_end_matches('\n')));
    let text = text.unwrap_or_default();
    let room = longest.saturating_sub(backtrace.len()).max(longest / 2);
    let text = &text[text.ceil_char_boundary(text.len().saturating_sub(room))..];
    let end = backtrace.floor_char_boundary(longest - text.len());
    Some(format!("{text}{}", &backtrace[..end]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::{Value, json};

    fn container(value: Value) -> Container {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn the_end_of_the_file_is_read_and_nothing_outside_the_root() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        let log = root.join("dev/termination-log");
        fs::create_dir_all(root.join("dev")).unwrap();
        fs::write(dir.path().join("secret"), "s").unwrap();
        let main = container(json!({"name": "m"}));
        let found = || left(&root, &main, &BTreeMap::new(), &[]);
        assert_eq!(found(), None);
        std::os::unix::fs::symlink("../../secret", &log).unwrap();
        assert_eq!(found(), None);
        fs::remove_file(&log).unwrap();
        fs::create_dir(&log).unwrap();
        assert_eq!(found(), None);
        fs::remove_dir(&log).unwrap();
        fs::write(&log, "").unwrap();
        assert_eq!(found(), None);
        fs::write(&log, "bye").unwrap();
        assert_eq!(found().as_deref(), Some("bye"));
        let long = format!("first{}last", "-".repeat(LONGEST));
        fs::write(&log, &long).unwrap();
        assert_eq!(found().as_deref(), Some(&long[long.len() - LONGEST..]));
    }

    #[test]
    fn a_message_right_in_the_root_may_be_in_the_working_directory() {
        let dir = tempfile::tempdir().unwrap();
        let (root, data) = (dir.path().join("root"), dir.path().join("data"));
        for made in [root.join("work"), data.clone()] {
            fs::create_dir_all(&made).unwrap();
            fs::write(made.join("out"), "bye").unwrap();
        }
        let volumes = BTreeMap::from([("data".to_owned(), Made::new(&data, false))]);
        let found = |path: &str, working_dir: Option<&str>, mount: &str| {
            let main = container(json!({
                "name": "m", "terminationMessagePath": path, "workingDir": working_dir,
                "volumeMounts": [{"name": "data", "mountPath": mount}],
            }));
            left(&root, &main, &volumes, &[])
        };
        let bye = || Some("bye".to_owned());
        assert_eq!(found("/out", Some("/work"), "/data"), bye());
        assert_eq!(found("/out", Some("/data"), "/data"), bye());
        assert_eq!(found("/out", None, "/data"), None);
        assert_eq!(found("/out", Some("/"), "/data"), None);
        assert_eq!(found("/else/out", Some("/work"), "/data"), None);
        // A volume at the path is what its guest finds there.
        assert_eq!(found("/out", Some("/work"), "/out"), None);
        fs::remove_file(root.join("work/out")).unwrap();
        fs::write(dir.path().join("out"), "secret").unwrap();
        std::os::unix::fs::symlink("../../out", root.join("work/out")).unwrap();
        assert_eq!(found("/out", Some("/work"), "/data"), None);
        fs::write(root.join("out"), "").unwrap();
        fs::remove_file(root.join("work/out")).unwrap();
        fs::write(root.join("work/out"), "not this").unwrap();
        assert_eq!(found("/out", Some("/work"), "/data"), None);
    }

    #[test]
    fn a_message_is_found_in_a_volume() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        fs::create_dir_all(data.join("sub/deep")).unwrap();
        fs::write(data.join("sub/deep/end"), "bye").unwrap();
        let made = Made::new(&data, false);
        let volumes = BTreeMap::from([("data".to_owned(), made)]);
        let main = container(
            json!({"name": "m", "terminationMessagePath": "/out/deep/end", "volumeMounts": [
                {"name": "data", "mountPath": "/out", "subPath": "sub"},
            ]}),
        );
        let found = || left(dir.path(), &main, &volumes, &[]);
        assert_eq!(found().as_deref(), Some("bye"));
        fs::remove_dir_all(data.join("sub/deep")).unwrap();
        std::os::unix::fs::symlink("..", data.join("sub/deep")).unwrap();
        fs::write(data.join("end"), "not this").unwrap();
        assert_eq!(found(), None);
    }

    #[test]
    fn a_message_is_found_in_a_single_file() {
        let dir = tempfile::tempdir().unwrap();
        let (root, data) = (dir.path().join("root"), dir.path().join("data"));
        fs::create_dir_all(&data).unwrap();
        for name in ["end", "other"] {
            fs::write(data.join(name), "bye").unwrap();
        }
        let volumes = BTreeMap::from([
            ("dir".to_owned(), Made::new(&data, false)),
            ("file".to_owned(), Made::new(data.join("other"), false)),
        ]);
        let main = |mount: Value| {
            container(json!({
                "name": "m", "terminationMessagePath": "/out/log", "volumeMounts": [mount],
            }))
        };
        for mount in [
            json!({"name": "dir", "mountPath": "/out/log", "subPath": "end"}),
            json!({"name": "file", "mountPath": "/out/log"}),
        ] {
            let main = main(mount);
            let mounts = root::make(&root, None, &Pod::default(), &main, &volumes, None).unwrap();
            let found = left(&root, &main, &volumes, &mounts);
            assert_eq!(found.as_deref(), Some("bye"), "{mounts:?}");
        }
    }

    #[test]
    fn a_log_is_a_message_only_of_failures_without_one_and_where_that_is_asked_for() {
        let trap = || Exit::Trap {
            backtrace: "wasm trap: unreachable".to_owned(),
        };
        let bye = || Some("bye".to_owned());
        let table = [
            ("File", None, Exit::Code(1), None),
            ("File", bye(), Exit::Code(0), Some("bye")),
            ("FallbackToLogsOnError", None, Exit::Code(0), None),
            (
                "FallbackToLogsOnError",
                None,
                Exit::Code(1),
                Some("printed\n"),
            ),
            (
                "FallbackToLogsOnError",
                None,
                Exit::Killed,
                Some("printed\n"),
            ),
            ("FallbackToLogsOnError", bye(), Exit::Code(1), Some("bye")),
            ("File", None, trap(), Some("wasm trap: unreachable")),
            ("File", bye(), trap(), Some("bye\nwasm trap: unreachable")),
            (
                "FallbackToLogsOnError",
                None,
                trap(),
                Some("printed\nwasm trap: unreachable"),
            ),
        ];
        for (policy, left, exit, says) in table {
            let main = container(json!({"name": "m", "terminationMessagePolicy": policy}));
            let printed = || Some("printed\n".to_owned());
            let message = of_end(left, &main, &exit, usize::MAX, printed);
            assert_eq!(message.as_deref(), says, "{policy} {exit:?}");
        }
        let long = Exit::Trap {
            backtrace: "€".repeat(LONGEST),
        };
        let main = container(json!({"name": "m"}));
        let message = of_end(None, &main, &long, LONGEST, || None).unwrap();
        assert_eq!(message.len(), LONGEST / 3 * 3);
        let within = |share, left: &str, backtrace: &str| {
            let exit = Exit::Trap {
                backtrace: backtrace.to_owned(),
            };
            of_end(Some(left.to_owned()), &main, &exit, share, || None).unwrap()
        };
        let message = |left: &str, backtrace: &str| within(LONGEST, left, backtrace);
        let file = format!("first{}last\n", "-".repeat(LONGEST));
        let (few, many) = (
            "wasm trap: unreachable",
            "wasm trap:".repeat(LONGEST / 10 + 1),
        );
        let whole = message(&file, few);
        assert_eq!(whole.len(), LONGEST);
        assert!(whole.ends_with(&format!("--last\n{few}")));
        let halves = message(&file, &many);
        let (left, backtrace) = halves.split_at(LONGEST / 2);
        assert!(left.ends_with("--last\n") && many.starts_with(backtrace));
        assert_eq!(backtrace.len(), LONGEST / 2);
        let rest = message("bye", &many);
        assert_eq!(rest, format!("bye\n{}", &many[..LONGEST - 4]));
        let shared = within(100, &file, &many);
        assert_eq!(
            shared,
            format!("{}{}", &file[file.len() - 50..], &many[..50])
        );
        // Letters stay whole.
        let letters = message(&"€".repeat(LONGEST), &"ä".repeat(LONGEST));
        assert!(letters.len() > LONGEST - 3 && letters.len() <= LONGEST);
        let no_text = String::from_utf8_lossy(&[0xff; LONGEST]).into_owned();
        let message = of_end(Some(no_text), &main, &Exit::Code(1), LONGEST, || None).unwrap();
        assert_eq!(message.len(), LONGEST / 3 * 3);
    }

    #[test]
    fn the_last_80_lines_or_2048_bytes_of_a_log() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(from_log(dir.path(), 0), None);
        let print = |lines: Vec<String>| {
            let line = |text: String| format!("2026-11-21T10:00:00.000000000Z stderr F {text}\n");
            let all: String = lines.into_iter().map(line).collect();
            fs::write(dir.path().join("0.0.log"), all).unwrap();
            from_log(dir.path(), 0).unwrap()
        };
        let short = print((0..100).map(|n| format!("line {n}")).collect());
        assert_eq!(short.lines().count(), LOG_LINES);
        assert!(short.starts_with("line 20\n") && short.ends_with("line 99\n"));
        let long = print((0..40).map(|_| "x".repeat(99)).collect());
        assert_eq!(long.len(), LOG_BYTES);
    }
}

//! A part of a volume, which a mount names by its `subPath`.

use std::fs;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::VolumeMount;
use runtime::Mount;
use runtime::files::{self, FOLLOW, NO_LINKS};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::root::inside;
use crate::remove::remove_tree;
use crate::volumes::Made;

/// How often a copy is begun. Files are replaced at most some times a second, and copied in much less than that.
const TRIES: usize = 10;

/// A volume's directory, and the path below it at which a mount begins.
///
/// # Errors
/// In words, where it leads out of the volume or cannot be mounted.
pub(super) fn find(made: &Made, mount: &VolumeMount) -> Result<(PathBuf, String), String> {
    let sub = mount.sub_path.as_deref().unwrap_or_default();
    let relative = inside(&format!("/{sub}"))
        .filter(|_| !sub.starts_with('/'))
        .ok_or_else(|| format!("{sub:?} must stay below the volume"))?;
    if relative.as_os_str().is_empty() {
        return Ok((made.path.clone(), made.beneath.clone()));
    }
    if made.is_own {
        // So are its links.
        let base = made.path.canonicalize().map_err(|e| e.to_string())?;
        let full = base.join(relative);
        // The first look may have come between the links of old files and these files' end.
        let full = full.canonicalize().or_else(|_| full.canonicalize());
        let full = full.map_err(|e| format!("{sub:?}: {e}"))?;
        if !full.starts_with(&base) {
            return Err(format!("{sub:?} leads out of the volume"));
        }
        return Ok((full, String::new()));
    }
    let volume = Mount {
        host: made.path.clone().into(),
        beneath: made.beneath.clone(),
        guest: String::new(),
        read_only: true,
    };
    let volume = files::mounted(&volume, false);
    let volume = volume.map_err(|error| format!("the volume cannot be opened: {error}"))?;
    let found = volume.directory().and_then(|dir| resolve(&dir, &relative));
    let found = found.map_err(|error| match error {
        Errno::NOTDIR => format!("{sub:?} lies below a file"),
        Errno::XDEV => format!("{sub:?} leads out of the volume"),
        Errno::NOENT => format!("{sub:?} is a link that leads to nothing"),
        Errno::LOOP => format!("{sub:?} has too many links"),
        error => format!("{sub:?}: {error}"),
    })?;
    let beneath = Path::new(&made.beneath).join(found);
    Ok((made.path.clone(), beneath.to_string_lossy().into_owned()))
}

/// Where a path leads in a volume that guests write to: as one without links, which is all that is mounted, since guests may
/// change links until it is. What is missing is made where the rest leads.
///
/// # Errors
/// The system's: `XDEV` where it leads out of the volume, `NOENT` for a link to what is missing.
fn resolve(volume: &OwnedFd, path: &Path) -> rustix::io::Result<String> {
    let open = |path: &Path, flags, links| {
        let path = Path::new(".").join(path);
        files::open(
            volume.as_fd(),
            path,
            OFlags::PATH | flags,
            Mode::empty(),
            links,
        )
    };
    let mut there = path;
    let found = loop {
        match (open(there, OFlags::empty(), FOLLOW), there.parent()) {
            (Err(Errno::NOENT), Some(parent)) => there = parent,
            (found, _) => break found?,
        }
    };
    let found = place(&found)?;
    let found = found.strip_prefix(place(volume)?);
    // It is being moved.
    let found = found.map_err(|_| Errno::AGAIN)?;
    let missing = path.strip_prefix(there).unwrap_or(path);
    if let Some(first) = missing.iter().next()
        && open(&found.join(first), OFlags::NOFOLLOW, NO_LINKS).is_ok()
    {
        return Err(Errno::NOENT);
    }
    let found: PathBuf = found.iter().chain(missing).collect();
    found.to_str().map(str::to_owned).ok_or(Errno::ILSEQ)
}

/// The path of what is open.
fn place(open: &OwnedFd) -> rustix::io::Result<PathBuf> {
    let link = format!("/proc/self/fd/{}", open.as_raw_fd());
    fs::read_link(link).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

/// Copies what a `subPath` shows now of a volume whose files are replaced.
///
/// # Errors
/// In words, where there is no such file or directory, or it cannot be copied.
pub(super) fn copy(made: &Made, mount: &VolumeMount, to: &Path) -> Result<(), String> {
    copy_whole(
        || Ok(find(made, mount)?.0),
        |from| {
            remove_tree(to)?;
            copy_tree(from, to)
        },
    )
}

/// Has `copy` done from where `find` leads, again if that is not where it leads afterwards. The old files of a volume are
/// removed only when it shows the new ones: where it shows the same after a copy as before, nothing was missing then.
fn copy_whole(
    find: impl Fn() -> Result<PathBuf, String>,
    copy: impl Fn(&Path) -> io::Result<()>,
) -> Result<(), String> {
    let mut from = find()?;
    for _ in 0..TRIES {
        let copied = copy(&from);
        let now = find()?;
        if now == from {
            return copied.map_err(|e| e.to_string());
        }
        from = now;
    }
    Err("it is replaced again and again".to_owned())
}

/// Copies a file, or a directory with its files and directories; there is nothing else in what the agent itself has
/// written.
fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent)?;
    }
    if !from.is_dir() {
        return fs::copy(from, to).map(drop);
    }
    let mut left = vec![(from.to_owned(), to.to_owned())];
    while let Some((from, to)) = left.pop() {
        fs::create_dir_all(&to)?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            let to = to.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                left.push((entry.path(), to));
            } else {
                fs::copy(entry.path(), to)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::os::unix::fs::symlink;

    use k8s_openapi::api::core::v1::Pod;
    use runtime::files::Mounted;
    use serde_json::json;

    use super::*;
    use crate::driver::root;
    use crate::pod::PodView as _;
    use crate::volumes::conformance;

    fn mount(sub_path: &str) -> VolumeMount {
        VolumeMount {
            sub_path: Some(sub_path.to_owned()),
            ..VolumeMount::default()
        }
    }

    /// What is mounted of that which was found.
    fn shown((host, beneath): (PathBuf, String)) -> Mount {
        Mount {
            host: host.into(),
            beneath,
            guest: "/x".to_owned(),
            read_only: true,
        }
    }

    #[test]
    fn nothing_leads_out() {
        let dir = tempfile::tempdir().unwrap();
        let volume = dir.path().join("v");
        fs::create_dir_all(&volume).unwrap();
        fs::write(dir.path().join("secret"), "s").unwrap();
        symlink("..", volume.join("up")).unwrap();
        for read_only in [false, true] {
            let made = Made::new(&volume, read_only);
            for sub in ["..", "a/../..", "/etc", "up", "up/secret"] {
                assert!(find(&made, &mount(sub)).is_err(), "{sub} {read_only}");
            }
        }
    }

    #[test]
    fn links_are_followed_as_far_as_they_stay_in_the_volume() {
        let dir = tempfile::tempdir().unwrap();
        let shared = dir.path().join("shared");
        for (volume, beneath) in [(shared.join("v"), ""), (shared.clone(), "v")] {
            let made = Made {
                beneath: beneath.to_owned(),
                ..Made::new(volume, false)
            };
            let volume = shared.join("v");
            fs::create_dir_all(volume.join("releases/7")).unwrap();
            fs::write(volume.join("releases/7/f"), "7").unwrap();
            for (link, to) in [
                ("current", "releases/7"),
                ("again", "releases/../current"),
                ("releases/up", "../releases/7"),
                ("file", "again/f"),
                ("gone", "releases/6"),
                ("loop", "loop"),
                ("out", "../w"),
                ("host", "/etc"),
                ("self", "/proc/self"),
                ("releases/out", "../../v/releases"),
            ] {
                symlink(to, volume.join(link)).unwrap();
            }
            for (sub, leads) in [
                ("current", "releases/7"),
                ("again/.", "releases/7"),
                ("releases/up", "releases/7"),
                ("file", "releases/7/f"),
                ("current/new/er", "releases/7/new/er"),
                ("new", "new"),
            ] {
                let (host, found) = find(&made, &mount(sub)).unwrap();
                assert_eq!(host.join(found), volume.join(leads), "{sub}");
                let shown = shown(find(&made, &mount(sub)).unwrap());
                let opened = files::mounted(&shown, true).unwrap();
                assert_eq!(matches!(opened, Mounted::File(_)), sub == "file", "{sub}");
                assert!(volume.join(leads).exists(), "{sub}");
            }
            for (sub, why) in [
                ("gone", "\"gone\" is a link that leads to nothing"),
                ("gone/x", "\"gone/x\" is a link that leads to nothing"),
                ("loop", "\"loop\" has too many links"),
                ("file/x", "\"file/x\" lies below a file"),
                ("out", "\"out\" leads out of the volume"),
                ("out/x", "\"out/x\" leads out of the volume"),
                ("host", "\"host\" leads out of the volume"),
                ("self/x", "\"self/x\" leads out of the volume"),
                ("releases/out", "\"releases/out\" leads out of the volume"),
            ] {
                assert_eq!(find(&made, &mount(sub)).unwrap_err(), why);
            }
            assert!(!volume.join("releases/6").exists());
            fs::remove_dir_all(&volume).unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn parts_of_an_image_are_mounted() {
        let (dir, made) = conformance::image().await;
        let of = |sub_paths: &[&str]| {
            let mounts = sub_paths.iter().map(|sub_path| {
                let at = format!("/at/{sub_path}");
                json!({"name": "v", "mountPath": at, "subPath": sub_path})
            });
            let container = json!({"name": "c", "volumeMounts": mounts.collect::<Vec<_>>()});
            let pod = json!({"metadata": {}, "spec": {"containers": [container]}});
            let pod: Pod = serde_json::from_value(pod).unwrap();
            let volumes = [("v".to_owned(), made.clone())].into();
            let root = dir.path().join("root");
            root::make(&root, None, &pod, &pod.containers()[0], &volumes, None)
        };
        let sub_paths = ["deep", "current", "deep/f", "file", "current/f"];
        let mounts = of(&sub_paths).unwrap();
        assert_eq!(mounts.len(), 1 + sub_paths.len());
        for (mount, sub_path) in mounts[1..].iter().zip(sub_paths) {
            assert_eq!(mount.guest, format!("/at/{sub_path}"));
            assert!(mount.read_only, "{sub_path}");
            let file = match files::mounted(mount, false).unwrap() {
                Mounted::Directory(found) => place(&found).unwrap().join("f"),
                Mounted::File(found) => place(&found).unwrap(),
            };
            assert_eq!(fs::read_to_string(file).unwrap(), "1", "{sub_path}");
        }
        for sub_path in ["none", "a/x"] {
            let why = of(&[sub_path]).unwrap_err();
            let begins = "failed to prepare subPath for volumeMount \"v\": ";
            assert!(why.starts_with(begins), "{why}");
        }
    }

    #[test]
    fn a_link_that_changes_moves_no_mount() {
        let dir = tempfile::tempdir().unwrap();
        let (volume, outside) = (dir.path().join("v"), dir.path().join("outside"));
        for made in [volume.join("releases/7"), outside.join("7")] {
            fs::create_dir_all(made).unwrap();
        }
        symlink("releases/7", volume.join("current")).unwrap();
        let made = Made::new(&volume, false);
        let found = shown(find(&made, &mount("current")).unwrap());
        fs::remove_file(volume.join("current")).unwrap();
        symlink(&outside, volume.join("current")).unwrap();
        let is = |path: &Path| {
            let opened = files::mounted(&found, false)?.directory()?;
            Ok::<_, Errno>(place(&opened)? == path.canonicalize().unwrap())
        };
        assert_eq!(is(&volume.join("releases/7")), Ok(true));
        fs::rename(volume.join("releases"), volume.join("aside")).unwrap();
        symlink(&outside, volume.join("releases")).unwrap();
        assert_eq!(is(&outside.join("7")), Err(Errno::LOOP));
    }

    #[test]
    fn what_other_pods_change_leads_nowhere_else() {
        let dir = tempfile::tempdir().unwrap();
        let (volume, aside) = (dir.path().join("v"), dir.path().join("aside"));
        fs::create_dir_all(volume.join("b/x")).unwrap();
        fs::create_dir(volume.join("x")).unwrap();
        let mount = mount("x");
        // Where the volume lies, what is replaced by a link, and what it leads to.
        for (beneath, place, to) in [("", "x", ".."), ("b", "b", ".."), ("b", "b/x", "../..")] {
            let made = Made {
                beneath: beneath.to_owned(),
                read_only: true,
                ..Made::new(&volume, false)
            };
            let shown = shown(find(&made, &mount).unwrap());
            files::mounted(&shown, false).unwrap();
            let place = volume.join(place);
            fs::rename(&place, &aside).unwrap();
            symlink(to, &place).unwrap();
            let found = files::mounted(&shown, true).map(drop);
            assert_eq!(found, Err(Errno::LOOP), "{shown:?}");
            assert!(find(&made, &mount).is_err(), "{shown:?}");
            fs::remove_file(&place).unwrap();
            fs::rename(&aside, &place).unwrap();
        }
    }

    /// Shows the files of `content` in a volume.
    fn show(volume: &Path, content: &str) {
        symlink(content, volume.join("..data_tmp")).unwrap();
        fs::rename(volume.join("..data_tmp"), volume.join("..data")).unwrap();
    }

    #[test]
    fn a_copy_is_of_one_time_however_often_files_are_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let (volume, to) = (dir.path().join("v"), dir.path().join("copies/0"));
        let content = |number: usize| format!("..{number}");
        for number in 0..=TRIES {
            let deep = volume.join(content(number)).join("deep");
            fs::create_dir_all(&deep).unwrap();
            for file in ["a", "b"] {
                fs::write(deep.join(file), number.to_string()).unwrap();
            }
        }
        symlink("..data/deep", volume.join("deep")).unwrap();
        let made = Made {
            is_replaced: true,
            ..Made::new(&volume, true)
        };
        let mount = mount("deep");
        // While they are copied, files are replaced, and the old ones go, one of them too early.
        let copy_while = |replaced: usize| {
            show(&volume, &content(0));
            let shown = Cell::new(0);
            let copied = copy_whole(
                || Ok(find(&made, &mount)?.0),
                |from| {
                    let old = shown.get();
                    assert!(from.ends_with(Path::new(&content(old)).join("deep")));
                    if old < replaced {
                        shown.set(old + 1);
                        show(&volume, &content(old + 1));
                        let gone = from.with_file_name("hidden");
                        fs::rename(from.join("a"), &gone)?;
                        let copied = remove_tree(&to).and_then(|()| copy_tree(from, &to));
                        fs::rename(gone, from.join("a"))?;
                        return copied;
                    }
                    remove_tree(&to)?;
                    copy_tree(from, &to)
                },
            );
            let read = |file: &str| fs::read_to_string(to.join(file)).unwrap();
            copied.map(|()| (read("a"), read("b")))
        };
        for replaced in 0..TRIES {
            let version = replaced.to_string();
            assert_eq!(copy_while(replaced), Ok((version.clone(), version)));
        }
        let why = copy_while(TRIES).unwrap_err();
        assert_eq!(why, "it is replaced again and again");
    }

    #[test]
    fn a_copy_fails_where_there_is_nothing_any_more() {
        let dir = tempfile::tempdir().unwrap();
        let from = dir.path().join("from");
        fs::write(&from, "x").unwrap();
        let to = dir.path().join("to");
        copy_tree(&from, &to).unwrap();
        assert_eq!(fs::read(&to).unwrap(), b"x");
        let finds = Cell::new(0);
        let find = || {
            finds.set(finds.get() + 1);
            match finds.get() {
                1 => Ok(from.clone()),
                _ => Err("it is gone".to_owned()),
            }
        };
        let gone = || io::Error::from(io::ErrorKind::NotFound);
        let why = copy_whole(find, |_| Err(gone())).unwrap_err();
        assert_eq!(why, "it is gone");
        let why = copy_whole(|| Ok(from.clone()), |_| Err(gone())).unwrap_err();
        assert_eq!(why, gone().to_string());
    }
}

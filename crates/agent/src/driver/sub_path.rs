//! A part of a volume, which a mount names by its `subPath`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::VolumeMount;
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::root::{inside, open};
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
    // Guests may change it until it is opened, when it is looked at again: this is for the words.
    let relative = Path::new(&made.beneath).join(relative);
    match open(&made.path, &relative, OFlags::PATH) {
        Ok(_) | Err(Errno::NOENT) => {
            let beneath = relative.to_string_lossy().into_owned();
            Ok((made.path.clone(), beneath))
        }
        Err(Errno::NOTDIR) => Err(format!("{sub:?} lies below a file")),
        Err(Errno::LOOP | Errno::XDEV) => Err(format!("{sub:?} leads out of the volume")),
        Err(error) => Err(error.to_string()),
    }
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

    use runtime::{Mount, files};

    use super::*;

    #[test]
    fn nothing_leads_out() {
        let dir = tempfile::tempdir().unwrap();
        let volume = dir.path().join("v");
        fs::create_dir_all(&volume).unwrap();
        fs::write(dir.path().join("secret"), "s").unwrap();
        std::os::unix::fs::symlink("..", volume.join("up")).unwrap();
        for read_only in [false, true] {
            let made = Made::new(&volume, read_only);
            for sub in ["..", "a/../..", "/etc", "up", "up/secret"] {
                let mount = VolumeMount {
                    sub_path: Some(sub.to_owned()),
                    ..VolumeMount::default()
                };
                assert!(find(&made, &mount).is_err(), "{sub} {read_only}");
            }
        }
    }

    #[test]
    fn what_other_pods_change_leads_nowhere_else() {
        let dir = tempfile::tempdir().unwrap();
        let (volume, aside) = (dir.path().join("v"), dir.path().join("aside"));
        fs::create_dir_all(volume.join("b/x")).unwrap();
        fs::create_dir(volume.join("x")).unwrap();
        let mount = VolumeMount {
            sub_path: Some("x".to_owned()),
            ..VolumeMount::default()
        };
        // Where the volume lies, what is replaced by a link, and what it leads to.
        for (beneath, place, to) in [("", "x", ".."), ("b", "b", ".."), ("b", "b/x", "../..")] {
            let made = Made {
                beneath: beneath.to_owned(),
                read_only: true,
                ..Made::new(&volume, false)
            };
            let (host, beneath) = find(&made, &mount).unwrap();
            let shown = Mount {
                host: host.into(),
                beneath,
                guest: "/x".to_owned(),
                read_only: true,
            };
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
        let mount = VolumeMount {
            sub_path: Some("deep".to_owned()),
            ..VolumeMount::default()
        };
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

//! A container's files: its writable root, new at every start, and the volumes in it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, Pod, VolumeMount};
use runtime::files::{self, Mounted};
use runtime::{Host, Mount};
use rustix::fs::{Mode, OFlags, ResolveFlags};

use super::{message, names, sub_path};
use crate::cluster::DNS;
use crate::pod::PodView as _;
use crate::remove::remove_tree;
use crate::volumes::Made;

/// A mount of a file, which stays the same one for the instance and for every command in it, whatever takes its name
/// meanwhile.
fn of_file(file: OwnedFd, guest: String, read_only: bool) -> Mount {
    Mount {
        host: Host::File(Arc::new(file)),
        beneath: String::new(),
        guest,
        read_only,
    }
}

/// Makes the root in `dir` (which must not exist) and says what the guest is to see.
///
/// # Errors
/// In words, for the container's `CreateContainerConfigError`.
pub(super) fn make(
    dir: &Path,
    pod: &Pod,
    container: &Container,
    volumes: &BTreeMap<String, Made>,
    ip: Option<IpAddr>,
) -> Result<Vec<Mount>, String> {
    let io = |e: io::Error| format!("cannot make the container's root: {e}");
    // Left by a start that did not get to its end.
    remove_tree(dir).map_err(io)?;
    let copies = dir.with_file_name("sub-paths");
    remove_tree(&copies).map_err(io)?;
    fill(dir, pod, container, ip).map_err(io)?;
    let read_only = container
        .security_context
        .as_ref()
        .is_some_and(|s| s.read_only_root_filesystem == Some(true));
    let root = Mount {
        host: dir.into(),
        beneath: String::new(),
        guest: "/".to_owned(),
        read_only,
    };
    let mut mounts = vec![root];
    if read_only {
        mounts.extend(message_file(dir, container).map_err(io)?);
    }
    for (number, mount) in container.volume_mounts.iter().flatten().enumerate() {
        let Some(made) = volumes.get(&mount.name) else {
            return Err(format!("volume \"{}\" is not there", mount.name));
        };
        let copy = copies.join(number.to_string());
        mounts.extend(attach(dir, container, mount, made, copy)?);
    }
    Ok(mounts)
}

/// What of these lies in the pod's `own` directories, of which one is on the disk and one in memory, stays there: nobody but
/// the agent can move it, and the agent does not while instances run.
pub(super) fn staying(mut mounts: Vec<Mount>, own: &[Option<PathBuf>]) -> Vec<Mount> {
    let is_own = |path: &Path| own.iter().flatten().any(|own| path.starts_with(own));
    for mount in &mut mounts {
        if let Host::Path(path) = &mount.host
            && mount.beneath.is_empty()
            && is_own(path)
        {
            mount.host = Host::Own(path.clone());
        }
    }
    mounts
}

/// The file of the termination message, which can be written where the rest of the root cannot. What lies in a volume is
/// that volume's business.
fn message_file(root: &Path, container: &Container) -> io::Result<Option<Mount>> {
    let Some(path) = inside(message::path(container)) else {
        return Ok(None);
    };
    let mut mounts = container.volume_mounts.iter().flatten();
    let in_volume = mounts.any(|m| inside(&m.mount_path).is_some_and(|at| path.starts_with(at)));
    let host = root.join(&path);
    // A directory of the root has no room for a message.
    if in_volume || host.is_dir() {
        return Ok(None);
    }
    point(&host)?;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::open(&host, flags, Mode::empty())?;
    Ok(Some(of_file(file, guest_path(&path), false)))
}

/// Makes an empty file where none is, for a mount to show up in its parent's listing.
fn point(place: &Path) -> io::Result<()> {
    if let Some(parent) = place.parent() {
        fs::create_dir_all(parent)?;
    }
    match fs::File::create_new(place) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        Err(_) if place.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        _ => Ok(()),
    }
}

/// What the guest calls a path in its root.
fn guest_path(path: &Path) -> String {
    Path::new("/").join(path).to_string_lossy().into_owned()
}

/// Where a container's path lies on the host: in the volume that is mounted closest above it, else in the root. As a
/// directory of the agent's own, and a path below it that guests may have changed.
pub(super) fn place_of(
    root: &Path,
    container: &Container,
    volumes: &BTreeMap<String, Made>,
    path: &Path,
) -> Option<(PathBuf, PathBuf)> {
    let mounts = container.volume_mounts.iter().flatten();
    let around = mounts
        .filter_map(|m| {
            let rest = path.strip_prefix(inside(&m.mount_path)?).ok()?;
            Some((m, rest))
        })
        .min_by_key(|(_, rest)| rest.components().count());
    let Some((mount, rest)) = around else {
        return Some((root.to_owned(), path.to_owned()));
    };
    let (host, beneath) = sub_path::find(volumes.get(&mount.name)?, mount).ok()?;
    Some((host, Path::new(&beneath).join(rest)))
}

fn fill(dir: &Path, pod: &Pod, container: &Container, ip: Option<IpAddr>) -> io::Result<()> {
    fs::create_dir_all(dir.join("tmp"))?;
    fs::set_permissions(dir.join("tmp"), fs::Permissions::from_mode(0o777))?;
    fs::create_dir_all(dir.join("etc"))?;
    fs::write(dir.join("etc/hostname"), format!("{}\n", pod.nodename()))?;
    fs::write(dir.join("etc/hosts"), names::hosts(pod, ip))?;
    if let Some(text) = names::resolv_conf(pod, DNS) {
        fs::write(dir.join("etc/resolv.conf"), text)?;
    }
    if let Some(parent) = inside(message::path(container))
        .as_deref()
        .and_then(Path::parent)
    {
        fs::create_dir_all(dir.join(parent))?;
    }
    if let Some(working) = container.working_dir.as_deref().and_then(inside) {
        fs::create_dir_all(dir.join(working))?;
    }
    Ok(())
}

/// One volume at its place. A single file of a volume whose files are replaced is copied into the root instead, which has no
/// mount, unless it lies below another one; any other single file is a mount of its own. What lies in a volume whose files are replaced is
/// taken from a `copy`: what a `subPath` shows does not change.
fn attach(
    root: &Path,
    container: &Container,
    mount: &VolumeMount,
    made: &Made,
    copy: PathBuf,
) -> Result<Option<Mount>, String> {
    let at = inside(&mount.mount_path).ok_or_else(|| {
        format!(
            "mountPath {:?} of volume \"{}\" is not a path in the container",
            mount.mount_path, mount.name
        )
    })?;
    let io = |e: io::Error| format!("failed to mount volume \"{}\": {e}", mount.name);
    let place = root.join(&at);
    let unprepared = |why| {
        format!(
            "failed to prepare subPath for volumeMount \"{}\": {why}",
            mount.name
        )
    };
    let (mut host, beneath) = sub_path::find(made, mount).map_err(unprepared)?;
    if made.is_replaced && host != made.path {
        sub_path::copy(made, mount, &copy).map_err(unprepared)?;
        host = copy;
    }
    if made.is_replaced && host.is_file() && !is_below_another(container, &at) {
        if let Some(parent) = place.parent() {
            fs::create_dir_all(parent).map_err(io)?;
        }
        // No guest can change it meanwhile.
        fs::copy(&host, &place).map_err(io)?;
        return Ok(None);
    }
    let shown = Mount {
        host: host.into(),
        beneath,
        guest: guest_path(&at),
        read_only: made.read_only || mount.read_only == Some(true),
    };
    // Guests may change a writable volume meanwhile: a file is what is found here, and whatever else it is the runtime
    // looks at again.
    if let Ok(Mounted::File(file)) = files::mounted(&shown, false) {
        point(&place).map_err(io)?;
        return Ok(Some(of_file(file, shown.guest, shown.read_only)));
    }
    // So that the mount shows up in its parent's listing.
    fs::create_dir_all(&place).map_err(io)?;
    Ok(Some(shown))
}

/// Whether another volume covers this path of the container, but not at the path itself.
fn is_below_another(container: &Container, at: &Path) -> bool {
    let mut mounts = container.volume_mounts.iter().flatten();
    mounts.any(|m| inside(&m.mount_path).is_some_and(|p| at != p && at.starts_with(p)))
}

/// Opens what lies below a directory that guests may change, following no link.
pub(super) fn open(dir: &Path, relative: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let at = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = rustix::fs::open(dir, at, Mode::empty())?;
    rustix::fs::openat2(
        &dir,
        relative,
        flags | OFlags::CLOEXEC,
        Mode::empty(),
        resolve,
    )
}

/// An absolute guest path as one relative to its root; `None` if it is not absolute or holds `..`.
pub(super) fn inside(path: &str) -> Option<PathBuf> {
    let relative = Path::new(path).strip_prefix("/").ok()?;
    let normal = relative
        .components()
        .all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
    normal.then(|| {
        relative
            .components()
            .filter(|c| matches!(c, Component::Normal(_)))
            .collect()
    })
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd as _;

    use super::*;
    use serde_json::json;

    fn pod(container: serde_json::Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "shop"},
            "spec": {"containers": [container], "hostAliases": [{"ip": "1.2.3.4", "hostnames": ["a", "b"]}]},
        }))
        .unwrap()
    }

    /// Where on the host a mount lies.
    fn place(mount: &Mount) -> PathBuf {
        match &mount.host {
            Host::Path(path) | Host::Own(path) => path.clone(),
            Host::File(file) => format!("/proc/self/fd/{}", file.as_raw_fd()).into(),
        }
    }

    /// A volume whose files are replaced, as a ConfigMap's are.
    fn replaced(path: &Path) -> Made {
        Made {
            is_replaced: true,
            ..Made::new(path, true)
        }
    }

    #[test]
    fn the_root_and_what_is_mounted_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let (root, data, config) = (
            dir.path().join("root"),
            dir.path().join("data"),
            dir.path().join("config"),
        );
        fs::create_dir_all(&data).unwrap();
        fs::create_dir_all(&config).unwrap();
        fs::write(config.join("x.conf"), "x").unwrap();
        let volumes = BTreeMap::from([
            ("data".to_owned(), Made::new(&data, false)),
            ("config".to_owned(), replaced(&config)),
        ]);
        let pod = pod(
            json!({"name": "m", "workingDir": "/srv/here", "volumeMounts": [
                {"name": "data", "mountPath": "/data", "subPath": "a/b"},
                {"name": "data", "mountPath": "/all", "readOnly": true},
                {"name": "config", "mountPath": "/etc/app/x.conf", "subPath": "x.conf"},
            ]}),
        );
        let mounts = make(
            &root,
            &pod,
            &pod.containers()[0],
            &volumes,
            Some("10.128.0.7".parse().unwrap()),
        )
        .unwrap();
        let seen: Vec<_> = mounts
            .iter()
            .map(|m| (m.guest.as_str(), place(m).join(&m.beneath), m.read_only))
            .collect();
        assert_eq!(
            seen,
            [
                ("/", root.join(""), false),
                ("/data", data.join("a/b"), false),
                ("/all", data.join(""), true)
            ]
        );
        assert_eq!(fs::read(root.join("etc/app/x.conf")).unwrap(), b"x");
        assert!(root.join("srv/here").is_dir() && root.join("tmp").is_dir());
        let hosts = fs::read_to_string(root.join("etc/hosts")).unwrap();
        assert!(
            hosts.contains("10.128.0.7\tweb\n") && hosts.contains("1.2.3.4\ta\tb\n"),
            "{hosts}"
        );
        fs::write(root.join("tmp/old"), "").unwrap();
        make(&root, &pod, &pod.containers()[0], &volumes, None).unwrap();
        assert!(!root.join("tmp/old").exists(), "each start has a new root");
    }

    #[test]
    fn a_message_can_be_left_in_a_root_that_is_read_only() {
        let dir = tempfile::tempdir().unwrap();
        let (root, data) = (dir.path().join("root"), dir.path().join("data"));
        fs::create_dir_all(&data).unwrap();
        let volumes = BTreeMap::from([("data".to_owned(), Made::new(&data, false))]);
        let writable = |read_only: bool, path: &str| {
            let pod = pod(json!({
                "name": "m", "terminationMessagePath": path,
                "securityContext": {"readOnlyRootFilesystem": read_only},
                "volumeMounts": [{"name": "data", "mountPath": "/data"}],
            }));
            let mounts = make(&root, &pod, &pod.containers()[0], &volumes, None).unwrap();
            let writable = mounts.iter().filter(|m| !m.read_only);
            let host = |m: &Mount| fs::canonicalize(place(m)).unwrap();
            writable
                .map(|m| (m.guest.clone(), host(m)))
                .collect::<Vec<_>>()
        };
        let at = |guest: &str, host: &Path| (guest.to_owned(), host.to_owned());
        let data = at("/data", &fs::canonicalize(&data).unwrap());
        let root = fs::canonicalize(dir.path()).unwrap().join("root");
        for path in ["/dev/termination-log", "/end"] {
            let file = root.join(path.trim_start_matches('/'));
            assert_eq!(writable(true, path), [at(path, &file), data.clone()]);
            assert_eq!(fs::read(file).unwrap(), b"");
        }
        let log = "/dev/termination-log";
        assert_eq!(writable(false, log), [at("/", &root), data.clone()]);
        assert!(root.join("dev").is_dir() && !root.join("dev/termination-log").exists());
        for path in ["/data/end", "/data", "/tmp", "/"] {
            assert_eq!(writable(true, path), std::slice::from_ref(&data), "{path}");
        }
    }

    #[test]
    fn a_single_file_is_a_mount_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let (root, data) = (dir.path().join("root"), dir.path().join("data"));
        fs::create_dir_all(data.join("deep")).unwrap();
        fs::write(data.join("deep/f"), "old").unwrap();
        let made = |path: &Path, read_only| Made::new(path, read_only);
        let volumes = BTreeMap::from([
            ("rw".to_owned(), made(&data, false)),
            ("ro".to_owned(), made(&data, true)),
            ("replaced".to_owned(), replaced(&data)),
            ("file".to_owned(), made(&data.join("deep/f"), false)),
            // As a claim is that this pod may only read.
            (
                "claim".to_owned(),
                Made {
                    read_only: true,
                    ..made(&data, false)
                },
            ),
        ]);
        let pod = pod(json!({"name": "m", "volumeMounts": [
            {"name": "rw", "mountPath": "/app"},
            {"name": "ro", "mountPath": "/app/x", "subPath": "deep/f"},
            {"name": "rw", "mountPath": "/etc/f", "subPath": "deep/f", "readOnly": true},
            {"name": "file", "mountPath": "/g"},
            {"name": "replaced", "mountPath": "/h", "subPath": "deep/f"},
            {"name": "ro", "mountPath": "/i", "subPath": "deep/f"},
            {"name": "claim", "mountPath": "/c", "subPath": "deep/f"},
        ]}));
        let mounts = make(&root, &pod, &pod.containers()[0], &volumes, None).unwrap();
        let seen = mounts[1..].iter().map(|m| (m.guest.as_str(), m.read_only));
        let due = [
            ("/app", false),
            ("/app/x", true),
            ("/etc/f", true),
            ("/g", false),
            ("/i", true),
            ("/c", true),
        ];
        assert_eq!(seen.collect::<Vec<_>>(), due);
        let held = |m: &&Mount| matches!(m.host, Host::File(_));
        assert_eq!(mounts.iter().filter(held).count(), 5);
        // They show where they are, and what was copied has its contents.
        assert_eq!(fs::read(root.join("etc/f")).unwrap(), b"");
        assert_eq!(fs::read(root.join("h")).unwrap(), b"old");
        // What takes the name is another file.
        fs::write(data.join("new"), "new").unwrap();
        fs::rename(data.join("new"), data.join("deep/f")).unwrap();
        for mount in &mounts[2..] {
            assert_eq!(fs::read(place(mount)).unwrap(), b"old", "{mount:?}");
        }
    }

    #[test]
    fn only_the_pods_own_directories_are_sure_to_stay() {
        let mount = |host: &str, beneath: &str| Mount {
            host: Path::new(host).into(),
            beneath: beneath.to_owned(),
            guest: "/".to_owned(),
            read_only: false,
        };
        let table = [
            (mount("/pods/1/containers/c/0/root", ""), true),
            (mount("/pods/1/volumes/v", ""), true),
            (mount("/shm/1/v", ""), true),
            // A guest may rename what it can write to.
            (mount("/pods/1/volumes/v", "sub"), false),
            (mount("/pods/11/volumes/v", ""), false),
            (mount("/srv", ""), false),
        ];
        for (mount, stays) in table {
            let own = ["/pods/1", "/shm/1"].map(|path| Some(PathBuf::from(path)));
            let made = staying(vec![mount.clone()], &own);
            let is_own = matches!(made[0].host, Host::Own(_));
            assert_eq!(is_own, stays, "{mount:?}");
        }
    }

    #[test]
    fn a_directory_of_files_that_are_replaced_stays_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let volume = dir.path().join("volume");
        fs::create_dir_all(volume.join("..1/deep/er")).unwrap();
        fs::write(volume.join("..1/deep/er/f"), "old").unwrap();
        std::os::unix::fs::symlink("..1", volume.join("..data")).unwrap();
        std::os::unix::fs::symlink("..data/deep", volume.join("deep")).unwrap();
        let made = Made {
            is_replaced: true,
            ..Made::new(&volume, true)
        };
        let volumes = BTreeMap::from([("v".to_owned(), made)]);
        let container: Container = serde_json::from_value(json!({"name": "c", "volumeMounts": [
            {"name": "v", "mountPath": "/part", "subPath": "deep"},
            {"name": "v", "mountPath": "/whole"},
            {"name": "v", "mountPath": "/etc/f", "subPath": "deep/er/f"},
        ]}))
        .unwrap();
        let root = dir.path().join("0/root");
        for _ in 0..2 {
            let mounts = make(&root, &Pod::default(), &container, &volumes, None).unwrap();
            let part = &mounts[1];
            assert!(part.read_only && part.guest == "/part");
            assert_eq!(fs::read(place(part).join("er/f")).unwrap(), b"old");
            assert!(place(part).starts_with(dir.path().join("0/sub-paths")));
            assert_eq!(place(&mounts[2]), volume);
            assert_eq!(fs::read(root.join("etc/f")).unwrap(), b"old");
        }
    }
}

//! A container's files: its writable root, new at every start, and the volumes in it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, Pod, VolumeMount};
use runtime::Mount;
use rustix::fs::{Mode, OFlags, ResolveFlags};

use super::{message, names, sub_path};
use crate::cluster::DNS;
use crate::pod::PodView as _;
use crate::remove::remove_tree;
use crate::volumes::Made;

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
    let mut mounts = vec![Mount {
        host: dir.to_owned(),
        beneath: String::new(),
        guest: "/".to_owned(),
        read_only,
    }];
    mounts.extend(message_dir(dir, container).filter(|_| read_only));
    for (number, mount) in container.volume_mounts.iter().flatten().enumerate() {
        let Some(made) = volumes.get(&mount.name) else {
            return Err(format!("volume \"{}\" is not there", mount.name));
        };
        let copy = copies.join(number.to_string());
        mounts.extend(attach(dir, container, mount, made, copy)?);
    }
    Ok(mounts)
}

/// The directory of the termination message, which can be written where the rest of the root cannot. What is right below
/// `/` has none of its own, and what lies in a volume is that volume's business.
fn message_dir(root: &Path, container: &Container) -> Option<Mount> {
    let path = inside(message::path(container))?;
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty())?;
    let mut mounts = container.volume_mounts.iter().flatten();
    let in_volume = mounts.any(|m| inside(&m.mount_path).is_some_and(|at| path.starts_with(at)));
    (!in_volume).then(|| Mount {
        host: root.join(parent),
        beneath: String::new(),
        guest: Path::new("/").join(parent).to_string_lossy().into_owned(),
        read_only: false,
    })
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
    fs::write(dir.join("etc/hostname"), format!("{}\n", pod.hostname()))?;
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

/// One volume at its place; a single file of a read-only volume is copied into the root instead, which has no mount. What
/// lies in a volume whose files are replaced is taken from a `copy`: what a `subPath` shows does not change.
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
    if made.read_only && host.is_file() {
        if let Some(above) = above(container, &at) {
            return Err(format!(
                "volumeMount \"{}\": a subPath that is a file below another volume's mountPath ({above}) is not supported by carob yet",
                mount.name
            ));
        }
        if let Some(parent) = place.parent() {
            fs::create_dir_all(parent).map_err(io)?;
        }
        // No guest can change what lies in a read-only volume.
        fs::copy(&host, &place).map_err(io)?;
        return Ok(None);
    }
    // So that the mount shows up in its parent's listing.
    fs::create_dir_all(&place).map_err(io)?;
    Ok(Some(Mount {
        host,
        beneath,
        guest: Path::new("/").join(&at).to_string_lossy().into_owned(),
        read_only: made.read_only || mount.read_only == Some(true),
    }))
}

/// The `mountPath` of a volume that covers this path of the container, if there is one (but not at the path itself).
fn above<'a>(container: &'a Container, at: &Path) -> Option<&'a str> {
    let mut paths = container
        .volume_mounts
        .iter()
        .flatten()
        .map(|m| m.mount_path.as_str());
    paths.find(|path| inside(path).is_some_and(|p| at != p && at.starts_with(p)))
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
    use super::*;
    use serde_json::json;

    fn pod(container: serde_json::Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "shop"},
            "spec": {"containers": [container], "hostAliases": [{"ip": "1.2.3.4", "hostnames": ["a", "b"]}]},
        }))
        .unwrap()
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
            ("config".to_owned(), Made::new(&config, true)),
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
            .map(|m| (m.guest.as_str(), m.host.join(&m.beneath), m.read_only))
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
            let writable = mounts.into_iter().filter(|m| !m.read_only);
            writable.map(|m| (m.guest, m.host)).collect::<Vec<_>>()
        };
        let at = |guest: &str, host: PathBuf| (guest.to_owned(), host);
        let data = at("/data", data.clone());
        let log = "/dev/termination-log";
        assert_eq!(
            writable(true, log),
            [at("/dev", root.join("dev")), data.clone()]
        );
        assert!(root.join("dev").is_dir());
        assert_eq!(writable(false, log), [at("/", root.clone()), data.clone()]);
        for path in ["/end", "/data/end", "/data"] {
            assert_eq!(writable(true, path), std::slice::from_ref(&data), "{path}");
        }
    }

    #[test]
    fn a_single_file_is_mounted_only_where_it_would_be_seen_and_kept_up() {
        let dir = tempfile::tempdir().unwrap();
        let (root, data) = (dir.path().join("root"), dir.path().join("data"));
        fs::create_dir_all(&data).unwrap();
        fs::write(data.join("f"), "f").unwrap();
        let made = |read_only| Made::new(&data, read_only);
        let volumes = BTreeMap::from([
            ("rw".to_owned(), made(false)),
            ("ro".to_owned(), made(true)),
        ]);
        let refused = |mounts: serde_json::Value| {
            let pod = pod(json!({"name": "m", "volumeMounts": mounts}));
            make(&root, &pod, &pod.containers()[0], &volumes, None).unwrap_err()
        };
        let why = refused(json!([
            {"name": "rw", "mountPath": "/app"},
            {"name": "ro", "mountPath": "/app/x", "subPath": "f"},
        ]));
        assert!(
            why.contains("volumeMount \"ro\"") && why.contains("(/app)"),
            "{why}"
        );
        let why =
            refused(json!([{"name": "rw", "mountPath": "/x", "subPath": "f", "readOnly": true}]));
        assert!(
            why.contains("volumeMount \"rw\"") && why.contains("writable volume"),
            "{why}"
        );
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
            assert_eq!(fs::read(part.host.join("er/f")).unwrap(), b"old");
            assert!(part.host.starts_with(dir.path().join("0/sub-paths")));
            assert_eq!(mounts[2].host, volume);
            assert_eq!(fs::read(root.join("etc/f")).unwrap(), b"old");
        }
    }
}

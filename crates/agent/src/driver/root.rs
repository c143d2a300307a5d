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

use super::{cell, message, names, sub_path};
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

/// Makes the root in `dir` and says what the guest is to see. What is copied of volumes that lie in the pod's `memory` lies
/// there, too: no disk keeps what is secret.
///
/// # Errors
/// In words, for the container's `CreateContainerConfigError`.
pub(super) fn make(
    dir: &Path,
    memory: Option<&Path>,
    pod: &Pod,
    container: &Container,
    volumes: &BTreeMap<String, Made>,
    ip: Option<IpAddr>,
) -> Result<Vec<Mount>, String> {
    let io = |e: io::Error| format!("cannot make the container's root: {e}");
    // Left by a start that did not get to its end.
    remove_tree(dir).map_err(io)?;
    let on_disk = dir.with_file_name("sub-paths");
    let attempt = dir.parent().and_then(Path::file_name).unwrap_or_default();
    let in_memory = memory.map(|pod| cell::copies_in(pod, &container.name).join(attempt));
    remove_tree(&on_disk).map_err(io)?;
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
        let is_in_memory = memory.is_some_and(|pod| made.path.starts_with(pod));
        let copies = in_memory.as_ref().filter(|_| is_in_memory);
        let copies = copies.unwrap_or(&on_disk);
        let copy = (copies.join(number.to_string()), is_in_memory);
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

/// One volume at its place. A single file is a mount of its own, but one of a volume on the disk whose files are replaced,
/// which is copied into the root, unless it lies below another mount: there programs find it in any way. What lies in a volume
/// whose files are replaced is taken from a `copy`, which lies in memory or not: what a `subPath` shows does not change.
fn attach(
    root: &Path,
    container: &Container,
    mount: &VolumeMount,
    made: &Made,
    (copy, is_in_memory): (PathBuf, bool),
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
    let goes_into_root = made.is_replaced && !is_in_memory && !is_below_another(container, &at);
    if goes_into_root && host.is_file() {
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
mod tests;

//! A container's files: its writable root, new at every start, and the volumes in it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, Pod, VolumeMount};
use runtime::Mount;
use rustix::fs::{Mode, OFlags, ResolveFlags};

use crate::pod::PodView as _;
use crate::remove::remove_tree;
use crate::volumes::{self, Made};

/// Where a guest may leave a message about its end, if its container does not say.
const MESSAGE_PATH: &str = "/dev/termination-log";

/// Makes the root in `dir` (which must not exist) and says what the guest is to see.
///
/// # Errors
/// In words, for the container's `CreateContainerConfigError`.
pub(super) fn make(
    dir: &Path,
    pod: &Pod,
    container: &Container,
    volumes: &BTreeMap<String, Made>,
    ip: Option<std::net::IpAddr>,
) -> Result<Vec<Mount>, String> {
    let io = |e: io::Error| format!("cannot make the container's root: {e}");
    // Left by a start that did not get to its end.
    remove_tree(dir).map_err(io)?;
    fill(dir, pod, container, ip).map_err(io)?;
    let read_only = container
        .security_context
        .as_ref()
        .is_some_and(|s| s.read_only_root_filesystem == Some(true));
    let mut mounts = vec![Mount {
        host: dir.to_owned(),
        guest: "/".to_owned(),
        read_only,
    }];
    for mount in container.volume_mounts.iter().flatten() {
        let Some(made) = volumes.get(&mount.name) else {
            if pod
                .volumes()
                .iter()
                .any(|v| v.name == mount.name && volumes::injected_token(v))
            {
                continue;
            }
            return Err(format!("volume \"{}\" is not there", mount.name));
        };
        mounts.extend(attach(dir, mount, made)?);
    }
    Ok(mounts)
}

/// What the guest left as its termination message, at most `most` bytes.
pub(super) fn message(root: &Path, container: &Container, most: u64) -> Option<String> {
    let path = container
        .termination_message_path
        .as_deref()
        .filter(|p| !p.is_empty())
        .unwrap_or(MESSAGE_PATH);
    let path = inside(path)?;
    let dir = rustix::fs::open(
        root,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .ok()?;
    // The guest made this tree: no link of its may lead out of it.
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = rustix::fs::openat2(&dir, &path, flags, Mode::empty(), resolve).ok()?;
    let mut bytes = Vec::new();
    fs::File::from(file)
        .take(most)
        .read_to_end(&mut bytes)
        .ok()?;
    (!bytes.is_empty()).then(|| String::from_utf8_lossy(&bytes).into_owned())
}

fn fill(
    dir: &Path,
    pod: &Pod,
    container: &Container,
    ip: Option<std::net::IpAddr>,
) -> io::Result<()> {
    fs::create_dir_all(dir.join("tmp"))?;
    fs::set_permissions(dir.join("tmp"), fs::Permissions::from_mode(0o777))?;
    fs::create_dir_all(dir.join("etc"))?;
    fs::write(dir.join("etc/hostname"), format!("{}\n", pod.hostname()))?;
    fs::write(dir.join("etc/hosts"), hosts(pod, ip))?;
    let message = container
        .termination_message_path
        .as_deref()
        .filter(|p| !p.is_empty())
        .unwrap_or(MESSAGE_PATH);
    if let Some(parent) = inside(message).as_deref().and_then(Path::parent) {
        fs::create_dir_all(dir.join(parent))?;
    }
    if let Some(working) = container.working_dir.as_deref().and_then(inside) {
        fs::create_dir_all(dir.join(working))?;
    }
    Ok(())
}

fn hosts(pod: &Pod, ip: Option<std::net::IpAddr>) -> String {
    let mut text = String::from("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n");
    if let Some(ip) = ip {
        let host = pod.hostname();
        let subdomain = pod
            .pod_spec()
            .and_then(|s| s.subdomain.as_deref())
            .filter(|s| !s.is_empty());
        match subdomain {
            Some(sub) => {
                text += &format!(
                    "{ip}\t{host}.{sub}.{}.svc.cluster.local\t{host}\n",
                    pod.namespace()
                )
            }
            None => text += &format!("{ip}\t{host}\n"),
        }
    }
    let aliases = pod
        .pod_spec()
        .and_then(|s| s.host_aliases.as_deref())
        .unwrap_or_default();
    if !aliases.is_empty() {
        text += "\n# Entries added by HostAliases.\n";
    }
    for alias in aliases {
        let names = alias
            .hostnames
            .iter()
            .flatten()
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join("\t");
        text += &format!("{}\t{names}\n", alias.ip);
    }
    text
}

/// One volume at its place; a single file of a read-only volume is copied into the root instead, which has no mount.
fn attach(root: &Path, mount: &VolumeMount, made: &Made) -> Result<Option<Mount>, String> {
    let at = inside(&mount.mount_path).ok_or_else(|| {
        format!(
            "mountPath {:?} of volume \"{}\" is not a path in the container",
            mount.mount_path, mount.name
        )
    })?;
    let read_only = made.read_only || mount.read_only == Some(true);
    let io = |e: io::Error| format!("failed to mount volume \"{}\": {e}", mount.name);
    let sub = mount.sub_path.as_deref().filter(|s| !s.is_empty());
    let host = match sub {
        None => made.path.clone(),
        Some(sub) => sub_path(made, sub).map_err(|why| {
            format!(
                "failed to prepare subPath for volumeMount \"{}\": {why}",
                mount.name
            )
        })?,
    };
    let place = root.join(&at);
    if host.is_file() {
        if !read_only {
            return Err(format!(
                "volumeMount \"{}\": a subPath that is a file of a writable volume is not supported by carob yet",
                mount.name
            ));
        }
        if let Some(parent) = place.parent() {
            fs::create_dir_all(parent).map_err(io)?;
        }
        fs::copy(&host, &place).map_err(io)?;
        return Ok(None);
    }
    // So that the mount shows up in its parent's listing.
    fs::create_dir_all(&place).map_err(io)?;
    let guest = Path::new("/").join(&at).to_string_lossy().into_owned();
    Ok(Some(Mount {
        host,
        guest,
        read_only,
    }))
}

/// A path below a volume. What is missing in a writable volume is made, as the kubelet does.
fn sub_path(made: &Made, sub: &str) -> Result<PathBuf, String> {
    let relative = Path::new(sub);
    if !relative
        .components()
        .all(|c| matches!(c, Component::Normal(_) | Component::CurDir))
    {
        return Err(format!("{sub:?} must stay below the volume"));
    }
    let outside = || format!("{sub:?} leads out of the volume");
    if made.read_only {
        // Its links are the agent's own.
        let base = made.path.canonicalize().map_err(|e| e.to_string())?;
        let full = base
            .join(relative)
            .canonicalize()
            .map_err(|e| format!("{sub:?}: {e}"))?;
        return if full.starts_with(&base) {
            Ok(full)
        } else {
            Err(outside())
        };
    }
    let mut full = made.path.clone();
    for part in relative.components() {
        full.push(part);
        match full.symlink_metadata() {
            Ok(m) if m.is_symlink() => return Err(outside()),
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                fs::create_dir(&full).map_err(|e| e.to_string())?
            }
            Err(e) => return Err(e.to_string()),
        }
    }
    Ok(full)
}

/// An absolute guest path as one relative to its root; `None` if it is not absolute or holds `..`.
fn inside(path: &str) -> Option<PathBuf> {
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
            (
                "data".to_owned(),
                Made {
                    path: data.clone(),
                    read_only: false,
                },
            ),
            (
                "config".to_owned(),
                Made {
                    path: config.clone(),
                    read_only: true,
                },
            ),
        ]);
        let pod = pod(
            json!({"name": "m", "workingDir": "/work/here", "volumeMounts": [
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
            .map(|m| (m.guest.as_str(), m.host.clone(), m.read_only))
            .collect();
        assert_eq!(
            seen,
            [
                ("/", root.clone(), false),
                ("/data", data.join("a/b"), false),
                ("/all", data, true)
            ]
        );
        assert_eq!(fs::read(root.join("etc/app/x.conf")).unwrap(), b"x");
        assert!(root.join("work/here").is_dir() && root.join("tmp").is_dir());
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
    fn nothing_leads_out() {
        let dir = tempfile::tempdir().unwrap();
        let (volume, root) = (dir.path().join("v"), dir.path().join("root"));
        fs::create_dir_all(&volume).unwrap();
        fs::create_dir_all(root.join("dev")).unwrap();
        fs::write(dir.path().join("secret"), "s").unwrap();
        std::os::unix::fs::symlink("..", volume.join("up")).unwrap();
        for read_only in [false, true] {
            let made = Made {
                path: volume.clone(),
                read_only,
            };
            for sub in ["..", "a/../..", "/etc", "up", "up/secret"] {
                assert!(sub_path(&made, sub).is_err(), "{sub} {read_only}");
            }
        }
        let pod = pod(json!({"name": "m"}));
        std::os::unix::fs::symlink("../../secret", root.join("dev/termination-log")).unwrap();
        assert_eq!(message(&root, &pod.containers()[0], 4096), None);
        fs::remove_file(root.join("dev/termination-log")).unwrap();
        fs::write(root.join("dev/termination-log"), "bye").unwrap();
        assert_eq!(
            message(&root, &pod.containers()[0], 4096).as_deref(),
            Some("bye")
        );
    }
}

//! What lies where in a local cluster's directory and in a node's data directory.

use std::fs;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::cli::{EvictionArgs, IngressArgs};
use crate::version;

/// The name of a cluster that is given none.
pub(crate) const DEFAULT_NAME: &str = "carob";

/// Most nodes that one machine's loopback addresses are used for.
pub(crate) const MAX_NODES: u8 = 100;

/// `DIR/cluster.json`: what `up` decided when it made the cluster.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Cluster {
    /// The cluster's name; its nodes are `NAME-1`, `NAME-2`, …
    pub(crate) name: String,
    /// The port of the shared address on 127.0.0.1.
    pub(crate) api_port: u16,
    /// How many nodes it has.
    pub(crate) nodes: u8,
    /// At which ports its nodes serve Ingresses, where that was said.
    #[serde(default)]
    pub(crate) ingress: IngressArgs,
    /// When its nodes have too little of something, where that was said.
    #[serde(default)]
    pub(crate) eviction: EvictionArgs,
    /// The carob that wrote the directory.
    pub(crate) version: String,
}

impl Cluster {
    /// Reads `DIR/cluster.json`; `None` where there is no cluster.
    pub(crate) fn load(dir: &Path) -> Result<Option<Cluster>> {
        let file = dir.join("cluster.json");
        match fs::read(&file) {
            Ok(bytes) => {
                let cluster: Cluster = serde_json::from_slice(&bytes)
                    .with_context(|| format!("{} is damaged", file.display()))?;
                version::check_data(&cluster.version, dir)?;
                Ok(Some(cluster))
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e).with_context(|| format!("cannot read {}", file.display())),
        }
    }

    /// Writes `DIR/cluster.json`.
    pub(crate) fn save(&self, dir: &Path) -> Result<()> {
        write_json(&dir.join("cluster.json"), self)
    }

    /// The nodes, in order.
    pub(crate) fn nodes(&self, dir: &Path) -> Vec<NodeDir> {
        (1..=self.nodes)
            .map(|n| {
                let name = format!("{}-{n}", self.name);
                let dir = dir.join(&name);
                NodeDir {
                    name,
                    address: IpAddr::V4(Ipv4Addr::new(127, 0, 0, n)),
                    dir,
                }
            })
            .collect()
    }
}

/// One node of a local cluster.
#[derive(Clone, Debug)]
pub(crate) struct NodeDir {
    /// `NAME-N`.
    pub(crate) name: String,
    /// Its loopback address.
    pub(crate) address: IpAddr,
    /// Its `--data-dir`.
    pub(crate) dir: PathBuf,
}

impl NodeDir {
    /// The server half of the data directory.
    pub(crate) fn server(&self) -> PathBuf {
        self.dir.join("server")
    }

    /// The agent half of the data directory.
    pub(crate) fn agent(&self) -> PathBuf {
        self.dir.join("agent")
    }

    /// The files of its static pods.
    pub(crate) fn manifests(&self) -> PathBuf {
        self.dir.join("manifests")
    }
}

/// The ports of a server, chosen at first start and kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ServerPorts {
    /// HTTPS of the API on the node's own address.
    pub(crate) api: u16,
    /// Raft on the node's own address.
    pub(crate) raft: u16,
}

/// Reads `ports.json` in `dir`, or chooses free ports on `address`, and keeps them there; `api` is
/// the API's where it is given.
pub(crate) fn server_ports(dir: &Path, address: IpAddr, api: Option<u16>) -> Result<ServerPorts> {
    let file = dir.join("ports.json");
    let kept: Option<ServerPorts> = read_json(&file)?;
    let mut ports = match kept {
        Some(ports) => ports,
        None => {
            // Both are held at once, or the second could be the first again.
            let (api, raft) = (free_port(address)?, free_port(address)?);
            ServerPorts {
                api: api.local_addr()?.port(),
                raft: raft.local_addr()?.port(),
            }
        }
    };
    ports.api = api.unwrap_or(ports.api);
    if kept != Some(ports) {
        write_json(&file, &ports)?;
    }
    Ok(ports)
}

/// A listener on a port that nobody uses now.
fn free_port(address: IpAddr) -> Result<std::net::TcpListener> {
    std::net::TcpListener::bind((address, 0))
        .with_context(|| format!("cannot listen on {address}: is it an address of this machine?"))
}

/// The flags by which a command means this cluster, for texts that name one: each with a space before it.
pub(crate) fn flags(name: &str, data_dir: Option<&Path>) -> String {
    let name = match name {
        DEFAULT_NAME => String::new(),
        name => format!(" --name {name}"),
    };
    let dir = data_dir.map(|dir| format!(" --data-dir {}", dir.display()));
    name + &dir.unwrap_or_default()
}

/// The directory that `--data-dir` gives, else that of cluster `name`: `~/.carob/NAME`. Without
/// symbolic links, as far as it exists: a cluster's processes are found by this one path.
pub(crate) fn cluster_dir(name: &str, given: Option<&Path>) -> Result<PathBuf> {
    let dir = match given {
        Some(dir) => dir.to_owned(),
        None => {
            let home = std::env::var_os("HOME").filter(|h| !h.is_empty());
            let Some(home) = home else {
                bail!("HOME is not set: say where the cluster's data goes with --data-dir");
            };
            PathBuf::from(home).join(".carob").join(name)
        }
    };
    dir.canonicalize()
        .or_else(|_| std::path::absolute(&dir))
        .with_context(|| format!("{} is no usable path", dir.display()))
}

/// The lock of [`one_at_a_time`] in a cluster's directory.
pub(crate) const UP_LOCK: &str = "up.lock";

/// Takes turns with other calls that start or stop what lies in `dir`.
pub(crate) async fn one_at_a_time(dir: &Path) -> Result<fs::File> {
    let file = fs::File::create(dir.join(UP_LOCK)).context("cannot make a lock file")?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
        return Ok(file);
    }
    eprintln!("waiting for another carob that starts or stops this cluster");
    let waiting = tokio::task::spawn_blocking(move || {
        flock(&file, FlockOperation::LockExclusive).map(|()| file)
    });
    waiting
        .await?
        .context("cannot lock the cluster's directory")
}

/// Closes a directory to others that was made before by hand, such as for a file of ports that a firewall knows.
pub(crate) fn close_to_others(dir: &Path) -> Result<()> {
    let mode = fs::metadata(dir)
        .with_context(|| format!("cannot look at {}", dir.display()))?
        .permissions()
        .mode();
    if mode & 0o077 == 0 {
        return Ok(());
    }
    fs::set_permissions(dir, fs::Permissions::from_mode(mode & 0o700)).with_context(|| {
        format!(
            "cannot close {} to others, and it will hold secrets: is it yours?",
            dir.display()
        )
    })
}

/// Makes `dir` and its parents, readable by this user alone.
pub(crate) fn make_private_dir(dir: &Path) -> Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .with_context(|| {
            format!(
                "cannot make the directory {}: choose one that you may write with --data-dir",
                dir.display()
            )
        })?;
    // A directory that is there already may still be closed to us: find out now, by name.
    let probe = dir.join(".writable");
    fs::write(&probe, b"")
        .and_then(|()| fs::remove_file(&probe))
        .with_context(|| {
            format!(
                "cannot write into {}: choose another directory with --data-dir",
                dir.display()
            )
        })
}

/// Replaces `file` as a whole, readable by this user alone.
pub(crate) fn write_private(file: &Path, contents: &[u8]) -> Result<()> {
    let name = file
        .file_name()
        .context("a file needs a name")?
        .to_string_lossy();
    let fresh = file.with_file_name(format!(".{name}.{}", std::process::id()));
    let write = || -> std::io::Result<()> {
        let mut out = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&fresh)?;
        out.write_all(contents)?;
        out.sync_all()?;
        fs::rename(&fresh, file)
    };
    write().with_context(|| format!("cannot write {}", file.display()))
}

/// Replaces `file` by `value` as JSON.
pub(crate) fn write_json<T: Serialize>(file: &Path, value: &T) -> Result<()> {
    write_private(file, &serde_json::to_vec_pretty(value)?)
}

/// Reads JSON; `None` where the file is missing.
pub(crate) fn read_json<T: for<'de> Deserialize<'de>>(file: &Path) -> Result<Option<T>> {
    match fs::read(file) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .with_context(|| format!("{} is damaged", file.display())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e).with_context(|| format!("cannot read {}", file.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_have_names_and_loopback_addresses_in_order() {
        let cluster = Cluster {
            name: "dev".into(),
            api_port: 6443,
            nodes: 3,
            ingress: IngressArgs::default(),
            eviction: EvictionArgs::default(),
            version: version::VERSION.into(),
        };
        let nodes = cluster.nodes(Path::new("/c"));
        let seen: Vec<_> = nodes
            .iter()
            .map(|n| format!("{} {} {}", n.name, n.address, n.dir.display()))
            .collect();
        assert_eq!(
            seen,
            [
                "dev-1 127.0.0.1 /c/dev-1",
                "dev-2 127.0.0.2 /c/dev-2",
                "dev-3 127.0.0.3 /c/dev-3"
            ]
        );
    }

    #[test]
    fn ports_are_chosen_once() {
        let dir = tempfile::tempdir().unwrap();
        let ports = |api| server_ports(dir.path(), Ipv4Addr::LOCALHOST.into(), api).unwrap();
        let first = ports(None);
        assert_ne!(first.api, first.raft);
        assert_eq!(first, ports(None));
        let given = ports(Some(6443));
        assert_eq!((given.api, given.raft), (6443, first.raft));
        assert_eq!(given, ports(None));
    }
}

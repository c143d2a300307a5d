//! What a claim is bound to, as a directory of this node.
//!
//! A volume of the node's own disk is a directory below the agent's, made here and removed by [`crate::local_path`]. Others
//! are where an administrator put them: anywhere, if the operator lets pods have host paths, or else in one of the
//! directories that the operator says are shared, which is how a pod that goes to another node finds its data there.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};

use api::storage;
use k8s_openapi::api::core::v1::{
    HostPathVolumeSource, Node, PersistentVolume, PersistentVolumeClaim, Volume,
};
use runtime::Mount;
use runtime::files::{self, Mounted};
use rustix::io::Errno;

use super::{Context, Error, Kind as _, Made, host_path::HostPath};
use crate::blocking::blocking;
use crate::pod::{Host, PodView as _};

/// Where the volumes of claims lie on this node.
#[derive(Clone, Debug)]
pub(crate) struct Disks {
    /// The node's name.
    pub(crate) node: String,
    /// Below this are the node's own volumes.
    pub(crate) own: PathBuf,
    /// Volumes may be below these.
    pub(crate) shared: Vec<PathBuf>,
    /// Volumes may be anywhere.
    pub(crate) host_path: bool,
}

/// Makes the volume of a claim.
pub(super) async fn set_up(volume: &Volume, name: &str, cx: &Context<'_>) -> Result<Made, Error> {
    let found = find(volume, name, cx).await?;
    let found = found.map_err(|why| {
        let of = &volume.name;
        Error::Told(format!(
            "Unable to attach or mount volumes: unmounted volumes=[{of}], unattached volumes=[], failed to process volumes=[{of}]: {why}"
        ))
    })?;
    let of = found.metadata.name.clone().unwrap_or_default();
    near(&found, cx).await?;
    let made = place(&found, cx).await;
    made.map_err(|error| match error {
        Error::Told(why) => Error::Told(why),
        error => Error::Told(format!(
            "MountVolume.SetUp failed for volume \"{of}\" : {error}"
        )),
    })
}

/// The volume of the claim, or why there is none.
async fn find(
    volume: &Volume,
    name: &str,
    cx: &Context<'_>,
) -> Result<Result<PersistentVolume, String>, Error> {
    let namespace = cx.pod.namespace();
    let processing = |why: String| format!("error processing PVC {namespace}/{name}: {why}");
    let claims = cx.client.of::<PersistentVolumeClaim>();
    let claim = match cx.asked(claims.get(namespace, name)).await? {
        Ok(claim) => claim,
        Err(error) => {
            let why = format!("failed to fetch PVC from API server: {error}");
            return Ok(Err(processing(why)));
        }
    };
    if volume.ephemeral.is_some()
        && let Some(why) = storage::foreign(&claim, namespace, cx.pod.name(), cx.pod.uid())
    {
        return Ok(Err(why));
    }
    let phase = claim.status.as_ref().and_then(|s| s.phase.as_deref());
    if claim.metadata.deletion_timestamp.is_some() {
        return Ok(Err(processing("PVC is being deleted".to_owned())));
    }
    let bound = storage::volume_of(&claim).filter(|_| phase == Some("Bound"));
    let Some(of) = bound else {
        return Ok(Err(processing("PVC is not bound".to_owned())));
    };
    let volumes = cx.client.of::<PersistentVolume>();
    let found = match cx.asked(volumes.get("", of)).await? {
        Ok(found) => found,
        Err(error) => {
            let why = format!("failed to fetch PV {of} from API server: {error}");
            return Ok(Err(processing(why)));
        }
    };
    let uid = |uid: Option<&String>| uid.cloned().unwrap_or_default();
    let is = uid(storage::claim_of(&found).and_then(|of| of.uid.as_ref()));
    let own = uid(claim.metadata.uid.as_ref());
    if is != own {
        let why = format!(
            "found PV object {of} with pv.Spec.ClaimRef.UID {is} that does not point to the claim UID {own}"
        );
        return Ok(Err(processing(why)));
    }
    let mode = found.spec.as_ref().and_then(|s| s.volume_mode.as_deref());
    if mode == Some("Block") {
        let name = &volume.name;
        let why = format!("volume {name} has volumeMode Block, but is specified in volumeMounts");
        return Ok(Err(why));
    }
    Ok(Ok(found))
}

/// Whoever named the node of a pod may have named one where its volume is not.
async fn near(volume: &PersistentVolume, cx: &Context<'_>) -> Result<(), Error> {
    let affinity = volume.spec.as_ref().and_then(|s| s.node_affinity.as_ref());
    if affinity.is_none() {
        return Ok(());
    }
    let own = &cx.disks.node;
    let nodes = cx.client.of::<Node>();
    let node = cx.asked(nodes.get("", own)).await?;
    let node = node.map_err(|error| Error::Told(format!("the node cannot be read: {error}")))?;
    let labels = node.metadata.labels.unwrap_or_default();
    if storage::is_near(volume, own, &labels) {
        return Ok(());
    }
    let name = volume.metadata.name.as_deref().unwrap_or_default();
    Err(Error::Told(format!(
        "MountVolume.NodeAffinity check failed for volume \"{name}\" : no matching NodeSelectorTerms"
    )))
}

/// The directory of a volume.
async fn place(volume: &PersistentVolume, cx: &Context<'_>) -> Result<Made, Error> {
    let disks = cx.disks;
    let name = volume.metadata.name.clone().unwrap_or_default();
    let spec = volume.spec.clone().unwrap_or_default();
    if !spec.mount_options.unwrap_or_default().is_empty() {
        return Err(Error::HostDir("mount options are not supported".to_owned()));
    }
    match (spec.local, spec.host_path) {
        (Some(local), _) => match own_path(&disks.own, &local.path) {
            Some(dir) if !is_going(volume) => own_dir(dir).await,
            Some(_) => Err(Error::HostDir("it is being deleted".to_owned())),
            None if Path::new(&local.path).is_absolute() => {
                local_dir(&name, &local.path, disks).await
            }
            None => Err(Error::HostDir(format!(
                "path {:?} is neither absolute nor the name of a directory",
                local.path
            ))),
        },
        (None, Some(source)) => host_dir(source, cx).await,
        (None, None) => Err(Error::HostDir("no volume plugin matched".to_owned())),
    }
}

/// Whether a volume may be removed at any time: it is being deleted, and no claim keeps it.
fn is_going(volume: &PersistentVolume) -> bool {
    let meta = &volume.metadata;
    let mut held = meta.finalizers.iter().flatten();
    meta.deletion_timestamp.is_some() && held.all(|finalizer| finalizer != storage::PROTECTION)
}

/// Where one of the node's own volumes lies, if the path is of one: a single name.
pub(crate) fn own_path(own: &Path, path: &str) -> Option<PathBuf> {
    let mut parts = Path::new(path).components();
    match (parts.next(), parts.next()) {
        (Some(Component::Normal(name)), None) => Some(own.join(name)),
        _ => None,
    }
}

async fn own_dir(dir: PathBuf) -> Result<Made, Error> {
    let of = dir.clone();
    let made = blocking(move || {
        fs::create_dir_all(&of)?;
        fs::set_permissions(&of, fs::Permissions::from_mode(0o777))
    });
    made.await.map_err(Error::io("creating the directory"))?;
    Ok(Made::new(dir, false))
}

/// A directory that an administrator has made.
async fn local_dir(volume: &str, path: &str, disks: &Disks) -> Result<Made, Error> {
    match show(allowed(disks, path)?, false).await {
        Ok((made, true)) => Ok(made),
        Ok(_) => Err(Error::HostDir(format!("{path} is not a directory"))),
        Err(Errno::NOENT) => Err(Error::Told(format!(
            "MountVolume.NewMounter initialization failed for volume \"{volume}\" : path {path:?} does not exist"
        ))),
        Err(error) => Err(unshown(path, error)),
    }
}

/// A host path as pods have them, where it may be.
async fn host_dir(source: HostPathVolumeSource, cx: &Context<'_>) -> Result<Made, Error> {
    let made = allowed(cx.disks, &source.path)?;
    let volume = Volume {
        host_path: Some(source.clone()),
        ..Volume::default()
    };
    let host = Host {
        host_path: true,
        ips: Vec::new(),
        memory: None,
    };
    if let Some(why) = HostPath.refusal(&volume, &host) {
        return Err(Error::HostDir(why));
    }
    // The name is the operator's alone.
    if made.beneath.is_empty() {
        return HostPath.set_up(&volume, cx).await;
    }
    let (path, kind) = (source.path, source.type_.unwrap_or_default());
    let found = show(made, kind == "DirectoryOrCreate").await;
    let is_none = |what| Err(Error::HostPath(format!("{path} is not a {what}")));
    match found.map_err(|error| unshown(&path, error))? {
        (_, false) if kind.starts_with("Directory") => is_none("directory"),
        (_, true) if kind.starts_with("File") => is_none("file"),
        (made, _) => Ok(made),
    }
}

/// What a volume at this path is to show, unless nobody allows it: the path itself where the operator allows all, or what
/// lies below a shared directory.
fn allowed(disks: &Disks, path: &str) -> Result<Made, Error> {
    if disks.host_path {
        return Ok(Made::new(path, false));
    }
    let beneath = |dir: &PathBuf| {
        let rest = Path::new(path).strip_prefix(dir).ok()?;
        let mut parts = rest.components();
        let is_below = parts.all(|part| matches!(part, Component::Normal(_)));
        let beneath = rest.to_string_lossy().into_owned();
        is_below.then(|| Made {
            beneath,
            ..Made::new(dir, false)
        })
    };
    // In the outermost: who has a volume there may have changed what the others are names of.
    let places = disks.shared.iter().filter_map(beneath);
    let outermost = places.min_by_key(|made| made.path.components().count());
    outermost.ok_or_else(|| not_shared(path))
}

fn not_shared(path: &str) -> Error {
    Error::HostDir(format!("this node's operator does not share {path}"))
}

/// Looks at what a volume is to show, and whether it is a directory. Directories on the way to it are made on request.
///
/// # Errors
/// The system's, as those of [`files::mounted`].
async fn show(made: Made, is_made: bool) -> Result<(Made, bool), Errno> {
    let mount = Mount {
        host: made.path.clone().into(),
        beneath: made.beneath.clone(),
        guest: String::new(),
        read_only: made.read_only,
    };
    // Disks may be any, and slow.
    let found = blocking(move || files::mounted(&mount, is_made).map_err(io::Error::from)).await;
    match found {
        Ok(found) => Ok((made, matches!(found, Mounted::Directory(_)))),
        Err(error) => Err(Errno::from_io_error(&error).unwrap_or(Errno::IO)),
    }
}

fn unshown(path: &str, error: Errno) -> Error {
    match error {
        // There are links on the way, and guests may have made them.
        Errno::LOOP | Errno::XDEV => not_shared(path),
        error => Error::HostDir(format!("{path}: {}", io::Error::from(error))),
    }
}

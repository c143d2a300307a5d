//! A pod's volumes: each kind is one file here and one line in [`KINDS`].
//!
//! A volume is a directory of the node that the runtime shows to guests at `mountPath`. It is made before the pod's
//! first container starts and torn down when the pod has ended; containers' restarts leave it alone.

mod config_map;
mod empty_dir;
mod host_path;
mod image;
mod payload;
mod secret;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use client::Client;
use k8s_openapi::api::core::v1::{Pod, Volume};
use tokio_util::sync::CancellationToken;

use crate::image::{Error as ImageError, Images};
use crate::pod::{Host, PodView as _};
use crate::remove::remove_tree;

/// Every kind of volume, sorted by its field's name in `spec.volumes`.
static KINDS: &[&dyn Kind] = &[
    &config_map::ConfigMap,
    &empty_dir::EmptyDir,
    &host_path::HostPath,
    &image::Image,
    &secret::Secret,
];

/// Why a volume cannot be had. Trying again may help.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// An object or a key that it is made from does not exist; Kubernetes' words.
    #[error("{0}")]
    Missing(String),
    /// The API server did not answer, or refused.
    #[error("{0}")]
    Api(#[from] client::Error),
    /// The host's file system said no.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// Why that failed.
        source: std::io::Error,
    },
    /// The image could not be had.
    #[error("{0}")]
    Image(ImageError),
    /// The host path is not of the type that was asked for.
    #[error("hostPath type check failed: {0}")]
    HostPath(String),
    /// The pod has ended meanwhile.
    #[error("the pod has ended")]
    Ended,
}

impl Error {
    fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}

/// What a kind may use to make a volume.
pub(crate) struct Context<'a> {
    pub(crate) pod: &'a Pod,
    pub(crate) client: &'a Client,
    pub(crate) images: &'a Images,
    /// The volume's own directory, which may exist from before the agent's last restart.
    pub(crate) dir: &'a Path,
    /// Cancelled when the pod ends.
    pub(crate) ended: &'a CancellationToken,
}

impl Context<'_> {
    /// Awaits somebody else's answer, but not beyond the pod's end: nothing of an ended pod may wait for ever.
    async fn while_wanted<T>(&self, answer: impl Future<Output = T>) -> Result<T, Error> {
        let answer = self.ended.run_until_cancelled(answer).await;
        answer.ok_or(Error::Ended)
    }
}

/// A volume that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Made {
    /// The directory to show to guests.
    pub(crate) path: PathBuf,
    /// Nobody may write to it, whatever the mount says.
    pub(crate) read_only: bool,
}

/// One kind of volume.
#[async_trait]
pub(crate) trait Kind: Send + Sync {
    /// Its field in `spec.volumes[]`.
    fn field(&self) -> &'static str;
    /// Whether this volume is of the kind.
    fn is(&self, volume: &Volume) -> bool;
    /// What carob does not have of what the volume asks for, if anything.
    fn refusal(&self, _volume: &Volume, _host: &Host) -> Option<String> {
        None
    }
    /// Makes the volume, or takes up the one that is there. Done twice it does no harm.
    async fn set_up(&self, volume: &Volume, cx: &Context<'_>) -> Result<Made, Error>;
}

fn kind_of(volume: &Volume) -> Option<&'static dyn Kind> {
    KINDS.iter().copied().find(|k| k.is(volume))
}

/// The field of `spec.volumes[]` that says of which kind a volume is, also one unknown here.
fn field_of(volume: &Volume) -> String {
    let fields = serde_json::to_value(volume).unwrap_or_default();
    let kind = fields
        .as_object()
        .and_then(|fields| fields.keys().find(|field| *field != "name").cloned());
    kind.unwrap_or_else(|| volume.name.clone())
}

/// What carob does not have of what the volumes ask for, if anything.
pub(crate) fn refusal(volumes: &[Volume], host: &Host) -> Option<String> {
    volumes
        .iter()
        .enumerate()
        .find_map(|(i, volume)| match kind_of(volume) {
            Some(kind) => kind
                .refusal(volume, host)
                .map(|why| format!("spec.volumes[{i}].{}: {why}", kind.field())),
            None => Some(format!(
                "spec.volumes[{i}].{} is not supported by carob yet",
                field_of(volume)
            )),
        })
}

/// Why a pod's volumes cannot be had.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Worded as the kubelet's `FailedMount` event.
    Mount(String),
    /// An image is missing, which is told as that of a container is.
    Image(ImageError),
    /// The pod has ended meanwhile.
    Ended,
}

impl Failure {
    fn of(volume: &Volume, error: Error) -> Self {
        match error {
            Error::Ended => Self::Ended,
            Error::Image(ImageError { reason, message }) => Self::Image(ImageError {
                reason,
                message: format!("volume \"{}\": {message}", volume.name),
            }),
            error => Self::Mount(format!(
                "MountVolume.SetUp failed for volume \"{}\" : {error}",
                volume.name
            )),
        }
    }
}

/// Makes all volumes of a pod.
///
/// # Errors
/// The first that cannot be made.
pub(crate) async fn set_up(
    pod: &Pod,
    client: &Client,
    images: &Images,
    dir: &Path,
    ended: &CancellationToken,
) -> Result<BTreeMap<String, Made>, Failure> {
    let mut all = BTreeMap::new();
    for volume in pod.volumes() {
        let Some(kind) = kind_of(volume) else {
            continue;
        };
        let dir = dir.join(kind.field()).join(&volume.name);
        let made = kind
            .set_up(
                volume,
                &Context {
                    pod,
                    client,
                    images,
                    dir: &dir,
                    ended,
                },
            )
            .await
            .map_err(|e| Failure::of(volume, e))?;
        all.insert(volume.name.clone(), made);
    }
    Ok(all)
}

/// Removes all that was made for a pod's volumes. What a `hostPath` or an image points to is not below `dir`.
///
/// # Errors
/// When the file system says no.
pub(crate) fn tear_down(dir: &Path) -> std::io::Result<()> {
    remove_tree(dir)
}

#[cfg(test)]
mod conformance;

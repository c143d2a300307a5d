//! What a kind of volume is, the table of all, and what others ask of volumes without knowing their kinds.

use api::quantity::Quantity;
use async_trait::async_trait;
use k8s_openapi::api::core::v1::Volume;

use super::{Context, Error, Made};
use super::{
    config_map, downward_api, empty_dir, ephemeral, host_path, image as tree,
    persistent_volume_claim, projected, secret,
};
use crate::objects;
use crate::pod::Host;

/// Every kind of volume, sorted by its field's name in `spec.volumes`.
pub(super) static KINDS: &[&dyn Kind] = &[
    &config_map::ConfigMap,
    &downward_api::DownwardApi,
    &empty_dir::EmptyDir,
    &ephemeral::Ephemeral,
    &host_path::HostPath,
    &tree::Image,
    &persistent_volume_claim::PersistentVolumeClaim,
    &projected::Projected,
    &secret::Secret,
];

/// Where what guests write into a volume lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// In the pod's directory on the node's disk: it is the pod's ephemeral storage.
    Disk,
    /// In the node's memory.
    Memory,
    /// Where it outlives the pod: no limit of the pod is of it.
    Elsewhere,
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
    /// Whether its content follows the pod's labels or annotations.
    fn follows_metadata(&self, _volume: &Volume) -> bool {
        false
    }
    /// The objects whose data it shows.
    fn shows<'a>(&self, _volume: &'a Volume) -> Vec<(objects::Kind, &'a str)> {
        Vec::new()
    }
    /// Where what guests write into it lies; `None` where they can write nothing.
    fn written(&self, _volume: &Volume) -> Option<Written> {
        None
    }
    /// How much they may write into it, if the volume itself says so.
    fn size_limit(&self, _volume: &Volume) -> Option<Quantity> {
        None
    }
    /// The image whose files it shows.
    fn image<'a>(&self, _volume: &'a Volume) -> Option<&'a str> {
        None
    }
    /// Makes the volume, or takes up the one that is there. Done twice it does no harm, also while guests use it.
    async fn set_up(&self, volume: &Volume, cx: &Context<'_>) -> Result<Made, Error>;
}

pub(super) fn kind_of(volume: &Volume) -> Option<&'static dyn Kind> {
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

/// Whether the content of any of the volumes follows the pod's labels or annotations.
pub(crate) fn follow_metadata(volumes: &[Volume]) -> bool {
    volumes.iter().any(follows_metadata)
}

pub(super) fn follows_metadata(volume: &Volume) -> bool {
    kind_of(volume).is_some_and(|kind| kind.follows_metadata(volume))
}

/// The objects that volumes show: of which kind, its name, and which volume.
pub(crate) fn shown(volumes: &[Volume]) -> impl Iterator<Item = (objects::Kind, &str, &str)> {
    volumes.iter().flat_map(|volume| {
        let objects = kind_of(volume).map(|kind| kind.shows(volume));
        let objects = objects.unwrap_or_default().into_iter();
        objects.map(|(kind, name)| (kind, name, volume.name.as_str()))
    })
}

/// Where what guests write into a volume lies; `None` where they can write nothing.
pub(crate) fn written(volume: &Volume) -> Option<Written> {
    kind_of(volume)?.written(volume)
}

/// How much guests may write into a volume, if it says so itself.
pub(crate) fn size_limit(volume: &Volume) -> Option<Quantity> {
    kind_of(volume)?.size_limit(volume)
}

/// The image whose files a volume shows.
pub(crate) fn image(volume: &Volume) -> Option<&str> {
    kind_of(volume)?.image(volume)
}

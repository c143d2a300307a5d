//! `persistentVolumeClaim`: the volume that a claim is bound to.

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Volume;

use super::{Context, Error, Kind, Made, Written, claim};

pub(super) struct PersistentVolumeClaim;

#[async_trait]
impl Kind for PersistentVolumeClaim {
    fn field(&self) -> &'static str {
        "persistentVolumeClaim"
    }

    fn is(&self, volume: &Volume) -> bool {
        volume.persistent_volume_claim.is_some()
    }

    fn written(&self, _: &Volume) -> Option<Written> {
        Some(Written::Elsewhere)
    }

    async fn set_up(&self, volume: &Volume, cx: &Context<'_>) -> Result<Made, Error> {
        let source = volume.persistent_volume_claim.clone().unwrap_or_default();
        let made = claim::set_up(volume, &source.claim_name, cx).await?;
        Ok(Made {
            read_only: source.read_only == Some(true),
            ..made
        })
    }
}

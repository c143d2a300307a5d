//! `ephemeral`: the volume of a claim that is made for the pod and goes with it.

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Volume;

use super::{Context, Error, Kind, Made, Written, claim};
use crate::pod::PodView as _;

pub(super) struct Ephemeral;

#[async_trait]
impl Kind for Ephemeral {
    fn field(&self) -> &'static str {
        "ephemeral"
    }

    fn is(&self, volume: &Volume) -> bool {
        volume.ephemeral.is_some()
    }

    fn written(&self, _: &Volume) -> Option<Written> {
        Some(Written::Elsewhere)
    }

    async fn set_up(&self, volume: &Volume, cx: &Context<'_>) -> Result<Made, Error> {
        let name = api::storage::ephemeral_claim(cx.pod.name(), &volume.name);
        claim::set_up(volume, &name, cx).await
    }
}

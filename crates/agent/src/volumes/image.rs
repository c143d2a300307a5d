//! `image`: a tree of files from an image, read-only and shared by all pods of the node.

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Volume;

use super::{Context, Error, Kind, Made};
use crate::image::{self, Keys};
use crate::pod::Host;

pub(super) struct Image;

#[async_trait]
impl Kind for Image {
    fn field(&self) -> &'static str {
        "image"
    }

    fn is(&self, volume: &Volume) -> bool {
        volume.image.is_some()
    }

    fn refusal(&self, volume: &Volume, _: &Host) -> Option<String> {
        let reference = self.image(volume).unwrap_or_default();
        let is_missing = reference.is_empty();
        is_missing.then(|| "reference is required".to_owned())
    }

    fn image<'a>(&self, volume: &'a Volume) -> Option<&'a str> {
        volume.image.as_ref()?.reference.as_deref()
    }

    async fn set_up(&self, volume: &Volume, cx: &Context<'_>) -> Result<Made, Error> {
        let source = volume.image.clone().unwrap_or_default();
        let reference = source.reference.unwrap_or_default();
        let policy = source.pull_policy.as_deref();
        let tree = async {
            let keys = Keys::of(cx.client, cx.pod).await;
            cx.images.tree(&reference, policy, &keys).await
        };
        let (path, hold) = cx.while_wanted(tree).await?.map_err(|error| {
            let message = format!("failed to pull image \"{reference}\": {error}");
            Error::Image(image::Error { message, ..error })
        })?;
        Ok(Made {
            hold: Some(hold),
            ..Made::new(path, true)
        })
    }
}

//! `secret`: an object's data as read-only files.

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Secret as Object, SecretProjection, Volume};

use super::payload::{self, Files};
use super::{Context, Error, Kind, Made};

pub(super) struct Secret;

#[async_trait]
impl Kind for Secret {
    fn field(&self) -> &'static str {
        "secret"
    }

    fn is(&self, volume: &Volume) -> bool {
        volume.secret.is_some()
    }

    async fn set_up(&self, volume: &Volume, cx: &Context<'_>) -> Result<Made, Error> {
        let source = volume.secret.clone().unwrap_or_default();
        let what = SecretProjection {
            name: source.secret_name.unwrap_or_default(),
            items: source.items,
            optional: source.optional,
        };
        let files = files(&what, source.default_mode, cx).await?;
        cx.write(files).await
    }
}

/// What becomes of an object's data.
pub(super) async fn files(
    source: &SecretProjection,
    default_mode: Option<i32>,
    cx: &Context<'_>,
) -> Result<Files, Error> {
    let optional = source.optional == Some(true);
    let object: Object = cx.object("secret", &source.name, optional).await?;
    let data = object
        .data
        .unwrap_or_default()
        .into_iter()
        .map(|(k, v)| (k, v.0))
        .collect();
    payload::project(&data, source.items.as_deref(), default_mode, optional)
        .map_err(|key| Error::Missing(format!("references non-existent secret key: {key}")))
}

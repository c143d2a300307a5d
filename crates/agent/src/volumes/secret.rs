//! `secret`: an object's data as read-only files.

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{SecretProjection, Volume};

use super::payload::{self, Files};
use super::{Context, Error, Kind, Made};
use crate::objects;

pub(super) struct Secret;

#[async_trait]
impl Kind for Secret {
    fn field(&self) -> &'static str {
        "secret"
    }

    fn is(&self, volume: &Volume) -> bool {
        volume.secret.is_some()
    }

    fn shows<'a>(&self, volume: &'a Volume) -> Vec<(objects::Kind, &'a str)> {
        let source = volume.secret.iter();
        source
            .filter_map(|source| Some((objects::Kind::Secret, source.secret_name.as_deref()?)))
            .collect()
    }

    async fn set_up(&self, volume: &Volume, cx: &Context<'_>) -> Result<Made, Error> {
        let source = volume.secret.clone().unwrap_or_default();
        let what = SecretProjection {
            name: source.secret_name.unwrap_or_default(),
            items: source.items,
            optional: source.optional,
        };
        let files = files(&what, source.default_mode, cx).await?;
        cx.write_in_memory(files).await
    }
}

/// What becomes of an object's data.
pub(super) async fn files(
    source: &SecretProjection,
    default_mode: Option<i32>,
    cx: &Context<'_>,
) -> Result<Files, Error> {
    let optional = source.optional == Some(true);
    let secrets = cx.objects.secrets();
    let object = cx.object(secrets, "secret", &source.name, optional).await?;
    let data = object.data.iter().flatten();
    let data = data.map(|(k, v)| (k.clone(), v.0.clone())).collect();
    payload::project(&data, source.items.as_deref(), default_mode, optional)
        .map_err(|key| Error::Missing(format!("references non-existent secret key: {key}")))
}

//! `secret`: an object's data as read-only files.

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Secret as Object, Volume};

use super::{Context, Error, Kind, Made, payload};
use crate::blocking::blocking;
use crate::pod::PodView as _;

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
        let optional = source.optional == Some(true);
        let name = source.secret_name.unwrap_or_default();
        let objects = cx.client.of::<Object>();
        let found = cx
            .while_wanted(objects.find(cx.pod.namespace(), &name))
            .await??;
        let object = match found {
            Some(object) => object,
            None if optional => Object::default(),
            None => return Err(Error::Missing(format!("secret \"{name}\" not found"))),
        };
        let data = object
            .data
            .unwrap_or_default()
            .into_iter()
            .map(|(k, v)| (k, v.0))
            .collect();
        let files = payload::project(
            &data,
            source.items.as_deref(),
            source.default_mode,
            optional,
        )
        .map_err(|key| Error::Missing(format!("references non-existent secret key: {key}")))?;
        let dir = cx.dir.to_owned();
        blocking(move || payload::write(&dir, &files))
            .await
            .map_err(Error::io(format!("writing secret \"{name}\"")))?;
        Ok(Made {
            path: cx.dir.to_owned(),
            read_only: true,
        })
    }
}

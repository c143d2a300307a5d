//! `configMap`: an object's data as read-only files.

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{ConfigMapProjection, Volume};

use super::payload::{self, Files};
use super::{Context, Error, Kind, Made};
use crate::objects;

pub(super) struct ConfigMap;

#[async_trait]
impl Kind for ConfigMap {
    fn field(&self) -> &'static str {
        "configMap"
    }

    fn is(&self, volume: &Volume) -> bool {
        volume.config_map.is_some()
    }

    fn shows<'a>(&self, volume: &'a Volume) -> Vec<(objects::Kind, &'a str)> {
        let source = volume.config_map.iter();
        source
            .map(|source| (objects::Kind::ConfigMap, source.name.as_str()))
            .collect()
    }

    async fn set_up(&self, volume: &Volume, cx: &Context<'_>) -> Result<Made, Error> {
        let source = volume.config_map.clone().unwrap_or_default();
        let what = ConfigMapProjection {
            name: source.name,
            items: source.items,
            optional: source.optional,
        };
        let files = files(&what, source.default_mode, cx).await?;
        cx.write(files).await
    }
}

/// What becomes of an object's data.
pub(super) async fn files(
    source: &ConfigMapProjection,
    default_mode: Option<i32>,
    cx: &Context<'_>,
) -> Result<Files, Error> {
    let optional = source.optional == Some(true);
    let maps = cx.objects.config_maps();
    let object = cx.object(maps, "configmap", &source.name, optional).await?;
    let text = object.data.iter().flatten();
    let text = text.map(|(k, v)| (k.clone(), v.clone().into_bytes()));
    let binary = object.binary_data.iter().flatten();
    let binary = binary.map(|(k, v)| (k.clone(), v.0.clone()));
    let data = text.chain(binary).collect();
    payload::project(&data, source.items.as_deref(), default_mode, optional).map_err(|key| {
        Error::Missing(format!(
            "configmap references non-existent config key: {key}"
        ))
    })
}

//! `downwardAPI`: what a pod may know of itself, as read-only files.
//!
//! Files of labels and annotations follow the pod's, as the kubelet has them do: all files of the volume are replaced
//! at once.

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{DownwardAPIVolumeFile as Item, Volume};

use super::payload::{File, Files};
use super::{Context, Error, Kind, Made};
use crate::downward;

pub(super) struct DownwardApi;

#[async_trait]
impl Kind for DownwardApi {
    fn field(&self) -> &'static str {
        "downwardAPI"
    }

    fn is(&self, volume: &Volume) -> bool {
        volume.downward_api.is_some()
    }

    fn follows_metadata(&self, volume: &Volume) -> bool {
        let source = volume.downward_api.as_ref();
        source.is_some_and(|source| follows(source.items.as_deref()))
    }

    async fn set_up(&self, volume: &Volume, cx: &Context<'_>) -> Result<Made, Error> {
        let source = volume.downward_api.clone().unwrap_or_default();
        let files = files(source.items.as_deref(), source.default_mode, cx)?;
        cx.write_in_memory(files).await
    }
}

/// Whether any of these files follows the pod's labels or annotations.
pub(super) fn follows(items: Option<&[Item]>) -> bool {
    let mut fields = items
        .iter()
        .copied()
        .flatten()
        .filter_map(|item| item.field_ref.as_ref());
    fields.any(|field| downward::changes(&field.field_path))
}

/// The files with what they ask for. An item that asks for nothing is an empty file, as the kubelet makes it.
pub(super) fn files(
    items: Option<&[Item]>,
    default_mode: Option<i32>,
    cx: &Context<'_>,
) -> Result<Files, Error> {
    let mut files = Files::new();
    let mut errors = Vec::new();
    for item in items.into_iter().flatten() {
        let text = if let Some(field) = &item.field_ref {
            downward::field(cx.pod, &field.field_path)
        } else if let Some(resource) = &item.resource_field_ref {
            downward::resource(cx.pod, None, resource, cx.machine)
        } else {
            Ok(String::new())
        };
        match text {
            Ok(text) => {
                let file = File::new(text.into_bytes(), item.mode, default_mode);
                files.insert(item.path.clone(), file);
            }
            Err(why) => errors.push(Error::Missing(why)),
        }
    }
    Error::all(errors).map_or(Ok(files), Err)
}

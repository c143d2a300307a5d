//! `emptyDir`: a directory that lives as long as the pod, on the node's disk or in its memory. What lies in it is measured by
//! `driver/storage.rs`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use api::quantity::Quantity;
use async_trait::async_trait;
use k8s_openapi::api::core::v1::Volume;

use super::{Context, Error, Kind, Made, Written, memory as in_memory};
use crate::blocking::blocking;
use crate::pod::Host;

pub(super) struct EmptyDir;

#[async_trait]
impl Kind for EmptyDir {
    fn field(&self) -> &'static str {
        "emptyDir"
    }

    fn is(&self, volume: &Volume) -> bool {
        volume.empty_dir.is_some()
    }

    fn refusal(&self, volume: &Volume, host: &Host) -> Option<String> {
        let source = volume.empty_dir.as_ref()?;
        match source.medium.as_deref() {
            None | Some("") => None,
            Some("Memory") if host.memory.is_some() => None,
            Some("Memory") => Some("this node has no file system in memory".to_owned()),
            Some(medium) if medium.starts_with("HugePages") => {
                Some(format!("medium {medium}: guests have no huge pages"))
            }
            Some(medium) => Some(format!("medium {medium} is not supported by carob yet")),
        }
    }

    fn written(&self, volume: &Volume) -> Option<Written> {
        match volume.empty_dir.as_ref()?.medium.as_deref() {
            Some("Memory") => Some(Written::Memory),
            _ => Some(Written::Disk),
        }
    }

    fn size_limit(&self, volume: &Volume) -> Option<Quantity> {
        let limit = volume.empty_dir.as_ref()?.size_limit.as_ref()?;
        let limit = Quantity::parse(&limit.0).ok()?;
        // None at all is no limit, as with the kubelet.
        (limit.value() > 0).then_some(limit)
    }

    async fn set_up(&self, volume: &Volume, cx: &Context<'_>) -> Result<Made, Error> {
        let is_in_memory = self.written(volume) == Some(Written::Memory);
        let memory = cx.memory.filter(|_| is_in_memory).map(Path::to_owned);
        let path = match &memory {
            Some(memory) => memory.join(&volume.name),
            None => cx.dir.to_owned(),
        };
        let dir = path.clone();
        let make = move || {
            if let Some(memory) = memory {
                in_memory::make(&memory)?;
            }
            fs::create_dir_all(&dir)?;
            fs::set_permissions(&dir, fs::Permissions::from_mode(0o777))
        };
        blocking(make)
            .await
            .map_err(Error::io("creating the directory"))?;
        Ok(Made::new(path, false))
    }
}

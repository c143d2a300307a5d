//! `emptyDir`: a directory that lives as long as the pod.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Volume;

use super::{Context, Error, Kind, Made};
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

    fn refusal(&self, volume: &Volume, _: &Host) -> Option<String> {
        let source = volume.empty_dir.as_ref()?;
        match source.medium.as_deref() {
            None | Some("") => {}
            Some(medium) => return Some(format!("medium {medium} is not supported by carob yet")),
        }
        source
            .size_limit
            .as_ref()
            .map(|_| "sizeLimit is not supported by carob yet".to_owned())
    }

    async fn set_up(&self, _: &Volume, cx: &Context<'_>) -> Result<Made, Error> {
        let dir = cx.dir.to_owned();
        let make = move || {
            fs::create_dir_all(&dir)?;
            fs::set_permissions(&dir, fs::Permissions::from_mode(0o777))
        };
        blocking(make)
            .await
            .map_err(Error::io("creating the directory"))?;
        Ok(Made::new(cx.dir, false))
    }
}

//! `hostPath`: a directory of the node, where the operator lets pods have them.

use std::fs;
use std::path::Path;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Volume;

use super::{Context, Error, Kind, Made};
use crate::pod::Host;

pub(super) struct HostPath;

#[async_trait]
impl Kind for HostPath {
    fn field(&self) -> &'static str {
        "hostPath"
    }

    fn is(&self, volume: &Volume) -> bool {
        volume.host_path.is_some()
    }

    fn refusal(&self, volume: &Volume, host: &Host) -> Option<String> {
        if !host.host_path {
            return Some("this node's operator does not allow host paths".to_owned());
        }
        let source = volume.host_path.as_ref()?;
        if Path::new(&source.path).is_relative() {
            return Some(format!("path {:?} is not absolute", source.path));
        }
        match source.type_.as_deref() {
            None | Some("" | "Directory" | "DirectoryOrCreate") => None,
            Some(kind) => Some(format!(
                "type {kind} is not supported by carob yet, only directories are"
            )),
        }
    }

    async fn set_up(&self, volume: &Volume, _: &Context<'_>) -> Result<Made, Error> {
        let source = volume.host_path.clone().unwrap_or_default();
        let path = Path::new(&source.path);
        let kind = source.type_.unwrap_or_default();
        if kind == "DirectoryOrCreate" {
            fs::create_dir_all(path).map_err(Error::io(format!("creating {}", path.display())))?;
        }
        match fs::metadata(path) {
            Ok(m) if m.is_dir() => Ok(Made {
                path: path.to_owned(),
                read_only: false,
            }),
            Ok(_) => Err(Error::HostPath(format!(
                "{} is not a directory",
                path.display()
            ))),
            Err(e) => Err(Error::HostPath(format!("{}: {e}", path.display()))),
        }
    }
}

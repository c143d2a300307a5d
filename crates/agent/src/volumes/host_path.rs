//! `hostPath`: a directory of the node, where the operator lets pods have them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Volume;

use super::{Context, Error, Kind, Made};
use crate::blocking::blocking;
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
        let path = PathBuf::from(&source.path);
        let is_made = source.type_.as_deref() == Some("DirectoryOrCreate");
        let is_checked = source.type_.as_deref() == Some("Directory");
        // The host's disk may be any, and slow.
        let of = path.clone();
        let found = blocking(move || {
            if is_made {
                fs::create_dir_all(&of)?;
            }
            fs::metadata(&of)
        });
        let is_none = || {
            let why = format!("{} is not a directory", path.display());
            Err(Error::HostPath(why))
        };
        match found.await {
            Ok(m) if m.is_dir() => Ok(Made::new(path, false)),
            Ok(_) => is_none(),
            // One that is asked for in so many words is said to be none, as by the kubelet.
            Err(e) if is_checked && e.kind() == io::ErrorKind::NotFound => is_none(),
            Err(e) => Err(Error::HostPath(format!("{}: {e}", path.display()))),
        }
    }
}

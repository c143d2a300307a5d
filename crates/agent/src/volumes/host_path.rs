//! `hostPath`: a directory or a file of the node, where the operator lets pods have them.

use std::fs;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Volume;

use super::{Context, Error, Kind, Made, Written};
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
            None | Some("" | "Directory" | "DirectoryOrCreate" | "File" | "FileOrCreate") => None,
            Some(kind) => Some(format!(
                "type {kind} cannot be shown to a WebAssembly module, only directories and files can"
            )),
        }
    }

    fn written(&self, _: &Volume) -> Option<Written> {
        Some(Written::Elsewhere)
    }

    async fn set_up(&self, volume: &Volume, _: &Context<'_>) -> Result<Made, Error> {
        let source = volume.host_path.clone().unwrap_or_default();
        let path = PathBuf::from(&source.path);
        let kind = source.type_.unwrap_or_default();
        // The host's disk may be any, and slow.
        let (of, made) = (path.clone(), kind.clone());
        let found = blocking(move || {
            match made.as_str() {
                "DirectoryOrCreate" => fs::create_dir_all(&of)?,
                "FileOrCreate" => make_file(&of)?,
                _ => {}
            }
            fs::metadata(&of)
        });
        let is_none = |what| {
            Err(Error::HostPath(format!(
                "{} is not a {what}",
                path.display()
            )))
        };
        let found = found.await;
        // One that is asked for in so many words is said to be none, as by the kubelet.
        let is_missing = matches!(&found, Err(e) if e.kind() == io::ErrorKind::NotFound);
        match (kind.as_str(), found) {
            ("Directory", _) if is_missing => is_none("directory"),
            ("File", _) if is_missing => is_none("file"),
            (_, Err(e)) => Err(Error::HostPath(format!("{}: {e}", path.display()))),
            ("Directory" | "DirectoryOrCreate", Ok(m)) if !m.is_dir() => is_none("directory"),
            ("File" | "FileOrCreate", Ok(m)) if !m.is_file() => is_none("file"),
            (_, Ok(m)) if m.is_dir() || m.is_file() => Ok(Made::new(path, false)),
            (_, Ok(_)) => is_none("directory or a file"),
        }
    }
}

/// Makes an empty file where nothing is, in a directory that is there.
fn make_file(path: &Path) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o644);
    match options.open(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

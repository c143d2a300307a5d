//! What images were found to be.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use images::{Digest, Hasher};
use serde::{Deserialize, Serialize};

use super::Error;

/// What an image reference stood for when it was last pulled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Known {
    /// The manifest's digest, for images from a registry.
    pub(super) manifest: Option<String>,
    /// The index's digest, if one led to the manifest.
    #[serde(default)]
    pub(super) index: Option<String>,
    /// The digest of the module's or the archive's bytes.
    pub(super) content: String,
    pub(super) size: u64,
    /// Of a file: what tells whether it is still the same one.
    pub(super) stamp: Option<Stamp>,
    /// Of a tree: whether its archive is compressed with gzip.
    #[serde(default)]
    pub(super) gzip: bool,
}

impl Known {
    /// The content's digest; none if a file that somebody has changed says something else.
    pub(super) fn content(&self) -> Option<Digest> {
        self.content.parse().ok()
    }

    /// The digests of what led to the content.
    pub(super) fn manifests(&self) -> Vec<Digest> {
        let all = [&self.index, &self.manifest].into_iter().flatten();
        all.filter_map(|digest| digest.parse().ok()).collect()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stamp {
    inode: u64,
    length: u64,
    modified_s: i64,
    modified_ns: i64,
}

pub(super) fn stamp(path: &Path) -> io::Result<Option<Stamp>> {
    let m = fs::metadata(path)?;
    Ok(Some(Stamp {
        inode: m.ino(),
        length: m.len(),
        modified_s: m.mtime(),
        modified_ns: m.mtime_nsec(),
    }))
}

pub(super) fn read_file(path: &Path) -> Result<Known, Error> {
    let failed = |e: io::Error| Error::pull(format!("{}: {e}", path.display()));
    let before = fs::metadata(path).and_then(|m| {
        if m.is_file() {
            stamp(path)
        } else {
            Err(io::Error::other("it is not a regular file"))
        }
    });
    let before = before.map_err(failed)?;
    let mut file = fs::File::open(path).map_err(failed)?;
    let mut hasher = Hasher::default();
    let mut piece = vec![0; 128 << 10];
    let mut size = 0;
    loop {
        let n = io::Read::read(&mut file, &mut piece).map_err(failed)?;
        if n == 0 {
            break;
        }
        size += n as u64;
        hasher.update(&piece[..n]);
    }
    Ok(Known {
        manifest: None,
        index: None,
        content: hasher.finish().to_string(),
        size,
        stamp: before,
        gzip: false,
    })
}

//! Files that appear together or not at all, as the kubelet's atomic writer lays them out.
//!
//! The content lies in a directory of its own, `..data` is a symbolic link to it, and each file that users see is a link
//! through `..data`. Replacing that one link replaces all files at once. All links are relative and stay inside the
//! volume, since guests cannot follow any other.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, symlink};
use std::path::{Component, Path};

use k8s_openapi::api::core::v1::KeyToPath;

/// One file's bytes and mode.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct File {
    bytes: Vec<u8>,
    mode: u32,
}

impl File {
    /// A file with this mode, else the volume's `default`, else Kubernetes' own.
    pub(super) fn new(bytes: Vec<u8>, mode: Option<i32>, default: Option<i32>) -> Self {
        let mode = mode.or(default).unwrap_or(DEFAULT_MODE);
        let mode = u32::try_from(mode).unwrap_or(DEFAULT_MODE as u32) & 0o777;
        Self {
            bytes,
            // The agent itself has to read it: it is no root that may read everything.
            mode: mode | 0o400,
        }
    }
}

/// Nobody prints what may be a secret.
impl std::fmt::Debug for File {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes, {:o}", self.bytes.len(), self.mode)
    }
}

/// Files by their path below the volume.
pub(super) type Files = BTreeMap<String, File>;

/// The mode of files for which nothing is said.
const DEFAULT_MODE: i32 = 0o644;

/// What the end of a file may take that is no whole block.
const BLOCK: u64 = 4096;

/// Chooses from an object's data what becomes a file: all of it, or the `items`.
///
/// # Errors
/// The key of the first item that is not there, unless `optional`.
pub(super) fn project(
    data: &BTreeMap<String, Vec<u8>>,
    items: Option<&[KeyToPath]>,
    default_mode: Option<i32>,
    optional: bool,
) -> Result<Files, String> {
    let file = |bytes: &[u8], mode| File::new(bytes.to_vec(), mode, default_mode);
    let Some(items) = items.filter(|i| !i.is_empty()) else {
        return Ok(data
            .iter()
            .map(|(key, bytes)| (key.clone(), file(bytes, None)))
            .collect());
    };
    let mut files = Files::new();
    for item in items {
        match data.get(&item.key) {
            Some(bytes) => drop(files.insert(item.path.clone(), file(bytes, item.mode))),
            None if optional => {}
            None => return Err(item.key.clone()),
        }
    }
    Ok(files)
}

/// What files take at most in a file system, in bytes.
pub(super) fn size(files: &Files) -> u64 {
    let sizes = files.values().map(|file| file.bytes.len() as u64 + BLOCK);
    sizes.sum()
}

/// Writes `files` as the content of `dir`, replacing what was there.
///
/// # Errors
/// When the file system says no, a path would lead outside, or one file lies below another.
pub(super) fn write(dir: &Path, files: Files) -> io::Result<()> {
    let files = &checked(files)?;
    fs::create_dir_all(dir)?;
    if current(dir, files) {
        return Ok(());
    }
    let content = tempfile::Builder::new().prefix("..").tempdir_in(dir)?;
    fs::set_permissions(content.path(), fs::Permissions::from_mode(0o755))?;
    for (path, file) in files {
        let path = content.path().join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let mut out = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        out.write_all(&file.bytes)?;
        out.set_permissions(fs::Permissions::from_mode(file.mode))?;
    }
    let old = fs::read_link(dir.join("..data")).ok();
    let new = content.keep();
    let link = dir.join("..data_tmp");
    remove(&link)?;
    symlink(new.file_name().unwrap_or_default(), &link)?;
    fs::rename(&link, dir.join("..data"))?;
    link_names(dir, files)?;
    if let Some(old) = old {
        remove(&dir.join(old))?;
    }
    Ok(())
}

/// What lies in `dir` at a path at which it was written there.
///
/// # Errors
/// When the file system says no, or the path would lead outside.
pub(super) fn read(dir: &Path, path: &str) -> io::Result<Vec<u8>> {
    let path = clean(path).ok_or_else(|| invalid(format!("invalid path {path:?}")))?;
    fs::read(dir.join("..data").join(path))
}

/// The files by paths that can be compared: of two that are the same the last counts.
///
/// # Errors
/// When a path would lead outside.
pub(super) fn cleaned(files: Files) -> io::Result<Files> {
    let clean = |(path, file): (String, File)| match clean(&path) {
        Some(path) => Ok((path, file)),
        None => Err(invalid(format!("invalid path {path:?}"))),
    };
    files.into_iter().map(clean).collect()
}

fn checked(files: Files) -> io::Result<Files> {
    let files = cleaned(files)?;
    for path in files.keys() {
        let mut above = path.rmatch_indices('/').map(|(at, _)| &path[..at]);
        if let Some(file) = above.find(|above| files.contains_key(*above)) {
            return Err(invalid(format!(
                "invalid path {path:?}: {file:?} is a file"
            )));
        }
    }
    Ok(files)
}

fn invalid(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}

/// A path without what means nothing in it; `None` if it would lead outside, or into what is not for users.
fn clean(path: &str) -> Option<String> {
    let mut parts = Vec::new();
    for part in Path::new(path).components() {
        match part {
            Component::Normal(part) => parts.push(part.to_str()?),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    let first = parts.first()?;
    (!first.starts_with("..")).then(|| parts.join("/"))
}

/// Makes the links that users see, and removes those of files that are no more.
fn link_names(dir: &Path, files: &Files) -> io::Result<()> {
    let first = |path: &str| path.split('/').next().unwrap_or_default().to_owned();
    let wanted: std::collections::BTreeSet<String> = files.keys().map(|p| first(p)).collect();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        if !name.starts_with("..") && !wanted.contains(name.as_ref()) {
            remove(&dir.join(name.as_ref()))?;
        }
    }
    for name in wanted {
        let link = dir.join(&name);
        if link.symlink_metadata().is_err() {
            symlink(Path::new("..data").join(&name), &link)?;
        }
    }
    Ok(())
}

/// Whether `dir` holds exactly these files already.
fn current(dir: &Path, files: &Files) -> bool {
    let data = dir.join("..data");
    let mut found = 0;
    if !data.is_dir() || count(&data, &mut found).is_err() || found != files.len() {
        return false;
    }
    files.iter().all(|(path, file)| {
        let path = data.join(path);
        let mode = fs::metadata(&path).map(|m| m.permissions().mode() & 0o777);
        mode.is_ok_and(|m| m == file.mode) && fs::read(&path).is_ok_and(|bytes| bytes == file.bytes)
    })
}

fn count(dir: &Path, found: &mut usize) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            count(&entry.path(), found)?;
        } else {
            *found += 1;
        }
    }
    Ok(())
}

fn remove(path: &Path) -> io::Result<()> {
    match path.symlink_metadata() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
        Ok(m) if m.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
    }
}

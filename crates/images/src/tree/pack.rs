//! A directory becomes an archive.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tar::{Builder, EntryType, Header};

use super::link_stays_inside;
use crate::Error;
use crate::error::At;

/// Writes the directory `dir` to `out` as an uncompressed tar archive, the same for the same files whenever
/// and wherever it is made. Symbolic links are kept if they stay inside the tree; sockets, pipes and devices
/// are refused.
pub fn pack(dir: &Path, out: impl Write) -> Result<(), Error> {
    let mut builder = Builder::new(out);
    let mut pending = children(dir)?;
    while let Some(path) = pending.pop() {
        let name = path
            .strip_prefix(dir)
            .expect("children lie below their directory")
            .to_owned();
        let metadata = fs::symlink_metadata(&path).at(&path)?;
        let kind = metadata.file_type();
        if kind.is_dir() {
            append(
                &mut builder,
                &path,
                &name,
                header(EntryType::Directory, 0o755, 0),
                std::io::empty(),
            )?;
            pending.extend(children(&path)?);
        } else if kind.is_symlink() {
            let target = fs::read_link(&path).at(&path)?;
            let depth = name.components().count() - 1;
            if !target
                .to_str()
                .is_some_and(|target| link_stays_inside(depth, target))
            {
                return Err(Error::Archive(format!(
                    "{} links to {}, outside the tree or by a way that cannot be judged",
                    path.display(),
                    target.display()
                )));
            }
            let mut header = header(EntryType::Symlink, 0o777, 0);
            builder.append_link(&mut header, &name, &target).at(&path)?;
        } else if kind.is_file() {
            let file = File::open(&path).at(&path)?;
            let executable = metadata.permissions().mode() & 0o100 != 0;
            let mode = if executable { 0o755 } else { 0o644 };
            append(
                &mut builder,
                &path,
                &name,
                header(EntryType::Regular, mode, metadata.len()),
                file,
            )?;
        } else {
            return Err(Error::Archive(format!(
                "{} is neither a file, a directory nor a symbolic link",
                path.display()
            )));
        }
    }
    let mut out = builder.into_inner().at(dir)?;
    out.flush().at(dir)
}

/// What lies directly in `dir`, last name first: popped from the end, the whole walk is in order.
fn children(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut children: Vec<PathBuf> = fs::read_dir(dir)
        .at(dir)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()
        .at(dir)?;
    children.sort_by(|a, b| b.cmp(a));
    Ok(children)
}

fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

fn append(
    builder: &mut Builder<impl Write>,
    path: &Path,
    name: &Path,
    mut header: Header,
    content: impl Read,
) -> Result<(), Error> {
    let size = header.size().at(path)?;
    // A file that shrinks while it is read would make every later header land in the wrong place.
    let mut counted = Counted {
        inner: content.take(size),
        count: 0,
    };
    builder
        .append_data(&mut header, name, &mut counted)
        .at(path)?;
    if counted.count != size {
        return Err(Error::Archive(format!(
            "{} changed while it was read",
            path.display()
        )));
    }
    Ok(())
}

struct Counted<R> {
    inner: R,
    count: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.count += length as u64;
        Ok(length)
    }
}

//! Ways out of what was mounted: there must be none.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::directories::symlink;
use crate::{Check, Verdict, ensure};

pub const CHECKS: &[Check] = &[
    ("`..` leads up to the mount and no further", upwards),
    ("a symbolic link upwards is not followed out", link_upwards),
    ("no symbolic link to an absolute path is made", absolute_link),
];

/// More levels than there are.
const UP: &str = "../../../../../../../../../../../../../../../..";

/// A path that leads out of the mount cannot be looked at, opened, made or removed.
pub fn is_refused(path: &Path) -> Verdict {
    let said = [
        fs::metadata(path).err(),
        File::open(path).err(),
        File::create(path).err(),
        fs::read_dir(path).err(),
        fs::create_dir(path.join("made")).err(),
    ];
    for (number, error) in said.into_iter().enumerate() {
        let kind = error.map(|error| error.kind());
        ensure!(kind == Some(ErrorKind::PermissionDenied), "try {number}: {kind:?}");
    }
    Ok(())
}

fn upwards(dir: &Path) -> Verdict {
    fs::create_dir(dir.join("sub"))?;
    fs::write(dir.join("file"), "text")?;
    ensure!(fs::read(dir.join("sub/../file"))? == b"text", "within, it leads elsewhere");
    is_refused(&dir.join(UP).join("etc"))?;
    is_refused(&dir.join(UP))
}

fn link_upwards(dir: &Path) -> Verdict {
    let link: PathBuf = dir.join("up");
    symlink(UP, &link)?;
    is_refused(&link)?;
    is_refused(&link.join("etc"))
}

fn absolute_link(dir: &Path) -> Verdict {
    let made = symlink("/etc/passwd", &dir.join("absolute")).err().map(|error| error.kind());
    ensure!(made == Some(ErrorKind::PermissionDenied), "{made:?}");
    Ok(())
}

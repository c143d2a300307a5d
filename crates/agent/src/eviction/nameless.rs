//! Files that are open and have no name any more: who walks a tree does not find them, and they take what they took.
//!
//! Guests run in this process, which has their files open, and the kernel tells in which directory each was. It does not
//! tell paths of 4096 bytes and more: such a file is nobody's. Of the others no file system is asked anything: guests may
//! have files of one open that does not answer.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, StatxFlags, openat, readlinkat, statx,
};
use rustix::io::Errno;

use super::Amount;

/// Ends what the kernel tells of a file without a name; one that has a name may be called so, too.
const DELETED: &[u8] = b" (deleted)";

/// What such files take, by where they were.
#[derive(Debug, Default)]
pub(crate) struct Nameless(Vec<(PathBuf, u64)>);

impl Nameless {
    /// Those that this process has open and that were below one of these directories.
    ///
    /// # Errors
    /// When the system says no, and `CANCELED` once it is not to go on.
    pub(crate) fn of_process(
        below: &[PathBuf],
        goes_on: &dyn Fn() -> bool,
    ) -> rustix::io::Result<Self> {
        // The kernel tells of no link. What is not there has no files.
        let below = below.iter().filter_map(|dir| dir.canonicalize().ok());
        let below: Vec<PathBuf> = below.collect();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = openat(CWD, c"/proc/self/fd", flags, Mode::empty())?;
        let (mut files, mut seen) = (Vec::new(), BTreeSet::new());
        for entry in Dir::read_from(&opened)? {
            if !goes_on() {
                return Err(Errno::CANCELED);
            }
            let entry = entry?;
            let number = entry.file_name();
            // One that was closed meanwhile takes nothing.
            let Ok(path) = readlinkat(&opened, number, Vec::new()) else {
                continue;
            };
            if !path.to_bytes().ends_with(DELETED) {
                continue;
            }
            let path = PathBuf::from(OsString::from_vec(path.into_bytes()));
            if !below.iter().any(|dir| path.starts_with(dir)) {
                continue;
            }
            let what = StatxFlags::TYPE | StatxFlags::NLINK | StatxFlags::INO | StatxFlags::BLOCKS;
            let Ok(stat) = statx(&opened, number, AtFlags::STATX_DONT_SYNC, what) else {
                continue;
            };
            let is_file =
                FileType::from_raw_mode(u32::from(stat.stx_mode)) == FileType::RegularFile;
            let id = (stat.stx_dev_major, stat.stx_dev_minor, stat.stx_ino);
            if is_file && stat.stx_nlink == 0 && seen.insert(id) {
                files.push((path, stat.stx_blocks.saturating_mul(512)));
            }
        }
        Ok(Self(files))
    }

    /// What those take that were somewhere below this directory.
    pub(crate) fn below(&self, dir: &Path) -> Amount {
        // The kernel tells of no link.
        let Ok(dir) = dir.canonicalize() else {
            return Amount::default();
        };
        let below = self.0.iter().filter(|(path, _)| path.starts_with(&dir));
        below.fold(Amount::default(), |sum, (_, bytes)| {
            let one = Amount {
                bytes: *bytes,
                inodes: 1,
            };
            sum.plus(one)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_is_removed_and_open_counts_where_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let (tree, other) = (dir.path().join("tree"), dir.path().join("tree2"));
        fs::create_dir_all(tree.join("a")).unwrap();
        fs::create_dir(&other).unwrap();
        let path = tree.join("a/file");
        fs::write(&path, vec![1; 100_000]).unwrap();
        let handles = [(); 2].map(|()| fs::File::open(&path).unwrap());
        let within = [dir.path().to_owned()];
        let found = |dir: &Path| {
            let all = Nameless::of_process(&within, &|| true).unwrap();
            all.below(dir)
        };
        assert_eq!(found(&tree), Amount::default(), "it has its name");
        fs::remove_file(&path).unwrap();
        let amount = found(&tree);
        assert!(amount.bytes >= 100_000, "{amount:?}");
        assert_eq!((amount.inodes, found(&tree.join("a"))), (1, amount));
        assert_eq!(found(&other), Amount::default());
        std::os::unix::fs::symlink(&tree, dir.path().join("link")).unwrap();
        assert_eq!(found(&dir.path().join("link")), amount);
        let elsewhere = Nameless::of_process(&[other, "/none".into()], &|| true).unwrap();
        assert!(elsewhere.0.is_empty(), "{elsewhere:?}");
        // Some have such a name.
        let named = tree.join("file (deleted)");
        fs::write(&named, vec![1; 100_000]).unwrap();
        let has_name = fs::File::open(&named).unwrap();
        assert_eq!(found(&tree), amount);
        drop((handles, has_name));
        assert_eq!(found(&tree), Amount::default());
        let stopped = Nameless::of_process(&within, &|| false).map(drop);
        assert_eq!(stopped, Err(Errno::CANCELED));
    }
}

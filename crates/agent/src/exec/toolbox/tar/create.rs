//! Files become an archive.

use std::collections::btree_set;
use std::fs::File;
use std::io::{self, Read, Write};

use rustix::fs::FileType;
use tar::{Builder, EntryType, Header};
use tokio_util::sync::CancellationToken;

use super::super::super::view::{Info, View};
use super::super::bridge::waited_for;
use super::super::ls::join;
use super::super::{shown, words};
use super::{Job, Report, beneath};

/// Names that were listed and are not archived yet: a guest may have made any number.
const MOST_PENDING: usize = 200_000;

/// A directory on the way, and what is left of it.
struct Level {
    path: String,
    member: String,
    names: btree_set::IntoIter<String>,
}

/// Archives a job's operands. Names are shown on `out`, or on the standard error where that has the archive.
///
/// Where none of the operands is there, nothing at all is written: `kubectl cp` goes at an archive's end, without
/// waiting for the exit code, and takes one without members for all that there was to copy.
///
/// # Errors
/// When the archive cannot be written.
pub(super) fn create<'a>(
    job: &Job,
    view: &'a View,
    archive: &'a mut dyn Write,
    out: Option<&'a mut dyn Write>,
    left: &'a CancellationToken,
    report: &mut Report<'_>,
) -> io::Result<()> {
    let missing = job.operands.iter().map_while(|(dir, name)| {
        let path = beneath(dir, name);
        let error = view.info(&path, false).err()?;
        Some((path, error))
    });
    let missing: Vec<_> = missing.collect();
    if missing.len() == job.operands.len() {
        for (path, error) in &missing {
            cannot_stat(path, error, report);
        }
        return Ok(());
    }
    let mut creation = Creation {
        builder: Builder::new(archive),
        view,
        verbose: job.verbose,
        out,
        left,
    };
    for (dir, name) in &job.operands {
        let path = beneath(dir, name);
        let (prefix, member) = member(name);
        if !prefix.is_empty() {
            report.cut(prefix);
        }
        creation.add_tree(path, member, report)?;
    }
    creation.builder.finish()
}

fn cannot_stat(path: &str, error: &io::Error, report: &mut Report<'_>) {
    report.fail(2, &format!("{path}: Cannot stat: {}", words(error)));
}

/// What a name loses, and what is left of it: nothing that leads out of where it is unpacked.
fn member(name: &str) -> (&str, String) {
    let mut from = 0;
    let mut at = 0;
    for part in name.split_inclusive('/') {
        at += part.len();
        if part.trim_end_matches('/') == ".." {
            from = at;
        }
    }
    let rest = name[from..].trim_start_matches('/');
    let prefix = &name[..name.len() - rest.len()];
    match rest.trim_end_matches('/') {
        "" => (prefix, ".".to_owned()),
        rest => (prefix, rest.to_owned()),
    }
}

struct Creation<'a> {
    builder: Builder<&'a mut dyn Write>,
    view: &'a View,
    verbose: bool,
    out: Option<&'a mut dyn Write>,
    /// Cancelled when nobody waits for the archive any more.
    left: &'a CancellationToken,
}

impl Creation<'_> {
    /// Adds a path with all that is in it, level by level: it may be deeper than any stack.
    fn add_tree(
        &mut self,
        path: String,
        member: String,
        report: &mut Report<'_>,
    ) -> io::Result<()> {
        let (mut levels, mut pending) = (Vec::new(), 0);
        let mut next = Some((path, member));
        loop {
            waited_for(self.left)?;
            if let Some((path, member)) = next.take()
                && let Some(names) = self.add(&path, &member, report)?
            {
                pending += names.len();
                if pending > MOST_PENDING {
                    report.fail(2, &format!("{path}: there are too many files"));
                    return Ok(());
                }
                levels.push(Level {
                    path,
                    member,
                    names,
                });
            }
            let Some(level) = levels.last_mut() else {
                return Ok(());
            };
            match level.names.next() {
                Some(name) => {
                    pending -= 1;
                    next = Some((join(&level.path, &name), join(&level.member, &name)));
                }
                None => drop(levels.pop()),
            }
        }
    }

    /// Adds what a path is itself, and answers what is in it.
    fn add(
        &mut self,
        path: &str,
        member: &str,
        report: &mut Report<'_>,
    ) -> io::Result<Option<btree_set::IntoIter<String>>> {
        let info = match self.view.info(path, false) {
            Ok(info) => info,
            Err(error) => {
                cannot_stat(path, &error, report);
                return Ok(None);
            }
        };
        match info.kind {
            FileType::Directory => {
                self.show(&format!("{member}/"), report)?;
                let mut header = header(&info, EntryType::Directory);
                self.builder
                    .append_data(&mut header, format!("{member}/"), io::empty())?;
                match self.view.list(path) {
                    Ok(names) => return Ok(Some(names.into_iter())),
                    Err(error) => {
                        report.fail(2, &format!("{path}: Cannot open: {}", words(&error)))
                    }
                }
            }
            FileType::Symlink => match self.view.link(path) {
                Ok(target) => {
                    self.show(member, report)?;
                    let mut header = header(&info, EntryType::Symlink);
                    self.builder.append_link(&mut header, member, target)?;
                }
                Err(error) => {
                    report.fail(2, &format!("{path}: Cannot readlink: {}", words(&error)))
                }
            },
            FileType::RegularFile => self.add_file(path, member, &info, report)?,
            _ => report.fail(
                2,
                &format!("{path}: no file, directory or link; not archived"),
            ),
        }
        Ok(None)
    }

    fn add_file(
        &mut self,
        path: &str,
        member: &str,
        info: &Info,
        report: &mut Report<'_>,
    ) -> io::Result<()> {
        let opened = self
            .view
            .open(path)
            .and_then(|file| Ok((file.metadata()?.len(), file)));
        let (size, file) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                report.fail(2, &format!("{path}: Cannot open: {}", words(&error)));
                return Ok(());
            }
        };
        self.show(member, report)?;
        let mut header = header(info, EntryType::Regular);
        header.set_size(size);
        let mut content = Exactly {
            file,
            left: size,
            missing: None,
        };
        self.builder
            .append_data(&mut header, member, &mut content)?;
        if let Some((bytes, why)) = content.missing {
            let code = if why.is_empty() { 1 } else { 2 };
            report.fail(
                code,
                &format!("{path}: File shrank by {bytes} bytes; padding with zeros{why}"),
            );
        }
        Ok(())
    }

    fn show(&mut self, member: &str, report: &mut Report<'_>) -> io::Result<()> {
        let member = shown(member);
        match (self.verbose, &mut self.out) {
            (false, _) => Ok(()),
            (true, Some(out)) => writeln!(out, "{member}"),
            (true, None) => writeln!(report.errors, "{member}"),
        }
    }
}

fn header(info: &Info, kind: EntryType) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(info.mode);
    header.set_mtime(u64::try_from(info.modified).unwrap_or(0));
    // Nobody owns a file: guests have no users.
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(0);
    header
}

/// As many bytes of a file as were promised, whatever becomes of it meanwhile.
struct Exactly {
    file: File,
    left: u64,
    /// What was not there, and why.
    missing: Option<(u64, String)>,
}

impl Read for Exactly {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left)
            .unwrap_or(usize::MAX)
            .min(into.len());
        let into = &mut into[..most];
        if most == 0 {
            return Ok(0);
        }
        if self.missing.is_none() {
            let why = match self.file.read(into) {
                Ok(read) if read > 0 => {
                    self.left -= read as u64;
                    return Ok(read);
                }
                Ok(_) => String::new(),
                Err(error) => format!(" ({})", words(&error)),
            };
            self.missing = Some((self.left, why));
        }
        into.fill(0);
        self.left -= most as u64;
        Ok(most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_nowhere_else() {
        for (name, prefix, rest) in [
            ("a/b", "", "a/b"),
            ("a/b/", "", "a/b"),
            ("/a/b", "/", "a/b"),
            ("//a", "//", "a"),
            ("../a", "../", "a"),
            ("a/../../b/c", "a/../../", "b/c"),
            ("/", "/", "."),
            ("..", "..", "."),
            (".", "", "."),
            ("./a", "", "./a"),
            ("..a/b", "", "..a/b"),
        ] {
            assert_eq!(member(name), (prefix, rest.to_owned()), "{name}");
        }
    }

    #[test]
    fn what_a_file_loses_is_zeros() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"abc").unwrap();
        io::Seek::rewind(&mut file).unwrap();
        let mut content = Exactly {
            file,
            left: 5,
            missing: None,
        };
        let mut read = Vec::new();
        content.read_to_end(&mut read).unwrap();
        assert_eq!(
            (read.as_slice(), content.missing),
            (&b"abc\0\0"[..], Some((2, String::new())))
        );
    }
}

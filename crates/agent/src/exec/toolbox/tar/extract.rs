//! An archive becomes files.
//!
//! Nothing is written through a link, whoever made it: what lies on the way to a member is a directory, or the member is
//! refused, and what has the member's name is removed first. So an archive changes nothing but what lies beneath the
//! directory that it is unpacked in, and nothing outside of the mounts there.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd as _;

use images::tree::link_stays_inside;
use runtime::meter::Charge;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT};
use rustix::io::Errno;
use tar::EntryType;

use super::super::super::view::{Spot, View};
use super::super::paying::Purse;
use super::super::{shown, words};
use super::members::{Member, Next, Source, each};
use super::{Job, Report};

pub(super) struct Extraction<'a> {
    job: &'a Job,
    view: &'a View,
    out: &'a mut dyn Write,
    purse: &'a Purse,
}

/// Why a member is left out.
struct Refused(String);

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        Self(format!("Cannot open: {}", words(&error)))
    }
}

impl From<Errno> for Refused {
    fn from(error: Errno) -> Self {
        io::Error::from(error).into()
    }
}

impl<'a> Extraction<'a> {
    pub(super) fn new(
        job: &'a Job,
        view: &'a View,
        out: &'a mut dyn Write,
        purse: &'a Purse,
    ) -> Self {
        Self {
            job,
            view,
            out,
            purse,
        }
    }

    /// Unpacks what is asked for. Members that are refused are reported, and the others unpacked.
    ///
    /// # Errors
    /// When names cannot be shown.
    pub(super) fn run(&mut self, archive: Source<'_>, report: &mut Report<'_>) -> io::Result<()> {
        let dir = &self.job.dir;
        match self.view.info(dir, true) {
            Ok(info) if info.is_dir() => {}
            found => {
                let why = found.map_or_else(|e| words(&e), |_| "Not a directory".to_owned());
                report.fail(2, &format!("{dir}: Cannot open: {why}"));
                return Ok(());
            }
        }
        each(self.job, archive, report, &mut |member, content, report| {
            self.member(member, content, report)
        })
    }

    fn member(
        &mut self,
        member: &Member,
        content: &mut dyn Read,
        report: &mut Report<'_>,
    ) -> io::Result<Next> {
        let name = &member.name;
        let Some(path) = Member::path(&member.name) else {
            report.fail(2, &format!("{name}: Member name contains '..'"));
            return Ok(Next::GoOn);
        };
        if member.name.starts_with('/') {
            report.cut("/");
        }
        if self.job.verbose {
            writeln!(self.out, "{}", shown(name))?;
        }
        match self.place(member, &path, content) {
            Ok(next) => return Ok(next),
            Err(Refused(why)) => report.fail(2, &format!("{name}: {why}")),
        }
        Ok(Next::GoOn)
    }

    fn place(&self, member: &Member, path: &str, content: &mut dyn Read) -> Result<Next, Refused> {
        // Its own name, and those of directories on the way there.
        let paid = self.purse.pay_names(path.matches('/').count() + 1)?;
        match member.kind {
            // What it is unpacked in, as `tar -C DIR .` has it.
            EntryType::Directory if path.is_empty() => {}
            _ if path.is_empty() => return Err(Refused("it has no name".to_owned())),
            EntryType::Directory => self.directory(member, path)?,
            EntryType::Regular | EntryType::Continuous => {
                return self.file(member, path, content, paid);
            }
            EntryType::Symlink => self.symlink(member, path)?,
            EntryType::Link => self.hard_link(member, path)?,
            EntryType::Char | EntryType::Block | EntryType::Fifo => {
                return Err(Refused("Cannot mknod: Operation not permitted".to_owned()));
            }
            EntryType::GNUSparse => {
                return Err(Refused("sparse files are not supported".to_owned()));
            }
            other => {
                let kind = char::from(other.as_byte());
                return Err(Refused(format!("Unknown file type '{kind}'")));
            }
        }
        Ok(Next::GoOn)
    }

    fn directory(&self, member: &Member, path: &str) -> Result<(), Refused> {
        let spot = match self.view.unlinked(&self.job.dir, path, true) {
            // A mount.
            Err(error) if error.raw_os_error() == Some(Errno::BUSY.raw_os_error()) => return Ok(()),
            spot => spot?,
        };
        let mode = Mode::from_raw_mode(0o700 | (member.mode & 0o755));
        match rustix::fs::mkdirat(&spot.parent, &spot.name, mode) {
            Err(Errno::EXIST) if kind(&spot)? == FileType::Directory => Ok(()),
            made => Ok(made?),
        }
    }

    fn file(
        &self,
        member: &Member,
        path: &str,
        content: &mut dyn Read,
        names: Charge,
    ) -> Result<Next, Refused> {
        let spot = self.view.unlinked(&self.job.dir, path, true)?;
        make_room(&spot)?;
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o600 | (member.mode & 0o755));
        let mut file = File::from(rustix::fs::openat(&spot.parent, &spot.name, flags, mode)?);
        // Who holds what was paid must not wait for more: only what is on the disk makes room.
        drop(names);
        let mut chunk = vec![0; 64 << 10];
        let mut left = member.size;
        while left > 0 {
            let read = match content.read(&mut chunk) {
                Ok(read) if read > 0 => read,
                // What cannot be read any more is as good as ended.
                _ => return Ok(Next::Torn),
            };
            let _paid = self.purse.pay(read as u64)?;
            let written = file.write_all(&chunk[..read]);
            written.map_err(|error| Refused(format!("Cannot write: {}", words(&error))))?;
            left = left.saturating_sub(read as u64);
        }
        if !self.job.touch {
            let of = Timestamps {
                last_access: Timespec {
                    tv_sec: 0,
                    tv_nsec: UTIME_OMIT,
                },
                last_modification: Timespec {
                    tv_sec: i64::try_from(member.modified).unwrap_or(0),
                    tv_nsec: 0,
                },
            };
            rustix::fs::futimens(&file, &of)?;
        }
        Ok(Next::GoOn)
    }

    fn symlink(&self, member: &Member, path: &str) -> Result<(), Refused> {
        let spot = self.view.unlinked(&self.job.dir, path, true)?;
        if !link_stays_inside(spot.depth, &member.link) {
            let target = &member.link;
            return Err(Refused(format!(
                "a symbolic link that may lead outside: {target}"
            )));
        }
        make_room(&spot)?;
        Ok(rustix::fs::symlinkat(
            &member.link,
            &spot.parent,
            &spot.name,
        )?)
    }

    /// A second name of a file that is there, in the same mount: another one may allow less.
    fn hard_link(&self, member: &Member, path: &str) -> Result<(), Refused> {
        let failed = |why: &str| {
            let target = &member.link;
            Refused(format!("Cannot hard link to '{target}': {why}"))
        };
        let of = Member::path(&member.link).filter(|of| !of.is_empty() && of != path);
        let of = of.ok_or_else(|| failed("Operation not permitted"))?;
        let source = self.view.unlinked(&self.job.dir, &of, false);
        let source = source.map_err(|error| failed(&words(&error)))?;
        let spot = self.view.unlinked(&self.job.dir, path, true)?;
        let is_file = kind(&source).is_ok_and(|kind| kind == FileType::RegularFile);
        if !is_file || source.mount != spot.mount {
            return Err(failed("Operation not permitted"));
        }
        make_room(&spot)?;
        let (from, to) = (source.parent.as_fd(), spot.parent.as_fd());
        let linked = rustix::fs::linkat(from, &source.name, to, &spot.name, AtFlags::empty());
        linked.map_err(|error| failed(&words(&error.into())))
    }
}

/// What is there, without following it.
fn kind(spot: &Spot) -> rustix::io::Result<FileType> {
    let stat = rustix::fs::statat(&spot.parent, &spot.name, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(FileType::from_raw_mode(stat.st_mode))
}

/// Removes what has the name, unless that is a directory.
fn make_room(spot: &Spot) -> rustix::io::Result<()> {
    match rustix::fs::unlinkat(&spot.parent, &spot.name, AtFlags::empty()) {
        Err(Errno::NOENT) => Ok(()),
        removed => removed,
    }
}

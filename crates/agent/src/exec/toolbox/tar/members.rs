//! An archive's members, one after the other.

use std::borrow::Cow;
use std::io::{self, Read, Seek, SeekFrom, Write};

use images::tree::Extensions;
use tar::{Archive, EntryType};

use super::super::super::view::Info;
use super::super::bridge::Held;
use super::super::{ls, shown};
use super::{Job, Report};

/// The longest name, in bytes.
const LONGEST: usize = 4_096;

/// Where an archive comes from.
pub(super) enum Source<'a> {
    Stream(&'a mut dyn Read),
    /// What is not wanted of it is not read.
    File(Held),
}

impl Read for Source<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Stream(stream) => stream.read(into),
            Self::File(file) => file.read(into),
        }
    }
}

impl Seek for Source<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match self {
            Self::Stream(_) => Err(io::ErrorKind::NotSeekable.into()),
            Self::File(file) => file.seek(to),
        }
    }
}

/// A member, without its content.
pub(super) struct Member {
    /// As the archive has it, if that is a name.
    pub(super) name: String,
    pub(super) kind: EntryType,
    /// Where a link leads.
    pub(super) link: String,
    pub(super) mode: u32,
    pub(super) modified: u64,
    pub(super) size: u64,
    /// Whether its name, and where it leads, are what they are here.
    fits: bool,
}

impl Member {
    /// The name's parts, without a leading `/` and without `.`; none where it leads upwards.
    pub(super) fn path(name: &str) -> Option<String> {
        let mut parts = Vec::new();
        for part in name.split('/') {
            match part {
                "" | "." => {}
                ".." => return None,
                part => parts.push(part),
            }
        }
        Some(parts.join("/"))
    }

    /// Whether the operands' [paths](Self::path), if there are any, ask for it.
    fn is_wanted(&self, operands: &[Option<String>], found: &mut [bool]) -> bool {
        let mut wanted = operands.is_empty();
        let path = Self::path(&self.name);
        for (operand, found) in operands.iter().zip(found) {
            let is_it = match (&path, operand) {
                // What all of it is in.
                (_, Some(operand)) if operand.is_empty() => true,
                (Some(path), Some(operand)) => {
                    let rest = path.strip_prefix(operand.as_str());
                    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
                }
                _ => false,
            };
            if is_it {
                (wanted, *found) = (true, true);
            }
        }
        wanted
    }
}

/// What becomes of the rest of an archive.
pub(super) enum Next {
    GoOn,
    /// The content ended before its end.
    Torn,
}

/// Shows each member of an archive that the operands ask for to `visit`.
///
/// # Errors
/// Those of `visit`. A damaged archive is reported.
pub(super) fn each(
    job: &Job,
    source: Source<'_>,
    report: &mut Report<'_>,
    visit: &mut dyn FnMut(&Member, &mut dyn Read, &mut Report<'_>) -> io::Result<Next>,
) -> io::Result<()> {
    let seeks = matches!(source, Source::File(_));
    let mut archive = Archive::new(source);
    let operands = job.operands.iter().map(|(_, name)| Member::path(name));
    let operands: Vec<Option<String>> = operands.collect();
    let mut found = vec![false; operands.len()];
    let mut extensions = Extensions::default();
    let entries = match seeks {
        true => archive.entries_with_seek(),
        false => archive.entries(),
    };
    let entries = match entries {
        Ok(entries) => entries,
        Err(error) => {
            report.fail(2, &damaged(&error));
            return Ok(());
        }
    };
    // Raw, since the iterator would read whatever describes a member into memory, however long it is.
    for entry in entries.raw(true) {
        let member = entry
            .map_err(|error| damaged(&error))
            .and_then(|mut entry| {
                if extensions
                    .take(&mut entry)
                    .map_err(|error| error.to_string())?
                {
                    return Ok(None);
                }
                let member = member(&entry, std::mem::take(&mut extensions))?;
                Ok(Some((member, entry)))
            });
        let (member, mut content) = match member {
            Ok(Some(member)) => member,
            Ok(None) => continue,
            Err(why) => {
                report.fail(2, &why);
                return Ok(());
            }
        };
        if !member.is_wanted(&operands, &mut found) {
            continue;
        }
        if !member.fits {
            let why = "its name, or where it leads, is too long, or no UTF-8";
            report.fail(2, &format!("{}: {why}", member.name));
            continue;
        }
        if let Next::Torn = visit(&member, &mut content, report)? {
            report.fail(2, "Unexpected EOF in archive");
            return Ok(());
        }
    }
    for ((_, operand), _) in job.operands.iter().zip(found).filter(|(_, found)| !found) {
        report.fail(2, &format!("{operand}: Not found in archive"));
    }
    Ok(())
}

fn damaged(error: &io::Error) -> String {
    format!("This does not look like a tar archive: {error}")
}

fn member(entry: &tar::Entry<'_, impl Read>, described: Extensions) -> Result<Member, String> {
    let name = described
        .path
        .map_or_else(|| entry.path_bytes(), Cow::Owned);
    let link = described.link.map(Cow::Owned);
    let link = link.or_else(|| entry.link_name_bytes()).unwrap_or_default();
    let (name, name_fits) = text(&name);
    let (link, link_fits) = text(&link);
    // Where the next member begins is known by the header's only.
    if described.size.is_some_and(|size| size != entry.size()) {
        return Err(format!("{name}: its size is not in its header"));
    }
    let header = entry.header();
    let kind = match header.entry_type() {
        // As archives had it before there were directories in them.
        EntryType::Regular if name.ends_with('/') => EntryType::Directory,
        kind => kind,
    };
    Ok(Member {
        name,
        kind,
        link,
        mode: header.mode().unwrap_or(0o644),
        modified: header.mtime().unwrap_or(0),
        size: entry.size(),
        fits: name_fits && link_fits,
    })
}

/// A path, and whether it can be used: else as much of it as can be shown.
fn text(bytes: &[u8]) -> (String, bool) {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.len() <= LONGEST && !text.contains('\0') => (text.to_owned(), true),
        _ => {
            let shown = &bytes[..bytes.len().min(LONGEST)];
            (String::from_utf8_lossy(shown).into_owned(), false)
        }
    }
}

/// Shows the names of an archive's members.
///
/// # Errors
/// When they cannot be written.
pub(super) fn list(
    job: &Job,
    archive: Source<'_>,
    out: &mut dyn Write,
    report: &mut Report<'_>,
) -> io::Result<()> {
    each(job, archive, report, &mut |member, _, _| {
        match job.verbose {
            true => writeln!(out, "{}", line(member))?,
            false => writeln!(out, "{}", shown(&member.name))?,
        }
        Ok(Next::GoOn)
    })
}

fn line(member: &Member) -> String {
    use rustix::fs::FileType;
    let kind = match member.kind {
        EntryType::Directory => FileType::Directory,
        EntryType::Symlink => FileType::Symlink,
        EntryType::Fifo => FileType::Fifo,
        EntryType::Char => FileType::CharacterDevice,
        EntryType::Block => FileType::BlockDevice,
        _ => FileType::RegularFile,
    };
    let info = Info {
        kind,
        mode: member.mode,
        size: member.size,
        blocks: 0,
        links: 1,
        modified: i64::try_from(member.modified).unwrap_or(i64::MAX),
        writable: false,
    };
    let link = match member.kind {
        EntryType::Symlink => format!(" -> {}", shown(&member.link)),
        EntryType::Link => format!(" link to {}", shown(&member.link)),
        _ => String::new(),
    };
    let (mode, time, name) = (ls::mode(&info), ls::time(&info), shown(&member.name));
    format!("{mode} -/- {:>9} {time} {name}{link}", member.size)
}

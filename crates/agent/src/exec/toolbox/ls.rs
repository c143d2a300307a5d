//! `ls`: what is in directories.

use std::io;

use jiff::Timestamp;
use rustix::fs::FileType;

use super::super::view::{Info, View};
use super::options::{Options, Spec};
use super::{Answer, Call, Stop, failed, shown, words};

const SPEC: Spec = Spec {
    flags: "1AadFhlRrSt",
    values: "",
    long: &[
        ("all", 'a'),
        ("almost-all", 'A'),
        ("classify", 'F'),
        ("directory", 'd'),
        ("human-readable", 'h'),
        ("recursive", 'R'),
        ("reverse", 'r'),
    ],
    leading: false,
};

/// Directories that `-R` has seen and not shown yet: a guest may have made any number.
const MOST_PENDING: usize = 100_000;

/// Bytes of their paths.
const MOST_PATHS: usize = 8 << 20;

/// Files that are looked at in one step.
const STEP: usize = 1_000;

/// A line.
struct Row {
    name: String,
    info: Option<Info>,
}

/// How much is shown, and in which order.
struct Style {
    all: bool,
    almost_all: bool,
    classify: bool,
    directory: bool,
    human: bool,
    long: bool,
    recursive: bool,
    reverse: bool,
    /// `S` or `t`; else by name.
    order: Option<char>,
    /// Whether a terminal might take names for orders.
    terminal: bool,
}

impl Style {
    fn of(options: &Options, terminal: bool) -> Self {
        Self {
            all: options.last_of("aA") == Some('a'),
            almost_all: options.has('A') || options.has('a'),
            classify: options.has('F'),
            directory: options.has('d'),
            human: options.has('h'),
            long: options.last_of("l1") == Some('l'),
            recursive: options.has('R'),
            reverse: options.has('r'),
            order: options.last_of("St"),
            terminal,
        }
    }

    /// Whether names alone are not enough.
    fn looks(&self) -> bool {
        self.long || self.classify || self.recursive || self.order.is_some()
    }

    fn sort(&self, rows: &mut [Row]) {
        let of = |row: &Row, what: fn(&Info) -> i128| row.info.as_ref().map_or(0, what);
        match self.order {
            Some('S') => rows.sort_by_key(|row| -of(row, |info| info.size.into())),
            Some('t') => rows.sort_by_key(|row| -of(row, |info| info.modified.into())),
            _ => {}
        }
        if self.reverse {
            rows.reverse();
        }
    }
}

pub(super) async fn ls(call: &mut Call) -> Answer {
    let mut options = Options::of(&call.args, SPEC)?;
    let style = Style::of(&options, call.terminal);
    if options.operands.is_empty() {
        options.operands.push(".".to_owned());
    }
    let headed = options.operands.len() > 1 || style.recursive;
    options.operands.sort();
    let (mut code, mut files, mut dirs) = (0, Vec::new(), Vec::new());
    for name in options.operands {
        match named(call, &style, &name).await {
            Ok(row) if !style.directory && row.info.is_some_and(|i| i.is_dir()) => dirs.push(name),
            Ok(row) => files.push(row),
            Err(error) => {
                call.complain(&format!("{name}: {}", words(&error))).await;
                code = 1;
            }
        }
    }
    style.sort(&mut files);
    show(call, &style, None, &files).await?;
    // The next one is the last.
    if !style.reverse {
        dirs.reverse();
    }
    let headers = headed.then_some(files.is_empty());
    let listed = list(call, &style, dirs, headers).await?;
    Ok(code.max(listed))
}

/// What is named itself, which is followed where it would be listed.
async fn named(call: &Call, style: &Style, name: &str) -> io::Result<Row> {
    let follow = !style.long && !style.directory && !style.classify;
    let path = name.to_owned();
    let row = call.files(move |view| match view.info(&path, follow) {
        Err(_) if follow => row(view, path.clone(), &path, false),
        _ => row(view, path.clone(), &path, follow),
    });
    row.await
}

/// Lists directories, of which the last one comes first. With `headers`, each has its name above it, and all but the
/// first a gap; it says whether there was nothing before.
async fn list(
    call: &mut Call,
    style: &Style,
    mut dirs: Vec<String>,
    mut headers: Option<bool>,
) -> Answer {
    let (mut code, mut bytes) = (0, dirs.iter().map(String::len).sum::<usize>());
    while let Some(dir) = dirs.pop() {
        bytes = bytes.saturating_sub(dir.len());
        let (rows, unseen) = match rows(call, &dir, style).await {
            Ok(rows) => rows,
            Err(error) => {
                call.complain(&format!("{dir}: {}", words(&error))).await;
                code = 1;
                (Vec::new(), Vec::new())
            }
        };
        for (name, error) in unseen {
            let path = join(&dir, &name);
            call.complain(&format!("{path}: {}", words(&error))).await;
            code = 1;
        }
        if let Some(first) = &mut headers {
            let gap = if std::mem::take(first) { "" } else { "\n" };
            call.print(format!("{gap}{}:\n", named_in(style, &dir)))
                .await?;
        }
        show(call, style, Some(&dir), &rows).await?;
        if style.recursive {
            let inner = rows.iter().rev().filter(|row| {
                row.info.is_some_and(|i| i.is_dir()) && !matches!(&*row.name, "." | "..")
            });
            for row in inner {
                let path = join(&dir, &row.name);
                bytes += path.len();
                if dirs.len() == MOST_PENDING || bytes > MOST_PATHS {
                    call.complain(&format!("{dir}: there are too many directories"))
                        .await;
                    return Ok(1);
                }
                dirs.push(path);
            }
        }
    }
    Ok(code)
}

/// A path in a directory.
pub(super) fn join(dir: &str, name: &str) -> String {
    match dir.ends_with('/') {
        true => format!("{dir}{name}"),
        false => format!("{dir}/{name}"),
    }
}

fn row(view: &View, name: String, path: &str, follow: bool) -> io::Result<Row> {
    let info = Some(view.info(path, follow)?);
    Ok(Row { name, info })
}

/// What could not be looked at, by its name.
type Unseen = Vec<(String, io::Error)>;

/// The lines of a directory, in order.
async fn rows(call: &Call, dir: &str, style: &Style) -> io::Result<(Vec<Row>, Unseen)> {
    let path = dir.to_owned();
    let listed = call.files(move |view| view.list(&path)).await?;
    let dots = match style.all {
        true => vec![".".to_owned(), "..".to_owned()],
        false => Vec::new(),
    };
    let wanted = listed
        .into_iter()
        .filter(|name| style.almost_all || !name.starts_with('.'));
    let mut names: Vec<String> = dots.into_iter().chain(wanted).collect();
    let (mut rows, mut unseen) = (Vec::with_capacity(names.len()), Vec::new());
    while !names.is_empty() {
        let rest = names.split_off(names.len().min(STEP));
        let step = std::mem::replace(&mut names, rest);
        if !style.looks() {
            rows.extend(step.into_iter().map(|name| Row { name, info: None }));
            continue;
        }
        let dir = dir.to_owned();
        let looked = call.files(move |view| {
            let looked = step.into_iter().map(|name| {
                let path = join(&dir, &name);
                row(view, name.clone(), &path, false).map_err(|error| (name, error))
            });
            Ok(looked.collect::<Vec<_>>())
        });
        for looked in looked.await? {
            match looked {
                Ok(row) => rows.push(row),
                Err(why) => unseen.push(why),
            }
        }
    }
    style.sort(&mut rows);
    Ok((rows, unseen))
}

/// Shows a directory's lines, or those of what was named itself.
async fn show(call: &mut Call, style: &Style, dir: Option<&str>, rows: &[Row]) -> Result<(), Stop> {
    if style.long && dir.is_some() {
        let blocks: u64 = rows
            .iter()
            .filter_map(|row| row.info)
            .map(|info| info.blocks / 2)
            .sum();
        call.print(format!("total {blocks}\n")).await?;
    }
    let widest = |text: fn(&Info, bool) -> String| {
        let infos = rows.iter().filter_map(|row| row.info);
        infos
            .map(|info| text(&info, style.human).len())
            .max()
            .unwrap_or(1)
    };
    let (links, sizes) = (widest(|info, _| info.links.to_string()), widest(size));
    for part in rows.chunks(STEP) {
        let targets = targets(call, style, dir, part).await?;
        let rows = part.iter().zip(&targets);
        let lines = rows.map(|(row, target)| line(row, target.as_deref(), style, links, sizes));
        call.print(lines.collect::<String>()).await?;
    }
    Ok(())
}

/// Where these lead that are symbolic links, if that is shown. Each may be as long as any path: what is not shown yet is
/// not known yet either.
async fn targets(
    call: &Call,
    style: &Style,
    dir: Option<&str>,
    rows: &[Row],
) -> Result<Vec<Option<String>>, Stop> {
    let path = |row: &Row| {
        let is_link = row.info.is_some_and(|info| info.kind == FileType::Symlink);
        let path = || dir.map_or_else(|| row.name.clone(), |dir| join(dir, &row.name));
        (style.long && is_link).then(path)
    };
    let paths: Vec<Option<String>> = rows.iter().map(path).collect();
    if paths.iter().all(Option::is_none) {
        return Ok(paths);
    }
    let read = call.files(move |view| {
        let targets = paths.into_iter().map(|path| view.link(&path?).ok());
        Ok(targets.collect())
    });
    read.await.map_err(|error| failed(words(&error)))
}

fn line(row: &Row, target: Option<&str>, style: &Style, links: usize, sizes: usize) -> String {
    let mut line = String::new();
    if let Some(info) = row.info.as_ref().filter(|_| style.long) {
        let (mode, size, time) = (mode(info), size(info, style.human), time(info));
        // Nobody owns a file: guests have no users.
        line += &format!("{mode} {:>links$} - - {size:>sizes$} {time} ", info.links);
    }
    line += &named_in(style, &row.name);
    match target {
        Some(target) => line += &format!(" -> {}", named_in(style, target)),
        _ if style.classify => line += row.info.as_ref().map_or("", sign),
        _ => {}
    }
    line + "\n"
}

/// Who reads names from a pipe wants them as they are.
fn named_in(style: &Style, name: &str) -> String {
    match style.terminal {
        true => shown(name),
        false => name.to_owned(),
    }
}

fn sign(info: &Info) -> &'static str {
    match info.kind {
        FileType::Directory => "/",
        FileType::Symlink => "@",
        FileType::Fifo => "|",
        FileType::Socket => "=",
        FileType::RegularFile if info.mode & 0o111 != 0 => "*",
        _ => "",
    }
}

/// Such as `drwxr-xr-x`.
pub(super) fn mode(info: &Info) -> String {
    let kind = match info.kind {
        FileType::Directory => 'd',
        FileType::Symlink => 'l',
        FileType::Fifo => 'p',
        FileType::Socket => 's',
        FileType::CharacterDevice => 'c',
        FileType::BlockDevice => 'b',
        _ => '-',
    };
    let rights = (0..9).rev().zip("rwxrwxrwx".chars());
    let rights = rights.map(|(bit, letter)| {
        if (info.mode >> bit) & 1 == 1 {
            letter
        } else {
            '-'
        }
    });
    std::iter::once(kind).chain(rights).collect()
}

fn size(info: &Info, human: bool) -> String {
    if !human || info.size < 1024 {
        return info.size.to_string();
    }
    let (mut size, mut unit) = (info.size as f64 / 1024.0, 'K');
    for larger in ['M', 'G', 'T', 'P', 'E'] {
        if size >= 1023.95 {
            (size, unit) = (size / 1024.0, larger);
        }
    }
    format!("{size:.1}{unit}")
}

/// When it was changed, such as `2026-01-31 23:59`.
pub(super) fn time(info: &Info) -> String {
    match Timestamp::from_second(info.modified) {
        Ok(time) => time.strftime("%Y-%m-%d %H:%M").to_string(),
        Err(_) => format!("{:>16}", "?"),
    }
}

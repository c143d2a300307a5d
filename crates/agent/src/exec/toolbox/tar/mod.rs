//! `tar`: as `kubectl cp` calls it, and as people do.

mod create;
mod extract;
mod members;
#[cfg(test)]
mod tests;

use std::io::{self, BufWriter, Write};
use std::sync::Arc;

use super::super::view::View;
use super::bridge::{Held, Streams, bridged};
use super::ls::join;
use super::options::{Spec, Word, read};
use super::paying::Purse;
use super::{Answer, Call, Stop, failed, shown, words};
use create::create;
use extract::Extraction;
use members::{Source, list};

const SPEC: Spec = Spec {
    flags: "ctxmov",
    values: "Cf",
    long: &[
        ("create", 'c'),
        ("directory", 'C'),
        ("extract", 'x'),
        ("file", 'f'),
        ("get", 'x'),
        ("list", 't'),
        ("no-same-owner", 'o'),
        ("no-same-permissions", 'o'),
        ("touch", 'm'),
        ("verbose", 'v'),
    ],
    leading: false,
};

/// What is to be done.
#[derive(Default)]
struct Job {
    /// `c`, `t` or `x`.
    mode: char,
    /// `-` for a standard stream.
    archive: String,
    verbose: bool,
    touch: bool,
    /// Where the last `-C` leads.
    dir: String,
    /// Operands, with the directory that each is relative to.
    operands: Vec<(String, String)>,
}

pub(super) async fn tar(call: &mut Call) -> Answer {
    let job = job(&call.args)?;
    if job.mode == 'c' && job.archive == "-" && call.terminal {
        return Err(failed(
            "the archive is not shown on a terminal: use -f FILE",
        ));
    }
    let view = call.view.clone();
    let reads = job.mode != 'c' && job.archive == "-";
    bridged(call, reads, move |streams| work(&job, &view, streams)).await
}

fn job(args: &[String]) -> Result<Job, Stop> {
    let mut job = Job {
        archive: "-".to_owned(),
        dir: ".".to_owned(),
        ..Job::default()
    };
    for word in spelled(args)? {
        match word {
            Word::Option(mode @ ('c' | 't' | 'x'), _) if job.mode == '\0' => job.mode = mode,
            Word::Option('c' | 't' | 'x', _) => {
                return Err(failed("only one of -c, -t and -x can be done"));
            }
            Word::Option('f', file) => job.archive = file,
            // Relative to the one before, as GNU's.
            Word::Option('C', dir) => job.dir = beneath(&job.dir, &dir),
            Word::Option('v', _) => job.verbose = true,
            Word::Option('m', _) => job.touch = true,
            // Owners are never given, and permissions never beyond the usual.
            Word::Option(..) => {}
            Word::Operand(name) => job.operands.push((job.dir.clone(), name)),
        }
    }
    match (job.mode, job.operands.is_empty()) {
        ('\0', _) => Err(failed("one of -c, -t and -x is needed")),
        ('c', true) => Err(failed("an empty archive is refused")),
        _ => Ok(job),
    }
}

/// The options, the first of which may come without their `-`: then their values follow in turn.
fn spelled(args: &[String]) -> Result<Vec<Word>, Stop> {
    let Some(bundle) = args.first().filter(|first| !first.starts_with('-')) else {
        return read(args, SPEC);
    };
    let (mut words, mut rest) = (Vec::new(), &args[1..]);
    for letter in bundle.chars() {
        let option = [format!("-{letter}")];
        if !SPEC.values.contains(letter) {
            words.extend(read(&option, SPEC)?);
            continue;
        }
        let Some((value, others)) = rest.split_first() else {
            return Err(failed(format!("option requires an argument: {letter}")));
        };
        words.push(Word::Option(letter, value.clone()));
        rest = others;
    }
    words.extend(read(rest, SPEC)?);
    Ok(words)
}

/// A path, from a directory unless it is absolute.
fn beneath(dir: &str, path: &str) -> String {
    match dir == "." || path.starts_with('/') {
        true => path.to_owned(),
        false => join(dir, path),
    }
}

/// What was wrong so far, and who is told.
struct Report<'a> {
    errors: &'a mut dyn Write,
    code: i32,
    /// Whether it was said that names are cut.
    cut: bool,
}

impl Report<'_> {
    fn say(&mut self, what: &str) {
        // Whoever wants no messages has their reason.
        let _ = writeln!(self.errors, "tar: {}", shown(what));
    }

    fn fail(&mut self, code: i32, why: &str) {
        self.say(why);
        self.code = self.code.max(code);
    }

    /// Says once that names lose what they begin with.
    fn cut(&mut self, prefix: &str) {
        if !std::mem::replace(&mut self.cut, true) {
            self.say(&format!("Removing leading `{prefix}' from member names"));
        }
    }
}

fn work(job: &Job, view: &Arc<View>, streams: &mut Streams) -> i32 {
    let purse = Purse::new(view, &streams.left);
    let held = |file| Held {
        file,
        purse: purse.clone(),
    };
    let mut report = Report {
        errors: &mut streams.stderr,
        code: 0,
        cut: false,
    };
    let done = match job.mode {
        'c' => make(job, view, &mut streams.stdout, &purse, &mut report),
        _ => {
            let source = match job.archive.as_str() {
                "-" => Ok(Source::Stream(&mut streams.stdin)),
                path => view.open(path).map(|file| Source::File(held(file))),
            };
            take(job, view, source, &mut streams.stdout, &purse, &mut report)
        }
    };
    match done {
        Ok(()) if report.code == 2 => {
            report.say("Exiting with failure status due to previous errors");
        }
        Ok(()) => {}
        // Nobody is there for more.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return super::PIPE,
        Err(error) => report.fail(2, &words(&error)),
    }
    report.code
}

fn make(
    job: &Job,
    view: &View,
    out: &mut dyn Write,
    purse: &Purse,
    report: &mut Report<'_>,
) -> io::Result<()> {
    let left = purse.left();
    if job.archive == "-" {
        return create(job, view, out, None, left, report);
    }
    let name = purse.pay_names(1)?;
    let made = view.create(&job.archive, false);
    drop(name);
    let mut file = match made {
        Ok(file) => BufWriter::new(Held {
            file,
            purse: purse.clone(),
        }),
        Err(error) => {
            report.fail(
                2,
                &format!("{}: Cannot open: {}", job.archive, words(&error)),
            );
            return Ok(());
        }
    };
    create(job, view, &mut file, Some(out), left, report)?;
    file.flush()
}

fn take(
    job: &Job,
    view: &View,
    archive: io::Result<Source<'_>>,
    out: &mut dyn Write,
    purse: &Purse,
    report: &mut Report<'_>,
) -> io::Result<()> {
    let archive = match archive {
        Ok(archive) => archive,
        Err(error) => {
            let path = &job.archive;
            report.fail(2, &format!("{path}: Cannot open: {}", words(&error)));
            return Ok(());
        }
    };
    match job.mode {
        't' => list(job, archive, out, report),
        _ => Extraction::new(job, view, out, purse).run(archive, report),
    }
}

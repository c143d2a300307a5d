//! `sh`: lists of simple commands of the toolbox.

mod grammar;
mod stages;
#[cfg(test)]
mod tests;
mod words;

use std::sync::Arc;

use tokio::io::AsyncReadExt as _;

use super::bounds::MOST_RUN;
use super::options::{Options, Spec};
use super::streams::{Input, Output};
use super::{
    Answer, CANNOT_RUN, Call, MISUSED, MOST_WORDS, Stop, dispatch, failed, misused, offers,
    words as why,
};
use grammar::{Command, Error, Redirect, When, parse};
use words::Part;

/// Bytes of one command, with all lines that it goes on in.
const LONGEST: usize = 128 << 10;

/// Lines of one command: all of it is read again for each.
const MOST_LINES: usize = 1_000;

/// Bytes of a command's words, once variables are put in.
const MOST_EXPANDED: usize = 1 << 20;

pub(super) async fn sh(call: &mut Call) -> Answer {
    let spec = Spec {
        // There is no profile that `-l` would read.
        flags: "cel",
        leading: true,
        ..Spec::default()
    };
    let options = Options::of(&call.args, spec).map_err(misused)?;
    let mut shell = Shell::new(call.clone(), options.has('e'));
    let mut operands = options.operands.iter();
    let first = operands.next();
    if let Some(more) = operands.next() {
        return Err(misused(failed(format!(
            "not supported: parameters: {more}"
        ))));
    }
    match first {
        Some(text) if options.has('c') => shell.text(text).await,
        None if options.has('c') => Err(misused(failed("option requires an argument: -c"))),
        Some(file) => match call.source(file).await {
            Ok(lines) => shell.lines(lines, false).await,
            Err(error) => Err(Stop::Failed(127, format!("{file}: {}", why(&error)))),
        },
        None => {
            shell
                .lines(call.stdin.clone(), call.typed && call.terminal)
                .await
        }
    }
}

/// A shell, or a part of a pipe, which changes nothing for the rest.
#[derive(Clone)]
struct Shell {
    /// Its directory is the view's.
    call: Call,
    /// The last command's exit code.
    status: i32,
    /// Whether it is to end.
    exits: bool,
    /// Whether a failure ends it.
    fails: bool,
}

impl Shell {
    fn new(call: Call, fails: bool) -> Self {
        Self {
            call,
            status: 0,
            exits: false,
            fails,
        }
    }

    async fn text(&mut self, text: &str) -> Answer {
        self.call.bounds.goes_through(text.len()).await;
        match parse(text) {
            Ok(steps) => self.list(&steps).await,
            Err(error) => {
                self.refuse(error).await;
                return Ok(MISUSED);
            }
        }
        Ok(self.status)
    }

    async fn refuse(&mut self, error: Error) {
        let why = match error {
            Error::Incomplete => "syntax error: unexpected end of the command".to_owned(),
            Error::Refused(why) => why,
        };
        self.call.complain(&why).await;
    }

    /// Runs line by line, as far as there are lines.
    async fn lines(&mut self, mut from: Input, prompts: bool) -> Answer {
        let (mut pending, mut lines) = (String::new(), 0);
        while !self.exits {
            if prompts {
                let prompt = if pending.is_empty() { "$ " } else { "> " };
                self.call.print(prompt).await?;
                self.call.flush().await?;
            }
            let line = line(&mut from, LONGEST - pending.len()).await?;
            let last = !line.ends_with('\n');
            pending += &line;
            lines += 1;
            if lines > MOST_LINES {
                let why = "a command has too many lines";
                return Err(Stop::Failed(MISUSED, why.to_owned()));
            }
            self.call.bounds.goes_through(pending.len()).await;
            match parse(&pending) {
                Err(Error::Incomplete) if !last => continue,
                Ok(steps) => {
                    self.list(&steps).await;
                }
                Err(error) => {
                    self.status = MISUSED;
                    self.refuse(error).await;
                    // A script would go on with half of what was meant.
                    self.exits = !prompts;
                }
            }
            pending.clear();
            lines = 0;
            if last {
                break;
            }
        }
        Ok(self.status)
    }

    async fn list(&mut self, steps: &[grammar::Step]) {
        for (at, step) in steps.iter().enumerate() {
            let runs = match step.when {
                When::Always => true,
                When::And => self.status == 0,
                When::Or => self.status != 0,
            };
            if !runs {
                continue;
            }
            if !self.call.bounds.one_more().await {
                (self.status, self.exits) = (CANNOT_RUN, true);
                let why = format!("more than {MOST_RUN} commands");
                return self.call.complain(&why).await;
            }
            match step.stages.as_slice() {
                [command] => self.command(command).await,
                stages => self.status = self.pipe(stages).await,
            }
            // What `&&` and `||` ask for may fail.
            let asked = steps.get(at + 1).is_some_and(|s| s.when != When::Always);
            self.exits |= self.fails && self.status != 0 && !asked;
            if self.exits {
                return;
            }
        }
    }

    /// Runs a command and keeps its exit code.
    async fn command(&mut self, command: &Command) {
        let prepared = match self.expand(&command.words) {
            Ok(words) => {
                let redirected = self.redirected(&command.redirects).await;
                redirected.map(|call| (words, call))
            }
            Err(why) => Err(why),
        };
        // What is said of a command goes where its own messages go.
        let mut says = self.call.clone();
        let ran = match prepared {
            Ok((words, call)) => {
                says.stderr = call.stderr.clone();
                self.run(words, call).await
            }
            Err(why) => Err(why),
        };
        self.status = match ran {
            Ok(status) => status,
            Err((status, why)) => {
                says.complain(&why).await;
                status
            }
        };
    }

    async fn run(&mut self, mut words: Vec<String>, call: Call) -> Result<i32, (i32, String)> {
        match words.first().map(String::as_str) {
            Some(":") => Ok(0),
            Some("cd") => self.change_directory(&words[1..]).await,
            Some("exit") => self.exit(&words[1..]),
            Some("exec") => {
                words.remove(0);
                // What it runs is all that is left of the shell.
                self.exits |= !words.is_empty();
                applet(words, call).await
            }
            _ => applet(words, call).await,
        }
    }

    async fn change_directory(&mut self, to: &[String]) -> Result<i32, (i32, String)> {
        let home = || {
            let home = self.call.view.env.iter().find(|(name, _)| name == "HOME");
            home.map_or("/", |(_, value)| value.as_str())
        };
        let to = match to {
            [] => home().to_owned(),
            [to] if to == "-" => return Err((1, "not supported: cd -".to_owned())),
            [to] => to.clone(),
            _ => return Err((1, "cd: too many arguments".to_owned())),
        };
        let failed = |why: &str| (1, format!("cd: can't cd to {to}: {why}"));
        let path = to.clone();
        let found = self
            .call
            .files(move |view| Ok((view.info(&path, true)?, view.absolute(&path)?)));
        match found.await {
            Ok((info, absolute)) if info.is_dir() => {
                Arc::make_mut(&mut self.call.view).working_dir = absolute;
                Ok(0)
            }
            Ok(_) => Err(failed("Not a directory")),
            Err(error) => Err(failed(&why(&error))),
        }
    }

    fn exit(&mut self, code: &[String]) -> Result<i32, (i32, String)> {
        let code = match code {
            [] => self.status,
            // As a process' code is kept: its last eight bits.
            [code] => match code.parse::<u32>() {
                Ok(code) => (code & 0xff).cast_signed(),
                Err(_) => return Err((MISUSED, format!("exit: Illegal number: {code}"))),
            },
            _ => return Err((MISUSED, "exit: too many arguments".to_owned())),
        };
        self.exits = true;
        Ok(code)
    }

    /// A command's call with its own streams.
    async fn redirected(&self, redirects: &[Redirect]) -> Result<Call, (i32, String)> {
        let mut call = self.call.beside(Vec::new());
        for redirect in redirects {
            match redirect {
                Redirect::Read(from) => {
                    call.stdin = self.file(from, None).await?.0;
                    call.typed = false;
                }
                Redirect::Write { stream, to, append } => {
                    let to = self.file(to, Some(*append)).await?.1;
                    match stream {
                        1 => call.stdout = to,
                        _ => call.stderr = to,
                    }
                    call.terminal = false;
                }
                Redirect::Same {
                    stream: 1,
                    as_of: 2,
                } => call.stdout = call.stderr.clone(),
                Redirect::Same {
                    stream: 2,
                    as_of: 1,
                } => call.stderr = call.stdout.clone(),
                Redirect::Same { .. } => {}
            }
        }
        Ok(call)
    }

    /// Opens a file for reading, or for writing with `append` or without.
    async fn file(
        &self,
        path: &[Part],
        append: Option<bool>,
    ) -> Result<(Input, Output), (i32, String)> {
        let words = self.expand(&[path])?;
        let [path] = words.as_slice() else {
            return Err((1, "ambiguous redirect".to_owned()));
        };
        // There is no such file: but everybody knows what is meant.
        if path == "/dev/null" {
            return Ok((Input::empty(), Output::sink()));
        }
        let name = path.clone();
        let _paid = match append {
            Some(_) => Some(self.call.pay_names(1).await),
            None => None,
        };
        let opened = self.call.files(move |view| match append {
            None => view.open(&name),
            Some(append) => view.create(&name, append),
        });
        let (kind, opened) = (
            if append.is_some() { "create" } else { "open" },
            opened.await,
        );
        let file = opened.map_err(|error| (1, format!("can't {kind} {path}: {}", why(&error))))?;
        Ok(match append {
            None => (Input::new(tokio::fs::File::from_std(file)), Output::sink()),
            Some(_) => (Input::empty(), self.call.paid_file(file)),
        })
    }

    /// Puts in what variables stand for; what is not quoted becomes as many words as it has.
    fn expand(&self, words: &[impl AsRef<[Part]>]) -> Result<Vec<String>, (i32, String)> {
        let (mut fields, mut length) = (Vec::new(), 0);
        for word in words {
            let mut field: Option<String> = None;
            for part in word.as_ref() {
                let value = match part {
                    Part::Text { text, .. } => text.clone(),
                    Part::Status => self.status.to_string(),
                    Part::Variable { name, .. } => self.variable(name).to_owned(),
                };
                length += value.len();
                if length > MOST_EXPANDED {
                    return Err((CANNOT_RUN, "Argument list too long".to_owned()));
                }
                match part {
                    Part::Variable { quoted: false, .. } => split(&value, &mut field, &mut fields),
                    _ => field.get_or_insert_default().push_str(&value),
                }
            }
            fields.extend(field);
        }
        // The first one is the command's name.
        if fields.len() > MOST_WORDS + 1 {
            return Err((CANNOT_RUN, "Argument list too long".to_owned()));
        }
        Ok(fields)
    }

    fn variable(&self, name: &str) -> &str {
        if name == "PWD" {
            return &self.call.view.working_dir;
        }
        let env = &self.call.view.env;
        let known = env.iter().find(|(known, _)| known == name);
        known.map_or("", |(_, value)| value)
    }
}

/// Runs a command of the toolbox.
async fn applet(words: Vec<String>, mut call: Call) -> Result<i32, (i32, String)> {
    match words.first() {
        None => Ok(0),
        Some(name) if name.ends_with(".wasm") => {
            Err((126, format!("not supported: running {name}")))
        }
        Some(name) if !offers(name) => Err((127, format!("{name}: not found"))),
        Some(_) => {
            call.args = words;
            Ok(Box::pin(dispatch(call)).await)
        }
    }
}

/// Adds a value to a field: white space in it ends the field. Where there are too many, no more are made.
fn split(value: &str, field: &mut Option<String>, fields: &mut Vec<String>) {
    let mut parts = value.split([' ', '\t', '\n']);
    if let Some(first) = parts.next().filter(|first| !first.is_empty()) {
        field.get_or_insert_default().push_str(first);
    }
    for part in parts {
        if fields.len() > MOST_WORDS + 1 {
            return;
        }
        fields.extend(field.take());
        if !part.is_empty() {
            *field = Some(part.to_owned());
        }
    }
}

/// The next line with its end, which the last one may lack. No byte more is read: it is the commands' input, too.
async fn line(from: &mut Input, most: usize) -> Result<String, Stop> {
    let mut line = Vec::new();
    let mut byte = [0];
    while !line.ends_with(b"\n") {
        match from.read(&mut byte).await {
            Ok(0) => break,
            Ok(_) if line.len() < most => line.push(byte[0]),
            Ok(_) => return Err(Stop::Failed(MISUSED, "a command is too long".to_owned())),
            Err(error) => return Err(Stop::Failed(MISUSED, why(&error))),
        }
    }
    let text = String::from_utf8(line);
    text.map_err(|_| Stop::Failed(MISUSED, "a command is no UTF-8".to_owned()))
}

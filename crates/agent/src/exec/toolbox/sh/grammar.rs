//! What the shell understands: commands, pipes, lists. The rest is refused by its name.

use super::super::bounds::MOST_AT_ONCE;
use super::words::{Part, Token, Word, bare, tokens};

/// POSIX' words that begin what is more than a command.
const RESERVED: &[&str] = &[
    "!", "[[", "case", "do", "done", "elif", "else", "esac", "fi", "for", "function", "if",
    "select", "then", "until", "while", "{", "}",
];

/// Built-in commands of POSIX that are none of ours, and would be missed in silence by scripts that go on.
const UNKNOWN: &[&str] = &[
    ".", "alias", "bg", "break", "command", "continue", "eval", "export", "fg", "getopts", "jobs",
    "kill", "local", "read", "readonly", "return", "set", "shift", "source", "trap", "ulimit",
    "umask", "unset", "wait",
];

/// Why a text cannot be run.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Error {
    /// It does not end where it ends: another line may follow.
    Incomplete,
    /// It never will be run, for this reason.
    Refused(String),
}

pub(super) fn refused(what: &str) -> Error {
    Error::Refused(format!("not supported: {what}"))
}

fn unexpected(what: &str) -> Error {
    Error::Refused(format!("syntax error: unexpected {what}"))
}

/// When a pipeline of a list runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    Always,
    /// After success: `&&`.
    And,
    /// After failure: `||`.
    Or,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) when: When,
    /// Commands of which each reads what the one before prints.
    pub(super) stages: Vec<Command>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Command {
    pub(super) words: Vec<Word>,
    pub(super) redirects: Vec<Redirect>,
}

/// Where a stream (0 to 2) goes instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Redirect {
    Read(Word),
    Write {
        stream: u8,
        to: Word,
        append: bool,
    },
    /// Where another stream goes by now.
    Same {
        stream: u8,
        as_of: u8,
    },
}

/// Reads a list of commands.
pub(super) fn parse(text: &str) -> Result<Vec<Step>, Error> {
    let mut tokens = tokens(text)?.into_iter().peekable();
    let (mut steps, mut when) = (Vec::new(), When::Always);
    loop {
        // Lines may be empty, and go on after what joins commands.
        while tokens.next_if_eq(&Token::Newline).is_some() {}
        if tokens.peek().is_none() {
            return match when {
                When::Always => Ok(steps),
                When::And | When::Or => Err(Error::Incomplete),
            };
        }
        let stages = pipeline(&mut tokens)?;
        steps.push(Step { when, stages });
        when = match tokens.next() {
            None | Some(Token::Semicolon | Token::Newline) => When::Always,
            Some(Token::And) => When::And,
            Some(Token::Or) => When::Or,
            Some(token) => return Err(unexpected(shown(&token))),
        };
    }
}

type Tokens = std::iter::Peekable<std::vec::IntoIter<Token>>;

fn pipeline(tokens: &mut Tokens) -> Result<Vec<Command>, Error> {
    let mut stages = vec![command(tokens)?];
    while tokens.next_if_eq(&Token::Pipe).is_some() {
        while tokens.next_if_eq(&Token::Newline).is_some() {}
        if tokens.peek().is_none() {
            return Err(Error::Incomplete);
        }
        if stages.len() == MOST_AT_ONCE {
            return Err(refused(&format!(
                "more than {MOST_AT_ONCE} commands in a pipe"
            )));
        }
        stages.push(command(tokens)?);
    }
    Ok(stages)
}

fn command(tokens: &mut Tokens) -> Result<Command, Error> {
    let mut command = Command::default();
    loop {
        match tokens.next_if(|t| matches!(t, Token::Word(_) | Token::Redirect(..))) {
            Some(Token::Word(word)) => {
                if command.words.is_empty() {
                    first_word(&word)?;
                }
                command.words.push(word);
            }
            Some(Token::Redirect(stream, kind)) => {
                command
                    .redirects
                    .push(redirect(stream, kind, tokens.next())?);
            }
            _ => break,
        }
    }
    match (
        command.words.is_empty() && command.redirects.is_empty(),
        tokens.peek(),
    ) {
        (false, _) if matches!(&command.words[..], [exec] if bare(exec) == Some("exec")) => {
            Err(refused("exec without a command"))
        }
        (false, _) => Ok(command),
        (true, Some(token)) => Err(unexpected(shown(token))),
        (true, None) => Err(Error::Incomplete),
    }
}

/// Refuses what a command cannot begin with.
fn first_word(word: &[Part]) -> Result<(), Error> {
    let mut known = RESERVED.iter().chain(UNKNOWN);
    if let Some(known) = known.find(|known| bare(word) == Some(**known)) {
        return Err(refused(known));
    }
    let Some(Part::Text {
        text,
        quoted: false,
    }) = word.first()
    else {
        return Ok(());
    };
    let is_name = |name: &str| {
        let mut letters = name.chars();
        letters
            .next()
            .is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
            && letters.all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    match text.split_once('=') {
        Some((name, _)) if is_name(name) => Err(refused(&format!(
            "{name}= (assignments; env {name}=VALUE COMMAND is)"
        ))),
        _ => Ok(()),
    }
}

fn redirect(stream: u8, kind: char, target: Option<Token>) -> Result<Redirect, Error> {
    let to = match target {
        Some(Token::Word(word)) => word,
        Some(token) => return Err(unexpected(shown(&token))),
        None => return Err(unexpected("end of the command")),
    };
    match (stream, kind) {
        (0, '<') => Ok(Redirect::Read(to)),
        (1 | 2, '>' | 'a') => Ok(Redirect::Write {
            stream,
            to,
            append: kind == 'a',
        }),
        (1 | 2, '&') => match bare(&to) {
            Some("1") => Ok(Redirect::Same { stream, as_of: 1 }),
            Some("2") => Ok(Redirect::Same { stream, as_of: 2 }),
            _ => Err(refused(">& but for >&1 and >&2")),
        },
        _ => Err(refused(&format!("redirecting stream {stream} so"))),
    }
}

fn shown(token: &Token) -> &'static str {
    match token {
        Token::Word(_) => "word",
        Token::Semicolon => "\";\"",
        Token::Newline => "newline",
        Token::And => "\"&&\"",
        Token::Or => "\"||\"",
        Token::Pipe => "\"|\"",
        Token::Redirect(..) => "redirection",
    }
}

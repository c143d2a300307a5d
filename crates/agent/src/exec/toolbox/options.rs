//! Options as getopt(3) reads them.

use super::{Stop, failed};

/// Which options a command has.
#[derive(Clone, Copy, Default)]
pub(super) struct Spec {
    /// Those that stand alone.
    pub(super) flags: &'static str,
    /// Those that have a value.
    pub(super) values: &'static str,
    /// What short option, of either kind, a long one means.
    pub(super) long: &'static [(&'static str, char)],
    /// Whether all that follows the first operand is operands: another command's words, say.
    pub(super) leading: bool,
}

/// A word of a command's arguments.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// An option with its value, which is empty for a flag.
    Option(char, String),
    /// Anything else.
    Operand(String),
}

/// A command's arguments.
#[derive(Debug, Default)]
pub(super) struct Options {
    given: Vec<(char, String)>,
    /// What is no option, in order.
    pub(super) operands: Vec<String>,
}

impl Options {
    /// # Errors
    /// As [`read`]'s.
    pub(super) fn of(args: &[String], spec: Spec) -> Result<Self, Stop> {
        let mut options = Self::default();
        for word in read(args, spec)? {
            match word {
                Word::Option(name, value) => options.given.push((name, value)),
                Word::Operand(word) => options.operands.push(word),
            }
        }
        Ok(options)
    }

    pub(super) fn has(&self, option: char) -> bool {
        self.given.iter().any(|(name, _)| *name == option)
    }

    /// The last value that an option was given.
    pub(super) fn value(&self, option: char) -> Option<&str> {
        self.values(option).last()
    }

    pub(super) fn values(&self, option: char) -> impl Iterator<Item = &str> {
        let given = self.given.iter();
        given.filter_map(move |(name, value)| (*name == option).then_some(value.as_str()))
    }

    /// The last of these that was given.
    pub(super) fn last_of(&self, options: &str) -> Option<char> {
        let mut given = self.given.iter().rev().map(|(name, _)| *name);
        given.find(|name| options.contains(*name))
    }

    /// The operands, of which there must be one.
    ///
    /// # Errors
    /// When there is none.
    pub(super) fn some_operands(&self) -> Result<&[String], Stop> {
        match self.operands.as_slice() {
            [] => Err(failed("missing operand")),
            operands => Ok(operands),
        }
    }
}

/// Reads arguments in order.
///
/// # Errors
/// Names an option that the command has not, or that has no value.
pub(super) fn read(args: &[String], spec: Spec) -> Result<Vec<Word>, Stop> {
    let mut words = Vec::new();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        if arg == "--" {
            break;
        }
        if let Some(long) = arg.strip_prefix("--") {
            words.push(long_option(long, spec, &mut args)?);
        } else if let Some(cluster) = arg.strip_prefix('-').filter(|rest| !rest.is_empty()) {
            short_options(cluster, spec, &mut args, &mut words)?;
        } else {
            words.push(Word::Operand(arg.clone()));
            if spec.leading {
                break;
            }
        }
    }
    words.extend(args.cloned().map(Word::Operand));
    Ok(words)
}

fn long_option<'a>(
    long: &str,
    spec: Spec,
    rest: &mut impl Iterator<Item = &'a String>,
) -> Result<Word, Stop> {
    let (name, value) = match long.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (long, None),
    };
    let known = spec.long.iter().find(|(known, _)| *known == name);
    let Some((_, option)) = known else {
        return Err(unknown(&format!("--{name}")));
    };
    match (spec.values.contains(*option), value) {
        (true, Some(value)) => Ok(Word::Option(*option, value.to_owned())),
        (true, None) => match rest.next() {
            Some(value) => Ok(Word::Option(*option, value.clone())),
            None => Err(valueless(&format!("--{name}"))),
        },
        (false, None) => Ok(Word::Option(*option, String::new())),
        (false, Some(_)) => Err(failed(format!("option takes no value: --{name}"))),
    }
}

fn short_options<'a>(
    cluster: &str,
    spec: Spec,
    rest: &mut impl Iterator<Item = &'a String>,
    words: &mut Vec<Word>,
) -> Result<(), Stop> {
    let mut letters = cluster.chars();
    while let Some(letter) = letters.next() {
        if spec.flags.contains(letter) {
            words.push(Word::Option(letter, String::new()));
        } else if spec.values.contains(letter) {
            let value = match letters.as_str() {
                "" => rest.next().cloned(),
                value => Some(value.to_owned()),
            };
            let value = value.ok_or_else(|| valueless(&format!("-{letter}")))?;
            words.push(Word::Option(letter, value));
            return Ok(());
        } else {
            return Err(unknown(&format!("-{letter}")));
        }
    }
    Ok(())
}

fn unknown(option: &str) -> Stop {
    failed(format!("unrecognized option: {option}"))
}

fn valueless(option: &str) -> Stop {
    failed(format!("option requires an argument: {option}"))
}

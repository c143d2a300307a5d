//! Patterns as POSIX has them, in the words of `regex`, which takes time in proportion to what it looks at.

use std::iter::Peekable;
use std::str::Chars;

use regex::bytes::{RegexSet, RegexSetBuilder};

use super::super::{Stop, failed};

/// Bytes of all patterns: what is made of them while they are read takes a hundred times as much.
const LONGEST: usize = 64 << 10;

/// What a compiled pattern takes, and what is kept of its automaton, in bytes.
const MOST_COMPILED: usize = 1 << 20;

/// POSIX' classes of letters, by their names between `[:` and `:]`.
const CLASSES: [&str; 12] = [
    "alnum", "alpha", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space",
    "upper", "xdigit",
];

/// How patterns are spelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Syntax {
    Basic,
    /// `-E`
    Extended,
    /// `-F`: each letter stands for itself.
    Fixed,
}

/// What matches any line of any of the patterns.
///
/// # Errors
/// For what is none, or is too large.
pub(super) fn compile(
    patterns: &[String],
    syntax: Syntax,
    any_case: bool,
) -> Result<RegexSet, Stop> {
    if patterns.iter().map(String::len).sum::<usize>() > LONGEST {
        let most = LONGEST >> 10;
        return Err(failed(format!("patterns are longer than {most} KiB")));
    }
    let lines = patterns.iter().flat_map(|pattern| pattern.split('\n'));
    let spelled = lines.map(|line| match syntax {
        Syntax::Fixed => Ok(regex::escape(line)),
        Syntax::Basic => translate(line, false),
        Syntax::Extended => translate(line, true),
    });
    let spelled: Vec<String> = spelled.collect::<Result<_, Stop>>()?;
    let mut builder = RegexSetBuilder::new(spelled);
    builder
        .case_insensitive(any_case)
        .size_limit(MOST_COMPILED)
        .dfa_size_limit(MOST_COMPILED);
    builder.build().map_err(|error| {
        // The last line says it; those before draw where.
        let text = error.to_string();
        let why = text.lines().last().unwrap_or_default().trim();
        let why = why.strip_prefix("error: ").unwrap_or(why);
        failed(format!("invalid pattern: {why}"))
    })
}

type Rest<'a> = Peekable<Chars<'a>>;

fn translate(pattern: &str, extended: bool) -> Result<String, Stop> {
    let (mut out, mut rest) = (String::new(), pattern.chars().peekable());
    // Whether an expression begins here, which nothing can be repeated of yet.
    let mut begins = true;
    while let Some(letter) = rest.next() {
        let mut begun = false;
        match letter {
            '\\' => begun = escaped(&mut rest, extended, &mut out)?,
            '[' => bracket(&mut rest, &mut out)?,
            '^' if extended || begins => {
                out.push('^');
                begun = true;
            }
            '$' if extended || ends(&rest) => out.push('$'),
            '*' if extended || !begins => out.push('*'),
            '{' if extended && !is_interval(&rest) => out.push_str("\\{"),
            '(' | ')' | '{' | '}' | '|' | '+' | '?' if extended => {
                out.push(letter);
                begun = matches!(letter, '(' | '|');
            }
            '.' => out.push('.'),
            letter => literal(letter, &mut out),
        }
        begins = begun;
    }
    Ok(out)
}

fn literal(letter: char, out: &mut String) {
    out.push_str(&regex::escape(letter.encode_utf8(&mut [0; 4])));
}

/// What follows a `\`; whether an expression begins behind it.
fn escaped(rest: &mut Rest<'_>, extended: bool, out: &mut String) -> Result<bool, Stop> {
    let Some(letter) = rest.next() else {
        return Err(failed("invalid pattern: it ends with \\"));
    };
    match letter {
        '(' | ')' | '{' | '}' | '|' | '+' | '?' if !extended => {
            out.push(letter);
            return Ok(matches!(letter, '(' | '|'));
        }
        'w' | 'W' | 's' | 'S' | 'b' | 'B' | '<' | '>' => {
            out.push('\\');
            out.push(letter);
        }
        '1'..='9' => return Err(failed("not supported: back-references")),
        letter if letter.is_ascii_alphanumeric() => {
            return Err(failed(format!("not supported: \\{letter}")));
        }
        letter => literal(letter, out),
    }
    Ok(false)
}

/// Whether a basic pattern, or a group of it, ends here.
fn ends(rest: &Rest<'_>) -> bool {
    let mut rest = rest.clone();
    match rest.next() {
        None => true,
        Some('\\') => matches!(rest.next(), Some(')' | '|')),
        Some(_) => false,
    }
}

/// Whether what follows a `{` makes it a number of times.
fn is_interval(rest: &Rest<'_>) -> bool {
    // No further than the number goes, for a pattern may be full of these.
    let number = rest.clone();
    let inner: String = number
        .take_while(|c| c.is_ascii_digit() || *c == ',')
        .collect();
    let (least, most) = inner.split_once(',').unwrap_or((&inner, ""));
    let closed = rest.clone().nth(inner.len()) == Some('}');
    closed && !least.is_empty() && !most.contains(',')
}

/// A set of letters, behind its `[`: a `\` is one of them, and so is a `]` that comes first.
fn bracket(rest: &mut Rest<'_>, out: &mut String) -> Result<(), Stop> {
    out.push('[');
    if rest.next_if_eq(&'^').is_some() {
        out.push('^');
    }
    // Whether a `-` would make a range with the letter before it.
    let (mut first, mut single) = (true, false);
    loop {
        let Some(letter) = rest.next() else {
            return Err(failed("invalid pattern: unclosed ["));
        };
        match letter {
            ']' if !first => break,
            '[' if matches!(rest.peek(), Some(':' | '.' | '=')) => {
                out.push_str(&class(rest)?);
                single = false;
            }
            '-' if single && rest.peek().is_some_and(|next| *next != ']') => {
                out.push('-');
                let last = rest.next().unwrap_or_default();
                member(last, out);
                single = false;
            }
            letter => {
                member(letter, out);
                single = true;
            }
        }
        first = false;
    }
    out.push(']');
    Ok(())
}

/// A letter of a set, where more of them than elsewhere would mean something.
fn member(letter: char, out: &mut String) {
    if matches!(letter, '&' | '~' | '-' | '^' | '[' | ']' | '\\') {
        out.push('\\');
    }
    out.push(letter);
}

/// One of the classes, behind its `[`.
fn class(rest: &mut Rest<'_>) -> Result<String, Stop> {
    let inner: String = rest.by_ref().take_while(|c| *c != ']').collect();
    let name = inner.strip_prefix(':').and_then(|i| i.strip_suffix(':'));
    match name.filter(|name| CLASSES.contains(name)) {
        Some(name) => Ok(format!("[:{name}:]")),
        None => Err(failed(format!("not supported: [{inner}]"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_in_other_words() {
        for (pattern, basic, extended) in [
            ("a.c*", "a.c*", "a.c*"),
            ("*a", "\\*a", "*a"),
            ("^*a", "^\\*a", "^*a"),
            ("a^b$c", "a\\^b\\$c", "a^b$c"),
            ("^a$", "^a$", "^a$"),
            ("\\(*a$\\)", "(\\*a$)", "\\(*a$\\)"),
            ("a+b?|(c)", "a\\+b\\?\\|\\(c\\)", "a+b?|(c)"),
            ("a\\+\\(b\\|c\\)\\?", "a+(b|c)?", "a\\+\\(b\\|c\\)\\?"),
            ("a\\{2\\}", "a{2}", "a\\{2\\}"),
            ("a{2,3}", "a\\{2,3\\}", "a{2,3}"),
            ("a{b}", "a\\{b\\}", "a\\{b}"),
            ("a{1,2,3}", "a\\{1,2,3\\}", "a\\{1,2,3}"),
            ("\\.\\<x\\>", "\\.\\<x\\>", "\\.\\<x\\>"),
            ("[]a-c-]", "[\\]a-c\\-]", "[\\]a-c\\-]"),
            (
                "[^[:digit:]\\&&]",
                "[^[:digit:]\\\\\\&\\&]",
                "[^[:digit:]\\\\\\&\\&]",
            ),
        ] {
            assert_eq!(translate(pattern, false).unwrap(), basic, "{pattern}");
            assert_eq!(translate(pattern, true).unwrap(), extended, "{pattern}");
        }
    }

    #[test]
    fn what_is_no_pattern() {
        for (pattern, why) in [
            ("a\\", "invalid pattern: it ends with \\"),
            ("[a", "invalid pattern: unclosed ["),
            ("[[:beta:]]", "not supported: [:beta:]"),
            ("[[.a.]]", "not supported: [.a.]"),
            ("(a)\\1", "not supported: back-references"),
            ("\\d", "not supported: \\d"),
            ("(a", "invalid pattern: unclosed group"),
            ("a)|(b", "invalid pattern: unopened group"),
        ] {
            let refused = compile(&[pattern.to_owned()], Syntax::Extended, false);
            let Err(Stop::Failed(1, said)) = refused else {
                panic!("{pattern}");
            };
            assert_eq!(said, why, "{pattern}");
        }
        for large in ["a{900}{900}".to_owned(), "a".repeat(LONGEST + 1)] {
            assert!(compile(&[large], Syntax::Extended, false).is_err());
        }
    }
}

//! The shell's words: what quotes, backslashes and `$` mean.

use std::iter::Peekable;
use std::str::Chars;

use super::grammar::{Error, refused};

/// A word, of parts that are put together when it is used.
pub(super) type Word = Vec<Part>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// As it stands.
    Text {
        text: String,
        /// Whether all of it is quoted; then it is a word even where it is empty.
        quoted: bool,
    },
    /// A variable's value.
    Variable { name: String, quoted: bool },
    /// The last command's exit code.
    Status,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Word(Word),
    /// `;`
    Semicolon,
    Newline,
    And,
    Or,
    Pipe,
    /// A redirection of a stream: `<`, `>`, `>>`, or `&` for `>&`.
    Redirect(u8, char),
}

/// What ends a word.
const ENDS: &str = " \t\n;&|<>()";

pub(super) fn tokens(text: &str) -> Result<Vec<Token>, Error> {
    let mut lexer = Lexer {
        rest: text.chars().peekable(),
    };
    let mut tokens = Vec::new();
    while let Some(next) = lexer.rest.peek().copied() {
        match next {
            ' ' | '\t' => drop(lexer.rest.next()),
            '#' => while lexer.rest.next_if(|c| *c != '\n').is_some() {},
            '\n' | ';' | '&' | '|' | '<' | '>' | '(' | ')' => tokens.push(lexer.operator(None)?),
            _ => {
                let word = lexer.word()?;
                let next = lexer.rest.peek().copied();
                match (number(&word), next) {
                    // What stands right before `<` or `>` says whose stream it is.
                    (Some(stream), Some('<' | '>')) => tokens.push(lexer.operator(Some(stream))?),
                    // Nothing but a continued line.
                    _ if word.is_empty() => {}
                    _ => tokens.push(Token::Word(word)),
                }
            }
        }
    }
    Ok(tokens)
}

/// The stream that a word of digits means; there are no more than these.
fn number(word: &[Part]) -> Option<u8> {
    let digits = bare(word)?;
    let is_number = digits.bytes().all(|b| b.is_ascii_digit());
    is_number.then(|| digits.parse().unwrap_or(u8::MAX))
}

/// A word's text where nothing of it is quoted or put in.
pub(super) fn bare(word: &[Part]) -> Option<&str> {
    match word {
        [
            Part::Text {
                text,
                quoted: false,
            },
        ] => Some(text),
        _ => None,
    }
}

struct Lexer<'a> {
    rest: Peekable<Chars<'a>>,
}

impl Lexer<'_> {
    fn takes(&mut self, wanted: char) -> bool {
        self.rest.next_if_eq(&wanted).is_some()
    }

    fn operator(&mut self, stream: Option<u8>) -> Result<Token, Error> {
        let first = self.rest.next().unwrap_or('\n');
        match first {
            ';' if self.takes(';') => Err(refused(";;")),
            ';' => Ok(Token::Semicolon),
            '&' if self.takes('&') => Ok(Token::And),
            '&' => Err(refused("& (commands in the background)")),
            '|' if self.takes('|') => Ok(Token::Or),
            '|' if self.takes('&') => Err(refused("|&")),
            '|' => Ok(Token::Pipe),
            '(' | ')' => Err(refused("( ) (subshells and functions)")),
            '<' => match self.rest.peek() {
                Some('<') => Err(refused("<< (here-documents)")),
                Some('&') => Err(refused("<&")),
                Some('>') => Err(refused("<>")),
                _ => Ok(Token::Redirect(stream.unwrap_or(0), '<')),
            },
            '>' if self.takes('>') => Ok(Token::Redirect(stream.unwrap_or(1), 'a')),
            '>' if self.takes('&') => Ok(Token::Redirect(stream.unwrap_or(1), '&')),
            '>' if self.takes('|') => Err(refused(">|")),
            '>' => Ok(Token::Redirect(stream.unwrap_or(1), '>')),
            _ => Ok(Token::Newline),
        }
    }

    fn word(&mut self) -> Result<Word, Error> {
        let mut word = Building::default();
        let mut in_brackets = false;
        if self.rest.peek() == Some(&'~') {
            return Err(refused("~ (there are no home directories)"));
        }
        while let Some(next) = self.rest.next_if(|c| !ENDS.contains(*c)) {
            match next {
                '\'' => {
                    word.quote();
                    loop {
                        match self.rest.next().ok_or(Error::Incomplete)? {
                            '\'' => break,
                            letter => word.push(letter, true),
                        }
                    }
                }
                '"' => {
                    word.quote();
                    self.double_quoted(&mut word)?;
                }
                '\\' => match self.rest.next().ok_or(Error::Incomplete)? {
                    '\n' => {}
                    letter => word.push(letter, true),
                },
                '$' => self.dollar(&mut word, false)?,
                '`' => return Err(refused("` (the output of a command)")),
                '*' | '?' => return Err(refused("* and ? (patterns; quoted, they are letters)")),
                ']' if in_brackets => {
                    return Err(refused("[ ] (patterns; quoted, they are letters)"));
                }
                letter => {
                    in_brackets |= letter == '[';
                    word.push(letter, false);
                }
            }
        }
        Ok(word.0)
    }

    fn double_quoted(&mut self, word: &mut Building) -> Result<(), Error> {
        loop {
            match self.rest.next().ok_or(Error::Incomplete)? {
                '"' => return Ok(()),
                '`' => return Err(refused("` (the output of a command)")),
                '$' => self.dollar(word, true)?,
                '\\' => match self.rest.next().ok_or(Error::Incomplete)? {
                    '\n' => {}
                    letter @ ('$' | '`' | '"' | '\\') => word.push(letter, true),
                    letter => {
                        word.push('\\', true);
                        word.push(letter, true);
                    }
                },
                letter => word.push(letter, true),
            }
        }
    }

    /// What follows a `$`.
    fn dollar(&mut self, word: &mut Building, quoted: bool) -> Result<(), Error> {
        let Some(next) = self.rest.peek().copied() else {
            word.push('$', quoted);
            return Ok(());
        };
        match next {
            '?' => {
                self.rest.next();
                word.0.push(Part::Status);
            }
            '{' => {
                self.rest.next();
                let name = self.name();
                match self.rest.next() {
                    Some('}') if !name.is_empty() => word.0.push(Part::Variable { name, quoted }),
                    None => return Err(Error::Incomplete),
                    Some(_) => return Err(refused("${ } with more than a name")),
                }
            }
            '(' => return Err(refused("$( (the output of a command, and sums)")),
            '0'..='9' | '@' | '*' | '#' | '$' | '!' | '-' => {
                return Err(refused(&format!("${next}")));
            }
            '\'' | '"' if !quoted => return Err(refused(&format!("${next}"))),
            _ => {
                let name = self.name();
                match name.is_empty() {
                    true => word.push('$', quoted),
                    false => word.0.push(Part::Variable { name, quoted }),
                }
            }
        }
        Ok(())
    }

    fn name(&mut self) -> String {
        let mut name = String::new();
        let fits = |c: &char, first: bool| match first {
            true => c.is_ascii_alphabetic() || *c == '_',
            false => c.is_ascii_alphanumeric() || *c == '_',
        };
        while let Some(letter) = self.rest.next_if(|c| fits(c, name.is_empty())) {
            name.push(letter);
        }
        name
    }
}

#[derive(Default)]
struct Building(Word);

impl Building {
    fn push(&mut self, letter: char, is_quoted: bool) {
        match self.0.last_mut() {
            Some(Part::Text { text, quoted }) if *quoted == is_quoted => text.push(letter),
            _ => self.0.push(Part::Text {
                text: letter.into(),
                quoted: is_quoted,
            }),
        }
    }

    /// Quotes make a word, even around nothing.
    fn quote(&mut self) {
        self.0.push(Part::Text {
            text: String::new(),
            quoted: true,
        });
    }
}

//! A terminal's line discipline, as a system's own terminals have it between a keyboard and a program that reads lines.
//! Pure: bytes in, what becomes of them out.
//!
//! Lines are edited here: what is typed is echoed, and reaches the command when its line ends. DEL and ^H take back a
//! character, ^W a word, ^U the line; ^D ends one read, which who reads to the end takes for it, or hands over an unfinished line; ^C
//! ends the command.

/// The longest line, with its end. What is typed beyond it is dropped, with a bell.
const LONGEST: usize = 4096;

const INTERRUPT: u8 = 0x03;
const END: u8 = 0x04;
const BELL: u8 = 0x07;
const BACKSPACE: u8 = 0x08;
const KILL: u8 = 0x15;
const WORD_ERASE: u8 = 0x17;
const ERASE: u8 = 0x7f;

/// The line that is being typed.
#[derive(Debug, Default)]
pub(crate) struct Discipline {
    line: Vec<u8>,
}

/// What becomes of some bytes that were typed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Typed {
    /// What is shown.
    pub(crate) echo: Vec<u8>,
    /// What the command reads: an empty piece ends one read.
    pub(crate) input: Vec<Vec<u8>>,
    /// The command is to end. What was typed after that is dropped.
    pub(crate) interrupt: bool,
}

impl Discipline {
    /// Takes in what was typed.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Typed {
        let mut typed = Typed::default();
        for byte in bytes {
            match *byte {
                INTERRUPT => {
                    typed.echo.extend_from_slice(b"^C");
                    typed.interrupt = true;
                    // Who goes on reading nonetheless begins with an empty line.
                    self.line.clear();
                    return typed;
                }
                byte => self.key(byte, &mut typed),
            }
        }
        typed
    }

    fn key(&mut self, byte: u8, typed: &mut Typed) {
        match byte {
            // Empty where nothing is typed.
            END => typed.input.push(std::mem::take(&mut self.line)),
            ERASE | BACKSPACE => {
                self.erase(&mut typed.echo);
            }
            KILL => while self.erase(&mut typed.echo) {},
            WORD_ERASE => self.erase_word(&mut typed.echo),
            b'\r' | b'\n' => {
                typed.echo.extend_from_slice(b"\r\n");
                self.line.push(b'\n');
                typed.input.push(std::mem::take(&mut self.line));
            }
            byte if self.line.len() + 1 < LONGEST => {
                self.line.push(byte);
                echo(byte, &mut typed.echo);
            }
            _ => typed.echo.push(BELL),
        }
    }

    /// Takes back the last character; whether there was one.
    fn erase(&mut self, echo: &mut Vec<u8>) -> bool {
        let Some(mut last) = self.line.pop() else {
            return false;
        };
        while is_continuation(last) {
            match self.line.pop() {
                Some(before) => last = before,
                None => break,
            }
        }
        for _ in 0..width(last) {
            echo.extend_from_slice(b"\x08 \x08");
        }
        true
    }

    fn erase_word(&mut self, echo: &mut Vec<u8>) {
        let blank = |line: &[u8]| line.last().is_some_and(u8::is_ascii_whitespace);
        while blank(&self.line) {
            self.erase(echo);
        }
        while !self.line.is_empty() && !blank(&self.line) {
            self.erase(echo);
        }
    }
}

/// A byte of UTF-8 that goes on with a character.
fn is_continuation(byte: u8) -> bool {
    byte & 0xc0 == 0x80
}

/// How many columns the echo of a character takes that begins with this byte. No terminal says how wide it shows other
/// than ASCII characters: they count as one.
fn width(first: u8) -> usize {
    match first {
        b'\t' => 1,
        first if first.is_ascii_control() => 2,
        _ => 1,
    }
}

fn echo(byte: u8, echo: &mut Vec<u8>) {
    match byte {
        // So that it takes one column wherever it stands.
        b'\t' => echo.push(b' '),
        byte if byte.is_ascii_control() => echo.extend_from_slice(&[b'^', byte ^ 0x40]),
        byte => echo.push(byte),
    }
}

/// What a terminal shows of what was printed: each line begins at the left.
pub(crate) fn shown(printed: &[u8]) -> Vec<u8> {
    let lines = printed.iter().filter(|byte| **byte == b'\n').count();
    let mut shown = Vec::with_capacity(printed.len() + lines);
    for byte in printed {
        if *byte == b'\n' {
            shown.push(b'\r');
        }
        shown.push(*byte);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is typed, what is shown, and what the command reads.
    type Row = (&'static [u8], &'static [u8], &'static [u8]);

    const NOTHING: &[u8] = b"";

    /// Types one after the other at the same terminal.
    fn session(rows: &[Row]) {
        let mut discipline = Discipline::default();
        for (typed, echo, input) in rows {
            let became = discipline.take(typed);
            let wanted = Typed {
                echo: echo.to_vec(),
                input: became.input.clone(),
                interrupt: false,
            };
            assert_eq!(became, wanted, "{}", typed.escape_ascii());
            assert_eq!(became.input.concat(), *input, "{}", typed.escape_ascii());
        }
    }

    #[test]
    fn lines_reach_the_command_as_a_whole() {
        session(&[
            (b"ab", b"ab", NOTHING),
            (b"c\r", b"c\r\n", b"abc\n"),
            (b"\n", b"\r\n", b"\n"),
            (b"x\ry\nz", b"x\r\ny\r\nz", b"x\ny\n"),
            // What there is of an unfinished one, if that is asked for.
            (b"\x04", NOTHING, b"z"),
            (b"\r", b"\r\n", b"\n"),
        ]);
    }

    #[test]
    fn what_was_typed_can_be_taken_back() {
        session(&[
            (b"ab", b"ab", NOTHING),
            (b"\x7f", b"\x08 \x08", NOTHING),
            (b"\x08", b"\x08 \x08", NOTHING),
            (b"\x7f", NOTHING, NOTHING),
            ("ä€".as_bytes(), "ä€".as_bytes(), NOTHING),
            (b"\x7f", b"\x08 \x08", NOTHING),
            (b"\x7f", b"\x08 \x08", NOTHING),
            (b"\t", b" ", NOTHING),
            (b"\x7f", b"\x08 \x08", NOTHING),
            (b"\x1b[", b"^[[", NOTHING),
            (b"\x15", b"\x08 \x08\x08 \x08\x08 \x08", NOTHING),
            (b"a bc ", b"a bc ", NOTHING),
            (b"\x17", b"\x08 \x08\x08 \x08\x08 \x08", NOTHING),
            (b"d\r", b"d\r\n", b"a d\n"),
            (b"\x17\x15", NOTHING, NOTHING),
            // Bytes that are no characters, too.
            (b"\x80\x80\x7f\x7f", b"\x80\x80\x08 \x08", NOTHING),
            (b"e\r", b"e\r\n", b"e\n"),
        ]);
    }

    #[test]
    fn lines_are_bounded() {
        let mut discipline = Discipline::default();
        let became = discipline.take(&[b'x'; LONGEST + 9]);
        assert_eq!(became.echo.len(), LONGEST + 9);
        assert!(became.echo.ends_with(&[BELL; 10]));
        assert_eq!(became.input.concat(), NOTHING);
        let became = discipline.take(b"\x7fyz\r");
        assert_eq!(became.echo, b"\x08 \x08y\x07\r\n");
        assert_eq!(became.input.concat().len(), LONGEST);
        assert!(became.input.concat().ends_with(b"xy\n"));
    }

    #[test]
    fn a_read_ends_where_nothing_is_typed() {
        let became = Discipline::default().take(b"ab\x04\x04cd\r\x04");
        let input: Vec<&[u8]> = became.input.iter().map(Vec::as_slice).collect();
        assert_eq!(input, [&b"ab"[..], b"", b"cd\n", b""]);
        assert_eq!(became.echo, b"abcd\r\n");
        assert!(!became.interrupt);
    }

    #[test]
    fn a_command_is_interrupted() {
        let mut discipline = Discipline::default();
        let became = discipline.take(b"a\rb\x03c\r");
        let wanted = Typed {
            echo: b"a\r\nb^C".to_vec(),
            input: vec![b"a\n".to_vec()],
            interrupt: true,
        };
        assert_eq!(became, wanted);
        // Nothing of it is left to whoever reads on.
        let became = discipline.take(b"n\r");
        assert_eq!(became.input.concat(), b"n\n");
    }

    #[test]
    fn printed_lines_begin_at_the_left() {
        for (printed, wanted) in [
            (&b""[..], &b""[..]),
            (b"a", b"a"),
            (b"a\nb\n", b"a\r\nb\r\n"),
            (b"a\r\n", b"a\r\r\n"),
        ] {
            assert_eq!(shown(printed), wanted);
        }
    }
}

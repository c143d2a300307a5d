//! What Go's JSON scanner says of a body that is no JSON: clients show it, and some look for it.

/// Levels that Go reads.
const MAX_DEPTH: usize = 10_000;

const END: &str = "unexpected end of JSON input";

/// The first fault of a text, as Go words it; none where Go's scanner finds none.
pub(super) fn fault(body: &[u8]) -> Option<String> {
    let mut scanner = Scanner {
        body,
        at: 0,
        open: Vec::new(),
    };
    scanner.text().err()
}

struct Scanner<'a> {
    body: &'a [u8],
    at: usize,
    /// The brackets around the place, innermost last: true for an object.
    open: Vec<bool>,
}

impl Scanner<'_> {
    fn text(&mut self) -> Result<(), String> {
        loop {
            if !self.value()? {
                continue;
            }
            // A value is complete: so may be what it lies in.
            loop {
                self.blanks();
                let Some(object) = self.open.last().copied() else {
                    return match self.peek() {
                        None => Ok(()),
                        Some(_) => Err(self.unexpected("after top-level value")),
                    };
                };
                match (self.next()?, object) {
                    (b',', true) => {
                        self.key()?;
                        break;
                    }
                    (b',', false) => break,
                    (b'}', true) | (b']', false) => {
                        self.open.pop();
                    }
                    (_, true) => return Err(self.before("after object key:value pair")),
                    (_, false) => return Err(self.before("after array element")),
                }
            }
        }
    }

    /// Reads a scalar or an empty list or object, and says true; or opens a list or object up to its
    /// first value.
    fn value(&mut self) -> Result<bool, String> {
        self.blanks();
        let first = self.next()?;
        match first {
            b'{' | b'[' => {
                self.open.push(first == b'{');
                if self.open.len() > MAX_DEPTH {
                    return Err("exceeded max depth".to_owned());
                }
                self.blanks();
                let closing = if first == b'{' { b'}' } else { b']' };
                if self.peek() == Some(closing) {
                    self.at += 1;
                    self.open.pop();
                    return Ok(true);
                }
                if first == b'{' {
                    self.key()?;
                }
                Ok(false)
            }
            b'"' => self.string().map(|()| true),
            b'-' => {
                let digit = self.next()?;
                self.number(digit, "in numeric literal").map(|()| true)
            }
            b'0'..=b'9' => self.number(first, "").map(|()| true),
            b't' => self.literal("true"),
            b'f' => self.literal("false"),
            b'n' => self.literal("null"),
            _ => Err(self.before("looking for beginning of value")),
        }
    }

    /// Reads a key and its colon.
    fn key(&mut self) -> Result<(), String> {
        self.blanks();
        if self.next()? != b'"' {
            return Err(self.before("looking for beginning of object key string"));
        }
        self.string()?;
        self.blanks();
        if self.next()? != b':' {
            return Err(self.before("after object key"));
        }
        Ok(())
    }

    fn string(&mut self) -> Result<(), String> {
        loop {
            match self.next()? {
                b'"' => return Ok(()),
                b'\\' => match self.next()? {
                    b'b' | b'f' | b'n' | b'r' | b't' | b'\\' | b'/' | b'"' => {}
                    b'u' => {
                        for _ in 0..4 {
                            if !self.next()?.is_ascii_hexdigit() {
                                return Err(self.before("in \\u hexadecimal character escape"));
                            }
                        }
                    }
                    _ => return Err(self.before("in string escape code")),
                },
                0..0x20 => return Err(self.before("in string literal")),
                _ => {}
            }
        }
    }

    fn number(&mut self, first: u8, context: &str) -> Result<(), String> {
        match first {
            b'0' => {}
            b'1'..=b'9' => self.digits(),
            _ => return Err(self.before(context)),
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            if !self.next()?.is_ascii_digit() {
                return Err(self.before("after decimal point in numeric literal"));
            }
            self.digits();
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            let mut next = self.next()?;
            if matches!(next, b'+' | b'-') {
                next = self.next()?;
            }
            if !next.is_ascii_digit() {
                return Err(self.before("in exponent of numeric literal"));
            }
            self.digits();
        }
        Ok(())
    }

    fn digits(&mut self) {
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
    }

    /// Reads the rest of a word of which the first letter was read.
    fn literal(&mut self, word: &str) -> Result<bool, String> {
        for wanted in word.bytes().skip(1) {
            if self.next()? != wanted {
                let wanted = char::from(wanted);
                return Err(self.before(&format!("in literal {word} (expecting '{wanted}')")));
            }
        }
        Ok(true)
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.body.get(self.at).copied()
    }

    fn next(&mut self) -> Result<u8, String> {
        let byte = self.peek().ok_or_else(|| END.to_owned())?;
        self.at += 1;
        Ok(byte)
    }

    /// The byte that is next is at fault.
    fn unexpected(&mut self, context: &str) -> String {
        self.at += 1;
        self.before(context)
    }

    /// The byte that was read last is at fault.
    fn before(&self, context: &str) -> String {
        let byte = self.body.get(self.at - 1).copied().unwrap_or_default();
        format!("invalid character {} {context}", quoted(byte))
    }
}

/// A byte as Go quotes it.
fn quoted(byte: u8) -> String {
    match byte {
        b'\'' => r"'\''".to_owned(),
        b'\\' => r"'\\'".to_owned(),
        0x07 => r"'\a'".to_owned(),
        0x08 => r"'\b'".to_owned(),
        b'\t' => r"'\t'".to_owned(),
        b'\n' => r"'\n'".to_owned(),
        0x0b => r"'\v'".to_owned(),
        0x0c => r"'\f'".to_owned(),
        b'\r' => r"'\r'".to_owned(),
        0..0x20 | 0x7f => format!(r"'\x{byte:02x}'"),
        0x80..0xa0 | 0xad => format!(r"'\u{byte:04x}'"),
        0xa0 => r"'\u00a0'".to_owned(),
        _ => format!("'{}'", char::from(byte)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_worded_as_go_does() {
        let value = "looking for beginning of value";
        let key = "looking for beginning of object key string";
        for (body, want) in [
            ("", END.to_owned()),
            ("{\"a\": ", END.to_owned()),
            ("\"abc", END.to_owned()),
            (
                "nope",
                "invalid character 'o' in literal null (expecting 'u')".to_owned(),
            ),
            ("{\"a\": 1, nope", format!("invalid character 'n' {key}")),
            ("{,", format!("invalid character ',' {key}")),
            ("{\"a\":1,}", format!("invalid character '}}' {key}")),
            (
                "{\"a\" 1}",
                "invalid character '1' after object key".to_owned(),
            ),
            (
                "{\"a\":1 \"b\"",
                "invalid character '\"' after object key:value pair".to_owned(),
            ),
            ("[1,]", format!("invalid character ']' {value}")),
            (
                "[1 2]",
                "invalid character '2' after array element".to_owned(),
            ),
            (
                "{} x",
                "invalid character 'x' after top-level value".to_owned(),
            ),
            ("'a'", format!(r"invalid character '\'' {value}")),
            ("\u{e9}", format!("invalid character '\u{c3}' {value}")),
            ("-x", "invalid character 'x' in numeric literal".to_owned()),
            (
                "01",
                "invalid character '1' after top-level value".to_owned(),
            ),
            (
                "1.x",
                "invalid character 'x' after decimal point in numeric literal".to_owned(),
            ),
            (
                "1e+x",
                "invalid character 'x' in exponent of numeric literal".to_owned(),
            ),
            (
                "\"\\x\"",
                "invalid character 'x' in string escape code".to_owned(),
            ),
            (
                "\"\\u12x4\"",
                r"invalid character 'x' in \u hexadecimal character escape".to_owned(),
            ),
            (
                "\"a\nb\"",
                r"invalid character '\n' in string literal".to_owned(),
            ),
        ] {
            assert_eq!(fault(body.as_bytes()).as_deref(), Some(&*want), "{body}");
        }
        let deep = "[".repeat(MAX_DEPTH + 1);
        assert_eq!(
            fault(deep.as_bytes()).as_deref(),
            Some("exceeded max depth")
        );
    }

    #[test]
    fn what_is_json_has_none() {
        for body in [
            "{}",
            "[]",
            " {\"a\": [1, -2.5e-3, {\"b\": {}}, []], \"c\": [[null, true, false], \"\\u00e9\\n\"]} \n",
            "0",
            "1E5",
        ] {
            assert_eq!(fault(body.as_bytes()), None, "{body}");
            assert!(serde_json::from_str::<serde_json::Value>(body).is_ok());
        }
    }
}

//! What YAML's lists and objects in brackets may cost. libyaml looks through all that are open at every token, so
//! that a few hundred kilobytes of opening brackets hold a processor for minutes; go-yaml has a bound for it too.

use serde::de::IgnoredAny;

/// How many bytes, each as often as brackets may be open there, are read at most: about a second's work.
const MOST: usize = 1 << 30;

/// Whether a text may cost too much.
pub(super) fn is_too_deep(text: &str) -> bool {
    depth(text).saturating_mul(text.len()) > MOST
}

/// How many brackets are open at once at most. What YAML takes for a bracket is clear where the text is JSON, as
/// clients send it; elsewhere every one counts.
fn depth(text: &str) -> usize {
    if serde_json::from_str::<IgnoredAny>(text).is_err() {
        let opening = |byte: &u8| matches!(byte, b'[' | b'{');
        return text.bytes().filter(|byte| opening(byte)).count();
    }
    let (mut open, mut most) = (0_usize, 0);
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'[' | b'{' => open += 1,
            b']' | b'}' => open = open.saturating_sub(1),
            b'"' => skip_string(&mut bytes),
            _ => {}
        }
        most = most.max(open);
    }
    most
}

/// Goes behind the end of a string that has begun.
fn skip_string(bytes: &mut impl Iterator<Item = u8>) {
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => return,
            b'\\' => drop(bytes.next()),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_deep_a_text_may_be() {
        for (text, most) in [
            ("", 0),
            ("a: b", 0),
            ("a: [b, {c: d}]", 2),
            // No JSON: each of them counts, wherever it stands.
            ("a: [b]\nc: [d]", 2),
            ("a: '[['", 2),
            ("{\"a\": [1, {\"b\": []}], \"c\": []}", 4),
            ("[\"[[[\", \"\\\"[[\", \"\\\\\", []]", 2),
            ("[[[", 3),
        ] {
            assert_eq!(depth(text), most, "{text}");
        }
    }

    #[test]
    fn what_costs_too_much() {
        let items = |count: usize| vec!["{\"a\":[]}"; count].join(",");
        for (text, refused) in [
            ("{a: ".repeat(100_000), true),
            ("[".repeat(100_000), true),
            ("{a: ".repeat(1_000), false),
            (format!("[{}]", items(100_000)), false),
            (format!("a: {}", "x".repeat(3 << 20)), false),
            (
                format!("{}{}", "[".repeat(50_000), "]".repeat(50_000)),
                true,
            ),
        ] {
            assert_eq!(is_too_deep(&text), refused, "{text:.20}");
        }
    }
}

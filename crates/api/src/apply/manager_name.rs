//! What managers may be called.

use crate::status::{FieldError, FieldPath};

/// The longest name, in bytes.
const MAX_BYTES: usize = 128;

/// What is wrong with a manager's name.
pub fn manager_faults(path: &FieldPath, manager: &str) -> Vec<FieldError> {
    let mut faults = Vec::new();
    if manager.len() > MAX_BYTES {
        faults.push(FieldError::too_long(path, MAX_BYTES));
    }
    let unprintable = manager.char_indices().filter(|(_, c)| !is_printable(*c));
    faults.extend(unprintable.map(|(at, c)| {
        let why = format!(
            "invalid character U+{:04X} (at position {at})",
            u32::from(c)
        );
        FieldError::invalid(path, manager, &why)
    }));
    faults
}

/// The manager that a client is by its `User-Agent` if it names none: what stands before the first
/// slash, without unprintable characters, as much as a name may have. May be empty.
pub fn manager_of_user_agent(agent: &str) -> String {
    let program = agent.split('/').next().unwrap_or_default();
    let mut name = String::new();
    for c in program.chars().filter(|c| is_printable(*c)) {
        if name.len() + c.len_utf8() > MAX_BYTES {
            break;
        }
        name.push(c);
    }
    name
}

/// Letters, marks, numbers, punctuation, symbols, and of blanks the space alone: what Rust shows as it
/// is, too. It escapes marks at the beginning only, and quotes although they can be shown.
fn is_printable(c: char) -> bool {
    if matches!(c, '"' | '\'' | '\\') {
        return true;
    }
    let shown = format!("a{c}");
    shown.escape_debug().eq(shown.chars())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_and_printable() {
        let path = FieldPath::new("fieldManager");
        let faults = |name: &str| -> Vec<String> {
            let faults = manager_faults(&path, name);
            faults.iter().map(ToString::to_string).collect()
        };
        for fine in [
            "",
            "kubectl",
            "it's a \"name\" \\",
            "é",
            "e\u{301}",
            &"x".repeat(128),
        ] {
            assert_eq!(faults(fine), [""; 0], "{fine}");
        }
        assert_eq!(
            faults(&"x".repeat(129)),
            ["fieldManager: Too long: may not be more than 128 bytes"]
        );
        assert_eq!(
            faults("a\tb\u{a0}"),
            [
                "fieldManager: Invalid value: \"a\\tb\u{a0}\": invalid character U+0009 (at position 1)",
                "fieldManager: Invalid value: \"a\\tb\u{a0}\": invalid character U+00A0 (at position 3)",
            ]
        );
    }

    #[test]
    fn programs_are_managers() {
        for (agent, manager) in [
            ("kubectl/v1.32 (linux)", "kubectl"),
            ("Mozilla Firefox/5.0", "Mozilla Firefox"),
            ("a\u{7}b", "ab"),
            ("/1", ""),
            ("", ""),
        ] {
            assert_eq!(manager_of_user_agent(agent), manager);
        }
        assert_eq!(manager_of_user_agent(&"é".repeat(100)), "é".repeat(64));
    }
}

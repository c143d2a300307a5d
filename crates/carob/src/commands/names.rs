//! Names of objects out of names of files.

use std::path::Path;

use rand::Rng;

/// A file's name without its directory and ending.
pub(super) fn stem(path: &Path) -> String {
    path.file_stem()
        .map(|s| s.to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// A file's name as part of an object's: small letters, digits and hyphens.
pub(super) fn plain(text: &str) -> String {
    let mapped: String = text
        .to_lowercase()
        .chars()
        .map(|c| {
            if c.is_ascii_lowercase() || c.is_ascii_digit() {
                c
            } else {
                '-'
            }
        })
        .collect();
    let cut: String = mapped.trim_matches('-').chars().take(40).collect();
    let cut = cut.trim_matches('-');
    if cut.is_empty() {
        "run".to_owned()
    } else {
        cut.to_owned()
    }
}

/// Five letters and digits that no vowel can turn into a word.
pub(super) fn suffix() -> String {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut random = rand::rng();
    (0..5)
        .map(|_| ALPHABET[random.random_range(0..ALPHABET.len())] as char)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_fit_for_objects() {
        for (given, made) in [
            ("hello", "hello"),
            ("My Module_2", "my-module-2"),
            ("--", "run"),
            ("x.y", "x-y"),
        ] {
            assert_eq!(plain(given), made);
        }
    }
}

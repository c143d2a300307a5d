//! Which kubectl there is.

use std::process::Command;

use crate::step;

/// The oldest kubectl that the tests and the demo are for.
const OLDEST: (u32, u32) = (1, 32);

/// The version of the kubectl on the path, or why there is none to use.
pub(crate) fn version() -> Result<String, String> {
    let wanted = format!("{}.{} or newer", OLDEST.0, OLDEST.1);
    let output = step::output(Command::new("kubectl").args(["version", "--client", "-o", "json"]))
        .map_err(|_| format!("there is no kubectl on the path (want {wanted})"))?;
    let document: serde_json::Value = serde_json::from_str(&output)
        .map_err(|error| format!("kubectl does not say its version: {error}"))?;
    let text = document
        .pointer("/clientVersion/gitVersion")
        .and_then(|version| version.as_str())
        .unwrap_or_default();
    match parse(text) {
        Some(version) if version >= OLDEST => Ok(text.to_owned()),
        Some(_) => Err(format!("kubectl is {text} (want {wanted})")),
        None => Err(format!("kubectl says that it is {text:?} (want {wanted})")),
    }
}

fn parse(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.trim_start_matches('v').split('.');
    let mut number = || parts.next()?.parse().ok();
    Some((number()?, number()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        assert_eq!(parse("v1.32.4-dispatcher"), Some((1, 32)));
        assert_eq!(parse("1.9"), Some((1, 9)));
        assert_eq!(parse(""), None);
        assert!(parse("v1.9.1") < Some(OLDEST));
    }
}

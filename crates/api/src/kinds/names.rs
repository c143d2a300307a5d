//! Rules for names and other short texts, worded as `k8s.io/apimachinery/pkg/util/validation` words them.
//! Each returns what is wrong, or nothing.

use crate::status::{FieldError, FieldPath};
use serde_json::Value;

/// Appends one fault for each of a rule's complaints about `value`.
pub(crate) fn check(
    errors: &mut Vec<FieldError>,
    path: &FieldPath,
    value: &str,
    rule: fn(&str) -> Vec<String>,
) {
    errors.extend(
        rule(value)
            .into_iter()
            .map(|why| FieldError::invalid(path, value, &why)),
    );
}

/// Appends a fault unless the number there is 0 or more.
pub(crate) fn not_negative(
    errors: &mut Vec<FieldError>,
    object: &Value,
    field: &str,
    parent: &FieldPath,
) {
    if let Some(number) = object
        .get(field)
        .and_then(Value::as_i64)
        .filter(|number| *number < 0)
    {
        errors.push(FieldError::invalid(
            &parent.child(field),
            number,
            "must be greater than or equal to 0",
        ));
    }
}

/// Appends a fault unless the text there is empty or one of `allowed`.
pub(crate) fn one_of(
    errors: &mut Vec<FieldError>,
    object: &Value,
    field: &str,
    parent: &FieldPath,
    allowed: &[&str],
) {
    let value = super::field::text(object, &format!("/{field}"));
    if !value.is_empty() && !allowed.contains(&value) {
        errors.push(FieldError::not_supported(
            &parent.child(field),
            value,
            allowed,
        ));
    }
}

fn too_long(length: usize) -> String {
    format!("must be no more than {length} characters")
}

fn is_label(text: &str, letter: impl Fn(char) -> bool) -> bool {
    let inner = |c: char| letter(c) || c.is_ascii_digit();
    text.starts_with(inner) && text.ends_with(inner) && text.chars().all(|c| inner(c) || c == '-')
}

fn lower(c: char) -> bool {
    c.is_ascii_lowercase()
}

/// A DNS label of RFC 1123: container names, volume names, namespaces.
pub(crate) fn dns_label(value: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if value.len() > 63 {
        faults.push(too_long(63));
    }
    if !is_label(value, lower) {
        faults.push(
            "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', \
             and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', \
             regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
                .to_owned(),
        );
    }
    faults
}

/// A DNS name of RFC 1123: most objects' names.
pub(crate) fn dns_subdomain(value: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if value.len() > 253 {
        faults.push(too_long(253));
    }
    if !value.split('.').all(|label| is_label(label, lower)) {
        faults.push(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, \
             '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', \
             regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
                .to_owned(),
        );
    }
    faults
}

/// A DNS label of RFC 1035: services' names.
pub(crate) fn dns_1035_label(value: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if value.len() > 63 {
        faults.push(too_long(63));
    }
    if !is_label(value, lower) || !value.starts_with(lower) {
        faults.push(
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with \
             an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or \
             'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')"
                .to_owned(),
        );
    }
    faults
}

/// The part of a label's key after the slash, and resources' and conditions' names.
fn qualified_part(value: &str) -> bool {
    let edge = |c: char| c.is_ascii_alphanumeric();
    value.starts_with(edge)
        && value.ends_with(edge)
        && value
            .chars()
            .all(|c| edge(c) || matches!(c, '-' | '_' | '.'))
}

/// `[prefix/]name`: keys of labels, annotations, taints, resources.
pub(crate) fn qualified_name(value: &str) -> Vec<String> {
    const FORM: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
        alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
        '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
    let (prefix, name) = match value.split_once('/') {
        Some((_, rest)) if rest.contains('/') => {
            return vec![format!(
                "a qualified name {FORM} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, value),
    };
    let mut faults = Vec::new();
    match prefix {
        Some("") => faults.push("prefix part must be non-empty".to_owned()),
        Some(prefix) => faults.extend(
            dns_subdomain(prefix)
                .into_iter()
                .map(|fault| format!("prefix part {fault}")),
        ),
        None => {}
    }
    if name.is_empty() {
        faults.push("name part must be non-empty".to_owned());
    } else if name.len() > 63 {
        faults.push(format!("name part {}", too_long(63)));
    }
    if !qualified_part(name) {
        faults.push(format!("name part {FORM}"));
    }
    faults
}

/// The value of a label.
pub(crate) fn label_value(value: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if value.len() > 63 {
        faults.push(too_long(63));
    }
    if !value.is_empty() && !qualified_part(value) {
        faults.push(
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', \
             and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', \
             regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
                .to_owned(),
        );
    }
    faults
}

/// A key of a ConfigMap or Secret.
pub(crate) fn config_key(value: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if value.len() > 253 {
        faults.push(too_long(253));
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if value.is_empty() || !value.chars().all(allowed) {
        faults.push(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  \
             or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
                .to_owned(),
        );
    }
    match value {
        "." => faults.push("must not be '.'".to_owned()),
        ".." => faults.push("must not be '..'".to_owned()),
        _ if value.starts_with("..") => faults.push("must not start with '..'".to_owned()),
        _ => {}
    }
    faults
}

/// The name of an environment variable.
pub(crate) fn env_name(value: &str) -> Vec<String> {
    if value.chars().all(|c| matches!(c, ' '..='~') && c != '=') {
        return Vec::new();
    }
    vec![
        "a valid environment variable name must consist only of printable ASCII characters other than '='"
            .to_owned(),
    ]
}

/// The name of a port, as probes and services may use it.
pub(crate) fn port_name(value: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if value.len() > 15 {
        faults.push(too_long(15));
    }
    if !value
        .chars()
        .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
    {
        faults.push(
            "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned(),
        );
    }
    if !value.contains(lower) {
        faults.push("must contain at least one letter (a-z)".to_owned());
    }
    if value.contains("--") {
        faults.push("must not contain consecutive hyphens".to_owned());
    }
    if value.starts_with('-') || value.ends_with('-') {
        faults.push("must not begin or end with a hyphen".to_owned());
    }
    faults
}

/// Judges a path below a domain's name: `acme.io/foo`.
pub(crate) fn domain_prefixed_path(value: &str, path: &FieldPath, errors: &mut Vec<FieldError>) {
    if value.is_empty() {
        errors.push(FieldError::required(path, ""));
        return;
    }
    let parts = value.split_once('/');
    let Some((host, rest)) = parts.filter(|(host, rest)| !host.is_empty() && !rest.is_empty())
    else {
        errors.push(FieldError::invalid(
            path,
            value,
            "must be a domain-prefixed path (such as \"acme.io/foo\")",
        ));
        return;
    };
    check(errors, path, host, dns_subdomain);
    let allowed = |c: char| c.is_ascii_alphanumeric() || "/-._~%!$&'()*+,;=:".contains(c);
    if !rest.chars().all(allowed) {
        errors.push(FieldError::invalid(
            path,
            rest,
            "Invalid path (regex used for validation is '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')",
        ));
    }
}

/// A name that may stand in a URL's path.
pub(crate) fn path_segment(name: &str) -> Vec<String> {
    if name == "." || name == ".." {
        return vec![format!("may not be '{name}'")];
    }
    ["/", "%"]
        .into_iter()
        .filter(|bad| name.contains(bad))
        .map(|bad| format!("may not contain '{bad}'"))
        .collect()
}

/// What is wrong with a port's number, if anything is.
pub(crate) fn port_number(value: i64) -> Option<&'static str> {
    (!(1..=65_535).contains(&value)).then_some("must be between 1 and 65535, inclusive")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_and_bad_names() {
        type Rule = fn(&str) -> Vec<String>;
        type Case = (Rule, &'static [&'static str], &'static [&'static str]);
        let rules: [Case; 7] = [
            (
                dns_label,
                &["a", "0-a", "a9"],
                &["", "A", "-a", "a-", "a.b", "é"],
            ),
            (
                dns_subdomain,
                &["a.b-c", "1.2"],
                &["", "a..b", "a.-b", "a_b"],
            ),
            (dns_1035_label, &["a", "a-1"], &["", "1a", "a-"]),
            (
                qualified_name,
                &["a", "A_b.c", "x.io/a"],
                &["", "/a", "x/", "x/y/z", "X/a", "-a"],
            ),
            (
                config_key,
                &["a", ".x", "A_B-c"],
                &["", ".", "..", "..a", "a b", "a/b"],
            ),
            (env_name, &["A", "a.b", "1 2"], &["a=b", "é", "\n"]),
            (
                port_name,
                &["http", "a-1"],
                &["1", "-a", "a--b", "Http", "sixteen-letters-x"],
            ),
        ];
        for (rule, good, bad) in rules {
            for name in good {
                assert!(rule(name).is_empty(), "{name:?}: {:?}", rule(name));
            }
            for name in bad {
                assert!(!rule(name).is_empty(), "{name:?} passed");
            }
        }
    }
}

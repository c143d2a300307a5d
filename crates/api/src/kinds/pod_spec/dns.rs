//! Rules of how a pod resolves names.

use crate::kinds::address::check_ip;
use crate::kinds::field::{items, present, text};
use crate::status::{FieldError, FieldPath};
use serde_json::Value;

const MOST_NAMESERVERS: usize = 3;
const MOST_SEARCHES: usize = 32;
const MOST_SEARCH_CHARACTERS: usize = 2048;

/// Judges `dnsConfig`, which the policy `None` requires.
pub(super) fn validate(spec: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let config = present(spec, "/dnsConfig");
    let servers = items(spec, "/dnsConfig/nameservers");
    if text(spec, "/dnsPolicy") == "None" {
        if config.is_none() {
            let why = "must provide `dnsConfig` when `dnsPolicy` is None";
            errors.push(FieldError::required(path, why));
            return;
        }
        if servers.is_empty() {
            errors.push(FieldError::required(
                &path.child("nameservers"),
                "must provide at least one DNS nameserver when `dnsPolicy` is None",
            ));
            return;
        }
    }
    let Some(config) = config else { return };
    let list = path.child("nameservers");
    if servers.len() > MOST_NAMESERVERS {
        let why = format!("must not have more than {MOST_NAMESERVERS} nameservers");
        errors.push(FieldError::invalid(&list, servers.to_vec(), &why));
    }
    for (index, server) in servers.iter().enumerate() {
        check_ip(errors, &list.index(index), text(server, ""));
    }
    searches(config, &path.child("searches"), errors);
    for (index, option) in items(config, "/options").iter().enumerate() {
        if text(option, "/name").is_empty() {
            errors.push(FieldError::required(
                &path.child("options").index(index),
                "must not be empty",
            ));
        }
    }
}

fn searches(config: &Value, list: &FieldPath, errors: &mut Vec<FieldError>) {
    let searches = items(config, "/searches");
    if searches.len() > MOST_SEARCHES {
        let why = format!("must not have more than {MOST_SEARCHES} search paths");
        errors.push(FieldError::invalid(list, searches.to_vec(), &why));
    }
    let length: usize = searches.iter().map(|held| text(held, "").len()).sum();
    if length + searches.len().saturating_sub(1) > MOST_SEARCH_CHARACTERS {
        let why = format!(
            "must not have more than {MOST_SEARCH_CHARACTERS} characters (including spaces) in the search list"
        );
        errors.push(FieldError::invalid(list, searches.to_vec(), &why));
    }
    for (index, search) in searches.iter().enumerate() {
        let search = text(search, "");
        let name = search.strip_suffix('.').unwrap_or(search);
        if search != "." && !is_search_path(name) {
            errors.push(FieldError::invalid(
                &list.index(index),
                name,
                "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, \
                 '-', '_', or '.', and must start and end with an alphanumeric character (e.g. \
                 'example.com', regex used for validation is \
                 '_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*')",
            ));
        }
    }
}

/// Whether every label is one of DNS, but that underscores may stand at its start and inside it.
fn is_search_path(name: &str) -> bool {
    let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    name.len() <= 253
        && name.split('.').all(|label| {
            let label = label.strip_prefix('_').unwrap_or(label);
            label.starts_with(edge)
                && label.ends_with(edge)
                && label.chars().all(|c| edge(c) || matches!(c, '-' | '_'))
        })
}

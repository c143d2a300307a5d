//! What a request's query says beside its path: options of writes and lists.

use api::Status;
use api::apply::{manager_faults, manager_of_user_agent};
use api::status::{FieldError, FieldPath};
use http::HeaderMap;

use crate::request::Query;

/// What becomes of fields that the schema does not know.
pub(crate) use api::codec::FieldValidation;

/// The options of a create, update, patch or delete.
#[derive(Clone, Debug)]
pub(crate) struct WriteOptions {
    /// `dryRun=All`: everything but the write itself.
    pub(crate) dry_run: bool,
    /// `fieldManager`, or the first part of the user agent.
    pub(crate) manager: String,
    /// Whether `fieldManager` was given.
    pub(crate) manager_given: bool,
    /// `fieldValidation`.
    pub(crate) validation: FieldValidation,
}

impl WriteOptions {
    /// Reads them; `kind` is how errors call them: `CreateOptions`.
    pub(crate) fn read(
        kind: &str,
        query: &Query,
        headers: &HeaderMap,
    ) -> Result<WriteOptions, Status> {
        // A deletion has no such option, and leaves no entry.
        let given = query
            .text("fieldManager")
            .filter(|_| kind != "DeleteOptions");
        let path = FieldPath::new("fieldManager");
        let faults = given.map(|manager| manager_faults(&path, manager));
        if let Some(faults) = faults.filter(|faults| !faults.is_empty()) {
            return Err(Status::invalid_kind("meta.k8s.io", kind, "", faults));
        }
        Ok(WriteOptions {
            dry_run: dry_run(kind, query.all("dryRun"))?,
            manager: match given {
                Some(manager) => manager.to_owned(),
                None => from_user_agent(headers),
            },
            manager_given: given.is_some(),
            validation: match query.text("fieldValidation") {
                None | Some("Warn") => FieldValidation::Warn,
                Some("Strict") => FieldValidation::Strict,
                Some("Ignore") => FieldValidation::Ignore,
                Some(other) => {
                    return Err(invalid(
                        kind,
                        FieldError::not_supported(
                            &FieldPath::new("fieldValidation"),
                            other,
                            &["", "Ignore", "Strict", "Warn"],
                        ),
                    ));
                }
            },
        })
    }
}

/// Whether these values of `dryRun` say so.
pub(crate) fn dry_run<'a>(
    kind: &str,
    values: impl IntoIterator<Item = &'a str>,
) -> Result<bool, Status> {
    let mut dry = false;
    for value in values {
        match value {
            "" => {}
            "All" => dry = true,
            other => {
                return Err(invalid(
                    kind,
                    FieldError::not_supported(&FieldPath::new("dryRun"), other, &["All"]),
                ));
            }
        }
    }
    Ok(dry)
}

/// An error about an options object.
pub(crate) fn invalid(kind: &str, error: FieldError) -> Status {
    Status::invalid_kind("meta.k8s.io", kind, "", vec![error])
}

/// The field manager of a client that does not name one: its program's name.
fn from_user_agent(headers: &HeaderMap) -> String {
    let agent = headers.get(http::header::USER_AGENT);
    let agent = agent.map(|value| String::from_utf8_lossy(value.as_bytes()));
    let name = manager_of_user_agent(agent.as_deref().unwrap_or_default());
    if name.is_empty() {
        "unknown".to_owned()
    } else {
        name
    }
}

/// How the `resourceVersion` of a list is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VersionMatch {
    Unset,
    NotOlderThan,
    Exact,
}

/// The options of a list or watch, as they came; selectors are read by the handlers.
#[derive(Clone, Debug)]
pub(crate) struct ListOptions {
    /// None: unset. `Some(0)` is "whatever the cache has".
    pub(crate) version: Option<u64>,
    pub(crate) version_match: VersionMatch,
    pub(crate) limit: Option<usize>,
    pub(crate) continued: Option<String>,
    /// Seconds after which a watch ends.
    pub(crate) timeout_seconds: Option<u64>,
    pub(crate) bookmarks: bool,
    /// None: unset.
    pub(crate) initial_events: Option<bool>,
}

impl ListOptions {
    pub(crate) fn read(query: &Query, watch: bool) -> Result<ListOptions, Status> {
        let version = match query.text("resourceVersion") {
            None => None,
            Some(text) => Some(text.parse::<u64>().map_err(|_| bad_version(text))?),
        };
        let number = |name: &str| query.integer(name).map_err(Status::bad_request);
        let options = ListOptions {
            version,
            version_match: match query.text("resourceVersionMatch") {
                None => VersionMatch::Unset,
                Some("NotOlderThan") => VersionMatch::NotOlderThan,
                Some("Exact") => VersionMatch::Exact,
                Some(other) => {
                    return Err(invalid(
                        "ListOptions",
                        FieldError::not_supported(
                            &FieldPath::new("resourceVersionMatch"),
                            other,
                            &["Exact", "NotOlderThan", ""],
                        ),
                    ));
                }
            },
            limit: number("limit")?
                .filter(|n| *n > 0)
                .and_then(|n| usize::try_from(n).ok()),
            continued: query.text("continue").map(str::to_owned),
            timeout_seconds: number("timeoutSeconds")?
                .filter(|n| *n > 0)
                .map(i64::unsigned_abs),
            bookmarks: query.flag("allowWatchBookmarks"),
            initial_events: query
                .get("sendInitialEvents")
                .map(|_| query.flag("sendInitialEvents")),
        };
        let fault = if watch {
            options.watch_fault()
        } else {
            options.list_fault()
        };
        match fault {
            Some((field, why)) => Err(invalid(
                "ListOptions",
                FieldError::forbidden(&FieldPath::new(field), why),
            )),
            None => Ok(options),
        }
    }

    fn list_fault(&self) -> Option<(&'static str, &'static str)> {
        let matched = self.version_match != VersionMatch::Unset;
        if self.initial_events.is_some() {
            return Some((
                "sendInitialEvents",
                "sendInitialEvents is forbidden for list",
            ));
        }
        if matched && self.version.is_none() {
            return Some((
                "resourceVersionMatch",
                "resourceVersionMatch is forbidden unless resourceVersion is provided",
            ));
        }
        if matched && self.continued.is_some() {
            return Some((
                "resourceVersionMatch",
                "resourceVersionMatch is forbidden when continue is provided",
            ));
        }
        if self.version_match == VersionMatch::Exact && self.version == Some(0) {
            return Some((
                "resourceVersionMatch",
                "resourceVersionMatch \"Exact\" is forbidden for resourceVersion \"0\"",
            ));
        }
        None
    }

    fn watch_fault(&self) -> Option<(&'static str, &'static str)> {
        match (self.initial_events, self.version_match) {
            (None, VersionMatch::Unset) | (Some(_), VersionMatch::NotOlderThan) => None,
            (None, _) => Some((
                "resourceVersionMatch",
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            )),
            (Some(_), VersionMatch::Unset) => Some((
                "resourceVersionMatch",
                "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
            )),
            (Some(_), VersionMatch::Exact) => Some((
                "resourceVersionMatch",
                "resourceVersionMatch must be set to NotOlderThan when sendInitialEvents is provided",
            )),
        }
    }
}

fn bad_version(text: &str) -> Status {
    let error = FieldError::invalid(
        &FieldPath::new("resourceVersion"),
        text,
        &format!("strconv.ParseUint: parsing {text:?}: invalid syntax"),
    );
    Status::bad_request(format!("invalid resource version: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(query: &str, watch: bool) -> Result<ListOptions, Status> {
        ListOptions::read(&Query::parse(Some(query)), watch)
    }

    #[test]
    fn list_options() {
        assert_eq!(
            list("resourceVersion=abc", false).unwrap_err().message,
            "invalid resource version: resourceVersion: Invalid value: \"abc\": strconv.ParseUint: parsing \"abc\": invalid syntax"
        );
        assert_eq!(
            list("limit=x", false).unwrap_err().message,
            "strconv.ParseInt: parsing \"x\": invalid syntax"
        );
        assert_eq!(list("limit=0", false).unwrap().limit, None);
        assert_eq!(list("limit=-5", false).unwrap().limit, None);
        for (query, watch, code) in [
            ("resourceVersionMatch=Exact", false, 422),
            ("resourceVersion=0&resourceVersionMatch=Exact", false, 422),
            ("resourceVersion=5&resourceVersionMatch=Maybe", false, 422),
            ("sendInitialEvents=true", false, 422),
            ("sendInitialEvents=true", true, 422),
            (
                "resourceVersion=5&resourceVersionMatch=NotOlderThan",
                true,
                422,
            ),
        ] {
            assert_eq!(list(query, watch).unwrap_err().code, code, "{query}");
        }
        let watch_list =
            "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&timeoutSeconds=1";
        assert_eq!(list(watch_list, true).unwrap().timeout_seconds, Some(1));
    }

    #[test]
    fn write_options() {
        let mut headers = HeaderMap::new();
        let read =
            |q: &str, h: &HeaderMap| WriteOptions::read("CreateOptions", &Query::parse(Some(q)), h);
        assert_eq!(read("", &headers).unwrap().manager, "unknown");
        headers.insert("user-agent", "kubectl/v1.32 (linux)".parse().unwrap());
        let options = read("dryRun=All&fieldValidation=Strict", &headers).unwrap();
        assert_eq!(options.manager, "kubectl");
        assert!(options.dry_run && options.validation == FieldValidation::Strict);
        assert_eq!(read("dryRun=Some", &headers).unwrap_err().code, 422);
        assert_eq!(read("fieldValidation=x", &headers).unwrap_err().code, 422);
        let named = read("fieldManager=me", &headers).unwrap();
        assert!(named.manager == "me" && named.manager_given);
        for manager in [&*"x".repeat(129), "a%0Ab"] {
            let refused = read(&format!("fieldManager={manager}"), &headers).unwrap_err();
            assert_eq!(refused.code, 422);
            assert!(
                refused.message.contains("fieldManager: "),
                "{}",
                refused.message
            );
        }
    }
}

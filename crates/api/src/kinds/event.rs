//! Events, as both of their groups serve them. Core events that have no `eventTime` are of the old
//! kind, of which little is asked.

use super::field::{absent, int, map, present, text};
use super::{Hooks, names};
use crate::status::{FieldError, FieldPath};
use serde_json::Value;

/// Events of the core group.
pub(super) const CORE: Hooks = Hooks {
    kind: "v1 Event",
    validate: |event, _, errors| validate(event, &CORE_NAMES, errors),
    ..Hooks::NONE
};

/// Events of events.k8s.io, which is strict with new ones.
pub(super) const STRICT: Hooks = Hooks {
    kind: "events.k8s.io/v1 Event",
    validate: |event, old, errors| {
        validate(event, &STRICT_NAMES, errors);
        if old.is_none() {
            strict(event, errors);
        }
    },
    ..Hooks::NONE
};

/// What a group calls the fields that the groups name differently. Faults are told by one name.
struct Names {
    object: &'static str,
    controller: &'static str,
    message: &'static str,
}

const CORE_NAMES: Names = Names {
    object: "involvedObject",
    controller: "reportingComponent",
    message: "message",
};

const STRICT_NAMES: Names = Names {
    object: "regarding",
    controller: "reportingController",
    message: "note",
};

const MOST_CHARACTERS: usize = 128;
const MOST_NOTE_CHARACTERS: usize = 1024;

fn validate(event: &Value, names: &Names, errors: &mut Vec<FieldError>) {
    let root = FieldPath::root();
    let own = text(event, "/metadata/namespace");
    let about = text(event, &format!("/{}/namespace", names.object));
    let timed = present(event, "/eventTime").is_some();
    let fits = match (timed, about) {
        (false, "") => own == "default",
        (false, about) => own == about,
        (true, "") => matches!(own, "default" | "kube-system"),
        (true, _) => true,
    };
    if !fits {
        errors.push(FieldError::invalid(
            &root.child("involvedObject").child("namespace"),
            about,
            "does not match event.namespace",
        ));
    }
    if !timed {
        return;
    }
    let controller = text(event, &format!("/{}", names.controller));
    let path = root.child("reportingController");
    if controller.is_empty() {
        errors.push(FieldError::required(&path, ""));
    }
    names::check(errors, &path, controller, names::qualified_name);
    for field in ["reportingInstance", "action", "reason"] {
        let value = text(event, &format!("/{field}"));
        if value.is_empty() {
            errors.push(FieldError::required(&root.child(field), ""));
        }
        at_most(MOST_CHARACTERS, value, &root.child(field), errors);
    }
    let note = text(event, &format!("/{}", names.message));
    at_most(MOST_NOTE_CHARACTERS, note, &root.child("message"), errors);
}

fn at_most(most: usize, value: &str, path: &FieldPath, errors: &mut Vec<FieldError>) {
    if value.len() > most {
        let why = format!("can have at most {most} characters");
        errors.push(FieldError::invalid(path, "", &why));
    }
}

/// What only new events of events.k8s.io must be.
fn strict(event: &Value, errors: &mut Vec<FieldError>) {
    let root = FieldPath::root();
    if let Some(series) = map(event, "/series") {
        if int(event, "/series/count") < 2 {
            let path = root.child("series.count");
            errors.push(FieldError::invalid(&path, "", "should be at least 2"));
        }
        if absent(series, "lastObservedTime") {
            let path = root.child("series.lastObservedTime");
            errors.push(FieldError::required(&path, ""));
        }
    }
    if present(event, "/eventTime").is_none() {
        errors.push(FieldError::required(&root.child("eventTime"), ""));
    }
    let kind = text(event, "/type");
    if !matches!(kind, "Normal" | "Warning") {
        let why = format!("has invalid value: {kind}");
        errors.push(FieldError::invalid(&root.child("type"), "", &why));
    }
    for (field, told) in [
        ("deprecatedFirstTimestamp", "firstTimestamp"),
        ("deprecatedLastTimestamp", "lastTimestamp"),
        ("deprecatedCount", "count"),
        ("deprecatedSource", "source"),
    ] {
        let held = event.get(field).filter(|held| **held != 0);
        if super::field::same(held, None) {
            continue;
        }
        errors.push(FieldError::invalid(
            &root.child(told),
            "",
            "needs to be unset",
        ));
    }
}

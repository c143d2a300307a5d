//! What kinds and fields are for, in the few words that `kubectl explain` shows. Only what a reader
//! is likely to ask for is described.

mod kinds;
mod network;
mod others;
mod pod;

/// What a type is.
pub(super) fn kind(name: &str) -> &'static str {
    look_up(kinds::ALL, name)
}

/// What a field of a type is for.
pub(super) fn field(owner: &str, name: &str) -> &'static str {
    match name {
        "metadata" => "Name, labels and the rest of what every object has.",
        "spec" => "What is wanted.",
        "status" => "What is, as observed. Written by the system.",
        _ => {
            let path = format!("{owner}.{name}");
            let found = FIELDS.iter().map(|table| look_up(table, &path));
            { found }
                .find(|known| !known.is_empty())
                .unwrap_or_default()
        }
    }
}

/// Fields by what they are about.
static FIELDS: [&[(&str, &str)]; 3] = [network::FIELDS, others::FIELDS, pod::FIELDS];

fn look_up(table: &[(&'static str, &'static str)], name: &str) -> &'static str {
    table
        .binary_search_by(|(known, _)| (*known).cmp(name))
        .map_or("", |at| table[at].1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{resource, schema};

    #[test]
    fn every_kind_that_is_served_is_described() {
        for resource in resource::all() {
            assert!(!kind(resource.kind).is_empty(), "{}", resource.kind);
        }
    }

    #[test]
    fn the_tables_are_sorted_and_describe_what_there_is() {
        for table in FIELDS.into_iter().chain([kinds::ALL]) {
            for pair in table.windows(2) {
                assert!(pair[0].0 < pair[1].0, "{} before {}", pair[0].0, pair[1].0);
            }
        }
        let known = |name: &str| {
            schema::all()
                .filter(|ty| ty.short_name() == name)
                .collect::<Vec<_>>()
        };
        for (name, _) in kinds::ALL {
            assert!(!known(name).is_empty(), "{name}");
        }
        for (path, _) in FIELDS.into_iter().flatten() {
            let (owner, name) = path.split_once('.').expect("Type.field");
            assert!(
                known(owner).iter().any(|ty| ty.field(name).is_some()),
                "{path}"
            );
        }
    }
}

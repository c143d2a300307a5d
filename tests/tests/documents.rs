//! The documents say what the code does: lists that stand in both are compared.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

fn read(path: &str) -> String {
    let path = carob_tests::root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The texts between double quotes, and the capital words between them (constants), in order.
fn words(code: &str) -> Vec<&str> {
    let mut out = Vec::new();
    for (at, part) in code.split('"').enumerate() {
        if at % 2 == 1 {
            out.push(part);
        } else {
            let names = part.split(|c: char| !(c.is_ascii_uppercase() || c == '_'));
            out.extend(names.filter(|name| name.len() > 2));
        }
    }
    out
}

/// Group, resource and what does not come of it, as the server has them.
fn unserved() -> BTreeSet<(String, String, String)> {
    let code = read("crates/apiserver/src/admission/unserved.rs");
    let (_, rest) = code.split_once("const UNSERVED: ").expect("the table");
    let (_, rest) = rest.split_once("= &[").expect("the table's begin");
    let (table, rest) = rest.split_once("];").expect("the table's end");
    let constants: BTreeMap<&str, &str> = rest
        .lines()
        .filter_map(|line| line.strip_prefix("const "))
        .filter_map(|line| {
            let (name, text) = line.split_once(": &str = \"")?;
            Some((name, text.strip_suffix("\";")?))
        })
        .collect();
    let words = words(table);
    let rows = words.chunks_exact(3);
    assert!(rows.remainder().is_empty(), "{:?}", rows.remainder());
    rows.map(|row| {
        let group = if row[0].is_empty() { "core" } else { row[0] };
        let text = constants.get(row[2]).unwrap_or(&row[2]);
        (group.to_owned(), row[1].to_owned(), (*text).to_owned())
    })
    .collect()
}

/// The same of the document's table.
fn documented(page: &str) -> BTreeSet<(String, String, String)> {
    let (_, section) = page
        .split_once("\n## Kinds that are stored and not acted on\n")
        .expect("the section");
    let rows = section
        .lines()
        .skip_while(|line| !line.starts_with("|---"))
        .skip(1)
        .take_while(|line| line.starts_with('|'));
    rows.flat_map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [group, resources, text] = cells.as_slice() else {
            panic!("a row of three cells is expected: {row}");
        };
        let names = resources.split('`').skip(1).step_by(2);
        names
            .map(|name| ((*group).to_owned(), name.to_owned(), (*text).to_owned()))
            .collect::<Vec<_>>()
    })
    .collect()
}

#[test]
fn the_api_s_page_names_each_kind_that_nothing_acts_on() {
    let (code, page) = (unserved(), documented(&read("docs/api.md")));
    assert!(code.len() > 20, "only {} kinds were found", code.len());
    let missing: Vec<_> = code.difference(&page).collect();
    let too_many: Vec<_> = page.difference(&code).collect();
    assert!(
        missing.is_empty() && too_many.is_empty(),
        "docs/api.md lacks {missing:#?}\nand has {too_many:#?}"
    );
}

#[test]
fn the_api_s_page_names_each_field_that_agents_refuse() {
    let code = read("crates/api/src/support.rs");
    let code = code.split("#[cfg(test)]").next().unwrap_or_default();
    let page = read("docs/api.md");
    // `(asks, "capabilities.add")`: what is asked for is said after that it is; the last part is the field's name.
    let pieces: Vec<&str> = code.split('"').collect();
    let named = pieces
        .chunks_exact(2)
        .filter(|piece| piece[0].trim_end().ends_with(','));
    let fields: BTreeSet<&str> = named
        .filter_map(|piece| piece[1].split(' ').next()?.rsplit('.').next())
        .collect();
    assert!(fields.len() > 15, "only {fields:?} were found");
    let missing: Vec<_> = fields
        .iter()
        .filter(|field| !page.contains(**field))
        .collect();
    assert!(missing.is_empty(), "docs/api.md lacks {missing:?}");
}

#[test]
fn the_lists_are_found() {
    for page in ["README.md", "ARCHITECTURE.md"] {
        for list in ["](docs/api.md)", "](docs/wasi.md)"] {
            assert!(read(page).contains(list), "{page}: {list}");
        }
    }
}

//! docs/wasi.md, held against the standard: what the runtime's own tests hold it against is what can be linked.

use std::collections::BTreeSet;
use std::env::consts::ARCH;
use std::fs;

use cargo_metadata::MetadataCommand;

use super::{none, read, root};

/// The crate that has the definitions of all of WASI 0.2 beside its sources.
const DEFINED: &str = "wasmtime-wasi-http";

/// The interfaces of WASI 0.2 by their full names, and the versions that they are of.
fn defined() -> (BTreeSet<String>, BTreeSet<String>) {
    let metadata = MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        // What is for other platforms may not be there to be looked at.
        .other_options([
            "--offline".to_owned(),
            format!("--filter-platform={ARCH}-unknown-linux-gnu"),
        ])
        .exec()
        .expect("cargo metadata");
    let mut packages = metadata.packages.iter();
    let package = packages.find(|package| package.name.as_str() == DEFINED);
    let manifest = &package.expect("the crate of wasi:http").manifest_path;
    let (mut interfaces, mut versions) = (BTreeSet::new(), BTreeSet::new());
    for entry in fs::read_dir(manifest.with_file_name("wit").join("deps")).expect("definitions") {
        let text = fs::read_to_string(entry.expect("a file").path()).expect("a definition");
        let package = text.lines().find_map(|line| line.strip_prefix("package "));
        let named = package.and_then(|package| package.trim_end_matches(';').split_once('@'));
        let (package, version) = named.expect("a package with a version");
        versions.insert(version.to_owned());
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("interface ") {
                let name = rest.trim_end_matches(['{', ' ']);
                interfaces.insert(format!("{package}/{name}"));
            }
        }
    }
    (interfaces, versions)
}

#[test]
fn every_interface_of_wasi_has_its_row() {
    let page = read("docs/wasi.md");
    let (_, section) = page.split_once("\n## WASI 0.2\n").expect("its section");
    let section = section.split("\n## ").next().unwrap_or_default();
    let rows: String = section
        .lines()
        .filter(|line| line.starts_with("| `"))
        .collect();
    let (interfaces, versions) = defined();
    assert!(interfaces.len() > 30, "only {interfaces:?} are defined");
    let mut complaints = Vec::new();
    for interface in interfaces {
        if !rows.contains(&format!("`{interface}`")) {
            complaints.push(format!("docs/wasi.md has no row for {interface}"));
        }
    }
    for version in versions {
        if !section.contains(&format!("({version})")) {
            complaints.push(format!(
                "docs/wasi.md does not say that the runtime's WASI is {version}"
            ));
        }
    }
    none(&complaints);
}

//! The repository's rules. Each failure names the file and says what to do instead.

mod bans;
mod wasi;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, MetadataCommand};

use bans::{BANS, is_only_for_products};

/// Lines that no file may have more of.
const MOST_LINES: usize = 800;
/// Lines above which a file must be in [`LARGE`].
const MANY_LINES: usize = 500;
/// How far a file may fall below its entry before the entry has to follow.
const SLACK: usize = 60;

/// The files with more than [`MANY_LINES`] lines, and how many they may have. Entries only ever
/// get smaller, or go; a file that wants to grow is split.
const LARGE: &[(&str, usize)] = &[
    ("crates/api/src/codec/tree.rs", 519),
    ("crates/api/src/status.rs", 544),
    ("crates/images/src/registry/tests.rs", 712),
];

/// Names that say nothing about what is in a module.
const EMPTY_NAMES: &[&str] = &["common", "helper", "helpers", "misc", "util", "utils"];

fn root() -> PathBuf {
    carob_tests::root()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every Rust file of the workspace, by its path from the root. Guests are programs of their own.
fn rust_files() -> Vec<(String, String)> {
    let mut files = Vec::new();
    for top in ["crates", "tests", "bench"] {
        collect(&root().join(top), &mut files);
    }
    assert!(
        files.len() > 100,
        "only {} files: is this the repository's root?",
        files.len()
    );
    files.sort();
    files
}

fn collect(dir: &Path, files: &mut Vec<(String, String)>) {
    let entries = fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    for entry in entries {
        let path = entry
            .unwrap_or_else(|error| panic!("{}: {error}", dir.display()))
            .path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if path.is_dir() {
            if !["target", "guests", "node_modules"].contains(&name.as_str()) {
                collect(&path, files);
            }
        } else if name.ends_with(".rs") {
            let short = path
                .strip_prefix(root())
                .unwrap_or(&path)
                .display()
                .to_string();
            let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{short}: {error}"));
            files.push((short, text));
        }
    }
}

/// Panics with all complaints at once.
fn none(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn the_architecture_page_has_the_real_crate_graph() {
    let metadata = MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .no_deps()
        .exec()
        .expect("cargo metadata");
    let names: BTreeSet<String> = metadata
        .packages
        .iter()
        .map(|p| p.name.to_string())
        .collect();
    let real: BTreeMap<String, BTreeSet<String>> = metadata
        .packages
        .iter()
        .map(|package| {
            let normal = package
                .dependencies
                .iter()
                .filter(|d| d.kind == DependencyKind::Normal);
            (
                package.name.to_string(),
                normal
                    .map(|d| d.name.clone())
                    .filter(|n| names.contains(n))
                    .collect(),
            )
        })
        .collect();
    let page = crate_table(&read("ARCHITECTURE.md"));
    let mut complaints = Vec::new();
    for name in real.keys().chain(page.keys()).collect::<BTreeSet<_>>() {
        match (real.get(name), page.get(name)) {
            (Some(uses), Some(written)) if uses == written => {}
            (Some(uses), Some(written)) => {
                complaints.push(format!("{name} uses {uses:?}, and ARCHITECTURE.md says {written:?}: change the one that is wrong"));
            }
            (Some(_), None) => complaints.push(format!(
                "the crate {name} is not in ARCHITECTURE.md's table"
            )),
            (None, _) => complaints.push(format!(
                "ARCHITECTURE.md's table has a crate {name} that does not exist"
            )),
        }
    }
    none(&complaints);
}

/// The rows below `| crate | does | may use |`.
fn crate_table(page: &str) -> BTreeMap<String, BTreeSet<String>> {
    let rows = page
        .lines()
        .skip_while(|line| !line.starts_with("| crate | does | may use |"))
        .skip(2);
    rows.take_while(|line| line.starts_with('|'))
        .map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            let [name, _, uses] = cells.as_slice() else {
                panic!("a row of three cells is expected: {line}")
            };
            let uses = uses
                .split(',')
                .map(|name| name.trim().trim_matches('`').to_owned());
            (
                name.trim_matches('`').to_owned(),
                uses.filter(|name| name != "–").collect(),
            )
        })
        .collect()
}

#[test]
fn files_stay_small() {
    let allowed: BTreeMap<&str, usize> = LARGE.iter().copied().collect();
    let files = rust_files();
    let mut complaints = Vec::new();
    for (file, text) in &files {
        let lines = text.lines().count();
        match allowed.get(file.as_str()) {
            _ if lines > MOST_LINES => complaints.push(format!(
                "{file} has {lines} lines, more than {MOST_LINES}: split it"
            )),
            None if lines > MANY_LINES => complaints.push(format!(
                "{file} has {lines} lines, more than {MANY_LINES}: split it"
            )),
            Some(most) if lines > *most => complaints.push(format!(
                "{file} grew from {most} to {lines} lines: split it instead"
            )),
            Some(_) if lines <= MANY_LINES => complaints.push(format!(
                "{file} has {lines} lines only: remove its entry here"
            )),
            Some(most) if lines + SLACK < *most => complaints.push(format!(
                "{file} shrank to {lines} lines: write that here instead of {most}"
            )),
            _ => {}
        }
    }
    for (file, _) in LARGE {
        if !files.iter().any(|(name, _)| name == file) {
            complaints.push(format!("{file} is gone: remove its entry here"));
        }
    }
    none(&complaints);
}

#[test]
fn banned_words_are_not_used() {
    let mut complaints = Vec::new();
    for (file, text) in rust_files() {
        if file == "tests/tests/tidy/bans.rs" {
            continue;
        }
        let bans: Vec<_> = BANS
            .iter()
            .filter(|(holds, _)| holds(&file))
            .flat_map(|(_, words)| *words)
            .collect();
        // A file's tests stand at its end; what holds for shipped code alone ends there.
        let tests_at = text
            .lines()
            .position(|line| line.trim() == "#[cfg(test)]")
            .unwrap_or(usize::MAX);
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            let in_tests = number > tests_at
                && text
                    .lines()
                    .nth(tests_at + 1)
                    .is_some_and(|l| l.trim() == "mod tests {");
            for (word, instead) in &bans {
                if code.contains(word) && !(in_tests && is_only_for_products(word)) {
                    complaints.push(format!("{file}:{}: {word}: instead: {instead}", number + 1));
                }
            }
        }
    }
    none(&complaints);
}

#[test]
fn modules_have_names_that_say_something() {
    let complaints: Vec<String> = rust_files()
        .iter()
        .filter(|(file, _)| {
            file.split('/')
                .any(|part| EMPTY_NAMES.contains(&part.trim_end_matches(".rs")))
        })
        .map(|(file, _)| format!("{file}: name it after what is in it"))
        .collect();
    none(&complaints);
}

#[test]
fn every_crate_says_what_it_is() {
    let metadata = MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .no_deps()
        .exec()
        .expect("cargo metadata");
    let mut complaints = Vec::new();
    for target in metadata
        .packages
        .iter()
        .flat_map(|package| &package.targets)
    {
        if target.is_custom_build() {
            continue;
        }
        let text = fs::read_to_string(&target.src_path)
            .unwrap_or_else(|error| panic!("{}: {error}", target.src_path));
        let first = text.lines().next().unwrap_or_default();
        if first
            .strip_prefix("//! ")
            .is_none_or(|said| said.trim().is_empty())
        {
            complaints.push(format!(
                "{} must begin with a line `//! …` that says what it is",
                target.src_path
            ));
        }
    }
    none(&complaints);
}

#[test]
fn the_readme_names_commands_that_exist() {
    let readme = read("README.md");
    let carob = variants(&read("crates/carob/src/cli.rs"));
    let xtask = variants(&read("crates/xtask/src/main.rs"));
    let nested: BTreeMap<&str, BTreeSet<String>> = ["bundle", "images", "token"]
        .into_iter()
        .map(|name| {
            (
                name,
                variants(&read(&format!("crates/carob/src/commands/{name}.rs"))),
            )
        })
        .collect();
    let (mut complaints, mut seen) = (Vec::new(), 0);
    for words in commands(&readme) {
        let words: Vec<&str> = words.split_whitespace().collect();
        let (known, rest) = match words.as_slice() {
            ["carob", rest @ ..] => (&carob, rest),
            ["cargo", "xtask", rest @ ..] => (&xtask, rest),
            _ => continue,
        };
        let Some(name) = rest.first().filter(|word| !word.starts_with('-')) else {
            continue;
        };
        seen += 1;
        if !known.contains(*name) {
            complaints.push(format!(
                "README.md: `{}`: there is no command {name}",
                words.join(" ")
            ));
        }
        if let (Some(inner), Some(word)) = (nested.get(name), rest.get(1))
            && words[0] == "carob"
            && !word.split('|').all(|word| inner.contains(word))
        {
            complaints.push(format!(
                "README.md: `{}`: {name} has no command {word}",
                words.join(" ")
            ));
        }
    }
    assert!(
        seen > 20,
        "only {seen} commands found: are they still marked as code?"
    );
    none(&complaints);
}

/// What stands between backquotes, and the lines of code blocks without their prompt.
fn commands(page: &str) -> Vec<String> {
    let (mut found, mut in_block) = (Vec::new(), false);
    for line in page.lines() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
        } else if in_block {
            found.push(line.trim_start().trim_start_matches("$ ").to_owned());
        } else {
            found.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    found
}

/// The names of the subcommands in a file's `enum Command`.
fn variants(text: &str) -> BTreeSet<String> {
    let body = text
        .lines()
        .skip_while(|line| !line.contains("enum Command {"))
        .skip(1);
    let found: BTreeSet<String> = body
        .take_while(|line| *line != "}")
        .filter_map(|line| {
            line.strip_prefix("    ")
                .filter(|rest| rest.starts_with(|c: char| c.is_ascii_uppercase()))
        })
        .map(|rest| {
            let name = rest.chars().take_while(char::is_ascii_alphanumeric);
            // `PortForward` is typed `port-forward`.
            let typed = name.enumerate().flat_map(|(at, letter)| {
                let dash = (at > 0 && letter.is_ascii_uppercase()).then_some('-');
                dash.into_iter().chain([letter.to_ascii_lowercase()])
            });
            typed.collect()
        })
        .collect();
    assert!(!found.is_empty(), "no `enum Command` found");
    found
}

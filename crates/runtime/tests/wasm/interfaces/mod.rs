//! docs/wasi.md, held against what modules can be linked with.

mod lists;

use std::collections::BTreeMap;

use runtime::{Exit, PrepareError, Workload};

use crate::support::{Bench, Web, run};
use lists::{FAMILY_AND_ERRORS, OFFERED, OFFERED_TO_FETCH, PREVIEW_1, REFUSED, REFUSED_CORE};

/// The names in the first column of a section's tables, by what the second says of them.
fn documented(heading: &str) -> BTreeMap<String, Vec<String>> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/wasi.md");
    let page = std::fs::read_to_string(path).unwrap();
    let (_, section) = page.split_once(&format!("\n## {heading}\n")).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let mut documented: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in section.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let names = cells[1].split('`').skip(1).step_by(2).map(str::to_owned);
        documented
            .entry(cells[2].to_owned())
            .or_default()
            .extend(names);
    }
    for names in documented.values_mut() {
        names.sort();
    }
    documented
}

fn sorted<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut names: Vec<&str> = names.collect();
    names.sort();
    names
}

fn refused(prepared: Result<runtime::Module, PrepareError>) -> String {
    match prepared {
        Err(PrepareError::Invalid(why)) => why,
        other => panic!("{other:?}"),
    }
}

/// A function's import into a core module.
fn import(function: &str) -> String {
    let (name, takes) = function.split_once(':').unwrap();
    let takes = takes.replace('i', " i32").replace('l', " i64");
    let gives = match name {
        "proc_exit" => "",
        _ => "(result i32)",
    };
    format!(r#"(import "wasi_snapshot_preview1" "{name}" (func (param{takes}) {gives}))"#)
}

#[tokio::test(flavor = "multi_thread")]
async fn preview_1_is_offered_as_documented() {
    let bench = Bench::new();
    let functions = || PREVIEW_1.split_whitespace();
    let documented = documented("Preview 1");
    let names = functions().map(|function| function.split(':').next().unwrap());
    assert_eq!(documented["yes"], sorted(names));
    // Modules that accept connections have functions of their own.
    for accepts in [true, false] {
        let wanted = |function: &&str| accepts || !function.starts_with("sock_accept:");
        let imports: String = functions().filter(wanted).map(import).collect();
        let text =
            format!(r#"(module {imports} (memory (export "memory") 1) (func (export "_start")))"#);
        let module = bench.text(&text).await.unwrap();
        assert_eq!(run(&bench, Workload::new(module)).await, Exit::Code(0));
    }
    assert_eq!(
        documented["no"],
        sorted(REFUSED_CORE.iter().map(|(name, ..)| *name))
    );
    for (_, module, name) in REFUSED_CORE {
        let text =
            format!(r#"(module (import "{module}" "{name}" (func)) (func (export "_start")))"#);
        let why = refused(bench.text(&text).await);
        let expected = format!("imports {module}::{name}, which carob does not offer");
        assert!(why.contains(&expected), "{why}");
    }
}

/// A component that imports these, and whose `run` does nothing.
fn component(imports: &str) -> String {
    format!(
        r#"(component {imports}
            (core module $m (func (export "run") (result i32) (i32.const 0)))
            (core instance $i (instantiate $m))
            (func $run (result (result)) (canon lift (core func $i "run")))
            (instance $cli (export "run" (func $run)))
            (export "wasi:cli/run@0.2.0" (instance $cli)))"#
    )
}

/// What imports an interface of this version, with a resource of another one where it uses that.
fn imports(interface: &str, uses: &str, items: &str, version: &str) -> String {
    let items = items.replace("FAMILY_AND_ERRORS", FAMILY_AND_ERRORS);
    let own = match interface.starts_with("carob:") {
        true => "0.1.0",
        false => version,
    };
    let Some((from, resource)) = uses.split_once(' ') else {
        return format!(r#"(import "{interface}@{own}" (instance {items}))"#);
    };
    format!(
        r#"(import "{from}@{version}" (instance $from (export "{resource}" (type (sub resource)))))
        (alias export $from "{resource}" (type $resource))
        (import "{interface}@{own}" (instance
            (alias outer 1 $resource (type $outer))
            (export "{resource}" (type $t (eq $outer)))
            {items}))"#
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn interfaces_are_offered_as_documented() {
    let bench = Bench::new();
    let names = OFFERED.iter().map(|(interface, ..)| *interface);
    assert_eq!(
        documented("WASI 0.2")["yes"],
        sorted(names.chain([OFFERED_TO_FETCH]))
    );
    for (interface, uses, items) in OFFERED {
        // Any of 0.2 will do: `exit-with-code` is of 0.2.12.
        for version in ["0.2.0", "0.2.12", "0.2.99"] {
            let imports = imports(interface, uses, items, version);
            let module = bench.text(&component(&imports)).await;
            let module = module.unwrap_or_else(|why| panic!("{interface}@{version}: {why}"));
            assert_eq!(run(&bench, Workload::new(module)).await, Exit::Code(0));
        }
    }
    let fetch = Web::Client.bytes();
    let name = OFFERED_TO_FETCH.as_bytes();
    assert!(fetch.windows(name.len()).any(|bytes| bytes == name));
    bench.web(Web::Client).await;
}

/// The name of what is refused of an interface, and an instance's items that are in want of it.
fn refused_item(item: &str) -> (&str, String) {
    if let Some(resource) = item.strip_prefix("[resource]") {
        let items = format!(r#"(export "{resource}" (type (sub resource)))"#);
        return (resource, items);
    }
    // A method's type names what it belongs to; no other function's type matters where there is none.
    let items = match item.strip_prefix("[method]") {
        Some(method) => {
            let resource = method.split('.').next().unwrap();
            format!(
                r#"(export "{resource}" (type $r (sub resource)))
                (export "{item}" (func (param "self" (borrow $r))))"#
            )
        }
        None => format!(r#"(export "{item}" (func (param "of" (list (list s8)))))"#),
    };
    (item, items)
}

#[tokio::test(flavor = "multi_thread")]
async fn interfaces_are_refused_as_documented() {
    let bench = Bench::new();
    let mut pages = documented("WASI 0.2");
    let mut more = documented("Proposals");
    assert!(!more.contains_key("yes"));
    let states = ["no", "as an export"];
    let named = |page: &mut BTreeMap<String, Vec<String>>| {
        let lists = states.map(|state| page.remove(state).unwrap_or_default());
        lists.concat()
    };
    let mut documented = [named(&mut pages), named(&mut more)].concat();
    documented.sort();
    assert_eq!(documented, sorted(REFUSED.iter().map(|(name, ..)| *name)));
    for (_, interface, item) in REFUSED {
        let (name, items) = refused_item(item);
        let imports = format!(r#"(import "{interface}" (instance {items}))"#);
        let why = refused(bench.text(&component(&imports)).await);
        for named in [*interface, name, "implementation is missing"] {
            assert!(why.contains(named), "{interface}: {why}");
        }
    }
    let later = r#"(import "wasi:cli/stdin@0.3.0" (instance))"#;
    let why = refused(bench.text(&component(later)).await);
    assert!(why.contains("a component of WASI 0.3"), "{why}");
}

/// Of a component too, since 0.2.12.
#[tokio::test(flavor = "multi_thread")]
async fn a_component_exits_with_a_code() {
    let bench = Bench::new();
    let text = r#"(component
        (import "wasi:cli/exit@0.2.12" (instance $exit
            (export "exit-with-code" (func (param "status-code" u8)))))
        (core func $lowered (canon lower (func $exit "exit-with-code")))
        (core module $m
            (import "" "exit" (func $exit (param i32)))
            (func (export "run") (result i32) (call $exit (i32.const 200)) unreachable))
        (core instance $i (instantiate $m (with "" (instance (export "exit" (func $lowered))))))
        (func $run (result (result)) (canon lift (core func $i "run")))
        (instance $cli (export "run" (func $run)))
        (export "wasi:cli/run@0.2.12" (instance $cli)))"#;
    let module = bench.text(text).await.unwrap();
    assert_eq!(run(&bench, Workload::new(module)).await, Exit::Code(200));
}

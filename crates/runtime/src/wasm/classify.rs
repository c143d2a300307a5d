//! What a file of bytes is, told from its header and its imports and exports, before it is
//! compiled.

use wasmparser::{Encoding, ExternalKind, Parser, Payload, Validator, WasmFeatures};

/// The ways in which a guest is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A core module of WASI preview 1 with a `_start`.
    Core,
    /// A component that exports `wasi:cli/run` of WASI 0.2, whatever else it exports.
    Component,
    /// A component that exports `wasi:http/incoming-handler` of WASI 0.2, and no `wasi:cli/run`.
    Server,
}

/// What is known of a module once it was compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Form {
    pub(super) kind: Kind,
    /// Whether its instances may have a garbage-collected heap.
    pub(super) heap: bool,
}

impl Form {
    /// Each, and how the name of what is compiled of that form ends.
    pub(super) const ALL: [(Self, &str); 6] = [
        (Self::of(Kind::Core, false), "module"),
        (Self::of(Kind::Component, false), "component"),
        (Self::of(Kind::Server, false), "server"),
        (Self::of(Kind::Core, true), "heap-module"),
        (Self::of(Kind::Component, true), "heap-component"),
        (Self::of(Kind::Server, true), "heap-server"),
    ];

    pub(super) const fn of(kind: Kind, heap: bool) -> Self {
        Self { kind, heap }
    }

    pub(super) fn suffix(self) -> &'static str {
        let mut all = Self::ALL.into_iter();
        all.find_map(|(form, suffix)| (form == self).then_some(suffix))
            .unwrap_or_default()
    }
}

/// Tells the kind of a module that can run here, or what the bytes are instead.
pub(super) fn classify(bytes: &[u8]) -> Result<Kind, String> {
    if !bytes.starts_with(b"\0asm") {
        return Err(format!("not a WebAssembly module: {}", guess(bytes)));
    }
    if Parser::is_core_wasm(bytes) {
        core(bytes)?;
        return Ok(Kind::Core);
    }
    if Parser::is_component(bytes) {
        return component(bytes);
    }
    Err("WebAssembly of an unknown version".into())
}

fn guess(bytes: &[u8]) -> &'static str {
    let text = bytes.trim_ascii_start();
    match bytes {
        [] => "the file is empty",
        [0x7f, b'E', b'L', b'F', ..] => "a native ELF program or library",
        [0x1f, 0x8b, ..] => "gzip-compressed data",
        [b'P', b'K', 3, 4, ..] => "a zip archive",
        [b'!', b'<', b'a', b'r', b'c', b'h', ..] => "a static library",
        [b'#', b'!', ..] => "a script",
        _ if text.starts_with(b"(module") || text.starts_with(b"(component") => {
            "the WebAssembly text format; convert it with `wasm-tools parse`"
        }
        _ if bytes.get(257..262) == Some(b"ustar") => "a tar archive",
        _ => "it does not begin with \\0asm",
    }
}

fn malformed(error: wasmparser::BinaryReaderError) -> String {
    format!("malformed WebAssembly: {error}")
}

fn core(bytes: &[u8]) -> Result<(), String> {
    let (mut start, mut reactor) = (false, false);
    for payload in parser().parse_all(bytes) {
        match payload.map_err(malformed)? {
            Payload::ExportSection(section) => {
                for export in section {
                    let export = export.map_err(malformed)?;
                    let function = export.kind == ExternalKind::Func;
                    start |= function && export.name == "_start";
                    reactor |= function && export.name == "_initialize";
                }
            }
            Payload::CustomSection(section) if section.name().starts_with("component-type") => {
                return Err("a core module that is yet to be made a component: \
                     `wasm-tools component new` does that"
                    .into());
            }
            // Function bodies are what compiling looks at.
            Payload::CodeSectionStart { .. } if start => return Ok(()),
            _ => {}
        }
    }
    match (start, reactor) {
        (true, _) => Ok(()),
        (false, true) => Err(
            "a WASI preview 1 reactor, a library without an entry point: \
             it exports _initialize and no _start"
                .into(),
        ),
        (false, false) => {
            Err("a core module without an entry point: it exports no function _start".into())
        }
    }
}

fn component(bytes: &[u8]) -> Result<Kind, String> {
    let mut depth = 0;
    let mut exports = Vec::new();
    for payload in parser().parse_all(bytes) {
        match payload.map_err(malformed)? {
            Payload::Version { encoding, .. } => {
                depth += 1;
                if depth > 1 && encoding == Encoding::Module {
                    continue;
                }
            }
            Payload::End(_) => depth -= 1,
            Payload::ComponentImportSection(section) if depth == 1 => {
                for import in section {
                    let name = import.map_err(malformed)?.name.name;
                    if let Some(interface) = preview_3(name) {
                        return Err(format!(
                            "a component of WASI 0.3 (it imports {interface}); \
                             only WASI 0.2 and preview 1 can run yet"
                        ));
                    }
                }
            }
            Payload::ComponentExportSection(section) if depth == 1 => {
                for export in section {
                    exports.push(export.map_err(malformed)?.name.name.to_owned());
                }
            }
            _ => {}
        }
    }
    entry_point(&exports)
}

/// The bytes that the largest linear memory of a module, or of any in a component, begins with.
pub(super) fn largest_memory(bytes: &[u8]) -> Result<u64, String> {
    let mut largest = 0;
    for payload in parser().parse_all(bytes) {
        if let Payload::MemorySection(section) = payload.map_err(malformed)? {
            for memory in section {
                let memory = memory.map_err(malformed)?;
                let page = 1u64
                    .checked_shl(memory.page_size_log2.unwrap_or(16))
                    .unwrap_or(u64::MAX);
                largest = largest.max(memory.initial.saturating_mul(page));
            }
        }
    }
    Ok(largest)
}

/// Whether a module's instances may have a garbage-collected heap: it throws exceptions, or has references to other than
/// functions.
pub(super) fn has_heap(bytes: &[u8]) -> bool {
    let collected = WasmFeatures::GC
        | WasmFeatures::GC_TYPES
        | WasmFeatures::EXCEPTIONS
        | WasmFeatures::LEGACY_EXCEPTIONS;
    let without = WasmFeatures::all().difference(collected);
    let mut validator = Validator::new_with_features(without);
    validator.validate_all(bytes).is_err()
}

/// The code of a module's functions, or of those of all modules in a component, in bytes.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Code {
    pub(super) all: u64,
    /// Where the largest one begins, and its bytes.
    pub(super) largest: (usize, u64),
}

pub(super) fn code(bytes: &[u8]) -> Result<Code, String> {
    let mut code = Code::default();
    for payload in parser().parse_all(bytes) {
        if let Payload::CodeSectionEntry(body) = payload.map_err(malformed)? {
            let (at, length) = (body.range().start, body.range().len() as u64);
            code.all += length;
            if length > code.largest.1 {
                code.largest = (at, length);
            }
        }
    }
    Ok(code)
}

fn parser() -> Parser {
    let mut parser = Parser::new(0);
    parser.set_features(WasmFeatures::all());
    parser
}

fn preview_3(name: &str) -> Option<&str> {
    (name.starts_with("wasi:") && name.contains("@0.3.")).then_some(name)
}

fn entry_point(exports: &[String]) -> Result<Kind, String> {
    let exported = |prefix: &str| exports.iter().any(|name| name.starts_with(prefix));
    // A program may well export a handler for others to compose with; a server has no use for `run`.
    if exported("wasi:cli/run@0.2.") {
        return Ok(Kind::Component);
    }
    if exported("wasi:http/incoming-handler@0.2.") {
        return Ok(Kind::Server);
    }
    if let Some(name) = exports.iter().find_map(|name| preview_3(name)) {
        return Err(format!(
            "a component of WASI 0.3 (it exports {name}); only WASI 0.2 and preview 1 can run yet"
        ));
    }
    let names = match exports {
        [] => "nothing".to_owned(),
        names => names.join(", "),
    };
    Err(format!(
        "a component without an entry point: it exports {names}, but neither wasi:cli/run@0.2 nor \
         wasi:http/incoming-handler@0.2"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Kind, String> {
        classify(&wat::parse_str(text).unwrap())
    }

    #[test]
    fn what_can_run() {
        assert_eq!(of(r#"(module (func (export "_start")))"#), Ok(Kind::Core));
        let run = r#"(component
            (instance $run)
            (export "wasi:cli/run@0.2.3" (instance $run)))"#;
        assert_eq!(of(run), Ok(Kind::Component));
        let handler = r#"(component
            (instance $i)
            (export "wasi:http/incoming-handler@0.2.3" (instance $i)))"#;
        assert_eq!(of(handler), Ok(Kind::Server));
        let both = r#"(component
            (instance $i)
            (export "wasi:http/incoming-handler@0.2.3" (instance $i))
            (export "wasi:cli/run@0.2.3" (instance $i)))"#;
        assert_eq!(of(both), Ok(Kind::Component));
    }

    #[test]
    fn the_largest_memory() {
        for (text, largest) in [
            ("(module)", 0),
            ("(module (memory 3))", 3 << 16),
            ("(module (memory 1) (memory 2 9))", 2 << 16),
            ("(module (memory i64 0x1_0000_0000_0000))", u64::MAX),
            (
                "(component (core module (memory 1)) (component (core module (memory 5))))",
                5 << 16,
            ),
        ] {
            let bytes = wat::parse_str(text).unwrap();
            assert_eq!(largest_memory(&bytes), Ok(largest), "{text}");
        }
        assert!(largest_memory(b"\0asm\x01\0\0\0\x05\xff").is_err());
    }

    #[test]
    fn who_has_a_heap() {
        for (text, has_heap) in [
            ("(module)", false),
            ("(module (table 1 funcref) (memory 1))", false),
            ("(module (func (param v128)))", false),
            ("(module (table 1 externref))", true),
            ("(module (tag (param i32)))", true),
            ("(module (type (struct (field i32))))", true),
            ("(module (func (local anyref)))", true),
            ("(component (core module (tag)))", true),
            (
                r#"(component (import "x" (func (param "a" string))) (core module (memory 1)))"#,
                false,
            ),
        ] {
            let bytes = wat::parse_str(text).unwrap();
            assert_eq!(super::has_heap(&bytes), has_heap, "{text}");
        }
    }

    #[test]
    fn the_largest_function() {
        // No locals, what is said and the end: a byte each.
        let small = "(module (func))";
        let large = "(module (func) (func nop nop nop) (func nop))";
        let component = format!("(component (core {} (core {})", &small[1..], &large[1..]);
        for (text, all, largest) in [
            ("(module)", 0, 0),
            (small, 2, 2),
            (large, 10, 5),
            (&component, 12, 5),
        ] {
            let bytes = wat::parse_str(text).unwrap();
            let code = code(&bytes).unwrap();
            let (at, length) = code.largest;
            assert_eq!((code.all, length), (all, largest), "{text}");
            let body = &bytes[at..][..usize::try_from(length).unwrap()];
            assert!(
                body.iter().skip(1).rev().skip(1).all(|byte| *byte == 1),
                "{text}: {body:?}"
            );
        }
    }

    #[test]
    fn what_cannot_is_named() {
        for (text, named) in [
            ("(module)", "no function _start"),
            (r#"(module (func (export "_initialize")))"#, "reactor"),
            (
                r#"(module (memory (export "_start") 1))"#,
                "no function _start",
            ),
            ("(component)", "exports nothing"),
            (
                r#"(component (import "wasi:cli/stdout@0.3.0" (instance)))"#,
                "WASI 0.3 (it imports wasi:cli/stdout@0.3.0)",
            ),
            (
                r#"(component (instance $i) (export "wasi:http/handler@0.3.0" (instance $i)))"#,
                "WASI 0.3 (it exports wasi:http/handler@0.3.0)",
            ),
            (
                r#"(component (component (instance $i) (export "wasi:cli/run@0.2.0" (instance $i))))"#,
                "without an entry point",
            ),
        ] {
            let refused = of(text).unwrap_err();
            assert!(refused.contains(named), "{text}: {refused}");
        }
    }

    #[test]
    fn bytes_that_are_no_module() {
        for (bytes, named) in [
            (&b""[..], "empty"),
            (b"\x7fELF\x02\x01", "ELF"),
            (b"\x1f\x8b\x08", "gzip"),
            (b"  (module)", "text format"),
            (b"#!/bin/sh", "script"),
            (b"hello", "does not begin"),
            (b"\0asm\x09\0\0\0", "unknown version"),
            (b"\0asm\x01\0\0\0\xff\xff\xff\xff\xff\xff", "malformed"),
            (b"\0asm", "unknown version"),
        ] {
            let refused = classify(bytes).unwrap_err();
            assert!(refused.contains(named), "{bytes:?}: {refused}");
        }
    }
}

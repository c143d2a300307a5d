//! The Kubernetes manifests of a bundle: YAML read with its line numbers, and the paths in it.

use serde_json::{Map, Number, Value};

use super::normalise;
use crate::Error;

/// One object of a YAML file.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// The file, relative to the bundle's directory.
    pub file: String,
    /// The line on which its document begins, from 1.
    pub line: usize,
    /// The object. It has an `apiVersion` and a `kind`.
    pub value: Value,
    /// The lines of its document, for finding what an error is about.
    text: Vec<String>,
}

/// A path of the source directory that an object names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Named {
    /// A container's `image: ./x.wasm`.
    Module(String),
    /// A volume's `image: {reference: ./dir}`.
    Tree(String),
}

/// Reads the objects of a YAML file. Empty documents are skipped; of a `List`, the items are given.
pub(super) fn parse(file: &str, text: &str) -> Result<Vec<Document>, Error> {
    let mut documents = Vec::new();
    for (line, lines) in split(text) {
        let at = |offset: usize, reason: String| Error::Manifest {
            file: file.to_owned(),
            line: line + offset,
            reason,
        };
        let yaml = lines.join("\n");
        let mut value: serde_yaml::Value = serde_yaml::from_str(&yaml).map_err(|error| {
            let offset = error
                .location()
                .map_or(0, |location| location.line().saturating_sub(1));
            at(offset, without_location(&error))
        })?;
        value
            .apply_merge()
            .map_err(|error| at(0, error.to_string()))?;
        let value = to_json(value).map_err(|reason| at(0, reason))?;
        if value.is_null() {
            continue;
        }
        // Where the document's first line of content is.
        let begins = lines.iter().position(|l| is_content(l)).unwrap_or(0);
        for value in items(value) {
            check_object(&value).map_err(|reason| at(begins, reason))?;
            documents.push(Document {
                file: file.to_owned(),
                line: line + begins,
                value,
                text: lines[begins..].iter().map(|l| (*l).to_owned()).collect(),
            });
        }
    }
    Ok(documents)
}

/// The documents of a file, each with the line, from 1, on which it begins.
fn split(text: &str) -> Vec<(usize, Vec<&str>)> {
    let mut documents = vec![(1, Vec::new())];
    for (index, line) in text.lines().enumerate() {
        let (marker, rest) = line.split_at_checked(3).unwrap_or((line, ""));
        let blank = rest.is_empty() || rest.starts_with([' ', '\t']);
        if marker == "---" && blank {
            // What follows the marker on its line already belongs to the document.
            documents.push((index + 1, vec![rest]));
        } else if marker == "..." && blank {
            documents.push((index + 2, Vec::new()));
        } else if let Some((_, lines)) = documents.last_mut() {
            lines.push(line);
        }
    }
    documents
}

fn is_content(line: &str) -> bool {
    let line = line.trim();
    !line.is_empty() && !line.starts_with('#')
}

/// The parser's message without its own count of lines, which starts at the document.
fn without_location(error: &serde_yaml::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

fn items(value: Value) -> Vec<Value> {
    let is_list = value.get("kind").and_then(Value::as_str) == Some("List");
    match value {
        Value::Object(mut object)
            if is_list && object.get("items").is_some_and(Value::is_array) =>
        {
            match object.remove("items") {
                Some(Value::Array(items)) => items,
                _ => Vec::new(),
            }
        }
        other => vec![other],
    }
}

fn check_object(value: &Value) -> Result<(), String> {
    if !value.is_object() {
        return Err("this is no Kubernetes object: it is not a mapping".to_owned());
    }
    for field in ["apiVersion", "kind"] {
        match value.get(field) {
            Some(Value::String(text)) if !text.is_empty() => {}
            Some(_) => {
                return Err(format!(
                    "this is no Kubernetes object: its {field} is not a string"
                ));
            }
            None => return Err(format!("this is no Kubernetes object: it has no {field}")),
        }
    }
    Ok(())
}

/// YAML's value as JSON's. Keys that are numbers or booleans become strings, as everywhere in Kubernetes.
fn to_json(value: serde_yaml::Value) -> Result<Value, String> {
    use serde_yaml::Value as Yaml;
    Ok(match value {
        Yaml::Null => Value::Null,
        Yaml::Bool(bool) => Value::Bool(bool),
        Yaml::String(text) => Value::String(text),
        Yaml::Number(number) => Value::Number(
            (number.as_i64().map(Number::from))
                .or_else(|| number.as_u64().map(Number::from))
                .or_else(|| number.as_f64().and_then(Number::from_f64))
                .ok_or_else(|| format!("{number} has no form in JSON"))?,
        ),
        Yaml::Sequence(items) => {
            Value::Array(items.into_iter().map(to_json).collect::<Result<_, _>>()?)
        }
        Yaml::Mapping(mapping) => {
            let mut object = Map::new();
            for (key, value) in mapping {
                let key = match key {
                    Yaml::String(text) => text,
                    Yaml::Number(number) => number.to_string(),
                    Yaml::Bool(bool) => bool.to_string(),
                    other => return Err(format!("the key {other:?} is not a string")),
                };
                object.insert(key, to_json(value)?);
            }
            Value::Object(object)
        }
        Yaml::Tagged(tagged) => return Err(format!("the tag {} is not understood", tagged.tag)),
    })
}

impl Document {
    /// `Kind/name`, as kubectl prints it.
    pub fn title(&self) -> String {
        let text = |pointer: &str| self.value.pointer(pointer).and_then(Value::as_str);
        let kind = text("/kind").unwrap_or_default();
        let name = text("/metadata/name").or_else(|| text("/metadata/generateName"));
        format!("{kind}/{}", name.unwrap_or_default())
    }

    /// The paths that this object names, in order.
    pub(super) fn named(&self) -> Result<Vec<Named>, Error> {
        let mut named = Vec::new();
        let mut value = self.value.clone();
        self.visit(&mut value, &mut |kind, text| {
            named.push(kind(normalise(text)?));
            Ok(None)
        })?;
        Ok(named)
    }

    /// The trees among them, whatever is wrong with the others.
    pub(super) fn trees(&self) -> Vec<String> {
        let mut trees = Vec::new();
        let mut value = self.value.clone();
        let result = self.visit(&mut value, &mut |kind, text| {
            if let Ok(Named::Tree(path)) = normalise(text).map(kind) {
                trees.push(path);
            }
            Ok(None)
        });
        debug_assert!(result.is_ok(), "the visitor above never fails");
        trees
    }

    /// Replaces every path by what `replace` gives for it.
    pub(super) fn rewrite(
        &mut self,
        replace: &mut dyn FnMut(&Named) -> Result<String, String>,
    ) -> Result<(), Error> {
        let mut value = std::mem::take(&mut self.value);
        let result = self.visit(&mut value, &mut |kind, text| {
            replace(&kind(normalise(text)?)).map(Some)
        });
        self.value = value;
        result
    }

    fn visit(&self, value: &mut Value, visit: &mut Visit<'_>) -> Result<(), Error> {
        walk(value, visit).map_err(|(named, reason)| self.error(&named, reason))
    }

    /// An error about the place where something is named.
    pub(super) fn error(&self, named: &Named, reason: String) -> Error {
        let (key, path) = match named {
            Named::Module(path) => ("image", path),
            Named::Tree(path) => ("reference", path),
        };
        let line_with = |key: &str| {
            let mut lines = self.text.iter();
            lines.position(|line| is_content(line) && line.contains(path) && line.contains(key))
        };
        let offset = line_with(key).or_else(|| line_with(""));
        Error::Manifest {
            file: self.file.clone(),
            line: self.line + offset.unwrap_or(0),
            reason,
        }
    }
}

/// Gets what a path names and the path as it was written; gives what replaces it.
type Visit<'a> = dyn FnMut(Kind, &str) -> Result<Option<String>, String> + 'a;
type Kind = fn(String) -> Named;

/// Finds `image` of everything in a list of containers, and `image.reference` of everything in a list of
/// volumes, wherever in an object such lists are. An error comes with what it is about.
fn walk(value: &mut Value, visit: &mut Visit<'_>) -> Result<(), (Named, String)> {
    match value {
        Value::Array(items) => items.iter_mut().try_for_each(|item| walk(item, visit)),
        Value::Object(object) => {
            for (key, value) in object {
                match (key.as_str(), &mut *value) {
                    (
                        "containers" | "initContainers" | "ephemeralContainers",
                        Value::Array(containers),
                    ) => {
                        for image in containers.iter_mut().filter_map(|c| c.get_mut("image")) {
                            replace(image, Named::Module, visit)?;
                        }
                    }
                    ("volumes", Value::Array(volumes)) => {
                        for image in volumes
                            .iter_mut()
                            .filter_map(|v| v.pointer_mut("/image/reference"))
                        {
                            replace(image, Named::Tree, visit)?;
                        }
                    }
                    _ => {}
                }
                walk(value, visit)?;
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

fn replace(image: &mut Value, kind: Kind, visit: &mut Visit<'_>) -> Result<(), (Named, String)> {
    let Some(text) = image.as_str() else {
        return Ok(());
    };
    if !text.starts_with("./") && !text.starts_with("../") && text != "." && text != ".." {
        return Ok(());
    }
    let text = text.to_owned();
    let replaced = visit(kind, &text).map_err(|reason| (kind(text), reason))?;
    if let Some(replacement) = replaced {
        *image = Value::String(replacement);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<(usize, String)> {
        parse("f.yaml", text)
            .unwrap()
            .iter()
            .map(|d| (d.line, d.title()))
            .collect()
    }

    #[test]
    fn documents_know_their_lines() {
        let text = "# first\n\napiVersion: v1\nkind: A\nmetadata: {name: a}\n---\n# nothing\n---\napiVersion: v1\nkind: B\n...\n--- {apiVersion: v1, kind: C}\n";
        assert_eq!(
            lines(text),
            [(3, "A/a".into()), (9, "B/".into()), (12, "C/".into())]
        );
    }

    #[test]
    fn lists_are_taken_apart_and_merge_keys_applied() {
        let text = "apiVersion: v1\nkind: List\nitems:\n- &a {apiVersion: v1, kind: A, x: {1: true}}\n- {<<: *a, kind: B}\n";
        let documents = parse("f", text).unwrap();
        assert_eq!(
            documents[1].value,
            serde_json::json!({"apiVersion": "v1", "kind": "B", "x": {"1": true}})
        );
    }

    fn refused(text: &str) -> String {
        parse("dir/f.yaml", text).unwrap_err().to_string()
    }

    #[test]
    fn errors_say_where() {
        let good = "apiVersion: v1\nkind: A\n---\n";
        assert!(refused(&format!("{good}apiVersion: v1\nkind: [\n")).starts_with("dir/f.yaml:"));
        assert_eq!(
            refused(&format!("{good}# c\nkind: A\n")),
            "dir/f.yaml:5: this is no Kubernetes object: it has no apiVersion"
        );
        let duplicate = refused(&format!("{good}apiVersion: v1\nkind: A\nkind: B\n"));
        assert!(
            duplicate.starts_with("dir/f.yaml:") && duplicate.contains("duplicate"),
            "{duplicate}"
        );
        let tab = refused(&format!("{good}apiVersion: v1\n\tkind: B\n"));
        assert!(tab.starts_with("dir/f.yaml:5:"), "{tab}");
        assert!(refused("- 1\n").contains("not a mapping"));
        assert!(refused("apiVersion: v1\nkind: 3\n").contains("kind is not a string"));
        assert!(refused("apiVersion: v1\nkind: !x y\n").contains("tag"));
        assert!(refused("apiVersion: v1\nkind: A\nx: .nan\n").contains("JSON"));
    }

    #[test]
    fn deep_nesting_and_expanding_aliases_are_refused() {
        assert!(parse("f", &"[".repeat(100_000)).is_err());
        assert!(parse("f", &"{a: ".repeat(10_000)).is_err());
        let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
        for n in 1..12 {
            let alias = format!("*a{}", n - 1);
            bomb += &format!("a{n}: &a{n} [{}]\n", vec![alias; 10].join(","));
        }
        assert!(parse("f", &bomb).is_err());
    }

    #[test]
    fn paths_are_found_and_replaced() {
        let text = "apiVersion: apps/v1\nkind: Deployment\nspec: {template: {spec: {\n  initContainers: [{image: ./a.wasm}],\n  containers: [{image: './b/c.wasm'}, {image: 'hello:v1'}],\n  volumes: [{image: {reference: ./share}}, {image: {reference: 'x:y'}}]}}}\ndata: {image: ./not-me.wasm}\n";
        let mut document = parse("f", text).unwrap().remove(0);
        let named = document.named().unwrap();
        let mut want = vec![
            Named::Module("a.wasm".into()),
            Named::Module("b/c.wasm".into()),
            Named::Tree("share".into()),
        ];
        want.sort();
        let mut sorted = named.clone();
        sorted.sort();
        assert_eq!(sorted, want);
        document
            .rewrite(&mut |named| Ok(format!("{named:?}")))
            .unwrap();
        assert_eq!(
            document
                .value
                .pointer("/spec/template/spec/initContainers/0/image")
                .unwrap(),
            "Module(\"a.wasm\")"
        );
        assert_eq!(
            document
                .value
                .pointer("/spec/template/spec/containers/1/image")
                .unwrap(),
            "hello:v1"
        );
        assert_eq!(
            document.value.pointer("/data/image").unwrap(),
            "./not-me.wasm"
        );
    }

    #[test]
    fn paths_that_lead_outside_name_their_line() {
        let text =
            "apiVersion: v1\nkind: Pod\nspec:\n  containers:\n  - name: x\n    image: ../x.wasm\n";
        let error = parse("p.yaml", text).unwrap()[0]
            .named()
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("p.yaml:6: ../x.wasm leads outside"),
            "{error}"
        );
    }
}

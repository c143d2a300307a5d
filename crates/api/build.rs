//! Turns `data/schema.json` and `data/resources.json` into Rust statics, so that a process
//! reads its tables from its own image: nothing is parsed at start and nothing lies on the heap.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::{env, fs, path::Path};

use serde_json::Value;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=data/schema.json");
    println!("cargo::rerun-if-changed=data/resources.json");
    let schema: Value = serde_json::from_str(&fs::read_to_string("data/schema.json")?)?;
    let resources: Value = serde_json::from_str(&fs::read_to_string("data/resources.json")?)?;
    let out = env::var("OUT_DIR")?;
    let tables = Tables::new(&schema)?;
    fs::write(Path::new(&out).join("schema.rs"), tables.schema()?)?;
    fs::write(
        Path::new(&out).join("resources.rs"),
        tables.resources(&resources)?,
    )?;
    Ok(())
}

struct Tables<'a> {
    version: &'a str,
    types: BTreeMap<&'a str, &'a Value>,
    index: BTreeMap<&'a str, usize>,
    kinds: BTreeMap<&'a str, &'a Value>,
}

impl<'a> Tables<'a> {
    fn new(schema: &'a Value) -> Result<Self, Failure> {
        let types: BTreeMap<&str, &Value> = schema["types"]
            .as_object()
            .ok_or("schema.json has no types")?
            .iter()
            .map(|(name, value)| (name.as_str(), value))
            .collect();
        let index = types
            .keys()
            .enumerate()
            .map(|(i, name)| (*name, i))
            .collect();
        let kinds = list(&schema["kinds"])
            .iter()
            .map(|kind| (text(&kind["type"]), kind))
            .collect();
        Ok(Self {
            version: text(&schema["kubernetes"]),
            types,
            index,
            kinds,
        })
    }

    fn schema(&self) -> Result<String, Failure> {
        let mut out = String::new();
        writeln!(
            out,
            "/// The Kubernetes release whose API the tables describe.\npub const KUBERNETES: &str = {:?};",
            self.version
        )?;
        let mut names = String::new();
        for (name, definition) in &self.types {
            let index = self.index[name];
            let mut fields = String::new();
            let mut inlines = String::new();
            self.fields(
                definition,
                false,
                index,
                &mut out,
                &mut fields,
                &mut inlines,
                &mut 0,
            )?;
            writeln!(out, "static F{index}: &[Field] = &[{fields}];")?;
            writeln!(out, "static I{index}: &[Inline] = &[{inlines}];")?;
            writeln!(
                out,
                "static T{index}: Type = Type {{ name: Shared::Static({name:?}), fields: Shared::Static(F{index}), inlines: Shared::Static(I{index}), atomic: {}, object: {}, preserve_unknown: false }};",
                definition["atomic"] == Value::Bool(true),
                self.is_object(name),
            )?;
            write!(names, "({name:?}, &T{index}),")?;
        }
        writeln!(out, "static TYPES: &[(&str, &Type)] = &[{names}];")?;
        Ok(out)
    }

    /// Whether values of the type carry `apiVersion` and `kind`: kinds, lists, options and the
    /// bodies of subresources.
    fn is_object(&self, name: &str) -> bool {
        self.kinds.contains_key(name)
            || name.ends_with("Options")
            || (name.ends_with("List") && name != "meta.v1.List")
            || [
                "authentication.v1.TokenRequest",
                "autoscaling.v1.Scale",
                "core.v1.Binding",
                "meta.v1.PartialObjectMetadata",
                "meta.v1.Status",
                "meta.v1.Table",
                "policy.v1.Eviction",
            ]
            .contains(&name)
    }

    /// Fields of inlined types stand among the parent's, as they do in JSON.
    #[expect(
        clippy::too_many_arguments,
        reason = "one recursive writer, called from one place"
    )]
    fn fields(
        &self,
        definition: &Value,
        inherited: bool,
        owner: usize,
        shapes: &mut String,
        fields: &mut String,
        inlines: &mut String,
        count: &mut usize,
    ) -> Result<(), Failure> {
        for field in list(&definition["fields"]) {
            if let Some(inlined) = field["inline"].as_str() {
                if !inherited {
                    let index = self.index[inlined];
                    write!(
                        inlines,
                        "Inline {{ proto: {}, ty: Shared::Static(&T{index}) }},",
                        field["proto"]
                    )?;
                }
                self.fields(
                    self.types[inlined],
                    true,
                    owner,
                    shapes,
                    fields,
                    inlines,
                    count,
                )?;
                continue;
            }
            let shape = format!("S{owner}_{count}");
            *count += 1;
            self.shape(&field["type"], &shape, shapes)?;
            write!(
                fields,
                "Field {{ name: Shared::Static({:?}), shape: Shared::Static(&{shape}), proto: {}, inherited: {inherited}, required: {}, default: {}, list: {}, map_atomic: {}, struct_granular: {}, patch: {}, retain_keys: {}, merge_key: {} }},",
                text(&field["name"]),
                field["proto"].as_u64().unwrap_or(0),
                field["required"] == Value::Bool(true),
                default(&field["default"])?,
                list_type(field)?,
                field["mapType"] == "atomic",
                field["structType"] == "granular",
                patch(text(&field["patchStrategy"])),
                text(&field["patchStrategy"]).contains("retainKeys"),
                match field["patchMergeKey"].as_str() {
                    Some(key) => format!("Some(Shared::Static({key:?}))"),
                    None => "None".to_owned(),
                },
            )?;
        }
        Ok(())
    }

    /// Writes a static called `name` and those it points to.
    fn shape(&self, ty: &Value, name: &str, out: &mut String) -> Result<(), Failure> {
        let value = match ty {
            Value::String(simple) => match simple.as_str() {
                "string" => "Shape::String".to_owned(),
                "boolean" => "Shape::Boolean".to_owned(),
                "int32" => "Shape::Int32".to_owned(),
                "int64" => "Shape::Int64".to_owned(),
                "double" => "Shape::Double".to_owned(),
                "bytes" => "Shape::Bytes".to_owned(),
                "time" => "Shape::Time".to_owned(),
                "microTime" => "Shape::MicroTime".to_owned(),
                "duration" => "Shape::Duration".to_owned(),
                "quantity" => "Shape::Quantity".to_owned(),
                "intOrString" => "Shape::IntOrString".to_owned(),
                "object" => "Shape::Object".to_owned(),
                "any" => "Shape::Any".to_owned(),
                other => return Err(format!("schema.json: unknown type {other}").into()),
            },
            Value::Object(map) => {
                let (kind, inner) = map.iter().next().ok_or("schema.json: empty type")?;
                match kind.as_str() {
                    "enum" => {
                        let values: Vec<String> = list(inner)
                            .iter()
                            .map(|v| format!("{:?}", text(v)))
                            .collect();
                        format!("Shape::Enum(Shared::Static(&[{}]))", values.join(","))
                    }
                    "ref" => match self.index.get(text(inner)) {
                        Some(index) => format!("Shape::Struct(Shared::Static(&T{index}))"),
                        // Go types without fields of their own.
                        None => "Shape::Any".to_owned(),
                    },
                    "array" | "map" => {
                        let item = format!("{name}_I");
                        self.shape(inner, &item, out)?;
                        let kind = if kind == "array" { "List" } else { "Map" };
                        format!("Shape::{kind}(Shared::Static(&{item}))")
                    }
                    other => return Err(format!("schema.json: unknown type {other}").into()),
                }
            }
            other => return Err(format!("schema.json: unknown type {other}").into()),
        };
        writeln!(out, "static {name}: Shape = {value};")?;
        Ok(())
    }

    fn resources(&self, resources: &Value) -> Result<String, Failure> {
        let mut all: Vec<&Value> = list(resources).iter().collect();
        all.sort_by_key(|r| (text(&r["group"]), text(&r["version"]), text(&r["plural"])));
        let mut rows = String::new();
        for resource in all {
            let (group, version, kind) = (
                text(&resource["group"]),
                text(&resource["version"]),
                text(&resource["kind"]),
            );
            let package = group
                .split('.')
                .next()
                .filter(|g| !g.is_empty())
                .unwrap_or("core");
            let ty = format!("{package}.{version}.{kind}");
            let has_status = match self.kinds.get(ty.as_str()) {
                Some(row) => row["status"] == Value::Bool(true),
                None => false,
            };
            writeln!(
                rows,
                "Resource {{ group: {group:?}, version: {version:?}, api_version: {:?}, kind: {kind:?}, plural: {:?}, singular: {:?}, short_names: {}, categories: {}, namespaced: {}, is_virtual: {}, verbs: {}, subresources: &[{}], columns: &[{}], type_name: {ty:?}, has_status: {has_status} }},",
                api_version(group, version),
                text(&resource["plural"]),
                text(&resource["singular"]),
                strings(&resource["shortNames"]),
                strings(&resource["categories"]),
                resource["namespaced"] == Value::Bool(true),
                resource["virtual"] == Value::Bool(true),
                strings(&resource["verbs"]),
                subresources(resource, group, version),
                columns(resource),
            )?;
        }
        Ok(format!("static RESOURCES: &[Resource] = &[\n{rows}];\n"))
    }
}

fn subresources(resource: &Value, group: &str, version: &str) -> String {
    let rows = list(&resource["subresources"]).iter().map(|sub| {
        let group = sub["group"].as_str().unwrap_or(group);
        let version = sub["version"].as_str().unwrap_or(version);
        format!(
            "Subresource {{ name: {:?}, group: {group:?}, version: {version:?}, api_version: {:?}, kind: {:?}, verbs: {} }}",
            text(&sub["name"]),
            api_version(group, version),
            text(&sub["kind"]),
            strings(&sub["verbs"]),
        )
    });
    rows.collect::<Vec<_>>().join(",")
}

fn columns(resource: &Value) -> String {
    let rows = list(&resource["columns"]).iter().map(|column| {
        format!(
            "Column {{ name: {:?}, kind: {:?}, format: {:?}, priority: {} }}",
            text(&column["name"]),
            text(&column["type"]),
            text(&column["format"]),
            column["priority"].as_i64().unwrap_or(0),
        )
    });
    rows.collect::<Vec<_>>().join(",")
}

fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    }
}

fn default(value: &Value) -> Result<String, Failure> {
    Ok(match value {
        Value::Null => "None".to_owned(),
        Value::String(s) => format!("Some(Default::String({s:?}))"),
        Value::Bool(b) => format!("Some(Default::Boolean({b}))"),
        Value::Number(n) => format!("Some(Default::Integer({n}))"),
        other => return Err(format!("schema.json: unknown default {other}").into()),
    })
}

fn list_type(field: &Value) -> Result<String, Failure> {
    Ok(match text(&field["listType"]) {
        "" | "atomic" => "ListType::Atomic".to_owned(),
        "set" => "ListType::Set".to_owned(),
        "map" => {
            let keys: Vec<String> = list(&field["listMapKeys"])
                .iter()
                .map(|key| format!("Shared::Static({:?})", text(key)))
                .collect();
            format!("ListType::Map(Shared::Static(&[{}]))", keys.join(","))
        }
        other => return Err(format!("schema.json: unknown listType {other}").into()),
    })
}

fn patch(strategy: &str) -> &'static str {
    let has = |wanted| strategy.split(',').any(|s| s == wanted);
    if has("merge") {
        "PatchStrategy::Merge"
    } else if has("replace") {
        "PatchStrategy::Replace"
    } else {
        "PatchStrategy::Unset"
    }
}

fn strings(value: &Value) -> String {
    let items: Vec<String> = list(value)
        .iter()
        .map(|v| format!("{:?}", text(v)))
        .collect();
    format!("&[{}]", items.join(","))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

//! Bodies: from JSON, YAML or protobuf to a tree that has the schema's types, and back.
//!
//! Decoding knows the type it expects. Unknown and repeated fields are dropped and reported, `null`
//! counts as absent, quantities and times become canonical. Depth is bounded (100 levels are kept);
//! sizes are the caller's, who holds the bytes already.

mod flow;
mod ignored;
mod omitted;
mod protobuf;
mod scalar;
mod syntax;
mod tree;

use serde::de::DeserializeSeed;
use serde_json::Value;

use crate::apply::ambiguous;
use crate::resource::{Resource, Subresource};
use crate::schema::{self, Shape, Type};
use crate::status::{FieldError, FieldPath, Status};

/// An encoding of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `application/json`.
    Json,
    /// `application/yaml`.
    Yaml,
    /// `application/vnd.kubernetes.protobuf`.
    Protobuf,
}

/// Bytes of a name that are shown.
const MOST_SHOWN: usize = 1024;

/// The media types that bodies may have, as errors list them.
pub const MEDIA_TYPES: &str =
    "application/json, application/yaml, application/vnd.kubernetes.protobuf";

impl Format {
    /// The format of a body with this `Content-Type`; none given means JSON.
    pub fn of_content_type(content_type: &str) -> Result<Self, Status> {
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        match essence.to_ascii_lowercase().as_str() {
            "" | "application/json" => Ok(Self::Json),
            "application/yaml" => Ok(Self::Yaml),
            "application/vnd.kubernetes.protobuf" => Ok(Self::Protobuf),
            _ => Err(Status::unsupported_media_type(MEDIA_TYPES)),
        }
    }
}

/// What to do about unknown and repeated fields: the query parameter `fieldValidation`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldValidation {
    /// Refuse the body.
    Strict,
    /// Drop them and warn.
    #[default]
    Warn,
    /// Drop them.
    Ignore,
}

/// What a body is expected to be.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// `apps/v1`.
    pub api_version: &'a str,
    /// `Deployment`.
    pub kind: &'a str,
    /// Its schema.
    pub ty: &'a Type,
}

/// Bytes of a body that an error shows.
const SHOWN: usize = 30;

/// Where Kubernetes registers its kinds, which an error names.
const SCHEME: &str = "pkg/api/legacyscheme/scheme.go:30";

impl<'a> From<&'a Resource> for Expected<'a> {
    fn from(resource: &'a Resource) -> Self {
        Self {
            api_version: resource.api_version,
            kind: resource.kind,
            ty: resource.schema(),
        }
    }
}

impl<'a> Expected<'a> {
    /// The body of a subresource of `resource`.
    pub fn subresource(resource: &'a Resource, sub: &'a Subresource) -> Self {
        if (sub.api_version, sub.kind) == (resource.api_version, resource.kind) {
            return resource.into();
        }
        Self {
            api_version: sub.api_version,
            kind: sub.kind,
            ty: schema::of_kind(sub.api_version, sub.kind).unwrap_or_else(schema::open),
        }
    }

    /// `metav1.DeleteOptions`, which clients send under any group's name.
    pub fn delete_options() -> Self {
        Self {
            api_version: "",
            kind: "DeleteOptions",
            ty: schema::lookup("meta.v1.DeleteOptions").unwrap_or_else(schema::open),
        }
    }

    fn cannot_handle(&self, api_version: &str, kind: &str, why: &str) -> Status {
        let version = api_version.rsplit('/').next().unwrap_or_default();
        Status::bad_request(format!(
            "{kind} in version {version:?} cannot be handled as a {}: {why}",
            self.kind
        ))
    }

    /// Puts the kind there where the body names none, and refuses another one.
    fn check_kind(&self, value: &mut Value) -> Result<(), Status> {
        let api_version = self.text(value, "apiVersion")?;
        let kind = self.text(value, "kind")?;
        let any_version = self.api_version.is_empty() || api_version.is_empty();
        if !kind.is_empty() && kind != self.kind {
            let (from, to) = (short_version(&api_version), self.kind);
            let group = self.api_version.split_once('/').map(|(group, _)| group);
            let group = group.and_then(|group| group.split('.').next());
            let package = group.unwrap_or("core");
            let why = format!("converting ({from}.{kind}) to ({package}.{to}): unknown conversion");
            return Err(self.cannot_handle(&api_version, &kind, &why));
        }
        if !any_version && api_version != self.api_version {
            let why = format!(
                "no kind {:?} is registered for version {api_version:?} in scheme {SCHEME:?}",
                self.kind
            );
            return Err(self.cannot_handle(&api_version, self.kind, &why));
        }
        let Value::Object(map) = value else {
            return Err(self.unrecognized("the body is not an object", b""));
        };
        if !self.api_version.is_empty() {
            map.insert("apiVersion".into(), self.api_version.into());
            map.insert("kind".into(), self.kind.into());
        }
        Ok(())
    }

    fn text(&self, value: &Value, key: &str) -> Result<String, Status> {
        match value.get(key) {
            None | Some(Value::Null) => Ok(String::new()),
            Some(Value::String(text)) => Ok(text.clone()),
            Some(_) => Err(self.unrecognized(&format!("{key} is not a string"), b"")),
        }
    }

    fn unrecognized(&self, why: &str, body: &[u8]) -> Status {
        Status::bad_request(format!(
            "the object provided is unrecognized (must be of type {}): couldn't get version/kind; {why}{}",
            self.kind,
            summary(body)
        ))
    }
}

/// The beginning of a body: as it is where it may be JSON, else in hexadecimal digits.
fn summary(body: &[u8]) -> String {
    let shown = &body[..body.len().min(SHOWN)];
    let rest = if shown.len() < body.len() { " ..." } else { "" };
    match body.first() {
        None => String::new(),
        Some(b'{') => format!(" ({}{rest})", String::from_utf8_lossy(shown)),
        Some(_) => format!(" ({}{rest})", hex::encode(shown)),
    }
}

fn short_version(api_version: &str) -> &str {
    api_version.rsplit('/').next().unwrap_or_default()
}

/// A decoded body.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// The object, with `apiVersion` and `kind`.
    pub value: Value,
    /// Texts for `Warning` headers.
    pub warnings: Vec<String>,
}

/// Reads a body.
///
/// # Errors
///
/// 400 when it cannot be read, is of another kind, has a field of the wrong type or, under
/// [`FieldValidation::Strict`], an unknown or repeated one.
pub fn decode(
    body: &[u8],
    expected: Expected<'_>,
    format: Format,
    validation: FieldValidation,
) -> Result<Decoded, Status> {
    let mut walk = match format {
        Format::Yaml => tree::Walk::yaml(body.len()),
        _ => tree::Walk::plain(),
    };
    let result = match format {
        Format::Json => read_json(body, expected.ty, &mut walk),
        Format::Yaml => read_yaml(body, expected.ty, &mut walk),
        Format::Protobuf => {
            return conform(protobuf::decode(body, expected)?, expected, validation);
        }
    };
    match result {
        Ok(value) => finish(value, expected, walk.faults, validation),
        Err(syntax) => Err(match walk.failure.take() {
            Some(why) => expected.cannot_handle(expected.api_version, expected.kind, &why),
            None => expected.unrecognized(&syntax, body),
        }),
    }
}

/// Brings a tree into the schema's types, as if it had been decoded.
///
/// # Errors
///
/// As for [`decode`].
pub fn conform(
    value: Value,
    expected: Expected<'_>,
    validation: FieldValidation,
) -> Result<Decoded, Status> {
    let (value, faults) = typed(value, expected)
        .map_err(|why| expected.cannot_handle(expected.api_version, expected.kind, &why))?;
    finish(value, expected, faults, validation)
}

/// The same for what a patch has made, with the unknown fields for the caller to judge.
///
/// # Errors
///
/// 422 when a field has the wrong type, 400 when it is of another kind now; `patch` is how the patch is shown.
pub fn conform_patched(
    value: Value,
    expected: Expected<'_>,
    mut faults: Vec<String>,
    validation: FieldValidation,
    patch: impl FnOnce() -> String,
) -> Result<Decoded, Status> {
    let (mut value, unknown) = match typed(value, expected) {
        Ok(typed) => typed,
        Err(why) => return Err(patch_invalid(patch(), &why)),
    };
    expected.check_kind(&mut value)?;
    faults.extend(unknown);
    let warnings = match validation {
        FieldValidation::Strict if !faults.is_empty() => {
            let why = format!("strict decoding error: {}", faults.join(", "));
            return Err(patch_invalid(patch(), &why));
        }
        FieldValidation::Ignore => Vec::new(),
        _ => faults,
    };
    Ok(Decoded { value, warnings })
}

/// Checks what a manager applies: every field must be known and of its type.
///
/// # Errors
///
/// 500 without a reason, as Kubernetes answers what its merging library says.
pub fn conform_applied(wanted: Value, expected: Expected<'_>) -> Result<(), Status> {
    let metadata = &wanted["metadata"];
    let named = |field: &str| metadata[field].as_str().unwrap_or_default().to_owned();
    let (namespace, name) = (named("namespace"), named("name"));
    let why = match typed(wanted, expected) {
        Ok((wanted, faults)) => {
            let undeclared = faults.iter().map(|fault| undeclared(fault));
            let faults: Vec<_> = undeclared.chain(ambiguous(expected.ty, &wanted)).collect();
            match faults.as_slice() {
                [] => return Ok(()),
                [one] => one.clone(),
                many => format!("errors:\n  {}", many.join("\n  ")),
            }
        }
        Err(why) => why,
    };
    let Expected {
        api_version, kind, ..
    } = expected;
    // The core group is none before the slash.
    let slash = if api_version.contains('/') { "" } else { "/" };
    Err(Status::plain_error(format!(
        "failed to create typed patch object ({namespace}/{name}; {slash}{api_version}, Kind={kind}): {why}"
    )))
}

/// An unknown field in the words of the library that merges.
fn undeclared(fault: &str) -> String {
    match fault.strip_prefix("unknown field ") {
        Some(path) => format!(".{}: field not declared in schema", path.trim_matches('"')),
        None => fault.to_owned(),
    }
}

fn patch_invalid(patch: String, why: &str) -> Status {
    let error = FieldError::invalid(&FieldPath::new("patch"), patch, why);
    Status::invalid_kind("", "", "", vec![error])
}

fn typed(value: Value, expected: Expected<'_>) -> Result<(Value, Vec<String>), String> {
    let mut walk = tree::Walk::plain();
    let root = tree::Root {
        ty: expected.ty,
        walk: &mut walk,
    };
    match root.deserialize(value) {
        Ok(value) => Ok((value, walk.faults)),
        Err(error) => Err(walk.failure.take().unwrap_or_else(|| error.to_string())),
    }
}

fn read_json<'t>(body: &[u8], ty: &'t Type, walk: &mut tree::Walk<'t>) -> Result<Value, String> {
    let mut reader = serde_json::Deserializer::from_slice(body);
    let value = tree::Root { ty, walk }
        .deserialize(&mut reader)
        .and_then(|value| reader.end().map(|()| value));
    value.map_err(|error| {
        let why = syntax::fault(body).unwrap_or_else(|| error.to_string());
        format!("json parse error: {why}")
    })
}

fn read_yaml<'t>(body: &[u8], ty: &'t Type, walk: &mut tree::Walk<'t>) -> Result<Value, String> {
    let text = std::str::from_utf8(body).map_err(|_| "yaml: invalid UTF-8".to_owned())?;
    if flow::is_too_deep(text) {
        return Err(
            "yaml: too many brackets may be open at once for a text of this length".to_owned(),
        );
    }
    tree::Root { ty, walk }
        .deserialize(serde_yaml::Deserializer::from_str(text))
        .map_err(|e| format!("yaml: {e}"))
}

fn finish(
    mut value: Value,
    expected: Expected<'_>,
    warnings: Vec<String>,
    validation: FieldValidation,
) -> Result<Decoded, Status> {
    expected.check_kind(&mut value)?;
    match validation {
        FieldValidation::Strict if !warnings.is_empty() => {
            let why = format!("strict decoding error: {}", warnings.join(", "));
            Err(expected.cannot_handle(expected.api_version, expected.kind, &why))
        }
        FieldValidation::Ignore => Ok(Decoded {
            value,
            warnings: Vec::new(),
        }),
        _ => Ok(Decoded { value, warnings }),
    }
}

/// As much of a name as faults tell: a hundred of them may be told, and keys are as long as their body.
fn shown(name: &str) -> &str {
    &name[..name.floor_char_boundary(MOST_SHOWN)]
}

/// Reads a patch: a tree without a type, and the fields in it that are given twice. YAML is read for server-side apply.
///
/// # Errors
///
/// 400 when it cannot be read.
pub fn decode_untyped(body: &[u8], format: Format) -> Result<Decoded, Status> {
    let bad = |why: String| Status::bad_request(why);
    let (value, walk) = match format {
        Format::Json => {
            let mut walk = tree::Walk::plain();
            let value = read_any_json(body, &mut walk);
            (
                value.map_err(|e| bad(format!("error decoding patch: {e}")))?,
                walk,
            )
        }
        Format::Yaml => {
            let mut walk = tree::Walk::yaml(body.len());
            let value = read_yaml(body, schema::open(), &mut walk);
            (
                value.map_err(|e| bad(format!("error decoding YAML: {e}")))?,
                walk,
            )
        }
        Format::Protobuf => return Err(Status::unsupported_patch_type()),
    };
    Ok(Decoded {
        value,
        warnings: walk.faults,
    })
}

fn read_any_json(body: &[u8], walk: &mut tree::Walk<'_>) -> Result<Value, String> {
    let mut reader = serde_json::Deserializer::from_slice(body);
    let any = tree::Node {
        shape: &Shape::Any,
        walk,
    };
    let value = any
        .deserialize(&mut reader)
        .and_then(|value| reader.end().map(|()| value));
    value.map_err(|error| syntax::fault(body).unwrap_or_else(|| error.to_string()))
}

/// What Go says of a text that is no JSON; none where it is.
pub fn json_fault(text: &[u8]) -> Option<String> {
    syntax::fault(text)
}

/// Writes an object.
///
/// # Errors
///
/// 406 for what has no form in protobuf: tables, and kinds without a schema.
pub fn encode(value: &Value, format: Format) -> Result<Vec<u8>, Status> {
    match format {
        Format::Json => Ok(value.to_string().into_bytes()),
        Format::Yaml => serde_yaml::to_string(value)
            .map(String::into_bytes)
            .map_err(|e| Status::internal(format!("encoding YAML: {e}"))),
        Format::Protobuf => protobuf::encode(value).ok_or_else(no_protobuf),
    }
}

/// An event of a watch in protobuf, framed: its length in four bytes, the highest first, before it.
///
/// # Errors
///
/// As for [`encode`].
pub fn encode_event(kind: &str, object: &Value) -> Result<Vec<u8>, Status> {
    let object = protobuf::encode(object).ok_or_else(no_protobuf)?;
    Ok(protobuf::watch_event(kind, &object))
}

fn no_protobuf() -> Status {
    Status::not_acceptable("application/json, application/yaml")
}

#[cfg(test)]
mod tests;

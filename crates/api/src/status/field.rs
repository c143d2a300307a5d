//! Faults of single fields, as `k8s.io/apimachinery/pkg/util/validation/field` words them.

use std::fmt;

use serde_json::Value;

use super::Cause;

/// The way to a field: `spec.containers[0].name`, `data[a b]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldPath(String);

impl FieldPath {
    /// A path of one name.
    pub fn new(name: &str) -> Self {
        Self(name.to_owned())
    }

    /// The path of the object itself.
    pub fn root() -> Self {
        Self::default()
    }

    /// A field of what this path leads to.
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        if self.0.is_empty() {
            return Self::new(name);
        }
        Self(format!("{}.{name}", self.0))
    }

    /// An item of the list that this path leads to.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    /// An entry of the map that this path leads to.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        Self(format!("{}[{key}]", self.0))
    }

    /// The path's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for FieldPath {
    fn from(path: &str) -> Self {
        Self::new(path)
    }
}

/// What is wrong with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldErrorKind {
    /// It must have a value.
    Required,
    /// The value breaks a rule.
    Invalid,
    /// The value is not among those allowed.
    NotSupported,
    /// The value is there already.
    Duplicate,
    /// The value may not be given (now, or by this user).
    Forbidden,
    /// The value names something that is not there.
    NotFound,
    /// The text is too long.
    TooLong,
    /// There are too many items.
    TooMany,
    /// The value has the wrong type.
    TypeInvalid,
    /// The server failed while it checked.
    Internal,
}

impl FieldErrorKind {
    fn reason(self) -> &'static str {
        match self {
            Self::Required => "FieldValueRequired",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Forbidden => "FieldValueForbidden",
            Self::NotFound => "FieldValueNotFound",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::TypeInvalid => "FieldValueTypeInvalid",
            Self::Internal => "InternalError",
        }
    }
}

/// One fault of one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// What is wrong.
    pub kind: FieldErrorKind,
    /// Where.
    pub field: FieldPath,
    /// `Invalid value: "x": why`.
    pub message: String,
}

impl FieldError {
    fn new(kind: FieldErrorKind, field: &FieldPath, message: String) -> Self {
        Self {
            kind,
            field: field.clone(),
            message,
        }
    }

    fn with_detail(kind: FieldErrorKind, field: &FieldPath, head: String, detail: &str) -> Self {
        let message = if detail.is_empty() {
            head
        } else {
            format!("{head}: {detail}")
        };
        Self::new(kind, field, message)
    }

    /// `Required value: detail`.
    pub fn required(field: &FieldPath, detail: &str) -> Self {
        Self::with_detail(
            FieldErrorKind::Required,
            field,
            "Required value".into(),
            detail,
        )
    }

    /// `Invalid value: "x": detail`.
    pub fn invalid(field: &FieldPath, value: impl Into<Value>, detail: &str) -> Self {
        let head = format!("Invalid value: {}", value.into());
        Self::with_detail(FieldErrorKind::Invalid, field, head, detail)
    }

    /// `Unsupported value: "x": supported values: "A", "B"`.
    pub fn not_supported<S: AsRef<str>>(
        field: &FieldPath,
        value: impl Into<Value>,
        supported: &[S],
    ) -> Self {
        let head = format!("Unsupported value: {}", value.into());
        let values: Vec<String> = supported
            .iter()
            .map(|v| format!("{:?}", v.as_ref()))
            .collect();
        let detail = if values.is_empty() {
            String::new()
        } else {
            format!("supported values: {}", values.join(", "))
        };
        Self::with_detail(FieldErrorKind::NotSupported, field, head, &detail)
    }

    /// `Duplicate value: "x"`.
    pub fn duplicate(field: &FieldPath, value: impl Into<Value>) -> Self {
        let message = format!("Duplicate value: {}", value.into());
        Self::new(FieldErrorKind::Duplicate, field, message)
    }

    /// `Forbidden: detail`.
    pub fn forbidden(field: &FieldPath, detail: &str) -> Self {
        Self::with_detail(FieldErrorKind::Forbidden, field, "Forbidden".into(), detail)
    }

    /// `Not found: "x"`.
    pub fn not_found(field: &FieldPath, value: impl Into<Value>) -> Self {
        let message = format!("Not found: {}", value.into());
        Self::new(FieldErrorKind::NotFound, field, message)
    }

    /// `Too long: may not be more than N bytes`.
    pub fn too_long(field: &FieldPath, max_bytes: usize) -> Self {
        let message = format!("Too long: may not be more than {max_bytes} bytes");
        Self::new(FieldErrorKind::TooLong, field, message)
    }

    /// `Too many: 5: must have at most 3 items`.
    pub fn too_many(field: &FieldPath, actual: usize, max: usize) -> Self {
        let items = if max == 1 { "item" } else { "items" };
        let message = format!("Too many: {actual}: must have at most {max} {items}");
        Self::new(FieldErrorKind::TooMany, field, message)
    }

    /// `Invalid value: x: detail`, reason `FieldValueTypeInvalid`.
    pub fn type_invalid(field: &FieldPath, value: impl Into<Value>, detail: &str) -> Self {
        let head = format!("Invalid value: {}", value.into());
        Self::with_detail(FieldErrorKind::TypeInvalid, field, head, detail)
    }

    /// `Internal error: detail`.
    pub fn internal(field: &FieldPath, detail: &str) -> Self {
        Self::with_detail(
            FieldErrorKind::Internal,
            field,
            "Internal error".into(),
            detail,
        )
    }

    /// The fault as a cause of a `Status`.
    pub fn cause(&self) -> Cause {
        Cause {
            reason: self.kind.reason().to_owned(),
            message: self.message.clone(),
            field: self.field.to_string(),
        }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_every_kind_as_kubernetes_does() {
        let path = FieldPath::new("spec").child("ports").index(1).child("name");
        assert_eq!(path.as_str(), "spec.ports[1].name");
        assert_eq!(FieldPath::new("data").key("a b").as_str(), "data[a b]");
        let table = [
            (FieldError::required(&path, ""), "Required value"),
            (FieldError::required(&path, "why"), "Required value: why"),
            (
                FieldError::invalid(&path, "x", "why"),
                "Invalid value: \"x\": why",
            ),
            (
                FieldError::not_supported(&path, "x", &["A", "B"]),
                "Unsupported value: \"x\": supported values: \"A\", \"B\"",
            ),
            (FieldError::duplicate(&path, "x"), "Duplicate value: \"x\""),
            (FieldError::forbidden(&path, "why"), "Forbidden: why"),
            (FieldError::not_found(&path, "v"), "Not found: \"v\""),
            (
                FieldError::too_long(&path, 63),
                "Too long: may not be more than 63 bytes",
            ),
            (
                FieldError::too_many(&path, 5, 3),
                "Too many: 5: must have at most 3 items",
            ),
        ];
        for (error, message) in table {
            assert_eq!(error.message, message);
            assert_eq!(error.cause().field, "spec.ports[1].name");
        }
    }
}

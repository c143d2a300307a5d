//! What a pod may ask about itself, in its environment and in files: Kubernetes' downward API.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use k8s_openapi::api::core::v1::{Container, Pod, ResourceFieldSelector};

use crate::pod::PodView as _;
use crate::resources::{self, Amounts};

/// A field of the pod's metadata by its path.
///
/// # Errors
/// In the kubelet's words, when it is none that pods may ask for.
pub(crate) fn field(pod: &Pod, path: &str) -> Result<String, String> {
    let (labels, annotations) = (&pod.metadata.labels, &pod.metadata.annotations);
    if let Some((of, key)) = path
        .strip_suffix("']")
        .and_then(|path| path.split_once("['"))
    {
        let all = match of {
            "metadata.labels" => labels,
            "metadata.annotations" => annotations,
            _ => return Err(format!("fieldPath {path:?} does not support subscript")),
        };
        let value = all.as_ref().and_then(|all| all.get(key));
        return Ok(value.cloned().unwrap_or_default());
    }
    Ok(match path {
        "metadata.name" => pod.name().to_owned(),
        "metadata.namespace" => pod.namespace().to_owned(),
        "metadata.uid" => pod.uid().to_owned(),
        "metadata.labels" => lines(labels.as_ref()),
        "metadata.annotations" => lines(annotations.as_ref()),
        _ => return Err(format!("unsupported fieldPath: {path}")),
    })
}

/// Whether a field may change while the pod runs.
pub(crate) fn changes(path: &str) -> bool {
    path.starts_with("metadata.labels") || path.starts_with("metadata.annotations")
}

/// What a container may use or has asked for: that of `containerName`, else `own`.
///
/// # Errors
/// In the kubelet's words, when there is no such container or resource.
pub(crate) fn resource(
    pod: &Pod,
    own: Option<&Container>,
    selector: &ResourceFieldSelector,
    node: &Amounts,
) -> Result<String, String> {
    let name = selector.container_name.as_deref().unwrap_or_default();
    let of = match own.filter(|_| name.is_empty()) {
        Some(own) => own,
        None => pod
            .container(name)
            .ok_or_else(|| format!("container {name} not found"))?,
    };
    let divisor = selector.divisor.as_ref().map(|d| d.0.as_str());
    resources::field(of, &selector.resource, divisor, node)
}

/// Labels or annotations, one `key="value"` a line, without an end to the last.
fn lines(all: Option<&BTreeMap<String, String>>) -> String {
    let lines = all.into_iter().flatten().map(|(key, value)| {
        let mut line = format!("{key}=\"");
        for c in value.chars() {
            escape(c, &mut line);
        }
        line + "\""
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// One character as Go's `%q` writes it, which is what readers of these files undo.
fn escape(c: char, out: &mut String) {
    let known = match c {
        '"' => "\\\"",
        '\\' => "\\\\",
        '\x07' => "\\a",
        '\x08' => "\\b",
        '\x0c' => "\\f",
        '\n' => "\\n",
        '\r' => "\\r",
        '\t' => "\\t",
        '\x0b' => "\\v",
        _ => "",
    };
    let code = u32::from(c);
    let written = match () {
        () if !known.is_empty() => out.write_str(known),
        () if code < 0x20 || code == 0x7f => write!(out, "\\x{code:02x}"),
        () if c.is_ascii() || is_printable(c) => out.write_char(c),
        () if code <= 0xffff => write!(out, "\\u{code:04x}"),
        () => write!(out, "\\U{code:08x}"),
    };
    debug_assert!(written.is_ok(), "a string takes everything");
}

/// Whether Unicode has something to show for it: Rust and Go leave out the same general categories.
fn is_printable(c: char) -> bool {
    // Behind another character a mark is escaped only if it is not printable.
    String::from_iter(['a', c]).escape_debug().nth(1) == Some(c)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod() -> Pod {
        serde_json::from_value(json!({
            "metadata": {
                "name": "web", "namespace": "shop", "uid": "u",
                "labels": {"b": "2", "a": "1"},
                "annotations": {"text": "say \"hi\"\n\tand \\ é\u{7}\u{7f}\u{0}", "odd": "\u{200b}\u{e0001}e\u{301}'\u{a0}"},
            },
            "spec": {"containers": [
                {"name": "main", "resources": {"limits": {"cpu": "1500m", "memory": "64Mi"}}},
                {"name": "free"},
            ]},
        }))
        .unwrap()
    }

    #[test]
    fn fields_of_the_metadata() {
        let table = [
            ("metadata.name", Ok("web")),
            ("metadata.namespace", Ok("shop")),
            ("metadata.uid", Ok("u")),
            ("metadata.labels", Ok("a=\"1\"\nb=\"2\"")),
            (
                "metadata.annotations",
                Ok(
                    "odd=\"\\u200b\\U000e0001e\u{301}'\\u00a0\"\ntext=\"say \\\"hi\\\"\\n\\tand \\\\ é\\a\\x7f\\x00\"",
                ),
            ),
            ("metadata.labels['a']", Ok("1")),
            ("metadata.labels['none']", Ok("")),
            ("metadata.annotations['none']", Ok("")),
            ("spec.nodeName", Err("unsupported fieldPath: spec.nodeName")),
            ("", Err("unsupported fieldPath: ")),
            (
                "metadata.labels['a'",
                Err("unsupported fieldPath: metadata.labels['a'"),
            ),
            (
                "metadata.name['a']",
                Err("fieldPath \"metadata.name['a']\" does not support subscript"),
            ),
        ];
        for (path, want) in table {
            let got = field(&pod(), path);
            assert_eq!(got.as_deref().map_err(String::as_str), want, "{path}");
        }
        let bare = field(&Pod::default(), "metadata.labels");
        assert_eq!(bare.as_deref(), Ok(""));
    }

    #[test]
    fn resources_of_the_container_that_is_named() {
        let node = Amounts {
            milli_cpu: 4000,
            memory: 1 << 30,
            ephemeral: 1 << 40,
        };
        let table = [
            (
                json!({"containerName": "main", "resource": "limits.cpu"}),
                Ok("2"),
            ),
            (
                json!({"containerName": "main", "resource": "limits.cpu", "divisor": "1m"}),
                Ok("1500"),
            ),
            (
                json!({"containerName": "main", "resource": "limits.memory", "divisor": "1Mi"}),
                Ok("64"),
            ),
            (
                json!({"containerName": "free", "resource": "limits.memory", "divisor": "1Mi"}),
                Ok("1024"),
            ),
            (
                json!({"containerName": "no", "resource": "limits.cpu"}),
                Err("container no not found"),
            ),
            (
                json!({"resource": "limits.cpu"}),
                Err("container  not found"),
            ),
            (
                json!({"containerName": "main", "resource": "limits.gpu"}),
                Err("unsupported container resource: limits.gpu"),
            ),
        ];
        for (selector, want) in table {
            let selector = serde_json::from_value(selector).unwrap();
            let got = resource(&pod(), None, &selector, &node);
            assert_eq!(got.as_deref().map_err(String::as_str), want, "{selector:?}");
        }
    }
}

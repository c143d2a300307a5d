//! Creating or updating an object as `kubectl apply` does it from the client's side.
//!
//! What was applied last is kept in an annotation (kubectl's own, so that both can be used on one
//! object). An update is a strategic merge patch: everything in the new manifest, and a deletion
//! for everything that the last one had and the new one has not. Fields that neither names, such
//! as those that controllers or defaults set, are left alone.

use anyhow::{Context, Result, bail};
use api::resource::{self, Resource};
use api::schema::{Shape, Type};
use client::{Client, Object, Untyped};
use http::Request;
use http::header::{CONTENT_TYPE, WARNING};
use serde_json::{Map, Value, json};

/// An object is no larger than this with all that its writers are known by.
const ANSWER: usize = 8 << 20;

const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// What became of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Applied {
    /// It was not there.
    Created,
    /// It was another.
    Configured,
    /// It was so already.
    Unchanged,
}

impl std::fmt::Display for Applied {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Applied::Created => "created",
            Applied::Configured => "configured",
            Applied::Unchanged => "unchanged",
        })
    }
}

/// The resource of a manifest's object.
pub(crate) fn resource_of(object: &Value) -> Result<&'static Resource> {
    let api_version = object["apiVersion"]
        .as_str()
        .context("it has no apiVersion")?;
    let kind = object["kind"].as_str().context("it has no kind")?;
    match resource::by_kind(api_version, kind) {
        Some(resource) => Ok(resource),
        None => bail!("no such kind is served: {kind} in {api_version}"),
    }
}

/// Where the object goes: its own namespace, else `default`, and none for cluster-wide kinds.
pub(crate) fn namespace_of(resource: &Resource, object: &Value, default: &str) -> String {
    match resource.namespaced {
        true => object["metadata"]["namespace"]
            .as_str()
            .unwrap_or(default)
            .to_owned(),
        false => String::new(),
    }
}

/// Makes `object` so. With `dry_run` the server judges it and nothing is written.
pub(crate) async fn apply(
    client: &Client,
    object: &Value,
    namespace: &str,
    dry_run: bool,
) -> Result<Applied> {
    let resource = resource_of(object)?;
    let namespace = namespace_of(resource, object, namespace);
    let mut wanted = object.clone();
    if resource.namespaced {
        wanted["metadata"]["namespace"] = namespace.clone().into();
    }
    let name = wanted["metadata"]["name"]
        .as_str()
        .context("it has no metadata.name")?
        .to_owned();
    remember(&mut wanted);
    let access = client.untyped(resource);
    let Some(current) = access.find(&namespace, &name).await? else {
        send(client, resource, &namespace, None, &wanted, dry_run).await?;
        return Ok(Applied::Created);
    };
    let last: Value = current.0["metadata"]["annotations"][LAST_APPLIED]
        .as_str()
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or(Value::Null);
    let mut patch = wanted;
    mark_removed(resource.schema(), &last, &mut patch);
    let before = current.revision();
    let after = send(client, resource, &namespace, Some(&name), &patch, dry_run).await?;
    let unchanged = if dry_run {
        after.0 == current.0
    } else {
        after.revision() == before
    };
    Ok(if unchanged {
        Applied::Unchanged
    } else {
        Applied::Configured
    })
}

/// Creates (`name` is `None`) or patches. A field that nobody knows is refused, as kubectl has it; of what else
/// the server warns, the user is told.
async fn send(
    client: &Client,
    resource: &Resource,
    namespace: &str,
    name: Option<&str>,
    body: &Value,
    dry_run: bool,
) -> Result<Untyped> {
    let path = resource.path(Some(namespace).filter(|n| !n.is_empty()), name);
    let manager = client.field_manager();
    let dry_run = if dry_run { "&dryRun=All" } else { "" };
    let uri = format!("{path}?fieldManager={manager}&fieldValidation=Strict{dry_run}");
    let request = match name {
        None => Request::post(uri).header(CONTENT_TYPE, "application/json"),
        Some(_) => {
            Request::patch(uri).header(CONTENT_TYPE, "application/strategic-merge-patch+json")
        }
    };
    let answer = client.raw(request.body(body.to_string().into())?).await?;
    for warning in answer.headers().get_all(WARNING) {
        if let Some(text) = warning.to_str().ok().and_then(warned) {
            eprintln!("Warning: {text}");
        }
    }
    let bytes = client::collect(answer.into_body(), ANSWER).await?;
    Ok(Untyped(serde_json::from_slice(&bytes)?))
}

/// The text of a header such as `299 - "spec.x: duplicate name \"a\""`.
fn warned(header: &str) -> Option<String> {
    let quoted = header.split_once('"')?.1.strip_suffix('"')?;
    let mut text = String::new();
    let mut letters = quoted.chars();
    while let Some(letter) = letters.next() {
        text.push(match letter {
            '\\' => letters.next()?,
            other => other,
        });
    }
    Some(text)
}

/// Puts the manifest itself into the annotation.
fn remember(object: &mut Value) {
    let text = object.to_string();
    let annotations = &mut object["metadata"]["annotations"];
    if !annotations.is_object() {
        *annotations = json!({});
    }
    annotations[LAST_APPLIED] = text.into();
}

/// Adds to `new` a deletion for all that `last` had and `new` has not.
fn mark_removed(ty: &Type, last: &Value, new: &mut Value) {
    let (Some(last), Some(new)) = (last.as_object(), new.as_object_mut()) else {
        return;
    };
    for (key, old) in last {
        let field = ty.field(key);
        match new.get_mut(key) {
            None => {
                new.insert(key.clone(), Value::Null);
            }
            Some(value) => match field.map(|f| (f, &*f.shape)) {
                Some((_, Shape::Struct(inner))) => mark_removed(inner, old, value),
                Some((field, Shape::List(item))) if field.merges() => {
                    let inner = match &**item {
                        Shape::Struct(inner) => Some(&**inner),
                        _ => None,
                    };
                    mark_removed_items(field.merge_key.as_deref(), inner, old, value);
                }
                Some((_, Shape::Map(_))) => mark_removed_keys(old, value),
                _ => {}
            },
        }
    }
}

fn mark_removed_keys(last: &Value, new: &mut Value) {
    let (Some(last), Some(new)) = (last.as_object(), new.as_object_mut()) else {
        return;
    };
    for key in last.keys() {
        if !new.contains_key(key) {
            new.insert(key.clone(), Value::Null);
        }
    }
}

/// The same for a list that is merged by a key of its items, or as a set where it has none.
fn mark_removed_items(merge_key: Option<&str>, ty: Option<&Type>, last: &Value, new: &mut Value) {
    let (Some(last), Some(new), Some(merge_key)) = (last.as_array(), new.as_array_mut(), merge_key)
    else {
        return;
    };
    let mut deletions = Vec::new();
    for old in last {
        match new
            .iter_mut()
            .find(|item| item[merge_key] == old[merge_key])
        {
            Some(item) => {
                if let Some(ty) = ty {
                    mark_removed(ty, old, item);
                }
            }
            None => {
                let mut deletion = Map::new();
                deletion.insert("$patch".into(), "delete".into());
                deletion.insert(merge_key.into(), old[merge_key].clone());
                deletions.push(Value::Object(deletion));
            }
        }
    }
    new.append(&mut deletions);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn removed(last: Value, mut new: Value) -> Value {
        let deployment = resource::by_kind("apps/v1", "Deployment").unwrap();
        mark_removed(deployment.schema(), &last, &mut new);
        new
    }

    #[test]
    fn warnings_are_read_from_their_headers() {
        for (header, text) in [
            (r#"299 - "a \"b\" \\ c""#, Some(r#"a "b" \ c"#)),
            (r#"299 - """#, Some("")),
            (r#"299 - "cut \""#, None),
            ("299 - bare", None),
        ] {
            assert_eq!(warned(header).as_deref(), text, "{header}");
        }
    }

    #[test]
    fn what_is_no_longer_said_is_deleted() {
        let last = json!({"metadata": {"labels": {"a": "1", "b": "1"}}, "spec": {"replicas": 3, "paused": true}});
        let new = json!({"metadata": {"labels": {"a": "1"}}, "spec": {"replicas": 2}});
        assert_eq!(
            removed(last, new),
            json!({"metadata": {"labels": {"a": "1", "b": null}}, "spec": {"replicas": 2, "paused": null}})
        );
    }

    #[test]
    fn items_of_merged_lists_are_deleted_by_their_key() {
        let containers =
            |list: Value| json!({"spec": {"template": {"spec": {"containers": list}}}});
        let last = containers(
            json!([{"name": "a", "image": "x", "args": ["1"]}, {"name": "b", "image": "y"}]),
        );
        let new = containers(json!([{"name": "a", "image": "x"}]));
        assert_eq!(
            removed(last, new),
            containers(
                json!([{"name": "a", "image": "x", "args": null}, {"$patch": "delete", "name": "b"}])
            )
        );
    }
}

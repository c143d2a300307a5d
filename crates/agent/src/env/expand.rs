//! `$(NAME)` in what a container's spec says.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Container;

/// The container with each `subPathExpr` as the `subPath` that it comes to.
///
/// # Errors
/// Where one names what is not set.
pub(crate) fn with_sub_paths(
    mut container: Container,
    env: &[(String, String)],
) -> Result<Container, String> {
    let known: BTreeMap<&str, &str> = env.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    for mount in container.volume_mounts.iter_mut().flatten() {
        let Some(text) = mount.sub_path_expr.take().filter(|text| !text.is_empty()) else {
            continue;
        };
        let mut missing = None;
        let path = expand(&text, |name| {
            let value = known.get(name).copied();
            if value.is_none() {
                missing = Some(name.to_owned());
            }
            value
        });
        if let Some(name) = missing {
            return Err(format!(
                "failed to expand subPathExpr {text:?} of volumeMount {:?}: missing value for {name:?}",
                mount.name
            ));
        }
        mount.sub_path = Some(path);
    }
    Ok(container)
}

/// The words of a probe's command, in which stands what the container's `env` says by itself, as the kubelet has it.
pub(crate) fn words_of_probe(container: &Container, words: &[String]) -> Vec<String> {
    let vars = container.env.iter().flatten();
    let known: BTreeMap<&str, &str> = vars
        .map(|var| (&*var.name, var.value.as_deref().unwrap_or_default()))
        .collect();
    let expanded = |text: &String| expand(text, |name| known.get(name).copied());
    words.iter().map(expanded).collect()
}

/// Replaces each `$(NAME)` that is set; `$$` stands for a `$`; all else stays as it is.
pub(super) fn expand<'v>(text: &str, mut value: impl FnMut(&str) -> Option<&'v str>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(tail) = after.strip_prefix('$') {
            out.push('$');
            rest = tail;
        } else if let Some((name, tail)) = after.strip_prefix('(').and_then(|a| a.split_once(')')) {
            match value(name) {
                Some(value) => out.push_str(value),
                None => out.push_str(&rest[at..at + name.len() + 3]),
            }
            rest = tail;
        } else {
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn odd_dollars_stay() {
        for (text, want) in [
            ("$", "$"),
            ("a$", "a$"),
            ("$(", "$("),
            ("$(x", "$(x"),
            ("$()", "$()"),
            ("$$$", "$$"),
            ("é$é", "é$é"),
        ] {
            assert_eq!(expand(text, |_| None), want);
        }
    }

    #[test]
    fn commands_of_probes_may_hold_variables() {
        let container = json!({"name": "c", "env": [
            {"name": "A", "value": "1"},
            {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        ]});
        let container = serde_json::from_value(container).unwrap();
        let words = ["$(A)", "$$(A)", "x$(POD)y", "$(NONE)"].map(str::to_owned);
        assert_eq!(
            words_of_probe(&container, &words),
            ["1", "$(A)", "xy", "$(NONE)"]
        );
    }

    #[test]
    fn paths_in_volumes_may_hold_variables() {
        let env = [
            ("POD", "web-1"),
            ("DEEP", "a/b"),
            ("OUT", "../x"),
            ("EMPTY", ""),
        ];
        let env = env.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let path = |text: &str| {
            let container = json!({"name": "c", "volumeMounts": [
                {"name": "logs", "mountPath": "/logs", "subPathExpr": text},
                {"name": "data", "mountPath": "/data", "subPath": "$(POD)"},
            ]});
            let container = with_sub_paths(serde_json::from_value(container).unwrap(), &env)?;
            let mounts = container.volume_mounts.unwrap();
            // What is no expression is taken as it is.
            assert_eq!(mounts[1].sub_path.as_deref(), Some("$(POD)"));
            assert!(mounts.iter().all(|m| m.sub_path_expr.is_none()));
            Ok::<_, String>(mounts[0].sub_path.clone().unwrap_or_default())
        };
        for (text, want) in [
            ("$(POD)", "web-1"),
            ("pods/$(POD)/$(DEEP)", "pods/web-1/a/b"),
            ("$$(POD)", "$(POD)"),
            ("$(EMPTY)", ""),
            // It is judged where it is mounted, as every other path is.
            ("$(OUT)", "../x"),
        ] {
            assert_eq!(path(text).as_deref(), Ok(want), "{text}");
        }
        let why = path("$(POD)/$(NONE)").unwrap_err();
        assert!(why.ends_with("missing value for \"NONE\""), "{why}");
    }
}

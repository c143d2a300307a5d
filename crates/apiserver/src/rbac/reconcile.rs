//! What is missing of a default role or binding: added back at every start, as Kubernetes does, unless
//! the object says `autoupdate: "false"`. What somebody has added to it stays.

use serde::Deserialize;
use serde_json::{Value, json};

use super::defaults::AUTOUPDATE;
use super::rule::{self, Rule};

/// What is to be done about a default.
#[derive(Debug, PartialEq)]
pub(crate) enum Step {
    /// Nothing.
    Keep,
    /// Store this in its place.
    Update(Value),
    /// Remove it and create it anew: it binds another role, which cannot be changed.
    Replace,
}

/// Compares a default as it is stored with what it should be.
pub(crate) fn step(stored: &Value, expected: &Value) -> Step {
    if stored["metadata"]["annotations"][AUTOUPDATE] == "false" {
        return Step::Keep;
    }
    if stored["roleRef"] != expected["roleRef"] {
        return Step::Replace;
    }
    let mut new = stored.clone();
    for field in ["labels", "annotations"] {
        for (key, value) in expected["metadata"][field]
            .as_object()
            .into_iter()
            .flatten()
        {
            let there = &mut new["metadata"][field][key.as_str()];
            if there.is_null() {
                *there = value.clone();
            }
        }
    }
    if expected.get("aggregationRule").is_some() {
        // Its rules are the business of the controller.
        add(
            &mut new["aggregationRule"],
            "clusterRoleSelectors",
            &expected["aggregationRule"],
        );
    } else if expected.get("rules").is_some() {
        add_rules(&mut new, expected);
    } else {
        add(&mut new, "subjects", expected);
    }
    if new == *stored {
        Step::Keep
    } else {
        Step::Update(new)
    }
}

/// Adds the items of a list that are not there.
fn add(to: &mut Value, field: &str, expected: &Value) {
    let there = to[field].as_array().cloned().unwrap_or_default();
    let wanted = expected[field].as_array().into_iter().flatten();
    let missing: Vec<Value> = wanted
        .filter(|item| !there.contains(item))
        .cloned()
        .collect();
    if !missing.is_empty() {
        to[field] = [there, missing].concat().into();
    }
}

/// Adds the rights that no rule covers. Rules that cannot be read are nobody's to mend here.
fn add_rules(to: &mut Value, expected: &Value) {
    let read = |role: &Value| match &role["rules"] {
        Value::Null => Some(Vec::new()),
        rules => Vec::<Rule>::deserialize(rules).ok(),
    };
    let (Some(there), Some(wanted)) = (read(to), read(expected)) else {
        return;
    };
    let held: Vec<&Rule> = there.iter().collect();
    let Ok(missing) = rule::missing(&held, &wanted) else {
        return;
    };
    if !missing.is_empty() {
        to["rules"] = json!([there, rule::compact(missing)].concat());
    }
}

#[cfg(test)]
mod tests {
    use super::super::defaults;
    use super::*;

    fn default(kind: &str, name: &str) -> Value {
        let mut all = defaults::objects().into_iter();
        let is_it = |o: &Value| o["kind"] == kind && o["metadata"]["name"] == name;
        all.find(is_it).unwrap()
    }

    fn updated(stored: &Value, expected: &Value) -> Value {
        match step(stored, expected) {
            Step::Update(new) => new,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_whole_stays() {
        for object in defaults::objects() {
            assert_eq!(step(&object, &object), Step::Keep, "{object}");
        }
    }

    #[test]
    fn missing_rights_come_back_and_others_stay() {
        let expected = default("ClusterRole", "system:kube-dns");
        let mut stored = expected.clone();
        stored["rules"] =
            json!([{"verbs": ["list", "fly"], "apiGroups": [""], "resources": ["endpoints"]}]);
        stored["metadata"]["labels"] = json!({"own": "x"});
        let new = updated(&stored, &expected);
        assert_eq!(new["rules"][0], stored["rules"][0]);
        assert_eq!(
            new["rules"].as_array().unwrap()[1..],
            [
                json!({"verbs": ["watch"], "apiGroups": [""], "resources": ["endpoints"]}),
                json!({"verbs": ["list", "watch"], "apiGroups": [""], "resources": ["services"]}),
            ]
        );
        assert_eq!(new["metadata"]["labels"]["own"], "x");
        assert_eq!(
            new["metadata"]["labels"]["kubernetes.io/bootstrapping"],
            "rbac-defaults"
        );
        assert_eq!(step(&new, &expected), Step::Keep);
        stored["metadata"]["annotations"][AUTOUPDATE] = "false".into();
        assert_eq!(step(&stored, &expected), Step::Keep);
    }

    #[test]
    fn rules_of_gathering_roles_are_not_touched() {
        let expected = default("ClusterRole", "edit");
        let mut stored = expected.clone();
        stored["rules"] = json!([]);
        assert_eq!(step(&stored, &expected), Step::Keep);
        let own = json!({"matchLabels": {"mine": "true"}});
        stored["aggregationRule"]["clusterRoleSelectors"] = json!([own]);
        let new = updated(&stored, &expected);
        let selectors = new["aggregationRule"]["clusterRoleSelectors"]
            .as_array()
            .unwrap();
        assert_eq!((selectors.len(), &selectors[0]), (2, &own));
    }

    #[test]
    fn subjects_come_back_and_another_role_is_replaced() {
        let expected = default("ClusterRoleBinding", "system:public-info-viewer");
        let mut stored = expected.clone();
        stored["subjects"] = json!([{"kind": "User", "name": "bob"}]);
        let new = updated(&stored, &expected);
        assert_eq!(new["subjects"].as_array().unwrap().len(), 3);
        stored["roleRef"]["name"] = "cluster-admin".into();
        assert_eq!(step(&stored, &expected), Step::Replace);
    }
}

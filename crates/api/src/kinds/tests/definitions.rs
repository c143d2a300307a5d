//! Rules of CustomResourceDefinitions and of the schemas in them.

use super::*;

fn definition(schema: Value) -> Value {
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "as.x.io"},
        "spec": {"group": "x.io", "names": {"kind": "A", "plural": "as"}, "scope": "Namespaced",
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]}})
}

#[test]
fn definitions_are_judged() {
    let with = |pointer: &str, value: Value| {
        let mut body = definition(json!({"type": "object"}));
        match body.pointer_mut(pointer) {
            Some(place) => merge(place, value),
            None => panic!("{pointer}"),
        }
        body
    };
    let service = json!({"namespace": "n", "name": "s"});
    let webhook = json!({"conversionReviewVersions": ["v1"], "clientConfig": {"service": service}});
    let conversion = json!({"conversion": {"strategy": "Webhook", "webhook": webhook}});
    let made = create(with("/spec", conversion)).expect("a definition");
    let port = made.pointer("/spec/conversion/webhook/clientConfig/service/port");
    assert_eq!(port, Some(&json!(443)));
    accepted([with(
        "/spec/names",
        json!({"shortNames": ["a"], "categories": ["all"], "singular": "a"}),
    )]);
    refused_text([
        (
            with("/spec", json!({"preserveUnknownFields": true})),
            "spec.preserveUnknownFields: Invalid value: true: must be false",
        ),
        (
            with("/spec/names", json!({"kind": "1A"})),
            "spec.names.kind: Invalid value: \"1A\": may have mixed case, but should otherwise match: a DNS-1035 label *",
        ),
        (
            with("/spec/names", json!({"listKind": "A"})),
            "spec.names.listKind: Invalid value: \"A\": kind and listKind may not be the same",
        ),
        (
            with("/spec/names", json!({"shortNames": ["A_"]})),
            "spec.names.shortNames[0]: Invalid value: \"A_\": a DNS-1035 label *",
        ),
        (
            with("/spec", json!({"group": "x"})),
            "spec.group: Invalid value: \"x\": should be a domain with at least one dot",
        ),
        (
            with("/spec/versions/0", json!({"name": "1"})),
            "spec.versions[0].name: Invalid value: \"1\": a DNS-1035 label *",
        ),
    ]);
}

#[test]
fn groups_of_kubernetes_own_need_an_approval() {
    let in_group = |group: &str, approval: Value| {
        let mut body = definition(json!({"type": "object"}));
        body["spec"]["group"] = group.into();
        body["metadata"] = json!({"name": format!("as.{group}"),
            "annotations": {"api-approved.kubernetes.io": approval}});
        body
    };
    let url = "https://github.com/kubernetes/kubernetes/pull/1";
    accepted([
        in_group("x.k8s.io", json!(url)),
        in_group("kubernetes.io", json!("unapproved, an experiment")),
        in_group("notk8s.io", json!(null)),
    ]);
    refused_text([
        (
            in_group("x.k8s.io", json!("")),
            "metadata.annotations[api-approved.kubernetes.io]: Required value: protected groups must have approval annotation \"api-approved.kubernetes.io\", see https://github.com/kubernetes/enhancements/pull/1111",
        ),
        (
            in_group("x.kubernetes.io", json!("yes")),
            "metadata.annotations[api-approved.kubernetes.io]: Invalid value: \"yes\": protected groups must have approval annotation \"api-approved.kubernetes.io\" with either a URL or a reason starting with \"unapproved\", see https://github.com/kubernetes/enhancements/pull/1111",
        ),
    ]);
    // What was so before may stay; what was approved stays approved.
    let old = create(in_group("x.k8s.io", json!(url))).expect("valid");
    let mut bare = old.clone();
    bare["metadata"]["annotations"] = json!({});
    assert!(causes(update(&old, bare.clone()))[0].contains("Required value"));
    let mut new = bare.clone();
    new["spec"]["names"]["shortNames"] = json!(["a"]);
    assert!(update(&bare, new).is_ok());
}

#[test]
fn schemas_are_structural() {
    let field = |schema: Value| {
        definition(
            json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {"a": schema}}}}),
        )
    };
    let spec = |more: Value| {
        let mut spec = json!({"type": "object", "properties": {"a": {"type": "string"}}});
        merge(&mut spec, more);
        definition(json!({"type": "object", "properties": {"spec": spec}}))
    };
    accepted([
        definition(json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})),
        definition(
            json!({"type": "object", "properties": {"apiVersion": {"type": "string"}, "kind": {"type": "string"},
            "metadata": {"type": "object"}, "status": {"type": "object", "properties": {}}}}),
        ),
        definition(
            json!({"type": "object", "properties": {"metadata": {"type": "object", "properties": {"name": {"type": "string", "pattern": "a"}}}}}),
        ),
        field(
            json!({"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}], "pattern": "x"}),
        ),
        field(
            json!({"x-kubernetes-int-or-string": true, "allOf": [{"anyOf": [{"type": "integer"}, {"type": "string"}]}, {"maximum": 3}]}),
        ),
        field(json!({"x-kubernetes-preserve-unknown-fields": true})),
        field(
            json!({"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"}),
        ),
        field(json!({"type": "object", "additionalProperties": {"type": "integer"}})),
        field(json!({"type": "object", "additionalProperties": true})),
        field(
            json!({"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true}),
        ),
        spec(
            json!({"oneOf": [{"required": ["a"]}, {"not": {"properties": {"a": {"enum": ["x"]}}}}]}),
        ),
    ]);
    let root = "spec.validation.openAPIV3Schema";
    let at = "spec.validation.openAPIV3Schema.properties[spec]";
    refused([
        (
            field(json!({})),
            format!(
                "{at}.properties[a].type: Required value: must not be empty for specified object fields"
            ),
        ),
        (
            definition(json!({"properties": {}})),
            format!("{root}.type: Required value: must not be empty at the root"),
        ),
        (
            definition(json!({"type": "string"})),
            format!("{root}.type: Invalid value: \"string\": must be object at the root"),
        ),
        (
            definition(json!({"type": "object", "additionalProperties": true})),
            format!("{root}.additionalProperties: Forbidden: must not be used at the root"),
        ),
        (
            field(json!({"type": "array"})),
            format!("{at}.properties[a].items: Required value: must be specified"),
        ),
        (
            field(json!({"type": "array", "items": {}})),
            format!(
                "{at}.properties[a].items.type: Required value: must not be empty for specified array items"
            ),
        ),
        (
            field(json!({"type": "any"})),
            format!(
                "{at}.properties[a].type: Unsupported value: \"any\": supported values: \"array\", *"
            ),
        ),
        (
            field(json!({"type": "object", "x-kubernetes-embedded-resource": true})),
            format!("{at}.properties[a].properties: Required value: must not be empty if *"),
        ),
        (
            spec(json!({"anyOf": [{"type": "object"}]})),
            format!("{at}.anyOf[0].type: Forbidden: must be empty to be structural"),
        ),
        (
            spec(json!({"anyOf": [{"properties": {"a": {"description": "x"}}}]})),
            format!(
                "{at}.anyOf[0].properties[a].description: Forbidden: must be empty to be structural"
            ),
        ),
        (
            spec(json!({"allOf": [{"properties": {"b": {"minLength": 1}}}]})),
            format!(
                "{at}.properties[b]: Required value: because it is defined in {at}.allOf[0].properties[b]"
            ),
        ),
        (
            field(json!({"type": "object", "$ref": "#/x"})),
            format!("{at}.properties[a].$ref: Forbidden: $ref is not supported"),
        ),
        (
            field(
                json!({"type": "object", "properties": {"x": {"type": "string"}}, "additionalProperties": {"type": "string"}}),
            ),
            format!(
                "{at}.properties[a].additionalProperties: Forbidden: additionalProperties and properties are mutual exclusive"
            ),
        ),
        (
            definition(
                json!({"type": "object", "properties": {"metadata": {"type": "object", "properties": {"labels": {"type": "object"}}}}}),
            ),
            format!(
                "{root}.properties[metadata]: Forbidden: must not specify anything other than name and generateName, but metadata is implicitly specified"
            ),
        ),
        (
            definition(json!({"type": "object", "properties": {"kind": {"type": "object"}}})),
            format!("{root}.properties[kind].type: Invalid value: \"object\": must be string"),
        ),
    ]);
    // Versions of different schemas are told apart.
    let mut two = definition(json!({"type": "object"}));
    let other = json!({"name": "v2", "served": true, "storage": false, "schema": {"openAPIV3Schema": {"type": "string"}}});
    if let Some(list) = two["spec"]["versions"].as_array_mut() {
        list.push(other);
    }
    refused_text([(
        two,
        "spec.versions[1].schema.openAPIV3Schema.type: Invalid value: \"string\": must be object at the root",
    )]);
}

mod every_kind;
mod wire;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use serde_json::{Value, json};

use super::*;

fn decode_map(body: &str, validation: FieldValidation) -> Result<Decoded, Status> {
    let maps = Resource::of::<ConfigMap>();
    decode(body.as_bytes(), maps.into(), Format::Json, validation)
}

fn refused(body: &str) -> String {
    let status = decode_map(body, FieldValidation::Strict).expect_err(body);
    assert_eq!((status.code, status.reason), (400, "BadRequest"));
    status.message
}

#[test]
fn json_and_yaml_give_the_same() {
    let json = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p","labels":{"1":"x"}},
        "spec":{"terminationGracePeriodSeconds":30,"nodeName":null,"volumes":[{"name":"s","secret":{"defaultMode":420}}],
        "containers":[{"name":"c","resources":{"limits":{"cpu":0.5,"memory":"1024Mi"}},
        "ports":[{"containerPort":80}],"livenessProbe":{"httpGet":{"port":"web"}}}]}}"#;
    let yaml = "
apiVersion: v1
kind: Pod
metadata:
  name: p
  labels: {1: x}
spec:
  terminationGracePeriodSeconds: 30
  nodeName:
  volumes: [{name: s, secret: {defaultMode: 0644}}]
  containers:
  - name: c
    resources: {limits: {cpu: 0.5, memory: 1024Mi}}
    ports: [{containerPort: 80}]
    livenessProbe: {httpGet: {port: web}}
";
    let pods = Resource::of::<Pod>();
    let one = decode(
        json.as_bytes(),
        pods.into(),
        Format::Json,
        FieldValidation::Strict,
    )
    .expect("json");
    let two = decode(
        yaml.as_bytes(),
        pods.into(),
        Format::Yaml,
        FieldValidation::Strict,
    )
    .expect("yaml");
    assert_eq!(one, two);
    assert_eq!(
        one.value["spec"]["containers"][0]["resources"]["limits"],
        json!({"cpu": "500m", "memory": "1Gi"})
    );
    assert_eq!(one.value["spec"].get("nodeName"), None);
    let again = encode(&one.value, Format::Yaml).expect("yaml");
    let three = decode(&again, pods.into(), Format::Yaml, FieldValidation::Strict).expect("again");
    assert_eq!(one, three);
}

#[test]
fn unknown_and_repeated_fields_are_judged_as_asked() {
    let body = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"u","x":{"y":[1]}},"data":{"a":"1","a":"2"},"extra":1}"#;
    let faults = [
        "unknown field \"metadata.x\"",
        "duplicate field \"data.a\"",
        "unknown field \"extra\"",
    ];
    let decoded = decode_map(body, FieldValidation::Warn).expect("warned");
    assert_eq!(decoded.warnings, faults);
    assert_eq!(
        decoded.value,
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "u"}, "data": {"a": "2"}})
    );
    assert!(
        decode_map(body, FieldValidation::Ignore)
            .expect("ignored")
            .warnings
            .is_empty()
    );
    assert_eq!(
        refused(body),
        format!(
            "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: {}",
            faults.join(", ")
        )
    );
}

#[test]
fn wrong_types_are_named_as_go_names_them() {
    let head = "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: ";
    let table = [
        (
            r#"{"data":{"a":1}}"#,
            "json: cannot unmarshal number into Go struct field ConfigMap.data of type string",
        ),
        (
            r#"{"data":[]}"#,
            "json: cannot unmarshal array into Go struct field ConfigMap.data of type map[string]string",
        ),
        (
            r#"{"immutable":"yes"}"#,
            "json: cannot unmarshal string into Go struct field ConfigMap.immutable of type bool",
        ),
        (
            r#"{"metadata":[]}"#,
            "json: cannot unmarshal array into Go struct field ConfigMap.metadata of type v1.ObjectMeta",
        ),
        (
            r#"{"metadata":{"generation":1.5}}"#,
            "json: cannot unmarshal number 1.5 into Go struct field ObjectMeta.metadata.generation of type int64",
        ),
        (
            r#"{"binaryData":{"a":"%"}}"#,
            "illegal base64 data at input byte 0",
        ),
    ];
    for (body, why) in table {
        assert_eq!(refused(body), format!("{head}{why}"), "{body}");
    }
    let deployments = Resource::of::<Deployment>();
    let body =
        r#"{"spec":{"template":{"spec":{"containers":[{"env":[{"name":"A","value":1}]}]}}}}"#;
    let status = decode(
        body.as_bytes(),
        deployments.into(),
        Format::Json,
        FieldValidation::Warn,
    );
    assert_eq!(
        status.expect_err("refused").message,
        "Deployment in version \"v1\" cannot be handled as a Deployment: json: cannot unmarshal number into Go struct field EnvVar.spec.template.spec.containers.env.value of type string"
    );
}

#[test]
fn kinds_must_match() {
    assert_eq!(
        refused(r#"{"apiVersion":"v1","kind":"Secret"}"#),
        "Secret in version \"v1\" cannot be handled as a ConfigMap: converting (v1.Secret) to (core.ConfigMap): unknown conversion"
    );
    assert!(refused(r#"{"apiVersion":"v2","kind":"ConfigMap"}"#).starts_with(
        "ConfigMap in version \"v2\" cannot be handled as a ConfigMap: no kind \"ConfigMap\" is registered for version \"v2\" in scheme \"pkg/api/legacyscheme/scheme.go:30\""
    ));
    let decoded = decode_map("{}", FieldValidation::Strict).expect("kind is implied");
    assert_eq!(
        decoded.value,
        json!({"apiVersion": "v1", "kind": "ConfigMap"})
    );
}

#[test]
fn bodies_that_are_no_objects_are_refused() {
    let deep = format!("{}{}", "{\"metadata\":".repeat(2000), "}".repeat(2000));
    let inside = |levels: usize| {
        format!(
            r#"{{"metadata":{{"managedFields":[{{"fieldsV1":{{"a":{}1{}}}}}]}}}}"#,
            "[".repeat(levels),
            "]".repeat(levels)
        )
    };
    assert!(decode_map(&inside(95), FieldValidation::Strict).is_ok());
    let lists = inside(96);
    let more = inside(100_000);
    for body in [
        "",
        "null x",
        "[]",
        "1",
        "\"x\"",
        "{",
        "{\"a\"",
        "{\"kind\":1}",
        "{}{}",
        "{\"apiVersion\": \"v1\", nope",
        &deep,
        &lists,
        &more,
    ] {
        assert_eq!(
            decode_map(body, FieldValidation::Warn)
                .expect_err(body)
                .code,
            400
        );
    }
    let mut bomb = String::from(
        "metadata:\n  managedFields:\n  - fieldsV1:\n      a: &a [x,x,x,x,x,x,x,x,x]\n",
    );
    for (before, name) in "abcdefgh".chars().zip("bcdefghi".chars()) {
        let nine = vec![format!("*{before}"); 9].join(",");
        bomb.push_str(&format!("      {name}: &{name} [{nine}]\n"));
    }
    let maps = Resource::of::<ConfigMap>();
    // One long list, said again and again.
    let (list, again) = (vec!["x"; 50_000].join(","), vec!["*a"; 50_000].join(","));
    let flat = format!(
        "metadata:\n  managedFields:\n  - fieldsV1:\n      a: &a [{list}]\n      b: [{again}]\n"
    );
    let ignored = format!("unknown:\n  a: &a [{list}]\n  b: [{again}]\n");
    let text = "x".repeat(100_000);
    let texts = format!("metadata:\n  finalizers: [&a {text}, {again}]\n");
    let deep_yaml = "- ".repeat(5000);
    for body in [
        bomb.as_str(),
        &flat,
        &ignored,
        &texts,
        "a: [",
        "- 1",
        "\t",
        "{a: b",
        "metadata: !x 1",
        "data: {? {} : 1}",
        "\u{0}",
        &deep_yaml,
        "a: 1\n---\nb: 2",
    ] {
        let result = decode(
            body.as_bytes(),
            maps.into(),
            Format::Yaml,
            FieldValidation::Warn,
        );
        assert_eq!(result.expect_err(body).code, 400);
    }
    assert_eq!(
        decode(
            b"\xff\xfe",
            maps.into(),
            Format::Yaml,
            FieldValidation::Warn
        )
        .expect_err("utf-8")
        .code,
        400
    );
}

#[test]
fn times_become_canonical() {
    let decoded = decode_map(
        r#"{"metadata":{"creationTimestamp":"2026-11-21T12:00:00.5+02:00","deletionTimestamp":null}}"#,
        FieldValidation::Strict,
    )
    .expect("decoded");
    assert_eq!(
        decoded.value["metadata"],
        json!({"creationTimestamp": "2026-11-21T10:00:00Z"})
    );
    assert!(
        refused(r#"{"metadata":{"creationTimestamp":"now"}}"#).contains("parsing time \"now\"")
    );
}

#[test]
fn media_types() {
    assert_eq!(
        Format::of_content_type("application/json; charset=utf-8"),
        Ok(Format::Json)
    );
    assert_eq!(Format::of_content_type(""), Ok(Format::Json));
    assert_eq!(
        Format::of_content_type("Application/YAML"),
        Ok(Format::Yaml)
    );
    assert_eq!(
        Format::of_content_type("text/plain")
            .expect_err("refused")
            .code,
        415
    );
}

fn pod_in_protobuf() -> Vec<u8> {
    use wire::{envelope, message, number, text};
    let container = message(
        2,
        &[
            text(1, "c"),
            text(2, "i:v1"),
            text(3, "run"),
            text(3, ""),
            text(5, ""),
            message(
                6,
                &[text(1, ""), number(2, 0), number(3, 80), text(4, "TCP")],
            ),
            message(
                8,
                &[message(
                    1,
                    &[text(1, "cpu"), message(2, &[text(1, "1000m")])],
                )],
            ),
            // Probe: the handler is a message of its own, inlined in JSON.
            message(
                10,
                &[
                    message(
                        1,
                        &[message(
                            2,
                            &[message(2, &[number(1, 1), number(2, 0), text(3, "web")])],
                        )],
                    ),
                    number(2, 5),
                ],
            ),
        ],
    );
    let secret = message(
        1,
        &[
            text(1, "s"),
            message(2, &[message(6, &[text(1, "x"), number(3, 420)])]),
        ],
    );
    envelope(
        "v1",
        "Pod",
        &[
            message(
                1,
                &[
                    text(1, "p"),
                    text(2, ""),
                    text(3, "demo"),
                    number(7, 0),
                    message(8, &[]),
                    message(9, &[number(1, 1_700_000_000), number(2, 0)]),
                    message(11, &[text(1, "a"), text(2, "b")]),
                    message(11, &[text(1, "empty")]),
                ],
            ),
            message(2, &[secret, container, number(4, -1), number(11, 1)]),
            message(99, &[text(1, "from the future")]),
        ],
    )
}

#[test]
fn protobuf() {
    let pods = Resource::of::<Pod>();
    let decoded = decode(
        &pod_in_protobuf(),
        pods.into(),
        Format::Protobuf,
        FieldValidation::Strict,
    )
    .expect("decoded");
    assert_eq!(
        decoded.value,
        json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "p", "namespace": "demo",
                "deletionTimestamp": "2023-11-14T22:13:20Z", "labels": {"a": "b", "empty": ""}},
            "spec": {
                "volumes": [{"name": "s", "secret": {"secretName": "x", "defaultMode": 420}}],
                "containers": [{"name": "c", "image": "i:v1", "command": ["run", ""],
                    "ports": [{"containerPort": 80, "protocol": "TCP"}],
                    "resources": {"limits": {"cpu": "1"}},
                    "livenessProbe": {"httpGet": {"port": "web"}, "initialDelaySeconds": 5}}],
                "terminationGracePeriodSeconds": -1,
                "hostNetwork": true,
            },
        })
    );
}

#[test]
fn broken_protobuf_is_refused() {
    let pods = Resource::of::<Pod>();
    let whole = pod_in_protobuf();
    let read = |body: &[u8]| decode(body, pods.into(), Format::Protobuf, FieldValidation::Warn);
    // Any cut and any flipped byte gives an answer, never a panic.
    for end in 0..whole.len() {
        let _ = read(&whole[..end]).map_err(|status| assert_eq!(status.code, 400));
    }
    for at in 4..whole.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut body = whole.clone();
            body[at] ^= flip;
            let _ = read(&body).map_err(|status| assert_eq!(status.code, 400));
        }
    }
    assert_eq!(read(b"").expect_err("empty").code, 400);
    assert_eq!(read(b"{}").expect_err("json").code, 400);
    // JSON schemas nest without end.
    let crd = crate::resource::by_kind("apiextensions.k8s.io/v1", "CustomResourceDefinition");
    let crd = crd.expect("crd");
    let mut schema: Vec<u8> = Vec::new();
    for _ in 0..1000 {
        schema = wire::bytes(31, &wire::bytes(2, &schema));
    }
    let version = wire::message(7, &[wire::message(4, &[wire::bytes(1, &schema)])]);
    let body = wire::envelope(
        "apiextensions.k8s.io/v1",
        "CustomResourceDefinition",
        &[wire::message(2, &[version])],
    );
    let result = decode(&body, crd.into(), Format::Protobuf, FieldValidation::Warn);
    assert_eq!(result.expect_err("too deep").code, 400);
}

#[test]
fn subresources_and_options() {
    let pods = Resource::of::<Pod>();
    let binding = pods.subresource("binding").expect("binding");
    let body = br#"{"apiVersion":"v1","kind":"Binding","metadata":{"name":"p"},"target":{"kind":"Node","name":"n"}}"#;
    let expected = Expected::subresource(pods, binding);
    let decoded = decode(body, expected, Format::Json, FieldValidation::Strict).expect("binding");
    assert_eq!(decoded.value["target"]["name"], "n");
    for kind in ["v1", "meta.k8s.io/v1", "apps/v1"] {
        let body = format!(
            r#"{{"apiVersion":"{kind}","kind":"DeleteOptions","gracePeriodSeconds":3,"preconditions":{{"uid":"u"}}}}"#
        );
        let decoded = decode(
            body.as_bytes(),
            Expected::delete_options(),
            Format::Json,
            FieldValidation::Strict,
        );
        assert_eq!(decoded.expect(kind).value["gracePeriodSeconds"], 3);
    }
    let body = br#"{"propagationPolicy":"Background"}"#;
    let decoded = decode(
        body,
        Expected::delete_options(),
        Format::Json,
        FieldValidation::Strict,
    );
    assert_eq!(
        decoded.expect("bare").value["propagationPolicy"],
        "Background"
    );
}

#[test]
fn a_patched_tree_is_brought_into_shape() {
    let maps = Resource::of::<ConfigMap>();
    let tree = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": null, "x": 1});
    let decoded = conform(tree, maps.into(), FieldValidation::Warn).expect("conforms");
    assert_eq!(decoded.warnings, ["unknown field \"x\""]);
    assert_eq!(
        decoded.value,
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}})
    );
    for bad in [
        json!([]),
        json!({"data": 1}),
        json!({"data": {"a": []}}),
        Value::from(1),
    ] {
        assert_eq!(
            conform(bad, maps.into(), FieldValidation::Ignore)
                .expect_err("refused")
                .code,
            400
        );
    }
}

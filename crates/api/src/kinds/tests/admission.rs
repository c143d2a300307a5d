//! Rules of webhooks, policies, groups that others serve, and requests for certificates.

use super::*;

const GROUP: &str = "admissionregistration.k8s.io/v1";

#[test]
fn webhooks_are_judged() {
    let webhook = |more: Value| {
        let mut webhook = json!({"name": "a.example.com", "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "clientConfig": {"service": {"name": "s", "namespace": "default"}}});
        merge(&mut webhook, more);
        object(
            GROUP,
            "ValidatingWebhookConfiguration",
            json!({"webhooks": [webhook]}),
        )
    };
    let rule = |more: Value| {
        let mut rule = json!({"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods", "pods/status"]});
        merge(&mut rule, more);
        webhook(json!({"rules": [rule]}))
    };
    let client = |config: Value| {
        let mut body = webhook(json!({}));
        body["webhooks"][0]["clientConfig"] = config;
        body
    };
    accepted([
        webhook(json!({"matchConditions": [{"name": "a", "expression": "true"}]})),
        rule(json!({})),
        rule(json!({"resources": ["*/*"], "operations": ["*"]})),
        client(json!({"url": "https://example.com:8443/path"})),
    ]);
    let at = "webhooks[0]";
    refused([
        (
            webhook(json!({"name": "a"})),
            format!(
                "{at}.name: Invalid value: \"a\": should be a domain with at least three segments separated by dots"
            ),
        ),
        (
            webhook(json!({"sideEffects": "Some"})),
            format!(
                "{at}.sideEffects: Unsupported value: \"Some\": supported values: \"None\", \"NoneOnDryRun\""
            ),
        ),
        (
            webhook(json!({"sideEffects": null})),
            format!("{at}.sideEffects: Required value: must specify one of None, NoneOnDryRun"),
        ),
        (
            webhook(json!({"admissionReviewVersions": ["v9"]})),
            format!(
                "{at}.admissionReviewVersions: Invalid value: [\"v9\"]: must include at least one of v1, v1beta1"
            ),
        ),
        (
            client(json!({})),
            format!("{at}.clientConfig: Required value: exactly one of url or service is required"),
        ),
        (
            client(json!({"url": "http://example.com"})),
            format!(
                "{at}.clientConfig.url: Invalid value: \"http\": 'https' is the only allowed URL scheme; desired format: https://host[/path]"
            ),
        ),
        (
            client(json!({"url": "https://a@b"})),
            format!(
                "{at}.clientConfig.url: Invalid value: \"a\": user information is not permitted in the URL"
            ),
        ),
        (
            client(json!({"service": {"name": "s", "namespace": ""}})),
            format!(
                "{at}.clientConfig.service.namespace: Required value: service namespace is required"
            ),
        ),
        (
            client(json!({"service": {"name": "s", "namespace": "n", "path": "a"}})),
            format!("{at}.clientConfig.service.path: Invalid value: \"a\": must start with a '/'"),
        ),
        (
            rule(json!({"operations": ["X"]})),
            format!(
                "{at}.rules[0].operations[0]: Unsupported value: \"X\": supported values: \"*\", \"CONNECT\", \"CREATE\", \"DELETE\", \"UPDATE\""
            ),
        ),
        (
            rule(json!({"operations": ["*", "CREATE"]})),
            format!(
                "{at}.rules[0].operations: Invalid value: [\"*\",\"CREATE\"]: if '*' is present, must not specify other operations"
            ),
        ),
        (
            rule(json!({"apiGroups": null})),
            format!("{at}.rules[0].apiGroups: Required value"),
        ),
        (
            rule(json!({"resources": ["pods/*", "pods/status"]})),
            format!(
                "{at}.rules[0].resources[1]: Invalid value: \"pods/status\": if 'pods/*' is present, must not specify pods/status"
            ),
        ),
        (
            webhook(json!({"timeoutSeconds": 0})),
            format!(
                "{at}.timeoutSeconds: Invalid value: 0: the timeout value must be between 1 and 30 seconds"
            ),
        ),
        (
            webhook(json!({"matchConditions": [{"name": "a", "expression": " "}]})),
            format!("{at}.matchConditions[0].expression: Required value"),
        ),
    ]);
}

#[test]
fn policies_are_judged() {
    let policy = |more: Value| {
        let mut spec = json!({"validations": [{"expression": "true"}], "matchConstraints": {"resourceRules": [
            {"operations": ["CREATE"], "apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments"]}]}});
        merge(&mut spec, more);
        object(GROUP, "ValidatingAdmissionPolicy", json!({"spec": spec}))
    };
    let binding = |more: Value| {
        let mut spec = json!({"policyName": "p", "validationActions": ["Deny"]});
        merge(&mut spec, more);
        object(
            GROUP,
            "ValidatingAdmissionPolicyBinding",
            json!({"spec": spec}),
        )
    };
    accepted([
        policy(
            json!({"paramKind": {"apiVersion": "example.com/v1", "kind": "Limit"}, "variables": [{"name": "a_1", "expression": "1"}]}),
        ),
        policy(
            json!({"validations": null, "auditAnnotations": [{"key": "a", "valueExpression": "'x'"}]}),
        ),
        binding(json!({"paramRef": {"name": "n", "parameterNotFoundAction": "Deny"}})),
        binding(json!({"validationActions": ["Warn", "Audit"]})),
    ]);
    refused_text([
        (
            policy(json!({"validations": []})),
            "spec.validations: Required value: validations or auditAnnotations must contain at least one item",
        ),
        (
            policy(json!({"matchConstraints": null})),
            "spec.matchConstraints: Required value",
        ),
        (
            policy(json!({"matchConstraints": {"resourceRules": []}})),
            "spec.matchConstraints.resourceRules: Required value",
        ),
        (
            policy(json!({"paramKind": {"apiVersion": "a/b/c", "kind": "K"}})),
            "spec.paramKind.apiVersion: Invalid value: \"a/b/c\": unexpected GroupVersion string: a/b/c",
        ),
        (
            policy(json!({"variables": [{"name": "in", "expression": "1"}]})),
            "spec.variables[0].name: Invalid value: \"in\": name is not a valid CEL identifier",
        ),
        (
            policy(json!({"validations": [{"expression": ""}]})),
            "spec.validations[0].expression: Required value: expression is not specified",
        ),
        (
            policy(json!({"validations": [{"expression": "true", "message": "a\nb"}]})),
            "spec.validations[0].message: Invalid value: \"a\\nb\": message must not contain line breaks",
        ),
        (
            binding(json!({"policyName": ""})),
            "spec.policyName: Required value",
        ),
        (
            binding(json!({"validationActions": []})),
            "spec.validationActions: Required value: at least one validation action is required",
        ),
        (
            binding(json!({"validationActions": ["Deny", "Warn"]})),
            "spec.validationActions: Invalid value: [\"Deny\",\"Warn\"]: must not contain both *",
        ),
        (
            binding(json!({"paramRef": {"parameterNotFoundAction": "Deny"}})),
            "spec.paramRef: Required value: one of name or selector must be specified",
        ),
    ]);
}

#[test]
fn policies_that_change_are_judged() {
    let policy = |more: Value| {
        let mut spec = json!({"reinvocationPolicy": "Never",
            "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": "Object{}"}}],
            "matchConstraints": {"resourceRules": [
                {"operations": ["CREATE"], "apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments"]}]}});
        merge(&mut spec, more);
        object(GROUP, "MutatingAdmissionPolicy", json!({"spec": spec}))
    };
    let rule = |operation: &str| {
        json!({"resourceRules": [
            {"operations": [operation], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}]})
    };
    let patch = |mutation: Value| policy(json!({"mutations": [mutation]}));
    let binding = |more: Value| {
        let mut spec = json!({"policyName": "p"});
        merge(&mut spec, more);
        object(
            GROUP,
            "MutatingAdmissionPolicyBinding",
            json!({"spec": spec}),
        )
    };
    let made = create(policy(json!({}))).expect("valid");
    assert_eq!(made["spec"]["failurePolicy"], "Fail");
    assert_eq!(
        made["spec"]["matchConstraints"]["matchPolicy"],
        "Equivalent"
    );
    accepted([
        patch(json!({"patchType": "JSONPatch", "jsonPatch": {"expression": "[]"}})),
        binding(json!({"paramRef": {"name": "n", "parameterNotFoundAction": "Deny"}})),
        binding(json!({"matchResources": rule("UPDATE")})),
    ]);
    refused_text([
        (
            policy(json!({"mutations": []})),
            "spec.mutations: Required value: mutations must contain at least one item",
        ),
        (
            policy(json!({"reinvocationPolicy": null})),
            "spec.reinvocationPolicy: Required value",
        ),
        (
            policy(json!({"reinvocationPolicy": "x"})),
            "spec.reinvocationPolicy: Unsupported value: \"x\": supported values: *",
        ),
        (
            policy(json!({"matchConstraints": null})),
            "spec.matchConstraints: Required value",
        ),
        (
            policy(json!({"matchConstraints": rule("DELETE")})),
            "spec.matchConstraints.resourceRules.operations: Unsupported value: \"DELETE\": supported values: \"*\", \"CONNECT\", \"CREATE\", \"UPDATE\"",
        ),
        (
            patch(json!({"applyConfiguration": {"expression": "Object{}"}})),
            "spec.mutations[0].patchType: Required value",
        ),
        (
            patch(json!({"patchType": "x"})),
            "spec.mutations[0].patchType: Unsupported value: \"x\": supported values: \"ApplyConfiguration\", \"JSONPatch\"",
        ),
        (
            patch(json!({"patchType": "JSONPatch"})),
            "spec.mutations[0].jsonPatch: Required value: must be specified when patchType is JSONPatch",
        ),
        (
            patch(
                json!({"patchType": "JSONPatch", "jsonPatch": {"expression": "[]"}, "applyConfiguration": {"expression": "x"}}),
            ),
            "spec.mutations[0].applyConfiguration: Invalid value: \"{applyConfiguration}\": must not be specified when patchType is JSONPatch",
        ),
        (
            patch(
                json!({"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": " "}}),
            ),
            "spec.mutations[0].applyConfiguration.expression: Required value: expression is not specified",
        ),
        (
            binding(json!({"matchResources": rule("DELETE")})),
            "spec.matchResources.resourceRules.operations: Unsupported value: \"DELETE\": supported values: *",
        ),
    ]);
}

#[test]
fn groups_that_others_serve() {
    let service = |name: &str, more: Value| {
        let mut body = object(
            "apiregistration.k8s.io/v1",
            "APIService",
            json!({"spec": {"group": "x.io", "version": "v1", "groupPriorityMinimum": 1, "versionPriority": 1}}),
        );
        body["metadata"]["name"] = name.into();
        merge(&mut body["spec"], more);
        body
    };
    accepted([
        service("v1.x.io", json!({})),
        service("v1.", json!({"group": ""})),
        service(
            "v1.x.io",
            json!({"service": {"name": "s", "namespace": "n"}, "insecureSkipTLSVerify": true}),
        ),
    ]);
    refused_text([
        (
            service("x", json!({})),
            "metadata.name: Invalid value: \"x\": must be `spec.version+\".\"+spec.group`: \"v1.x.io\"",
        ),
        (
            service("v1.x.io", json!({"versionPriority": 0})),
            "spec.versionPriority: Invalid value: 0: must be positive and less than 1000",
        ),
        (
            service("v1.x.io", json!({"insecureSkipTLSVerify": true})),
            "spec.insecureSkipTLSVerify: Invalid value: true: local APIServices may not have insecureSkipTLSVerify",
        ),
        (
            service("v1.x.io", json!({"service": {"name": "s"}})),
            "spec.service.namespace: Required value",
        ),
    ]);
}

#[test]
fn requests_for_certificates() {
    // The text of a PEM block as it is decoded, in base64.
    const REQUEST: &str = "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0KTUlJPQotLS0tLUVORCBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0K";
    let request = |more: Value| {
        let mut spec = json!({"request": REQUEST, "signerName": "example.com/signer", "usages": ["client auth"]});
        merge(&mut spec, more);
        object(
            "certificates.k8s.io/v1",
            "CertificateSigningRequest",
            json!({"spec": spec}),
        )
    };
    accepted([
        request(json!({"expirationSeconds": 600})),
        request(json!({"signerName": "kubernetes.io/kube-apiserver-client"})),
    ]);
    refused_text([
        (
            request(json!({"request": "YQ=="})),
            "spec.request: Invalid value: \"YQ==\": PEM block type must be CERTIFICATE REQUEST",
        ),
        (
            request(json!({"signerName": "x"})),
            "spec.signerName: Invalid value: \"x\": must be a fully qualified domain and path of the form 'example.com/signer-name'",
        ),
        (
            request(json!({"signerName": ""})),
            "spec.signerName: Required value",
        ),
        (
            request(json!({"usages": []})),
            "spec.usages: Required value",
        ),
        (
            request(json!({"usages": ["client auth", "client auth"]})),
            "spec.usages[1]: Duplicate value: \"client auth\"",
        ),
        (
            request(json!({"expirationSeconds": 60})),
            "spec.expirationSeconds: Invalid value: 60: may not specify a duration less than 600 seconds (10 minutes)",
        ),
    ]);
    let asked = Context {
        user: User {
            name: "jane".to_owned(),
            uid: String::new(),
            groups: vec!["dev".to_owned()],
        },
        ..context()
    };
    let body = request(json!({"username": "root", "groups": ["system:masters"]}));
    let old = write::create(resource_of(&body), body, &asked).expect("valid");
    assert_eq!(
        (&old["spec"]["username"], &old["spec"]["groups"]),
        (&json!("jane"), &json!(["dev"]))
    );
    // The request stays what it was, whatever an update says.
    let mut new = old.clone();
    new["spec"]["signerName"] = "example.com/other".into();
    assert_eq!(update(&old, new).expect("valid")["spec"], old["spec"]);
    let conditions = |old: &Value, conditions: Value| {
        let mut new = old.clone();
        new["status"]["conditions"] = conditions;
        write::update(resource_of(old), Some("approval"), old, new, &context())
    };
    let approved =
        conditions(&old, json!([{"type": "Approved", "status": "True"}])).expect("valid");
    assert_eq!(
        causes(conditions(&approved, json!([]))),
        ["status.conditions: Forbidden: updates may not remove a condition of type \"Approved\""]
    );
    let both =
        json!([{"type": "Approved", "status": "True"}, {"type": "Denied", "status": "True"}]);
    assert_eq!(
        causes(conditions(&approved, both)),
        [
            "status.conditions: Invalid value: \"Denied\": Approved and Denied conditions are mutually exclusive"
        ]
    );
}

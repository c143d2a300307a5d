//! Every field that a pod's spec may have: what becomes of it. No field is ignored in silence.

use std::collections::{BTreeMap, BTreeSet};

use agent::pod::{Host, refusal};
use api::schema::{self, Shape, Type};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

/// A field by its type's name and its own.
type Field = (String, String);

/// Done, by the type.
const HONOURED: &[(&str, &str)] = &[
    ("Capabilities", "drop"),
    ("ConfigMapEnvSource", "name optional"),
    ("ConfigMapKeySelector", "key name optional"),
    ("ConfigMapProjection", "items name optional"),
    ("ConfigMapVolumeSource", "defaultMode items name optional"),
    (
        "Container",
        "args command env envFrom image imagePullPolicy lifecycle livenessProbe name ports readinessProbe resizePolicy resources restartPolicy restartPolicyRules securityContext startupProbe stdin stdinOnce terminationMessagePath terminationMessagePolicy tty volumeMounts workingDir",
    ),
    (
        "ContainerPort",
        "containerPort hostIP hostPort name protocol",
    ),
    ("ContainerResizePolicy", "resourceName restartPolicy"),
    ("ContainerRestartRule", "action exitCodes"),
    ("ContainerRestartRuleOnExitCodes", "operator values"),
    ("DownwardAPIProjection", "items"),
    (
        "DownwardAPIVolumeFile",
        "fieldRef mode path resourceFieldRef",
    ),
    ("DownwardAPIVolumeSource", "defaultMode items"),
    ("EmptyDirVolumeSource", "sizeLimit"),
    ("EnvFromSource", "configMapRef prefix secretRef"),
    ("EnvVar", "name value valueFrom"),
    (
        "EnvVarSource",
        "configMapKeyRef fieldRef resourceFieldRef secretKeyRef",
    ),
    ("ExecAction", "command"),
    ("GRPCAction", "port service"),
    ("HTTPGetAction", "host httpHeaders path port scheme"),
    ("HTTPHeader", "name value"),
    ("HostAlias", "hostnames ip"),
    ("HostPathVolumeSource", "path"),
    ("ImageVolumeSource", "pullPolicy reference"),
    ("KeyToPath", "key mode path"),
    ("Lifecycle", "postStart preStop"),
    ("LifecycleHandler", "exec httpGet sleep tcpSocket"),
    ("LocalObjectReference", "name"),
    ("ObjectFieldSelector", "apiVersion fieldPath"),
    ("PersistentVolumeClaimVolumeSource", "claimName readOnly"),
    ("PodDNSConfig", "options searches"),
    ("PodDNSConfigOption", "name value"),
    ("PodReadinessGate", "conditionType"),
    ("PodSecurityContext", "runAsNonRoot"),
    (
        "PodSpec",
        "activeDeadlineSeconds automountServiceAccountToken containers dnsConfig dnsPolicy enableServiceLinks hostAliases hostname hostnameOverride imagePullSecrets initContainers overhead readinessGates restartPolicy runtimeClassName securityContext serviceAccount serviceAccountName setHostnameAsFQDN subdomain terminationGracePeriodSeconds volumes",
    ),
    (
        "Probe",
        "exec failureThreshold grpc httpGet initialDelaySeconds periodSeconds successThreshold tcpSocket terminationGracePeriodSeconds timeoutSeconds",
    ),
    ("ProjectedVolumeSource", "defaultMode sources"),
    ("ResourceFieldSelector", "containerName divisor resource"),
    ("ResourceRequirements", "limits requests"),
    ("SecretEnvSource", "name optional"),
    ("SecretKeySelector", "key name optional"),
    ("SecretProjection", "items name optional"),
    (
        "SecretVolumeSource",
        "defaultMode items optional secretName",
    ),
    (
        "SecurityContext",
        "capabilities readOnlyRootFilesystem runAsNonRoot",
    ),
    (
        "ServiceAccountTokenProjection",
        "audience expirationSeconds path",
    ),
    ("SleepAction", "seconds"),
    ("TCPSocketAction", "host port"),
    (
        "Volume",
        "configMap downwardAPI emptyDir hostPath image name persistentVolumeClaim projected secret",
    ),
    (
        "VolumeMount",
        "mountPath name readOnly recursiveReadOnly subPath subPathExpr",
    ),
    (
        "VolumeProjection",
        "configMap downwardAPI secret serviceAccountToken",
    ),
];

/// Of the scheduler, which is told by it where pods run, and in which order they are placed; of the API server, which makes
/// one of the other; and of the controller that makes pods' claims.
const FOR_OTHERS: &[(&str, &str)] = &[
    (
        "PodSpec",
        "affinity nodeName nodeSelector preemptionPolicy priority priorityClassName schedulerName schedulingGates tolerations topologySpreadConstraints",
    ),
    ("Volume", "ephemeral"),
];

/// Taken with a warning: each with what a pod's spec, or its container, says then.
fn warned() -> Vec<(&'static str, &'static str, Value)> {
    let profile = json!({"type": "Localhost", "localhostProfile": "p"});
    let (pod, container) = ("PodSecurityContext", "SecurityContext");
    vec![
        ("PodSpec", "hostUsers", json!(false)),
        ("PodSpec", "shareProcessNamespace", json!(true)),
        (pod, "appArmorProfile", profile.clone()),
        (pod, "fsGroup", json!(1)),
        (pod, "fsGroupChangePolicy", json!("Always")),
        (pod, "runAsGroup", json!(1)),
        (pod, "runAsUser", json!(1)),
        (pod, "seLinuxChangePolicy", json!("Recursive")),
        (pod, "seLinuxOptions", json!({"level": "s0"})),
        (pod, "seccompProfile", profile.clone()),
        (pod, "supplementalGroups", json!([1])),
        (pod, "supplementalGroupsPolicy", json!("Strict")),
        (container, "allowPrivilegeEscalation", json!(true)),
        (container, "appArmorProfile", profile.clone()),
        (container, "runAsGroup", json!(1)),
        (container, "runAsUser", json!(1)),
        (container, "seLinuxOptions", json!({"level": "s0"})),
        (container, "seccompProfile", profile),
    ]
}

/// Refused by the node, some of its values at least: each with a value that is.
fn refused() -> Vec<(&'static str, &'static str, Value)> {
    let mut all = vec![
        ("Capabilities", "add", json!(["NET_ADMIN"])),
        (
            "Container",
            "volumeDevices",
            json!([{"name": "v", "devicePath": "/dev/v"}]),
        ),
        ("EmptyDirVolumeSource", "medium", json!("HugePages")),
        (
            "EnvVarSource",
            "fileKeyRef",
            json!({"volumeName": "v", "path": "p", "key": "k"}),
        ),
        ("HostPathVolumeSource", "type", json!("Socket")),
        ("Lifecycle", "stopSignal", json!("SIGUSR1")),
        ("PodDNSConfig", "nameservers", json!(["192.0.2.1"])),
        (
            "PodSecurityContext",
            "sysctls",
            json!([{"name": "a", "value": "1"}]),
        ),
        ("PodSecurityContext", "windowsOptions", json!({})),
        ("PodSpec", "hostIPC", json!(true)),
        ("PodSpec", "hostNetwork", json!(true)),
        ("PodSpec", "hostPID", json!(true)),
        ("PodSpec", "os", json!({"name": "windows"})),
        ("PodSpec", "resourceClaims", json!([{"name": "c"}])),
        ("PodSpec", "resources", json!({"limits": {"cpu": "1"}})),
        ("ResourceRequirements", "claims", json!([{"name": "c"}])),
        ("SecurityContext", "privileged", json!(true)),
        ("SecurityContext", "procMount", json!("Unmasked")),
        ("SecurityContext", "windowsOptions", json!({})),
        ("VolumeMount", "mountPropagation", json!("Bidirectional")),
        (
            "VolumeProjection",
            "clusterTrustBundle",
            json!({"path": "p"}),
        ),
        (
            "VolumeProjection",
            "podCertificate",
            json!({"signerName": "s", "keyType": "ED25519"}),
        ),
    ];
    let kinds = OTHER_VOLUMES.split(' ');
    all.extend(kinds.map(|kind| ("Volume", kind, json!({}))));
    all
}

/// Kinds of volumes that no node makes.
const OTHER_VOLUMES: &str = "awsElasticBlockStore azureDisk azureFile cephfs cinder csi fc flexVolume flocker gcePersistentDisk gitRepo glusterfs iscsi nfs photonPersistentDisk portworxVolume quobyte rbd scaleIO storageos vsphereVolume";

/// Refused before a node hears of it, some of its values at least: by the API server, and by the scheduler.
const REFUSED_BEFORE: [(&str, &str); 2] = [
    ("PodSpec", "ephemeralContainers"),
    ("PodSpec", "schedulingGroup"),
];

/// A pod that says this of the field, and nothing else that needs a word.
fn pod_with(ty: &str, field: &str, value: &Value) -> Value {
    let mut spec = json!({"containers": [{"name": "main", "image": "x:1"}]});
    let place = match ty {
        "PodSpec" => "",
        "PodSecurityContext" => "securityContext",
        "PodDNSConfig" => "dnsConfig",
        "Container" => "containers/0",
        "SecurityContext" => "containers/0/securityContext",
        "Capabilities" => "containers/0/securityContext/capabilities",
        "Lifecycle" => "containers/0/lifecycle",
        "ResourceRequirements" => "containers/0/resources",
        "EnvVarSource" => "containers/0/env/-/valueFrom",
        "VolumeMount" => "containers/0/volumeMounts/-",
        "Volume" => "volumes/-",
        "EmptyDirVolumeSource" => "volumes/-/emptyDir",
        "HostPathVolumeSource" => "volumes/-/hostPath",
        "VolumeProjection" => "volumes/-/projected/sources/-",
        _ => panic!("{ty} is nowhere in a pod"),
    };
    let mut at = &mut spec;
    for step in place.split('/').filter(|step| !step.is_empty()) {
        at = match step {
            "0" => &mut at[0],
            "-" => {
                *at = json!([{"name": "a"}]);
                &mut at[0]
            }
            name => &mut at[name],
        };
    }
    if ty == "HostPathVolumeSource" {
        at["path"] = json!("/d");
    }
    at[field] = value.clone();
    json!({"metadata": {"name": "p", "namespace": "default"}, "spec": spec})
}

/// The names of the fields that rows of a list have.
fn fields(rows: &[(&str, &str)]) -> Vec<Field> {
    let of_row = |(ty, fields): &(&str, &str)| {
        let own = |field: &str| ((*ty).to_owned(), field.to_owned());
        fields.split_whitespace().map(own).collect::<Vec<_>>()
    };
    rows.iter().flat_map(of_row).collect()
}

/// The same of fields with samples.
fn sampled(rows: &[(&str, &str, Value)]) -> Vec<Field> {
    let name = |(ty, field, _): &(&str, &str, Value)| ((*ty).to_owned(), (*field).to_owned());
    rows.iter().map(name).collect()
}

/// The structure in a field, if it is one or holds some.
fn structure(shape: &Shape) -> Option<&Type> {
    match shape {
        Shape::Struct(ty) => Some(ty),
        Shape::List(items) => structure(items),
        Shape::Map(values) => structure(values),
        _ => None,
    }
}

/// All fields of a type, and of those that its honoured fields lead to.
fn walk(ty: &Type, honoured: &BTreeSet<Field>, found: &mut BTreeSet<Field>) {
    for field in &*ty.fields {
        let name = (ty.short_name().to_owned(), field.name.to_string());
        let is_new = found.insert(name.clone());
        if let Some(inner) = structure(&field.shape).filter(|_| is_new && honoured.contains(&name))
        {
            walk(inner, honoured, found);
        }
    }
}

#[test]
fn each_field_of_a_pod_is_in_one_list() {
    let honoured = fields(HONOURED);
    let mut lists = [
        ("honoured", honoured.clone()),
        ("for others", fields(FOR_OTHERS)),
        ("warned", sampled(&warned())),
        ("refused", sampled(&refused())),
        ("refused before", fields(&REFUSED_BEFORE)),
    ];
    let mut listed = BTreeMap::new();
    for (list, fields) in &mut lists {
        for field in fields.drain(..) {
            let before = listed.insert(field.clone(), *list);
            assert_eq!(before, None, "{field:?} is {list}, too");
        }
    }
    let mut found = BTreeSet::new();
    let spec = schema::lookup("core.v1.PodSpec").unwrap();
    walk(spec, &honoured.into_iter().collect(), &mut found);
    assert!(found.len() > 200, "only {} were found", found.len());
    let listed: BTreeSet<_> = listed.into_keys().collect();
    let missing: Vec<_> = found.difference(&listed).collect();
    assert!(missing.is_empty(), "in no list: {missing:#?}");
    let unknown: Vec<_> = listed.difference(&found).collect();
    assert!(unknown.is_empty(), "no such fields: {unknown:#?}");
}

#[test]
fn what_is_refused_is_refused_by_name() {
    for (ty, field, value) in refused() {
        let pod = pod_with(ty, field, &value);
        let parsed: Pod = serde_json::from_value(pod.clone()).unwrap();
        let host = Host {
            host_path: true,
            ..Host::default()
        };
        let why = refusal(&parsed, &host);
        let why = why.unwrap_or_else(|| panic!("{ty}.{field} is not refused: {pod}"));
        assert!(why.contains(field), "{ty}.{field}: {why}");
    }
}

#[test]
fn what_has_no_effect_is_warned_of_by_name() {
    let pods = api::resource::by_kind("v1", "Pod").unwrap();
    let told = |pod: &Value| api::write::warnings(pods, None, pod);
    let plain = pod_with("PodSpec", "hostname", &json!("h"));
    assert_eq!(told(&plain), Vec::<String>::new());
    for (ty, field, value) in warned() {
        let pod = pod_with(ty, field, &value);
        let told = told(&pod);
        let is_named = |text: &String| {
            let (path, _) = text.split_once(": has no effect: ").unwrap_or_default();
            path.split('.').any(|part| part == field)
        };
        assert!(
            told.len() == 1 && is_named(&told[0]),
            "{ty}.{field}: {told:?}"
        );
        // The node takes it.
        let parsed: Pod = serde_json::from_value(pod).unwrap();
        assert_eq!(refusal(&parsed, &Host::default()), None, "{ty}.{field}");
    }
}

/// The names in the first cells of the table below this line of `docs/api.md`, without the paths that lead to them.
fn documented(above: &str) -> BTreeSet<String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/api.md");
    let page = std::fs::read_to_string(path).unwrap();
    let (_, table) = page
        .split_once(above)
        .unwrap_or_else(|| panic!("docs/api.md lacks {above:?}"));
    let rows = table
        .lines()
        .skip_while(|line| !line.starts_with("|---"))
        .skip(1)
        .take_while(|line| line.starts_with('|'));
    let cells = rows.filter_map(|row| row.split('|').nth(1));
    let spans = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    let last = |span: &str| {
        let path = span.split(':').next().unwrap_or_default();
        let field = path.rsplit('.').next().unwrap_or_default();
        field.trim_end_matches("[]").to_owned()
    };
    spans.map(last).collect()
}

#[test]
fn the_api_s_page_has_the_lists() {
    let names = |fields: Vec<Field>| -> BTreeSet<String> {
        fields.into_iter().map(|(_, field)| field).collect()
    };
    let page = documented("These fields are taken with a warning:");
    assert_eq!(page, names(sampled(&warned())));
    let page = documented("These fields do so:");
    let refused = refused();
    let refused = refused.iter().filter(|(ty, ..)| *ty != "Volume");
    let refused: Vec<_> = refused.cloned().collect();
    let mut needed = names(sampled(&refused));
    needed.extend(names(fields(&REFUSED_BEFORE)));
    let missing: Vec<_> = needed.difference(&page).collect();
    assert!(missing.is_empty(), "docs/api.md lacks {missing:?}");
}

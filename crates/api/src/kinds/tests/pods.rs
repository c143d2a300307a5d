//! Rules of pods and of templates of them.

use super::*;

/// A pod with one good container and this in its spec.
fn with(more: Value) -> Value {
    let mut body = pod(json!({"containers": [{"name": "c", "image": "i"}]}));
    merge(&mut body["spec"], more);
    body
}

/// A pod with one container that also has this.
fn contains(more: Value) -> Value {
    let mut body = with(json!({}));
    merge(&mut body["spec"]["containers"][0], more);
    body
}

#[test]
fn where_a_pod_may_run() {
    let expression =
        |operator: &str, values: Value| json!({"key": "a", "operator": operator, "values": values});
    let nodes = |terms: Value| {
        with(json!({"affinity": {"nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}}))
    };
    let prefers = |weight: i64, values: Value| {
        with(
            json!({"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": weight, "preference": {"matchExpressions": [expression("In", values)]}}]}}}),
        )
    };
    let near = |term: Value| {
        with(json!({"affinity": {"podAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": [term]}}}))
    };
    let spread = |constraints: Value| with(json!({"topologySpreadConstraints": constraints}));
    let once = json!({"maxSkew": 1, "topologyKey": "a", "whenUnsatisfiable": "DoNotSchedule"});
    accepted([
        nodes(
            json!([{"matchExpressions": [expression("In", json!(["x"])), expression("Gt", json!(["1"]))]}]),
        ),
        nodes(
            json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}]),
        ),
        // What no label can be is tolerated in a preference.
        prefers(100, json!(["a b"])),
        near(
            json!({"topologyKey": "kubernetes.io/hostname", "namespaces": ["x"],
            "labelSelector": {"matchLabels": {"a": "b"}}, "matchLabelKeys": ["c"]}),
        ),
        spread(
            json!([once, {"maxSkew": 1, "topologyKey": "b", "whenUnsatisfiable": "DoNotSchedule", "minDomains": 2}]),
        ),
    ]);
    let affinity = "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution";
    let pods = "spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0]";
    let constraint = "spec.topologySpreadConstraints[0]";
    refused([
        (
            nodes(json!([])),
            format!("{affinity}.nodeSelectorTerms: Required value: must have at least one node selector term"),
        ),
        (
            nodes(json!([{"matchExpressions": [expression("In", json!(["a b"]))]}])),
            format!("{affinity}.nodeSelectorTerms[0].matchExpressions[0].values[0]: Invalid value: \"a b\": a valid label must be *"),
        ),
        (
            nodes(json!([{"matchFields": [{"key": "x", "operator": "In", "values": ["n1"]}]}])),
            format!("{affinity}.nodeSelectorTerms[0].matchFields[0].key: Invalid value: \"x\": not a valid field selector key"),
        ),
        (
            prefers(101, json!(["x"])),
            "spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: Invalid value: 101: must be in the range 1-100".to_owned(),
        ),
        (
            near(json!({"topologyKey": "a", "labelSelector": {"matchExpressions": [expression("In", json!([]))]}})),
            format!("{pods}.labelSelector.matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'"),
        ),
        (
            near(json!({"topologyKey": "a", "matchLabelKeys": ["c"]})),
            format!("{pods}.matchLabelKeys: Forbidden: must not be specified when labelSelector is not set"),
        ),
        (
            spread(json!([once, once])),
            format!("{constraint}.{{topologyKey, whenUnsatisfiable}}: Duplicate value: \"{{a, DoNotSchedule}}\""),
        ),
        (
            spread(json!([{"maxSkew": 1, "topologyKey": "a", "whenUnsatisfiable": "ScheduleAnyway", "minDomains": 2}])),
            format!("{constraint}.minDomains: Invalid value: 2: can only use minDomains if whenUnsatisfiable=DoNotSchedule, not ScheduleAnyway"),
        ),
        (
            spread(json!([{"maxSkew": 1, "topologyKey": "a", "whenUnsatisfiable": "DoNotSchedule",
                "labelSelector": {"matchExpressions": [expression("X", json!([]))]}}])),
            format!("{constraint}.labelSelector.matchExpressions[0].operator: Invalid value: \"X\": not a valid selector operator"),
        ),
    ]);
}

#[test]
fn what_a_pod_may_ask_of_its_node() {
    let context = |context: Value| with(json!({"securityContext": context}));
    accepted([
        context(
            json!({"sysctls": [{"name": "net.ipv4.ip_forward", "value": "1"}, {"name": "net/ipv4/x", "value": "1"}]}),
        ),
        context(json!({"seccompProfile": {"type": "Localhost", "localhostProfile": "a/b.json"}})),
        context(json!({"appArmorProfile": {"type": "RuntimeDefault"}})),
        with(json!({"hostPID": true})),
        with(json!({"os": {"name": "linux"}})),
        with(json!({"overhead": {"cpu": "1"}})),
        with(json!({"dnsConfig": {"nameservers": ["010.0.0.1"], "searches": [".", "_a.b_c.d."]}})),
        with(json!({"imagePullSecrets": [{"name": ""}]})),
        contains(json!({"securityContext": {"procMount": "Default"}})),
    ]);
    refused_text([
        (
            with(json!({"dnsPolicy": "None"})),
            "spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None",
        ),
        (
            with(json!({"dnsConfig": {"nameservers": ["x"]}})),
            "spec.dnsConfig.nameservers[0]: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        ),
        (
            with(json!({"dnsConfig": {"searches": ["a b"]}})),
            "spec.dnsConfig.searches[0]: Invalid value: \"a b\": a lowercase RFC 1123 subdomain *",
        ),
        (
            with(json!({"overhead": {"cpu": "-1"}})),
            "spec.overhead.limits[cpu]: Invalid value: \"-1\": must be greater than or equal to 0",
        ),
        (
            with(json!({"os": {"name": "plan9"}})),
            "spec.os: Unsupported value: \"plan9\": supported values: \"linux\", \"windows\"",
        ),
        (
            with(json!({"os": {"name": "windows"}, "hostPID": true})),
            "spec.hostPID: Forbidden: cannot be set for a windows pod",
        ),
        (
            with(
                json!({"os": {"name": "linux"}, "securityContext": {"windowsOptions": {"runAsUserName": "x"}}}),
            ),
            "spec.securityContext.windowsOptions: Forbidden: windows options cannot be set for a linux pod",
        ),
        (
            context(json!({"sysctls": [{"name": "A!", "value": "x"}]})),
            "spec.securityContext.sysctls[0].name: Invalid value: \"A!\": must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$",
        ),
        (
            with(
                json!({"hostNetwork": true, "securityContext": {"sysctls": [{"name": "net.x", "value": "1"}]}}),
            ),
            "spec.securityContext.sysctls[0].name: Invalid value: \"net.x\": may not be specified when 'hostNetwork' is true",
        ),
        (
            context(json!({"seccompProfile": {"type": "Localhost"}})),
            "spec.securityContext.seccompProfile.localhostProfile: Required value: must be set when seccomp type is Localhost",
        ),
        (
            context(json!({"appArmorProfile": {"type": "Unconfined", "localhostProfile": "x"}})),
            "spec.securityContext.appArmorProfile.localhostProfile: Invalid value: \"x\": can only be set when AppArmor type is Localhost",
        ),
        (
            with(json!({"hostPID": true, "shareProcessNamespace": true})),
            "spec.securityContext.shareProcessNamespace: Invalid value: true: ShareProcessNamespace and HostPID cannot both be enabled",
        ),
        (
            with(json!({"hostUsers": false, "hostPID": true})),
            "spec.HostPID: Forbidden: when `hostUsers` is false",
        ),
        (
            contains(json!({"securityContext": {"procMount": "Unmasked"}})),
            "spec.containers[0].securityContext.procMount: Invalid value: \"Unmasked\": `hostUsers` must be false to use `Unmasked`",
        ),
        (
            with(json!({"schedulingGates": [{"name": "a"}, {"name": "a"}]})),
            "spec.schedulingGates[1]: Duplicate value: \"a\"",
        ),
        (
            with(json!({"ephemeralContainers": [{"name": "e", "image": "i"}]})),
            "spec.ephemeralContainers: Forbidden: cannot be set on create",
        ),
    ]);
}

#[test]
fn what_containers_may_use() {
    let resources = |resources: Value| contains(json!({"resources": resources}));
    let claims = |claims: Value| with(json!({"resourceClaims": claims}));
    let mut uses = resources(
        json!({"claims": [{"name": "x", "request": "a"}, {"name": "x", "request": "b"}]}),
    );
    uses["spec"]["resourceClaims"] = json!([{"name": "x", "resourceClaimName": "y"}]);
    accepted([
        resources(json!({"limits": {"a.b/c": "2", "cpu": "500m"}})),
        resources(json!({"limits": {"hugepages-2Mi": "4Mi", "memory": "1Gi"}})),
        contains(
            json!({"resizePolicy": [{"resourceName": "cpu", "restartPolicy": "NotRequired"}]}),
        ),
        uses.clone(),
    ]);
    let mut twice = uses;
    twice["spec"]["containers"][0]["resources"]["claims"][1]["request"] = "a".into();
    let list = "spec.containers[0].resources";
    refused([
        (resources(json!({"limits": {"a.b/c": "500m"}})), format!("{list}.limits[a.b/c]: Invalid value: \"500m\": must be an integer")),
        (resources(json!({"limits": {"hugepages-2Mi": "2Mi"}})), format!("{list}: Forbidden: HugePages require cpu or memory")),
        (
            resources(json!({"limits": {"hugepages-2Mi": "1Mi", "cpu": "1"}})),
            format!("{list}.limits[hugepages-2Mi]: Invalid value: \"1Mi\": 1Mi is not positive integer multiple of hugepages-2Mi"),
        ),
        (
            resources(json!({"claims": [{"name": "x"}]})),
            format!("{list}.claims[0]: Not found: \"x\": must be one of the names in pod.spec.resourceClaims which is empty"),
        ),
        (twice, format!("{list}.claims[1]: Duplicate value: \"x/a\"")),
        (
            claims(json!([{"name": "a", "resourceClaimName": "x"}, {"name": "a", "resourceClaimName": "x"}])),
            "spec.resourceClaims[1].name: Duplicate value: \"a\"".to_owned(),
        ),
        (
            claims(json!([{"name": "a"}])),
            "spec.resourceClaims[0]: Invalid value: {\"name\":\"a\"}: must specify one of: `resourceClaimName`, `resourceClaimTemplateName`".to_owned(),
        ),
        (
            with(json!({"resources": {"claims": [{"name": "x"}]}})),
            "spec.resources.claims: Forbidden: claims cannot be set for Resources at pod-level".to_owned(),
        ),
        (
            {
                let mut pod = contains(json!({"resizePolicy": [{"resourceName": "cpu", "restartPolicy": "RestartContainer"}]}));
                pod["spec"]["restartPolicy"] = "Never".into();
                pod
            },
            "spec.containers[0].resizePolicy: Invalid value: \"RestartContainer\": must be 'NotRequired' when `restartPolicy` is 'Never'".to_owned(),
        ),
        (
            contains(json!({"resizePolicy": [{"resourceName": "x", "restartPolicy": "NotRequired"}]})),
            "spec.containers[0].resizePolicy: Unsupported value: \"x\": supported values: \"cpu\", \"memory\"".to_owned(),
        ),
    ]);
}

#[test]
fn where_volumes_may_come_from() {
    let volume = |source: Value| {
        let mut volume = json!({"name": "v"});
        merge(&mut volume, source);
        with(json!({"volumes": [volume]}))
    };
    let claim = |more: Value| {
        let mut spec = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
        merge(&mut spec, more);
        volume(
            json!({"ephemeral": {"volumeClaimTemplate": {"metadata": {"labels": {"a": "b"}}, "spec": spec}}}),
        )
    };
    let item = |path: &str| json!({"key": "k", "path": path});
    accepted([
        volume(json!({"hostPath": {"path": "/a"}})),
        volume(json!({"hostPath": {"path": "/a", "type": "Directory"}})),
        volume(
            json!({"iscsi": {"targetPortal": "a:1", "iqn": "iqn.2001-04.com.example:storage", "lun": 0}}),
        ),
        volume(json!({"projected": {"sources": [{}]}})),
        volume(json!({"csi": {"driver": "Driver.example.com"}})),
        claim(json!({})),
    ]);
    refused_text([
        (
            volume(json!({"hostPath": {"path": "/a/../b"}})),
            "spec.volumes[0].hostPath.path: Invalid value: \"/a/../b\": must not contain '..'",
        ),
        (
            volume(json!({"nfs": {"server": "s", "path": "a"}})),
            "spec.volumes[0].nfs.path: Invalid value: \"a\": must be an absolute path",
        ),
        (
            volume(json!({"iscsi": {"targetPortal": "", "iqn": "iqn.x", "lun": 0}})),
            "spec.volumes[0].iscsi.targetPortal: Required value",
        ),
        (
            volume(json!({"iscsi": {"targetPortal": "a", "iqn": "x", "lun": 0}})),
            "spec.volumes[0].iscsi.iqn: Invalid value: \"x\": must be valid format starting with iqn, eui, or naa",
        ),
        (
            volume(json!({"fc": {"targetWWNs": ["a"]}})),
            "spec.volumes[0].fc.lun: Required value: lun is required if targetWWNs is specified",
        ),
        (
            volume(json!({"rbd": {"monitors": ["m"], "image": ""}})),
            "spec.volumes[0].rbd.image: Required value",
        ),
        (
            volume(json!({"flexVolume": {"driver": "d", "options": {"kubernetes.io/a": "b"}}})),
            "spec.volumes[0].flexVolume.options[kubernetes.io/a]: Invalid value: \"kubernetes.io/a\": kubernetes.io and k8s.io namespaces are reserved",
        ),
        (
            volume(json!({"csi": {"driver": "a b"}})),
            "spec.volumes[0].csi.driver: Invalid value: \"a b\": a lowercase RFC 1123 subdomain *",
        ),
        (
            volume(json!({"ephemeral": {}})),
            "spec.volumes[0].ephemeral.volumeClaimTemplate: Required value",
        ),
        (
            claim(json!({"accessModes": []})),
            "spec.volumes[0].ephemeral.volumeClaimTemplate.spec.accessModes: Required value: at least 1 access mode is required",
        ),
        (
            volume(json!({"projected": {"sources": [
                {"secret": {"name": "s", "items": [item("x")]}}, {"configMap": {"name": "m", "items": [item("x")]}}]}})),
            "spec.volumes[0].projected: Invalid value: \"m\": conflicting duplicate paths",
        ),
        (
            volume(
                json!({"projected": {"sources": [{"serviceAccountToken": {"path": "t", "expirationSeconds": 4_294_967_297_i64}}]}}),
            ),
            "spec.volumes[0].projected.sources[0].serviceAccountToken.expirationSeconds: Invalid value: 4294967297: may not specify a duration larger than 2^32 seconds",
        ),
    ]);
    let mut shared = volume(json!({"emptyDir": {}}));
    shared["spec"]["containers"][0]["volumeMounts"] =
        json!([{"name": "v", "mountPath": "/v", "mountPropagation": "Bidirectional"}]);
    refused_text([(
        shared.clone(),
        "spec.containers[0].volumeMounts[0].mountPropagation: Forbidden: Bidirectional mount propagation is available only to privileged containers",
    )]);
    shared["spec"]["containers"][0]["securityContext"] = json!({"privileged": true});
    accepted([shared]);
}

#[test]
fn ephemeral_containers_attach_to_lasting_ones() {
    let old = create(with(json!({}))).expect("valid");
    let with = |container: Value| {
        let mut new = old.clone();
        new["spec"]["ephemeralContainers"] = json!([container]);
        let resource = resource_of(&old);
        write::update(resource, Some("ephemeralcontainers"), &old, new, &context())
    };
    let found = causes(with(
        json!({"name": "e", "image": "i", "targetContainerName": "x",
        "volumeMounts": [{"name": "v", "mountPath": "/v", "subPath": "s"}]}),
    ));
    for fault in [
        "spec.ephemeralContainers[0].targetContainerName: Not found: \"x\"",
        "spec.ephemeralContainers[0].volumeMounts[0].subPath: Forbidden: cannot be set for an Ephemeral Container",
    ] {
        assert!(found.iter().any(|cause| cause == fault), "{found:#?}");
    }
}

//! Rules of volumes, claims, their classes and their drivers.

use super::*;

fn volume(more: Value) -> Value {
    let mut spec = json!({"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}});
    merge(&mut spec, more);
    object("v1", "PersistentVolume", json!({"spec": spec}))
}

#[test]
fn volumes_are_judged() {
    let host = json!({"path": "/a"});
    let near = json!({"required": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "a", "operator": "Exists"}]}]}});
    accepted([
        volume(json!({"hostPath": host, "storageClassName": "fast"})),
        volume(json!({"local": {"path": "/a"}, "nodeAffinity": near})),
        volume(
            json!({"csi": {"driver": "d.example.com", "volumeHandle": "h"}, "volumeAttributesClassName": "gold"}),
        ),
        volume(json!({"hostPath": {"path": "/a"}, "persistentVolumeReclaimPolicy": "Recycle"})),
    ]);
    refused_text([
        (
            volume(json!({})),
            "spec: Required value: must specify a volume type",
        ),
        (
            volume(json!({"hostPath": host, "nfs": {"server": "s", "path": "/"}})),
            "spec.nfs: Forbidden: may not specify more than 1 volume type",
        ),
        (
            volume(json!({"local": {"path": "/a"}})),
            "spec.nodeAffinity: Required value: Local volume requires node affinity",
        ),
        (
            volume(
                json!({"hostPath": {"path": "//."}, "persistentVolumeReclaimPolicy": "Recycle"}),
            ),
            "spec.persistentVolumeReclaimPolicy: Forbidden: may not be 'recycle' for a hostPath mount of '/'",
        ),
        (
            volume(json!({"hostPath": host, "capacity": {"storage": "0"}})),
            "spec.capacity[storage]: Invalid value: \"0\": must be greater than zero",
        ),
        (
            volume(json!({"hostPath": host, "accessModes": []})),
            "spec.accessModes: Required value",
        ),
        (
            volume(json!({"csi": {"driver": "d"}})),
            "spec.csi.volumeHandle: Required value",
        ),
        (
            volume(
                json!({"csi": {"driver": "d", "volumeHandle": "h", "nodePublishSecretRef": {"name": "s"}}}),
            ),
            "spec.csi.nodePublishSecretRef.namespace: Required value",
        ),
        (
            volume(json!({"hostPath": host, "volumeAttributesClassName": "gold"})),
            "spec.csi: Required value: has to be specified when using volumeAttributesClassName",
        ),
        (
            volume(json!({"hostPath": host, "nodeAffinity": {}})),
            "spec.nodeAffinity.required: Required value: must specify required node constraints",
        ),
    ]);
}

#[test]
fn where_a_volume_s_files_come_from_is_fixed() {
    let body = volume(json!({"hostPath": {"path": "/a"}}));
    let fault = "spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation";
    changed(body.clone(), "/spec/hostPath/path", json!("/b"), fault);
    changed(
        body.clone(),
        "/spec/volumeMode",
        json!("Block"),
        "volumeMode: Invalid value: \"Block\": field is immutable",
    );
    let old = create(body).expect("valid");
    let mut new = old.clone();
    new["spec"]["capacity"]["storage"] = "2Gi".into();
    new["spec"]["claimRef"] = json!({"name": "c", "namespace": "default"});
    assert!(update(&old, new).is_ok());
    let old = create(volume(json!({"csi": {"driver": "d", "volumeHandle": "h"}}))).expect("valid");
    let mut new = old.clone();
    new["spec"]["csi"]["controllerExpandSecretRef"] = json!({"name": "s", "namespace": "default"});
    assert!(update(&old, new).is_ok());
}

fn claim(more: Value) -> Value {
    let mut spec =
        json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
    merge(&mut spec, more);
    object("v1", "PersistentVolumeClaim", json!({"spec": spec}))
}

#[test]
fn claims_are_judged() {
    accepted([
        claim(json!({"storageClassName": "", "selector": {"matchLabels": {"a": "b"}}})),
        claim(json!({"dataSource": {"kind": "PersistentVolumeClaim", "name": "c"}})),
        claim(json!({"accessModes": ["ReadWriteOncePod"]})),
    ]);
    refused_text([
        (
            claim(json!({"accessModes": ["ReadWriteOncePod", "ReadWriteOnce"]})),
            "spec.accessModes: Forbidden: may not use ReadWriteOncePod with other access modes",
        ),
        (
            claim(json!({"accessModes": ["X"]})),
            "spec.accessModes: Unsupported value: \"X\": supported values: \"ReadOnlyMany\", \"ReadWriteMany\", \"ReadWriteOnce\", \"ReadWriteOncePod\"",
        ),
        (
            claim(json!({"resources": {"requests": {"storage": "0"}}})),
            "spec.resources[storage]: Invalid value: \"0\": must be greater than zero",
        ),
        (
            claim(json!({"storageClassName": "A_"})),
            "spec.storageClassName: Invalid value: \"A_\": a lowercase RFC 1123 subdomain *",
        ),
        (
            claim(json!({"selector": {"matchExpressions": [{"key": "a", "operator": "X"}]}})),
            "spec.selector.matchExpressions[0].operator: Invalid value: \"X\": not a valid selector operator",
        ),
        (
            claim(json!({"dataSource": {"kind": "", "name": ""}})),
            "spec.dataSource.name: Required value",
        ),
        (
            claim(json!({"dataSource": {"kind": "Pod", "name": "p"}})),
            "spec.dataSource: Invalid value: \"Pod\": must be 'PersistentVolumeClaim' when referencing the default apiGroup",
        ),
    ]);
}

#[test]
fn what_may_change_in_a_claim() {
    let fixed = "spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
    let body = claim(json!({"storageClassName": "a"}));
    changed(
        body.clone(),
        "/spec/resources/requests/storage",
        json!("1Mi"),
        fixed,
    );
    changed(body.clone(), "/spec/storageClassName", json!("b"), fixed);
    let old = create(body).expect("valid");
    let with = |old: &Value, pointer: &str, value: Value| {
        let mut new = old.clone();
        match new.pointer_mut(pointer) {
            Some(place) => *place = value,
            None => panic!("{pointer}"),
        }
        update(old, new)
    };
    // The same amount, written another way.
    assert!(with(&old, "/spec/resources/requests/storage", json!("1024Mi")).is_ok());
    let mut named = old.clone();
    named["spec"]["volumeName"] = "v".into();
    assert!(update(&old, named).is_ok());
    let mut bound = old.clone();
    bound["status"] = json!({"phase": "Bound", "capacity": {"storage": "1Gi"}});
    assert!(with(&bound, "/spec/resources/requests/storage", json!("2Gi")).is_ok());
    assert_eq!(
        causes(with(
            &bound,
            "/spec/resources/requests/storage",
            json!("1Mi")
        )),
        ["spec.resources.requests.storage: Forbidden: field can not be less than status.capacity"]
    );
    let plain = create(claim(json!({}))).expect("valid");
    let mut classed = plain.clone();
    classed["spec"]["storageClassName"] = "late".into();
    assert!(update(&plain, classed).is_ok());
    bound["spec"]["volumeAttributesClassName"] = "gold".into();
    assert!(with(&bound, "/spec/volumeAttributesClassName", json!("silver")).is_ok());
    assert_eq!(
        causes(with(&bound, "/spec/volumeAttributesClassName", json!("")))[0],
        "spec.volumeAttributesClassName: Forbidden: update from non-nil value to an empty string is forbidden"
    );
}

#[test]
fn classes_are_judged() {
    let class = |more: Value| {
        let mut body = object(
            "storage.k8s.io/v1",
            "StorageClass",
            json!({"provisioner": "example.com/p", "parameters": {"a": "b"}}),
        );
        merge(&mut body, more);
        body
    };
    let attributes = |more: Value| {
        let mut body = object(
            "storage.k8s.io/v1",
            "VolumeAttributesClass",
            json!({"driverName": "d.example.com", "parameters": {"a": "b"}}),
        );
        merge(&mut body, more);
        body
    };
    let topologies = |expression: Value| {
        class(json!({"allowedTopologies": [{"matchLabelExpressions": [expression]}]}))
    };
    accepted([
        class(json!({})),
        attributes(json!({})),
        topologies(json!({"key": "zone", "values": ["a"]})),
    ]);
    refused_text([
        (
            class(json!({"parameters": {"": "x"}})),
            "parameters: Invalid value: \"\": field can not be empty.",
        ),
        (
            class(json!({"provisioner": "a b"})),
            "provisioner: Invalid value: \"a b\": name part must consist *",
        ),
        (
            topologies(json!({"key": "zone", "values": []})),
            "allowedTopologies[0].matchLabelExpressions[0].values: Required value",
        ),
        (
            topologies(json!({"key": "zone", "values": ["a", "a"]})),
            "allowedTopologies[0].matchLabelExpressions[0].values[1]: Duplicate value: \"a\"",
        ),
        (
            attributes(json!({"driverName": ""})),
            "driverName: Required value",
        ),
        (
            attributes(json!({"parameters": null})),
            "parameters: Required value: must contain at least one key/value pair",
        ),
    ]);
    for (body, pointer, value, fault) in [
        (
            class(json!({})),
            "/provisioner",
            json!("b"),
            "provisioner: Forbidden: updates to provisioner are forbidden.",
        ),
        (
            class(json!({})),
            "/parameters/a",
            json!("c"),
            "parameters: Forbidden: updates to parameters are forbidden.",
        ),
        (
            class(json!({})),
            "/reclaimPolicy",
            json!("Retain"),
            "reclaimPolicy: Forbidden: updates to reclaimPolicy are forbidden.",
        ),
        (
            attributes(json!({})),
            "/driverName",
            json!("b"),
            "driverName: Forbidden: updates to driverName are forbidden.",
        ),
    ] {
        changed(body, pointer, value, fault);
    }
}

#[test]
fn drivers_are_judged() {
    let driver = |spec: Value| object("storage.k8s.io/v1", "CSIDriver", json!({"spec": spec}));
    let node = |driver: Value| {
        object(
            "storage.k8s.io/v1",
            "CSINode",
            json!({"spec": {"drivers": [driver]}}),
        )
    };
    let capacity = |class: &str| {
        object(
            "storage.k8s.io/v1",
            "CSIStorageCapacity",
            json!({"storageClassName": class, "capacity": "1Gi"}),
        )
    };
    let attachment = |spec: Value| {
        object(
            "storage.k8s.io/v1",
            "VolumeAttachment",
            json!({"spec": spec}),
        )
    };
    let attached =
        json!({"attacher": "d", "nodeName": "n", "source": {"persistentVolumeName": "v"}});
    let here = json!({"name": "d", "nodeID": "i", "topologyKeys": ["example.com/zone"]});
    accepted([
        driver(json!({})),
        driver(
            json!({"tokenRequests": [{"audience": ""}, {"audience": "a", "expirationSeconds": 600}]}),
        ),
        node(here.clone()),
        capacity("fast"),
        attachment(attached.clone()),
    ]);
    refused_text([
        (
            driver(json!({"volumeLifecycleModes": ["X"]})),
            "spec.volumeLifecycleModes: Unsupported value: \"X\": supported values: \"Persistent\", \"Ephemeral\"",
        ),
        (
            driver(json!({"fsGroupPolicy": "X"})),
            "spec.fsGroupPolicy: Unsupported value: \"X\": supported values: \"File\", \"None\", \"ReadWriteOnceWithFSType\"",
        ),
        (
            driver(json!({"tokenRequests": [{"audience": "a"}, {"audience": "a"}]})),
            "spec.tokenRequests[1].audience: Duplicate value: \"a\"",
        ),
        (
            driver(json!({"tokenRequests": [{"audience": "a", "expirationSeconds": 10}]})),
            "spec.tokenRequests[0].expirationSeconds: Invalid value: 10: may not specify a duration less than 10 minutes",
        ),
        (
            driver(json!({"nodeAllocatableUpdatePeriodSeconds": 9})),
            "spec.nodeAllocatableUpdatePeriodSeconds: Invalid value: 9: must be greater than or equal to 10 seconds",
        ),
        (
            node(json!({"name": "", "nodeID": "i"})),
            "spec.drivers[0].name: Required value",
        ),
        (
            node(json!({"name": "d", "nodeID": ""})),
            "spec.drivers[0].nodeID: Required value",
        ),
        (
            node(json!({"name": "d", "nodeID": "i", "allocatable": {"count": -1}})),
            "spec.drivers[0].allocatable.count: Invalid value: -1: must be greater than or equal to 0",
        ),
        (
            capacity(""),
            "storageClassName: Invalid value: \"\": a lowercase RFC 1123 subdomain *",
        ),
        (
            attachment(
                json!({"attacher": "", "nodeName": "n", "source": {"persistentVolumeName": "v"}}),
            ),
            "spec.attacher: Required value",
        ),
        (
            attachment(json!({"attacher": "d", "nodeName": "n", "source": {}})),
            "spec.source: Required value: must specify exactly one of inlineVolumeSpec and persistentVolumeName",
        ),
    ]);
    for (body, pointer, value, fault) in [
        (
            driver(json!({"attachRequired": true})),
            "/spec/attachRequired",
            json!(false),
            "spec.attachedRequired: Invalid value: false: field is immutable",
        ),
        (
            node(here),
            "/spec/drivers/0/nodeID",
            json!("j"),
            "spec.drivers: Invalid value: {*",
        ),
        (
            capacity("fast"),
            "/storageClassName",
            json!("slow"),
            "storageClassName: Invalid value: \"slow\": field is immutable",
        ),
        (
            attachment(attached),
            "/spec/nodeName",
            json!("m"),
            "spec: Invalid value: {*",
        ),
    ] {
        changed(body, pointer, value, fault);
    }
    // The default, written out, is no change.
    let old = create(driver(json!({}))).expect("valid");
    let mut new = old.clone();
    new["spec"]["attachRequired"] = true.into();
    assert!(update(&old, new).is_ok());
}

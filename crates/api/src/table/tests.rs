//! Rows as `kubectl` shows them.

use super::*;
use crate::resource;

fn now() -> Timestamp {
    "2026-11-21T10:00:00Z".parse().expect("a time")
}

fn find(api_version: &str, kind: &str) -> &'static Resource {
    resource::by_kind(api_version, kind).expect("a served kind")
}

fn shown(object: Value) -> Vec<Value> {
    let text = |field: &str| object[field].as_str().unwrap_or_default().to_owned();
    cells(find(&text("apiVersion"), &text("kind")), &object, now())
}

#[test]
fn the_table_of_rows_is_sorted_and_names_served_kinds() {
    assert!(CELLS.is_sorted_by_key(|(kind, _)| *kind));
    for ((group, kind), _) in CELLS {
        assert!(
            resource::all()
                .iter()
                .any(|r| r.group == *group && r.kind == *kind),
            "{group} {kind}"
        );
    }
}

#[test]
fn every_column_of_every_kind_has_its_cell() {
    for resource in resource::all().iter().filter(|r| !r.columns.is_empty()) {
        let object = json!({"apiVersion": resource.api_version, "kind": resource.kind,
            "metadata": {"name": "a", "creationTimestamp": "2026-11-21T09:59:00Z"}});
        let cells = cells(resource, &object, now());
        assert_eq!(cells.len(), resource.columns.len(), "{}", resource.kind);
        for (cell, column) in cells.iter().zip(resource.columns) {
            assert!(!cell.is_null(), "{} {}", resource.kind, column.name);
            match column.name {
                "Name" => assert_eq!(cell, "a", "{}", resource.kind),
                "Age" => assert_eq!(cell, "60s", "{}", resource.kind),
                _ => {}
            }
        }
    }
}

fn pod(spec: Value, status: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "spec": spec, "status": status,
        "metadata": {"name": "p", "creationTimestamp": "2026-11-21T09:00:00Z"}})
}

/// Ready, status and restarts of a pod with containers `a` and `b` in these states.
fn summary(init: Value, statuses: Value, status: Value) -> [String; 3] {
    let mut status = status;
    status["containerStatuses"] = statuses;
    let spec = match &init {
        Value::Null => json!({"containers": [{"name": "a"}, {"name": "b"}]}),
        init => {
            status["initContainerStatuses"] = init["statuses"].clone();
            json!({"containers": [{"name": "a"}, {"name": "b"}], "initContainers": init["spec"]})
        }
    };
    let cells = shown(pod(spec, status));
    [1, 2, 3].map(|at| cells[at].as_str().expect("text").to_owned())
}

#[test]
fn a_pod_s_status_says_most_about_it() {
    let running = json!({"ready": true, "restartCount": 0, "state": {"running": {}}});
    let crashing = json!({"restartCount": 3, "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": {"terminated": {"finishedAt": "2026-11-21T09:58:00Z", "exitCode": 1}}});
    let done =
        json!({"restartCount": 0, "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}});
    let trapped = json!({"restartCount": 0, "state": {"terminated": {"exitCode": 134}}});
    let ready =
        json!([{"type": "Ready", "status": "True"}, {"type": "Initialized", "status": "True"}]);
    let none = Value::Null;
    let phase = |phase: &str| json!({"phase": phase});
    for (statuses, status, expected) in [
        (json!([]), phase("Pending"), ["0/2", "Pending", "0"]),
        (
            json!([running, running]),
            phase("Running"),
            ["2/2", "Running", "0"],
        ),
        (
            json!([crashing, running]),
            phase("Running"),
            ["1/2", "CrashLoopBackOff", "3 (2m ago)"],
        ),
        (
            json!([done, running]),
            json!({"phase": "Running", "conditions": ready}),
            ["1/2", "Running", "0"],
        ),
        (
            json!([done, running]),
            phase("Running"),
            ["1/2", "NotReady", "0"],
        ),
        (
            json!([done, done]),
            phase("Succeeded"),
            ["0/2", "Completed", "0"],
        ),
        (
            json!([trapped, done]),
            phase("Failed"),
            ["0/2", "ExitCode:134", "0"],
        ),
        (
            json!([]),
            json!({"phase": "Failed", "reason": "Evicted"}),
            ["0/2", "Evicted", "0"],
        ),
        (
            json!([]),
            json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]}),
            ["0/2", "SchedulingGated", "0"],
        ),
    ] {
        assert_eq!(summary(none.clone(), statuses, status), expected);
    }
}

#[test]
fn init_containers_are_counted_until_they_are_done() {
    let spec = json!([{"name": "i"}, {"name": "j"}]);
    let done = json!({"name": "i", "restartCount": 0, "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}});
    let waiting = json!({"name": "j", "restartCount": 0, "state": {"waiting": {"reason": "PodInitializing"}}});
    let failed = json!({"name": "j", "restartCount": 1, "state": {"terminated": {"exitCode": 7}}});
    let pulling =
        json!({"name": "j", "restartCount": 0, "state": {"waiting": {"reason": "ErrImagePull"}}});
    for (statuses, expected) in [
        (json!([done, waiting]), ["0/2", "Init:1/2", "0"]),
        (json!([done, failed]), ["0/2", "Init:ExitCode:7", "1"]),
        (json!([done, pulling]), ["0/2", "Init:ErrImagePull", "0"]),
    ] {
        let init = json!({"spec": spec, "statuses": statuses});
        assert_eq!(
            summary(init, json!([]), json!({"phase": "Pending"})),
            expected
        );
    }
    // A sidecar counts among the containers.
    let sidecar = json!({"spec": [{"name": "s", "restartPolicy": "Always"}],
        "statuses": [{"name": "s", "started": true, "ready": true, "restartCount": 2, "state": {"running": {}}}]});
    let running = json!({"ready": true, "restartCount": 0, "state": {"running": {}}});
    assert_eq!(
        summary(
            sidecar,
            json!([running, running]),
            json!({"phase": "Running"})
        ),
        ["3/3", "Running", "2"]
    );
}

#[test]
fn a_pod_that_is_deleted_is_terminating_unless_it_has_ended() {
    let with = |phase: &str, reason: &str| {
        let mut pod = pod(
            json!({"containers": [{}]}),
            json!({"phase": phase, "reason": reason}),
        );
        pod["metadata"]["deletionTimestamp"] = "2026-11-21T09:59:00Z".into();
        shown(pod)[2].clone()
    };
    assert_eq!(with("Running", ""), "Terminating");
    assert_eq!(with("Succeeded", ""), "Succeeded");
    assert_eq!(with("Running", "NodeLost"), "Unknown");
}

#[test]
fn wide_columns_of_a_pod() {
    let cells = shown(pod(
        json!({"containers": [{}], "nodeName": "n1", "readinessGates": [{"conditionType": "x"}, {"conditionType": "y"}]}),
        json!({"phase": "Running", "podIPs": [{"ip": "10.128.0.2"}],
            "conditions": [{"type": "x", "status": "True"}, {"type": "y", "status": "False"}]}),
    ));
    assert_eq!(
        cells[4..],
        [
            json!("60m"),
            json!("10.128.0.2"),
            json!("n1"),
            json!("<none>"),
            json!("1/2")
        ]
    );
}

#[test]
fn workloads_and_the_rest() {
    let metadata = json!({"name": "x", "creationTimestamp": "2026-11-21T09:55:00Z"});
    let template = json!({"spec": {"containers": [{"name": "a", "image": "i:1"}, {"name": "b", "image": "j"}]}});
    for (object, expected) in [
        (
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata,
                "spec": {"replicas": 3, "template": template,
                    "selector": {"matchLabels": {"b": "c"}, "matchExpressions": [{"key": "a", "operator": "In", "values": ["z", "y"]}]}},
                "status": {"readyReplicas": 2, "updatedReplicas": 3, "availableReplicas": 1}}),
            json!(["x", "2/3", 3, 1, "5m", "a,b", "i:1,j", "a in (y,z),b=c"]),
        ),
        (
            json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata,
                "spec": {"completions": 2, "template": template, "selector": {"matchLabels": {"u": "1"}}},
                "status": {"succeeded": 2, "startTime": "2026-11-21T09:55:01Z", "completionTime": "2026-11-21T09:57:11Z",
                    "conditions": [{"type": "Complete", "status": "True"}]}}),
            json!(["x", "Complete", "2/2", "2m10s", "5m", "a,b", "i:1,j", "u=1"]),
        ),
        (
            json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata,
                "spec": {"parallelism": 3, "template": template}, "status": {"startTime": "2026-11-21T09:59:30Z"}}),
            json!([
                "x", "Running", "0/1 of 3", "30s", "5m", "a,b", "i:1,j", "<none>"
            ]),
        ),
        (
            json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": metadata,
                "spec": {"schedule": "* * * * *", "suspend": false, "jobTemplate": {"spec": {"template": template}}},
                "status": {"active": [{}], "lastScheduleTime": "2026-11-21T09:59:00Z"}}),
            json!([
                "x",
                "* * * * *",
                "<none>",
                "False",
                1,
                "60s",
                "5m",
                "a,b",
                "i:1,j",
                "<none>"
            ]),
        ),
        (
            json!({"apiVersion": "v1", "kind": "Node",
                "metadata": {"name": "x", "creationTimestamp": "2026-11-21T09:55:00Z",
                    "labels": {"node-role.kubernetes.io/worker": "", "kubernetes.io/role": "db"}},
                "spec": {"unschedulable": true},
                "status": {"conditions": [{"type": "Ready", "status": "Unknown"}],
                    "addresses": [{"type": "InternalIP", "address": "127.0.0.2"}],
                    "nodeInfo": {"kubeletVersion": "v1.36.0", "osImage": "carob"}}}),
            json!([
                "x",
                "NotReady,SchedulingDisabled",
                "db,worker",
                "5m",
                "v1.36.0",
                "127.0.0.2",
                "<none>",
                "carob",
                "<unknown>",
                "<unknown>"
            ]),
        ),
        (
            json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata,
                "spec": {"type": "LoadBalancer", "clusterIPs": ["10.96.0.9"], "selector": {"a": "b"},
                    "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30080}, {"port": 53, "protocol": "UDP"}]},
                "status": {"loadBalancer": {"ingress": [{"ip": "127.0.0.3"}, {"ip": "127.0.0.1"}]}}}),
            json!([
                "x",
                "LoadBalancer",
                "10.96.0.9",
                "127.0.0.1,127.0.0.3",
                "80:30080/TCP,53/UDP",
                "5m",
                "a=b"
            ]),
        ),
        (
            json!({"apiVersion": "v1", "kind": "Event", "metadata": metadata, "type": "Warning", "reason": "BackOff",
                "involvedObject": {"kind": "Pod", "name": "p", "fieldPath": "spec.containers{a}"},
                "source": {"component": "kubelet", "host": "n1"}, "message": "Back-off \n",
                "firstTimestamp": "2026-11-21T09:50:00Z", "lastTimestamp": "2026-11-21T09:59:50Z", "count": 4}),
            json!([
                "10s",
                "Warning",
                "BackOff",
                "pod/p",
                "spec.containers{a}",
                "kubelet, n1",
                "Back-off",
                "10m",
                4,
                "x"
            ]),
        ),
        (
            json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": metadata, "type": "Normal", "reason": "Scheduled",
                "regarding": {"kind": "Pod", "name": "p"}, "reportingController": "s", "note": "n",
                "eventTime": "2026-11-21T09:59:57.000000Z"}),
            json!([
                "3s",
                "Normal",
                "Scheduled",
                "pod/p",
                "",
                "s",
                "n",
                "3s",
                1,
                "x"
            ]),
        ),
        (
            json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata,
                "spec": {"volumeName": "v", "storageClassName": "local", "volumeMode": "Filesystem"},
                "status": {"phase": "Bound", "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteMany", "ReadWriteOnce"]}}),
            json!([
                "x",
                "Bound",
                "v",
                "1Gi",
                "RWO,RWX",
                "local",
                "<unset>",
                "5m",
                "Filesystem"
            ]),
        ),
        (
            json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata,
                "status": {"hard": {"pods": "3", "limits.cpu": "2", "cpu": "1"}, "used": {"pods": "1"}}}),
            json!(["x", "cpu: 0/1, pods: 1/3", "limits.cpu: 0/2", "5m"]),
        ),
        (
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"a": "1", "b": "2"}, "binaryData": {"c": ""}}),
            json!(["x", 3, "5m"]),
        ),
        (
            json!({"apiVersion": "v1", "kind": "Endpoints", "metadata": metadata,
                "subsets": [{"addresses": [{"ip": "1.1.1.1"}, {"ip": "1.1.1.2"}], "ports": [{"port": 80}, {"port": 81}]}]}),
            json!(["x", "1.1.1.1:80,1.1.1.2:80,1.1.1.1:81 + 1 more...", "5m"]),
        ),
        (
            json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "provisioner": "carob.dev/local",
                "metadata": {"name": "x", "creationTimestamp": "2026-11-21T09:55:00Z",
                    "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}}),
            json!([
                "x (default)",
                "carob.dev/local",
                "Delete",
                "Immediate",
                false,
                "5m"
            ]),
        ),
        (
            json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": metadata,
                "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "d"}, "minReplicas": 1, "maxReplicas": 3,
                    "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"averageUtilization": 80}}}]},
                "status": {"currentReplicas": 2}}),
            json!(["x", "Deployment/d", "cpu: <unknown>/80%", "1", 3, 2, "5m"]),
        ),
    ] {
        let kind = object["kind"].clone();
        assert_eq!(Value::from(shown(object)), expected, "{kind}");
    }
}

#[test]
fn the_whole_table() {
    let stored = json!({"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [{"name": "c"}]},
        "metadata": {"name": "p", "namespace": "demo", "creationTimestamp": "2026-11-21T10:00:00Z"},
        "status": {"phase": "Succeeded"}});
    let object = Object::from_stored(stored.to_string().as_bytes(), 7).expect("an object");
    let frame = Frame {
        resource_version: "9".to_owned(),
        ..Frame::default()
    };
    let made = |include| -> Value {
        let bytes = table(find("v1", "Pod"), [&object], now(), include, &frame).expect("a table");
        serde_json::from_slice(&bytes).expect("JSON")
    };
    let table = made(Include::Metadata);
    assert_eq!(table["kind"], "Table");
    assert_eq!(table["metadata"], json!({"resourceVersion": "9"}));
    assert_eq!(table["columnDefinitions"][0]["format"], "name");
    assert_eq!(table["columnDefinitions"][5]["priority"], 1);
    let row = &table["rows"][0];
    assert_eq!(
        row["cells"],
        json!([
            "p",
            "0/1",
            "Succeeded",
            "0",
            "0s",
            "<none>",
            "<none>",
            "<none>",
            "<none>"
        ])
    );
    assert_eq!(row["conditions"][0]["reason"], "Succeeded");
    assert_eq!(
        row["object"],
        json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
            "metadata": {"name": "p", "namespace": "demo", "resourceVersion": "7", "creationTimestamp": "2026-11-21T10:00:00Z"}})
    );
    assert_eq!(made(Include::None)["rows"][0]["object"], Value::Null);
    assert_eq!(
        made(Include::Object)["rows"][0]["object"]["status"]["phase"],
        "Succeeded"
    );
}

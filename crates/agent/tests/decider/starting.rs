//! From a bound pod to running containers, and all that can keep them from it.

use expect_test::expect;
use serde_json::json;

use agent::pod::Observation;

use crate::bench::{Bench, check};

#[test]
fn a_pod_comes_up_step_by_step() {
    let mut b = Bench::new(json!({"containers": [{"name": "main", "image": "hello:v1"}]}));
    let mut log = b.plan() + &b.summary();
    b.see(Observation::VolumesReady(None));
    log += &b.plan();
    b.see(Observation::SandboxReady("10.128.0.7".parse().unwrap()));
    log += &b.plan();
    b.pulled("main");
    log += &b.plan();
    b.started("main");
    log += &(b.plan() + &b.summary());
    check(
        &log,
        expect![[r#"
        PrepareSandbox
        MountVolumes
        Pending
          PodReadyToStartContainers=False
          Initialized=True
          Ready=False ContainersNotReady: containers with unready status: [main]
          ContainersReady=False ContainersNotReady: containers with unready status: [main]
          PodScheduled=True
          main main: waiting ContainerCreating restarts=0 ready=false
        EnsureImage { container: "main" }
        StartContainer { container: "main", attempt: 0 }
        Running
          PodReadyToStartContainers=True
          Initialized=True
          Ready=True
          ContainersReady=True
          PodScheduled=True
          main main: running restarts=0 ready=true
    "#]],
    );
}

#[test]
fn the_whole_status_of_a_running_pod() {
    let mut b = Bench::running("Always");
    b.end("main", 137, "OOMKilled");
    b.wait(1);
    b.start("main");
    let yaml = serde_json::to_string_pretty(&b.status()).unwrap();
    check(
        &yaml,
        expect![[r#"
        {
          "conditions": [
            {
              "lastTransitionTime": "2026-11-21T10:00:01Z",
              "observedGeneration": 1,
              "status": "True",
              "type": "PodReadyToStartContainers"
            },
            {
              "lastTransitionTime": "2026-11-21T10:00:01Z",
              "observedGeneration": 1,
              "status": "True",
              "type": "Initialized"
            },
            {
              "lastTransitionTime": "2026-11-21T10:00:01Z",
              "observedGeneration": 1,
              "status": "True",
              "type": "Ready"
            },
            {
              "lastTransitionTime": "2026-11-21T10:00:01Z",
              "observedGeneration": 1,
              "status": "True",
              "type": "ContainersReady"
            },
            {
              "lastTransitionTime": "2026-11-21T10:00:01Z",
              "observedGeneration": 1,
              "status": "True",
              "type": "PodScheduled"
            }
          ],
          "containerStatuses": [
            {
              "containerID": "carob://422206d84ad73a8d439bee525a114009972238614418d84fe8e0284a9bd20a72",
              "image": "hello:v1",
              "imageID": "hello@sha256:aa",
              "lastState": {
                "terminated": {
                  "containerID": "carob://4e3ccaab465b8a5cbad4e472cb325eda4ddbfd5770e43b16c55571d81192fa6f",
                  "exitCode": 137,
                  "finishedAt": "2026-11-21T10:00:00Z",
                  "reason": "OOMKilled",
                  "startedAt": "2026-11-21T10:00:00Z"
                }
              },
              "name": "main",
              "ready": true,
              "resources": {},
              "restartCount": 1,
              "started": true,
              "state": {
                "running": {
                  "startedAt": "2026-11-21T10:00:01Z"
                }
              }
            }
          ],
          "hostIP": "127.0.0.1",
          "hostIPs": [
            {
              "ip": "127.0.0.1"
            }
          ],
          "observedGeneration": 1,
          "phase": "Running",
          "podIP": "10.128.0.7",
          "podIPs": [
            {
              "ip": "10.128.0.7"
            }
          ],
          "qosClass": "BestEffort",
          "startTime": "2026-11-21T10:00:00Z"
        }"#]],
    );
}

#[test]
fn init_containers_run_in_order() {
    let mut b = Bench::new(json!({
        "restartPolicy": "OnFailure",
        "initContainers": [{"name": "a", "image": "x:1"}, {"name": "b", "image": "x:1"}],
        "containers": [{"name": "main", "image": "x:1"}],
    }));
    b.ready();
    let mut log = b.plan() + &b.summary();
    b.start("a");
    log += &b.summary();
    b.wait(1);
    b.end("a", 0, "Completed");
    log += &(b.plan() + &b.summary());
    b.start("b");
    b.end("b", 3, "Error");
    log += &(b.plan() + &b.summary());
    b.start("b");
    b.end("b", 0, "Completed");
    log += &(b.plan() + &b.summary());
    b.start("main");
    b.end("main", 0, "Completed");
    log += &(b.plan() + &b.summary());
    check(
        &log,
        expect![[r#"
        EnsureImage { container: "a" }
        Pending
          PodReadyToStartContainers=True
          Initialized=False ContainersNotInitialized: containers with incomplete status: [a b]
          Ready=False ContainersNotReady: containers with unready status: [main]
          ContainersReady=False ContainersNotReady: containers with unready status: [main]
          PodScheduled=True
          init a: waiting PodInitializing restarts=0 ready=false
          init b: waiting PodInitializing restarts=0 ready=false
          main main: waiting PodInitializing restarts=0 ready=false
        Pending
          PodReadyToStartContainers=True
          Initialized=False ContainersNotInitialized: containers with incomplete status: [a b]
          Ready=False ContainersNotReady: containers with unready status: [main]
          ContainersReady=False ContainersNotReady: containers with unready status: [main]
          PodScheduled=True
          init a: running restarts=0 ready=false
          init b: waiting PodInitializing restarts=0 ready=false
          main main: waiting PodInitializing restarts=0 ready=false
        RemoveContainer { container: "a", attempt: 0 }
        EnsureImage { container: "b" }
        Pending
          PodReadyToStartContainers=True
          Initialized=False ContainersNotInitialized: containers with incomplete status: [b]
          Ready=False ContainersNotReady: containers with unready status: [main]
          ContainersReady=False ContainersNotReady: containers with unready status: [main]
          PodScheduled=True
          init a: terminated Completed 0 restarts=0 ready=true
          init b: waiting PodInitializing restarts=0 ready=false
          main main: waiting PodInitializing restarts=0 ready=false
        RemoveContainer { container: "b", attempt: 0 }
        EnsureImage { container: "b" }
        Pending
          PodReadyToStartContainers=True
          Initialized=False ContainersNotInitialized: containers with incomplete status: [b]
          Ready=False ContainersNotReady: containers with unready status: [main]
          ContainersReady=False ContainersNotReady: containers with unready status: [main]
          PodScheduled=True
          init a: terminated Completed 0 restarts=0 ready=true
          init b: terminated Error 3 restarts=0 ready=false
          main main: waiting PodInitializing restarts=0 ready=false
        RemoveContainer { container: "b", attempt: 1 }
        EnsureImage { container: "main" }
        Pending
          PodReadyToStartContainers=True
          Initialized=True
          Ready=False ContainersNotReady: containers with unready status: [main]
          ContainersReady=False ContainersNotReady: containers with unready status: [main]
          PodScheduled=True
          init a: terminated Completed 0 restarts=0 ready=true
          init b: terminated Completed 0 after terminated Error 3 restarts=1 ready=true
          main main: waiting PodInitializing restarts=0 ready=false
        RemoveContainer { container: "main", attempt: 0 }
        Release
        Succeeded
          PodReadyToStartContainers=False
          Initialized=True PodCompleted
          Ready=False PodCompleted
          ContainersReady=False PodCompleted
          PodScheduled=True
          init a: terminated Completed 0 restarts=0 ready=true
          init b: terminated Completed 0 after terminated Error 3 restarts=1 ready=true
          main main: terminated Completed 0 restarts=0 ready=false
    "#]],
    );
}

#[test]
fn a_failing_init_container_ends_a_pod_that_is_never_restarted() {
    let mut b = Bench::new(json!({
        "restartPolicy": "Never",
        "initContainers": [{"name": "a", "image": "x:1"}],
        "containers": [{"name": "main", "image": "x:1"}],
    }));
    b.ready();
    b.start("a");
    b.end("a", 1, "Error");
    let log = b.plan() + &b.summary();
    check(
        &log,
        expect![[r#"
        RemoveContainer { container: "a", attempt: 0 }
        Release
        Failed
          PodReadyToStartContainers=False
          Initialized=False ContainersNotInitialized: containers with incomplete status: [a]
          Ready=False PodFailed
          ContainersReady=False PodFailed
          PodScheduled=True
          init a: terminated Error 1 restarts=0 ready=false
          main main: waiting PodInitializing restarts=0 ready=false
    "#]],
    );
}

#[test]
fn images_that_cannot_be_pulled() {
    let mut b = Bench::new(json!({"containers": [{"name": "main", "image": "nope:v1"}]}));
    b.ready();
    b.plan();
    b.not_pulled("main", "ErrImagePull", "nope:v1 not found");
    let mut log = b.plan() + &b.summary();
    b.wait(2);
    log += &(b.plan() + &b.summary());
    b.wait(8);
    log += &b.plan();
    b.not_pulled("main", "ErrImagePull", "nope:v1 not found");
    log += &b.plan();
    let never = "Container image \"nope:v1\" is not present with pull policy of Never";
    b.wait(20);
    b.plan();
    b.not_pulled("main", "ErrImageNeverPull", never);
    log += &(b.plan() + &b.summary());
    check(
        &log,
        expect![[r#"
        requeue +2000ms
        Pending
          PodReadyToStartContainers=True
          Initialized=True
          Ready=False ContainersNotReady: containers with unready status: [main]
          ContainersReady=False ContainersNotReady: containers with unready status: [main]
          PodScheduled=True
          main main: waiting ErrImagePull (nope:v1 not found) restarts=0 ready=false
        AnnounceImageBackOff { container: "main", image: "nope:v1" }
        requeue +8000ms
        Pending
          PodReadyToStartContainers=True
          Initialized=True
          Ready=False ContainersNotReady: containers with unready status: [main]
          ContainersReady=False ContainersNotReady: containers with unready status: [main]
          PodScheduled=True
          main main: waiting ImagePullBackOff (Back-off pulling image "nope:v1": ErrImagePull: nope:v1 not found) restarts=0 ready=false
        EnsureImage { container: "main" }
        requeue +2000ms
        requeue +40000ms
        Pending
          PodReadyToStartContainers=True
          Initialized=True
          Ready=False ContainersNotReady: containers with unready status: [main]
          ContainersReady=False ContainersNotReady: containers with unready status: [main]
          PodScheduled=True
          main main: waiting ErrImageNeverPull (Container image "nope:v1" is not present with pull policy of Never) restarts=0 ready=false
    "#]],
    );
}

#[test]
fn volumes_whose_image_cannot_be_pulled() {
    let mut b = Bench::new(json!({"containers": [{"name": "main", "image": "x:1"}]}));
    b.plan();
    b.see(Observation::SandboxReady("10.128.0.7".parse().unwrap()));
    let failed =
        || Observation::VolumeImageFailed("ErrImagePull".into(), "volume \"v\": no".into());
    b.see(failed());
    let containers = |b: &mut Bench| b.summary().lines().last().unwrap().to_owned() + "\n";
    let mut log = b.plan() + &containers(&mut b);
    b.wait(2);
    log += &(b.plan() + &containers(&mut b));
    b.wait(8);
    log += &(b.plan() + &containers(&mut b));
    b.see(failed());
    log += &b.plan();
    check(
        &log,
        expect![[r#"
        requeue +2000ms
          main main: waiting ErrImagePull (volume "v": no) restarts=0 ready=false
        requeue +8000ms
          main main: waiting ImagePullBackOff (Back-off: ErrImagePull: volume "v": no) restarts=0 ready=false
        MountVolumes
          main main: waiting ImagePullBackOff (Back-off: ErrImagePull: volume "v": no) restarts=0 ready=false
        requeue +2000ms
    "#]],
    );
}

#[test]
fn missing_objects_are_looked_for_again() {
    let mut b = Bench::new(json!({"containers": [{"name": "main", "image": "x:1"}]}));
    b.plan();
    b.see(Observation::SandboxReady("10.128.0.7".parse().unwrap()));
    b.see(Observation::VolumesFailed(
        "configmap \"c\" not found".into(),
    ));
    let mut log = b.plan() + &b.summary();
    b.wait(1);
    log += &b.plan();
    b.see(Observation::VolumesFailed(
        "configmap \"c\" not found".into(),
    ));
    log += &b.plan();
    b.wait(1);
    b.plan();
    b.see(Observation::VolumesReady(None));
    b.plan();
    b.pulled("main");
    b.plan();
    let (reason, message) = ("CreateContainerConfigError", "configmap \"c\" not found");
    b.not_started("main", reason, message);
    log += &(b.plan() + &b.summary());
    b.wait(1);
    log += &b.plan();
    check(
        &log,
        expect![[r#"
        requeue +500ms
        Pending
          PodReadyToStartContainers=True
          Initialized=True
          Ready=False ContainersNotReady: containers with unready status: [main]
          ContainersReady=False ContainersNotReady: containers with unready status: [main]
          PodScheduled=True
          main main: waiting ContainerCreating restarts=0 ready=false
        MountVolumes
        requeue +1000ms
        requeue +500ms
        Pending
          PodReadyToStartContainers=True
          Initialized=True
          Ready=False ContainersNotReady: containers with unready status: [main]
          ContainersReady=False ContainersNotReady: containers with unready status: [main]
          PodScheduled=True
          main main: waiting CreateContainerConfigError (configmap "c" not found) restarts=0 ready=false
        EnsureImage { container: "main" }
    "#]],
    );
}

#[test]
fn what_is_not_supported_is_named() {
    let container = |extra: serde_json::Value| {
        let mut c = json!({"name": "main", "image": "x:1"});
        c.as_object_mut()
            .unwrap()
            .extend(extra.as_object().unwrap().clone());
        json!({"containers": [c]})
    };
    let fine = json!({"tcpSocket": {"port": 80}});
    let with = |extra: serde_json::Value| {
        let mut spec = container(json!({}));
        spec.as_object_mut()
            .unwrap()
            .extend(extra.as_object().unwrap().clone());
        spec
    };
    let specs = [
        container(json!({"lifecycle": {"stopSignal": "SIGUSR1"}})),
        container(json!({"resources": {"limits": {"cpu": "1", "hugepages-2Mi": "2Mi"}}})),
        container(json!({"securityContext": {"privileged": true}})),
        container(
            json!({"volumeMounts": [{"name": "v", "mountPath": "/v", "mountPropagation": "Bidirectional"}]}),
        ),
        with(json!({"initContainers": [{"name": "s", "image": "x:1", "readinessProbe": fine}]})),
        with(json!({"hostNetwork": true})),
        with(json!({"volumes": [{"name": "v", "hostPath": {"path": "/x"}}]})),
        with(json!({"volumes": [{"name": "v", "projected": {"sources": [
            {"configMap": {"name": "c"}}, {"clusterTrustBundle": {"name": "b", "path": "b"}},
        ]}}]})),
        with(json!({"volumes": [{"name": "v", "projected": {"sources": [
            {"podCertificate": {"signerName": "example.com/s", "keyType": "ED25519"}},
        ]}}]})),
    ];
    let mut log = String::new();
    for spec in specs {
        let mut b = Bench::new(spec);
        log += &b.plan();
    }
    let mut b = Bench::new(with(json!({"hostPID": true})));
    log += &(b.plan() + &b.summary());
    b.delete(0);
    log += &b.plan();
    check(
        &log,
        expect![[r#"
            Refuse { message: "spec.containers[0].lifecycle.stopSignal is not supported by carob yet" }
            Refuse { message: "spec.containers[0].resources.limits[hugepages-2Mi] is not supported by carob yet" }
            Refuse { message: "spec.containers[0].securityContext.privileged is not supported by carob yet" }
            Refuse { message: "spec.containers[0].volumeMounts[0].mountPropagation is not supported by carob yet" }
            Refuse { message: "spec.initContainers[0].readinessProbe is not supported by carob yet" }
            Refuse { message: "spec.hostNetwork is not supported by carob yet" }
            Refuse { message: "spec.volumes[0].hostPath: this node's operator does not allow host paths" }
            Refuse { message: "spec.volumes[0].projected: sources[1].clusterTrustBundle is not supported by carob yet" }
            Refuse { message: "spec.volumes[0].projected: sources[0].podCertificate is not supported by carob yet" }
            Refuse { message: "spec.hostPID is not supported by carob yet" }
            Pending
              PodReadyToStartContainers=False
              Initialized=True
              Ready=False ContainersNotReady: containers with unready status: [main]
              ContainersReady=False ContainersNotReady: containers with unready status: [main]
              PodScheduled=True
              main main: waiting Unsupported (spec.hostPID is not supported by carob yet) restarts=0 ready=false
            Release
        "#]],
    );
}

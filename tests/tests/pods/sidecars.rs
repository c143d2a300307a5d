//! Sidecars, and containers that restart by policies and rules of their own.

use std::time::Duration;

use carob_tests::{Cluster, Outcome, check, until};

use super::pod;

/// A Job is complete although its pod's sidecar would go on for ever.
pub(super) fn job(cluster: &Cluster) -> Outcome {
    cluster.apply(
        "{apiVersion: batch/v1, kind: Job, metadata: {name: helped}, spec: {backoffLimit: 0, template: {spec: {restartPolicy: Never,
            initContainers: [{name: notes, image: writer, args: [/notes], restartPolicy: Always, volumeMounts: [{name: vol, mountPath: /notes}]}],
            containers: [{name: main, image: greeter, args: [--times, '2', helped]}],
            volumes: [{name: vol, emptyDir: {}}]}}}}",
    )?;
    let complete = cluster.wait_for("jobs/helped", "/status/succeeded", "1")?;
    check(complete["status"]["failed"].is_null(), &complete["status"])?;
    let pods = cluster.get("pods")?;
    let mut all = pods["items"].as_array().into_iter().flatten();
    let of_job = all.find(|pod| pod["metadata"]["labels"]["job-name"] == "helped");
    let status = &of_job.ok_or("the Job has no pod")?["status"];
    let sidecar = &status["initContainerStatuses"][0];
    check(status["phase"] == "Succeeded", status)?;
    check(sidecar["restartCount"] == 0, sidecar)?;
    check(sidecar["state"]["terminated"]["exitCode"] == 143, sidecar)?;
    cluster.carob("delete job/helped").map(drop)
}

/// What is seen of a pod whose second sidecar is not there at first.
pub(super) fn turns(cluster: &Cluster) -> Outcome {
    let spec = "{terminationGracePeriodSeconds: 5,
        initContainers: [
            {name: notes, image: writer, args: [/notes], restartPolicy: Always, volumeMounts: [{name: vol, mountPath: /notes}]},
            {name: waits, image: writer, args: [/notes], restartPolicy: Always, envFrom: [{configMapRef: {name: turn}}], volumeMounts: [{name: more, mountPath: /notes}]}],
        containers: [{name: main, image: greeter}],
        volumes: [{name: vol, emptyDir: {}}, {name: more, emptyDir: {}}]}";
    cluster.apply(&pod("turns", spec))?;
    let waiting = cluster.wait_for(
        "pods/turns",
        "/status/initContainerStatuses/1/state/waiting/reason",
        "CreateContainerConfigError",
    )?;
    let status = &waiting["status"];
    check(
        status["initContainerStatuses"][0]["started"] == true,
        status,
    )?;
    check(
        status["containerStatuses"][0]["state"]["waiting"]["reason"] == "PodInitializing",
        status,
    )?;
    let shown = |columns: &str| -> Outcome {
        if !carob_tests::has_kubectl() {
            println!("left out: the table is kubectl's, which is missing");
            return Ok(());
        }
        let line = cluster.kubectl("get pod turns --no-headers")?;
        let words: Vec<&str> = line.split_whitespace().collect();
        check(
            line.contains("turns") && words[1..3].join(" ") == columns,
            line,
        )
    };
    shown("1/3 Init:CreateContainerConfigError")?;
    cluster.apply("{apiVersion: v1, kind: ConfigMap, metadata: {name: turn}, data: {A: b}}")?;
    until("all of it is ready", Duration::from_secs(20), || {
        let pod = cluster.get("pods/turns")?;
        let conditions = pod["status"]["conditions"].as_array();
        let mut all = conditions.into_iter().flatten();
        Ok(all.any(|c| c["type"] == "Ready" && c["status"] == "True"))
    })?;
    shown("3/3 Running")?;
    cluster.carob("delete pod/turns")?;
    until("it is gone", Duration::from_secs(20), || {
        Ok(cluster.get("pods/turns").is_err())
    })
}

/// The first rule that fits decides, whatever the pod's policy is.
pub(super) fn rules(cluster: &Cluster) -> Outcome {
    let rule = |action: &str| {
        format!(
            "{{name: c, image: seven, restartPolicy: Never,
               restartPolicyRules: [{{action: {action}, exitCodes: {{operator: In, values: [7]}}}}]}}"
        )
    };
    let spec = format!(
        "{{restartPolicy: Never, containers: [{}]}}",
        rule("Restart")
    );
    cluster.apply(&pod("ruled", &spec))?;
    cluster.wait_for(
        "pods/ruled",
        "/status/containerStatuses/0/state/waiting/reason",
        "CrashLoopBackOff",
    )?;
    let spec = format!(
        "{{restartPolicy: Never, initContainers: [{{name: first, image: greeter, args: [--times, '1', first]}}],
           containers: [{}, {{name: other, image: greeter}}]}}",
        rule("RestartAllContainers")
    );
    cluster.apply(&pod("together", &spec))?;
    until("all have started anew", Duration::from_secs(20), || {
        let pod = cluster.get("pods/together")?;
        let status = &pod["status"];
        let again = |list: &str, name: &str| {
            let all = status[list].as_array();
            let mut all = all.into_iter().flatten();
            all.any(|c| c["name"] == name && c["restartCount"].as_u64() >= Some(1))
        };
        check(status["phase"] != "Failed", status)?;
        Ok(again("initContainerStatuses", "first") && again("containerStatuses", "other"))
    })?;
    let pod = cluster.get("pods/together")?;
    let conditions = pod["status"]["conditions"].as_array();
    let mut conditions = conditions.into_iter().flatten();
    check(
        conditions.any(|c| c["type"] == "AllContainersRestarting"),
        &pod["status"],
    )?;
    cluster.carob("delete pod/ruled pod/together").map(drop)
}

/// A container whose last hook sleeps is there for as long, and what its first hook waits for keeps the next from starting.
pub(super) fn hooks(cluster: &Cluster) -> Outcome {
    let spec = "{terminationGracePeriodSeconds: 20, containers: [
        {name: first, image: greeter, lifecycle: {postStart: {sleep: {seconds: 2}}, preStop: {sleep: {seconds: 2}}}},
        {name: second, image: greeter}]}";
    cluster.apply(&pod("hooked", spec))?;
    cluster.wait_for("pods/hooked", "/status/phase", "Running")?;
    let status = &cluster.get("pods/hooked")?["status"];
    let started = |index: usize| {
        let at = &status["containerStatuses"][index]["state"]["running"]["startedAt"];
        at.as_str().unwrap_or_default()
    };
    check(!started(0).is_empty() && started(0) < started(1), status)?;
    cluster.carob("delete pod/hooked")?;
    let began = std::time::Instant::now();
    until("it is gone", Duration::from_secs(20), || {
        Ok(cluster.get("pods/hooked").is_err())
    })?;
    let took = began.elapsed();
    check(
        (Duration::from_secs(1)..Duration::from_secs(15)).contains(&took),
        format!("gone after {took:?}"),
    )?;
    let spec = "{restartPolicy: Never, containers: [
        {name: c, image: greeter, lifecycle: {postStart: {tcpSocket: {port: 9}}}}]}";
    cluster.apply(&pod("unhooked", spec))?;
    cluster.wait_for("pods/unhooked", "/status/phase", "Failed")?;
    until("the event", Duration::from_secs(20), || {
        let events = cluster.get("events")?;
        let all = events["items"].as_array().into_iter().flatten();
        let mut about = all.filter(|e| e["reason"] == "FailedPostStartHook");
        // Many may read events: they say no more.
        Ok(about.any(|e| e["message"] == "PostStartHook failed"))
    })
}

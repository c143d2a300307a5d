//! Pods of the RuntimeClass `dense`, beside those of none.

use std::time::Duration;

use carob_tests::{Cluster, Outcome, check, until};

use super::{exits, pod, push_wat};

/// A p1 module that begins with more memory than a dense one may have.
const LARGE: &str = r#"(module (memory (export "memory") 4097) (func (export "_start")))"#;

pub(super) fn dense(cluster: &Cluster) -> Outcome {
    push_wat(cluster, "nine", &exits(9))?;
    let both = "{restartPolicy: Never, RUN containers: [{name: c, image: nine}]}";
    for (name, class) in [
        ("plain", ""),
        ("dense", "runtimeClassName: dense,"),
        ("usual", "runtimeClassName: carob,"),
    ] {
        cluster.apply(&pod(name, &both.replace("RUN", class)))?;
        let ended = cluster.wait_for(&format!("pods/{name}"), "/status/phase", "Failed")?;
        let code = &ended["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"];
        check(*code == 9, format!("{name}: {code}"))?;
        cluster.carob(&format!("delete pod/{name}"))?;
    }
    push_wat(cluster, "large", LARGE)?;
    let says = |name: &str, words: &str| {
        until(&format!("{name}: {words}"), Duration::from_secs(30), || {
            let status = cluster.get(&format!("pods/{name}"))?["status"].to_string();
            Ok(status.contains(words))
        })
    };
    let spec = "{runtimeClassName: dense, containers: [{name: c, image: large}]}";
    cluster.apply(&pod("large", spec))?;
    says(
        "large",
        "the runtime class of the handler \\\"dense\\\" has room for 268435456 bytes",
    )?;
    cluster.carob("delete pod/large")?;
    // Whose class nobody knows is refused, and whose handler no node has waits.
    let why = cluster
        .apply(&pod(
            "lost",
            &both.replace("RUN", "runtimeClassName: lost,"),
        ))
        .unwrap_or_else(|why| format!("{why:?}"));
    let said = "pod rejected: RuntimeClass";
    check(why.contains(said), why)?;
    cluster.apply("{apiVersion: node.k8s.io/v1, kind: RuntimeClass, metadata: {name: kata}, handler: kata, overhead: {podFixed: {cpu: 1m}}}")?;
    cluster.apply(&pod("vm", &both.replace("RUN", "runtimeClassName: kata,")))?;
    let vm = cluster.get("pods/vm")?;
    check(vm["spec"]["overhead"]["cpu"] == "1m", &vm["spec"])?;
    until("the handler is named", Duration::from_secs(30), || {
        let events = cluster.get("events")?.to_string();
        Ok(events.contains("no runtime for \\\"kata\\\" is configured"))
    })?;
    cluster.carob("delete pod/vm").map(drop)
}

//! Each of kubectl's commands once, as people type it, with what it has to say.

use std::fs;

use carob_tests::{Case, Cluster, Outcome, check};

const CASES: &[Case] = &[
    ("what_makes_objects", create),
    ("what_changes_objects", change),
    ("what_takes_files", files),
    ("what_shows_the_cluster", show),
    ("what_explains_every_kind", explain),
    ("what_removes_objects", remove),
];

fn main() {
    carob_tests::run_with_kubectl(CASES);
}

/// Runs `kubectl` with each line's words in the namespace `play`; each must say what stands beside it.
fn say(cluster: &Cluster, lines: &[(&str, &str)]) -> Outcome {
    for (line, expected) in lines {
        let said = cluster.kubectl(&format!("-n play {line}"))?;
        check(
            said.contains(expected),
            format!("kubectl {line}: {expected:?} is not in {said}"),
        )?;
    }
    Ok(())
}

/// The same of lines that must fail.
fn refuse(cluster: &Cluster, lines: &[(&str, &str)]) -> Outcome {
    for (line, expected) in lines {
        let said = cluster.kubectl_fails(&format!("-n play {line}"))?;
        check(
            said.contains(expected),
            format!("kubectl {line}: {expected:?} is not in {said}"),
        )?;
    }
    Ok(())
}

fn create(cluster: &Cluster) -> Outcome {
    cluster.kubectl("create namespace play")?;
    say(
        cluster,
        &[
            (
                "run one --image=x:1 --env=A=b --labels=a=b --command -- /x y",
                "pod/one created",
            ),
            ("run two --image=x:1 --dry-run=client -o yaml", "image: x:1"),
            ("run two --image=x:1 --dry-run=server -o name", "pod/two"),
            (
                "create deployment web --image=x:1 --replicas=2 --port=80",
                "deployment.apps/web created",
            ),
            (
                "create deployment dry --image=x:1 --dry-run=server -o name",
                "deployment.apps/dry",
            ),
            (
                "create configmap words --from-literal=a=b",
                "configmap/words created",
            ),
            (
                "create secret generic hidden --from-literal=a=b",
                "secret/hidden created",
            ),
            (
                "create secret docker-registry pull --docker-username=a --docker-password=b --docker-server=x",
                "secret/pull created",
            ),
            ("create job once --image=x:1", "job.batch/once created"),
            (
                "create cronjob daily --image=x:1 --schedule=@daily",
                "cronjob.batch/daily created",
            ),
            (
                "create job now --from=cronjob/daily",
                "job.batch/now created",
            ),
            (
                "create service clusterip inner --tcp=80",
                "service/inner created",
            ),
            (
                "create service nodeport outer --tcp=80",
                "service/outer created",
            ),
            (
                "create service loadbalancer broad --tcp=80",
                "service/broad created",
            ),
            (
                "create service externalname far --external-name=a.example",
                "service/far created",
            ),
            (
                "create ingress door --rule=a.example/x=inner:80",
                "ingress.networking.k8s.io/door created",
            ),
            (
                "create quota bound --hard=pods=100",
                "resourcequota/bound created",
            ),
            (
                "create poddisruptionbudget kept --selector=a=b --min-available=1",
                "poddisruptionbudget.policy/kept created",
            ),
            (
                "create priorityclass high --value=100",
                "priorityclass.scheduling.k8s.io/high created",
            ),
            (
                "create serviceaccount robot",
                "serviceaccount/robot created",
            ),
            (
                "create role reader --verb=get --resource=pods",
                "role.rbac.authorization.k8s.io/reader created",
            ),
            (
                "create clusterrole all --verb=get --resource=pods",
                "clusterrole.rbac.authorization.k8s.io/all created",
            ),
            (
                "create clusterrole paths --verb=get --non-resource-url=/logs",
                "clusterrole.rbac.authorization.k8s.io/paths created",
            ),
            (
                "create clusterrole sum --aggregation-rule=a=b",
                "clusterrole.rbac.authorization.k8s.io/sum created",
            ),
            (
                "create rolebinding reads --role=reader --serviceaccount=play:robot",
                "rolebinding.rbac.authorization.k8s.io/reads created",
            ),
            (
                "create clusterrolebinding reads --clusterrole=all --user=jane",
                "clusterrolebinding.rbac.authorization.k8s.io/reads created",
            ),
            ("expose deployment web --port=80", "service/web exposed"),
            ("create token robot --duration=10m", "ey"),
        ],
    )?;
    refuse(
        cluster,
        &[
            (
                "create configmap words",
                "configmaps \"words\" already exists",
            ),
            (
                "create configmap Bad",
                "a lowercase RFC 1123 subdomain must consist of",
            ),
            (
                "create token nobody",
                "serviceaccounts \"nobody\" not found",
            ),
        ],
    )
}

fn change(cluster: &Cluster) -> Outcome {
    say(
        cluster,
        &[
            (
                "set image deployment/web x=x:2",
                "deployment.apps/web image updated",
            ),
            (
                "set env deployment/web A=B",
                "deployment.apps/web env updated",
            ),
            (
                "set resources deployment/web --limits=cpu=1",
                "deployment.apps/web resource requirements updated",
            ),
            (
                "set selector service/inner a=c",
                "service/inner selector updated",
            ),
            (
                "set serviceaccount deployment/web robot",
                "deployment.apps/web serviceaccount updated",
            ),
            (
                "set subject rolebinding/reads --user=bob",
                "rolebinding.rbac.authorization.k8s.io/reads subjects updated",
            ),
            (
                "scale deployment web --replicas=3",
                "deployment.apps/web scaled",
            ),
            (
                "rollout restart deployment web",
                "deployment.apps/web restarted",
            ),
            (
                "autoscale deployment web --min=1 --max=3 --cpu-percent=50",
                "horizontalpodautoscaler.autoscaling/web autoscaled",
            ),
            ("label configmap words x=y", "configmap/words labeled"),
            ("annotate configmap words x=y", "configmap/words annotated"),
            (
                "patch configmap words -p {\"data\":{\"c\":\"d\"}}",
                "configmap/words patched",
            ),
            (
                "patch configmap words --type=merge -p {\"data\":{\"c\":\"e\"}}",
                "configmap/words patched",
            ),
            (
                "patch configmap words --type=json -p [{\"op\":\"add\",\"path\":\"/data/z\",\"value\":\"1\"}]",
                "configmap/words patched",
            ),
            (
                "patch deployment web --subresource=scale --type=merge -p {\"spec\":{\"replicas\":1}}",
                "patched",
            ),
            ("taint nodes t-3 a=b:PreferNoSchedule", "node/t-3 tainted"),
            ("taint nodes t-3 a-", "node/t-3 untainted"),
            ("cordon t-3", "node/t-3 cordoned"),
            ("uncordon t-3", "node/t-3 uncordoned"),
            (
                "wait --for=jsonpath={.data.c}=e configmap/words --timeout=10s",
                "condition met",
            ),
        ],
    )
}

fn files(cluster: &Cluster) -> Outcome {
    let dir = cluster.scratch("manifests");
    fs::create_dir_all(&dir)?;
    let file = dir.join("map.yaml");
    let map = |value: &str| {
        format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: map}}\ndata: {{a: {value}}}\n")
    };
    fs::write(&file, map("one"))?;
    fs::write(
        dir.join("kustomization.yaml"),
        "resources: [map.yaml]\nnamePrefix: p-\n",
    )?;
    let (f, k) = (file.display(), dir.display());
    say(
        cluster,
        &[(&format!("apply -f {f}"), "configmap/map created")],
    )?;
    fs::write(&file, map("two"))?;
    let mut diff = cluster.kubectl_command(&format!("-n play diff -f {f}"));
    let said = diff.output()?;
    let shown = String::from_utf8_lossy(&said.stdout);
    check(
        said.status.code() == Some(1) && shown.contains("+  a: two"),
        &shown,
    )?;
    say(
        cluster,
        &[
            (&format!("apply -f {f}"), "configmap/map configured"),
            ("apply view-last-applied configmap map", "a: two"),
            (
                &format!("apply --server-side -f {f}"),
                "configmap/map serverside-applied",
            ),
            (
                "get configmap map -o yaml --show-managed-fields",
                "operation: Apply",
            ),
            (&format!("replace -f {f}"), "configmap/map replaced"),
            (&format!("replace --force -f {f}"), "configmap/map replaced"),
            (&format!("kustomize {k}"), "name: p-map"),
            (&format!("apply -k {k}"), "configmap/p-map created"),
            (&format!("delete -k {k}"), "deleted"),
        ],
    )?;
    let mut edit = cluster.kubectl_command("-n play edit configmap map");
    let edited = carob_tests::succeed(edit.env("EDITOR", "sed -i s/two/three/"))?;
    check(edited.contains("configmap/map edited"), edited)?;
    let roles = dir.join("roles.yaml");
    fs::write(
        &roles,
        "apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: reconciled}
rules: [{apiGroups: [''], resources: [pods], verbs: [get]}]
",
    )?;
    let reconcile = format!("auth reconcile -f {}", roles.display());
    say(
        cluster,
        &[
            (
                &reconcile,
                "clusterrole.rbac.authorization.k8s.io/reconciled reconciled",
            ),
            (
                &reconcile,
                "clusterrole.rbac.authorization.k8s.io/reconciled reconciled",
            ),
        ],
    )
}

fn show(cluster: &Cluster) -> Outcome {
    say(
        cluster,
        &[
            ("auth can-i create pods", "yes"),
            (
                "auth can-i --list --as jane",
                "selfsubjectreviews.authentication.k8s.io",
            ),
            ("auth can-i get pods --as jane", "yes"),
            ("auth whoami", "system:masters"),
            ("cluster-info", "is running at"),
            ("get --raw /version", "\"gitVersion\": \"v1.36"),
            ("get --raw /version", "\"emulationMinor\": \"36\""),
            ("get --raw /readyz?verbose", "readyz check passed"),
            ("api-versions", "apps/v1"),
            ("api-resources -o wide", "deployments"),
            ("version", "Server Version: v1.36"),
            ("get all", "deployment.apps/web"),
            ("get deployments -o wide", "SELECTOR"),
            ("get configmap --sort-by=.metadata.name", "words"),
            ("get configmap --chunk-size=1", "words"),
            ("get configmap -o custom-columns=N:.metadata.name", "words"),
            ("get deployment web --subresource=scale", "DESIRED"),
            ("get priorityclasses", "system-node-critical"),
            ("get clusterroles", "cluster-admin"),
            ("describe deployment web", "StrategyType:"),
            ("describe node t-1", "Non-terminated Pods"),
            ("describe configmap words", "Data"),
            ("describe service inner", "Endpoints:"),
            ("describe serviceaccount robot", "robot"),
            ("describe pod one", "kube-api-access-"),
            ("describe quota bound", "Hard"),
            ("events", "LAST SEEN"),
        ],
    )?;
    refuse(
        cluster,
        &[
            ("auth can-i delete nodes --as jane", "no"),
            ("rollout status deployment web --timeout=1s", "timed out"),
            (
                "wait --for=condition=Ready pod/one --timeout=1s",
                "timed out",
            ),
            (
                "get nothings",
                "the server doesn't have a resource type \"nothings\"",
            ),
            ("get pods --as-group=dev", "without impersonating a user"),
        ],
    )
}

fn explain(cluster: &Cluster) -> Outcome {
    let listed = cluster.kubectl("api-resources --no-headers")?;
    let mut seen = 0;
    for line in listed.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [name, .., version, _, kind] = words.as_slice() else {
            return Err(format!("what is this? {line}").into());
        };
        let told = cluster.kubectl(&format!(
            "explain {name} --api-version={version} --recursive"
        ))?;
        check(
            told.contains(kind) && told.contains("FIELDS:"),
            format!("{line}: {told}"),
        )?;
        seen += 1;
    }
    check(seen > 60, format!("{seen} kinds"))
}

fn remove(cluster: &Cluster) -> Outcome {
    say(
        cluster,
        &[
            ("delete all --all --wait=false", "deleted"),
            ("delete configmap --all", "configmap \"words\" deleted"),
            ("delete quota bound", "resourcequota \"bound\" deleted"),
            ("wait --for=delete deployment/web --timeout=30s", ""),
        ],
    )?;
    refuse(
        cluster,
        &[
            (
                "delete priorityclass system-node-critical",
                "this is a system priority class and cannot be deleted",
            ),
            (
                "delete namespace kube-system",
                "this namespace may not be deleted",
            ),
        ],
    )
}

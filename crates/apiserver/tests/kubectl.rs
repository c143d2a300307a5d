//! A real kubectl against a server over HTTPS. Left out, loudly, where no kubectl is installed.

mod server;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use apiserver::ca::Profile;
use serde_json::{Value, json};
use server::Server;
use tokio_util::sync::CancellationToken;

/// A server that listens, and a kubeconfig for it.
struct Cluster {
    server: Server,
    dir: tempfile::TempDir,
    url: String,
    stop: CancellationToken,
}

impl Cluster {
    /// None: there is no kubectl.
    async fn start() -> Option<Cluster> {
        let found = Command::new("kubectl")
            .args(["version", "--client"])
            .output();
        if !found.is_ok_and(|o| o.status.success()) {
            assert!(std::env::var_os("CI").is_none(), "CI needs a kubectl");
            eprintln!("LEFT OUT: kubectl is not installed");
            return None;
        }
        let server = Server::start().await;
        let (url, stop) = server.listen().await;
        let cluster = Cluster {
            dir: tempfile::tempdir().unwrap(),
            server,
            url,
            stop,
        };
        cluster.kubeconfig("admin", &Profile::Admin);
        Some(cluster)
    }

    fn kubeconfig(&self, name: &str, profile: &Profile) -> PathBuf {
        let issued = self.server.ca.issue(profile).unwrap();
        let write = |file: &str, text: &str| {
            let path = self.dir.path().join(format!("{name}-{file}"));
            std::fs::write(&path, text).unwrap();
            path
        };
        let ca = write("ca.crt", self.server.ca.certificate());
        let certificate = write("tls.crt", &issued.certificate);
        let key = write("tls.key", &issued.key);
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": self.url, "certificate-authority": ca}}],
            "users": [{"name": "u", "user": {"client-certificate": certificate, "client-key": key}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        });
        write("config", &config.to_string())
    }

    async fn run(&self, user: &str, args: &[&str], input: &str) -> Output {
        let config = self.dir.path().join(format!("{user}-config"));
        let home = self.dir.path().to_owned();
        let args: Vec<String> = args.iter().map(|a| (*a).to_owned()).collect();
        let input = input.to_owned();
        tokio::task::spawn_blocking(move || run(&config, &home, &args, &input))
            .await
            .unwrap()
    }

    /// Runs kubectl as the administrator; it must succeed.
    async fn kubectl(&self, line: &str) -> String {
        self.kubectl_with(line, "").await
    }

    async fn kubectl_with(&self, line: &str, input: &str) -> String {
        let args: Vec<&str> = line.split_whitespace().collect();
        let output = self.run("admin", &args, input).await;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(
            output.status.success(),
            "kubectl {line}: {}{}",
            text(&output.stdout),
            text(&output.stderr)
        );
        text(&output.stdout)
    }
}

fn run(config: &Path, home: &Path, args: &[String], input: &str) -> Output {
    let mut child = Command::new("kubectl")
        .arg("--kubeconfig")
        .arg(config)
        .args(args)
        .env("HOME", home)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    child.wait_with_output().unwrap()
}

const DEPLOYMENT: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: c, image: 'i:v1'}
";

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_works() {
    let Some(cluster) = Cluster::start().await else {
        return;
    };
    let k = |line: &'static str| cluster.kubectl(line);
    assert!(k("version").await.contains("Server Version: v1.36"));
    assert!(k("api-resources").await.contains("deployments"));
    assert!(k("get namespaces").await.contains("kube-system"));
    let service = k("get service kubernetes").await;
    assert!(service.contains("10.96.0.1"), "{service}");
    // Protobuf bodies.
    k("create configmap m --from-literal=a=1").await;
    k("create namespace other").await;
    k("create deployment proto --image=x").await;
    let with = |line: &'static str, input: String| {
        let cluster = &cluster;
        async move { cluster.kubectl_with(line, &input).await }
    };
    let made = with("apply -f -", DEPLOYMENT.to_owned()).await;
    assert!(made.contains("deployment.apps/web created"), "{made}");
    let same = with("apply -f -", DEPLOYMENT.to_owned()).await;
    assert!(same.contains("unchanged"), "{same}");
    let changed = with("apply -f -", DEPLOYMENT.replace("i:v1", "i:v2")).await;
    assert!(changed.contains("configured"), "{changed}");
    applied_by_two(&cluster).await;
    let wide = k("get deployments -o wide --show-labels").await;
    assert!(wide.contains("i:v2") && wide.contains("app=web"), "{wide}");
    k("scale deployment web --replicas=5").await;
    assert_eq!(
        k("get deployment web -o jsonpath={.spec.replicas}").await,
        "5"
    );
    k("label deployment web tier=front").await;
    k("annotate deployment web note=x").await;
    assert!(
        k("get deployments -l tier=front -o name")
            .await
            .contains("web")
    );
    assert!(
        k("get deployments -A --field-selector metadata.name=web")
            .await
            .contains("web")
    );
    assert!(k("describe deployment web").await.contains("app=web"));
    assert!(
        k("explain deployment.spec.replicas")
            .await
            .contains("replicas")
    );
    k("wait deployment/web --for=jsonpath={.spec.replicas}=5 --timeout=5s").await;
    let dry = k("create configmap dry --from-literal=a=1 --dry-run=server -o yaml").await;
    assert!(dry.contains("name: dry"), "{dry}");
    k("delete deployment web").await;
    k("delete configmaps --all").await;
    assert_eq!(k("auth can-i list pods").await.trim(), "yes");
    assert!(k("auth whoami").await.contains("carob-admin"));
    assert!(k("get --raw /readyz?verbose").await.contains("[+]ping ok"));
    assert!(
        k("get --raw /metrics")
            .await
            .contains("apiserver_request_total")
    );
    cluster.stop.cancel();
}

/// Server-side apply: made, taken from another manager only by force, and then that other's no more.
async fn applied_by_two(cluster: &Cluster) {
    let map = |a: &str| {
        format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: ssa}}\ndata: {{a: {a:?}}}\n")
    };
    let apply = "apply --server-side -f - --field-manager";
    let one = format!("{apply}=one");
    let made = cluster.kubectl_with(&one, &map("1")).await;
    assert!(made.contains("configmap/ssa serverside-applied"), "{made}");
    let two = format!("{apply}=two");
    let args: Vec<&str> = two.split_whitespace().collect();
    let refused = cluster.run("admin", &args, &map("2")).await;
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && why.contains("conflict with \"one\": .data.a"),
        "{why}"
    );
    let forced = format!("{two} --force-conflicts");
    cluster.kubectl_with(&forced, &map("2")).await;
    let shown = "get configmap ssa -o jsonpath={.data.a}";
    assert_eq!(cluster.kubectl(shown).await, "2");
    let deployment = DEPLOYMENT.replace("web", "ssa");
    for _ in 0..2 {
        cluster.kubectl_with(&one, &deployment).await;
    }
    cluster.kubectl("delete deployment ssa").await;
}

/// kubectl takes over by server-side apply what it made by client-side apply, with a change on the way.
#[tokio::test(flavor = "multi_thread")]
async fn kubectl_goes_over_to_server_side_apply() {
    let Some(cluster) = Cluster::start().await else {
        return;
    };
    cluster.kubectl_with("apply -f -", DEPLOYMENT).await;
    let changed = DEPLOYMENT.replace("replicas: 2", "replicas: 3");
    let ways = [
        "apply --server-side -f -",
        "apply -f -",
        "apply --server-side -f -",
    ];
    for (round, way) in ways.into_iter().enumerate() {
        let manifest = changed.replace("i:v1", &format!("i:v{round}"));
        cluster.kubectl_with(way, &manifest).await;
    }
    let path = "/apis/apps/v1/namespaces/default/deployments/web";
    let web = cluster.server.get(path).await.expect(200);
    let container = &web["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(
        (&web["spec"]["replicas"], &container["image"]),
        (&json!(3), &json!("i:v2"))
    );
    let entries = web["metadata"]["managedFields"].as_array().unwrap();
    let named = |name: &str| entries.iter().any(|entry| entry["manager"] == name);
    assert!(
        named("kubectl") && !named("kubectl-client-side-apply"),
        "{entries:?}"
    );
    cluster.stop.cancel();
}

const RIGHTS: &str = "
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader, namespace: default}
rules:
- {apiGroups: [''], resources: [pods], verbs: [get, list]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: readers, namespace: default}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}
subjects:
- {apiGroup: rbac.authorization.k8s.io, kind: User, name: bob}
";

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_gives_rights_and_asks_for_them() {
    let Some(cluster) = Cluster::start().await else {
        return;
    };
    let k = |line: &'static str| cluster.kubectl(line);
    let can = async |line: &'static str| {
        let args: Vec<&str> = line.split_whitespace().collect();
        let output = cluster.run("admin", &args, "").await;
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    assert_eq!(can("auth can-i list pods --as bob").await, "no");
    let made = cluster.kubectl_with("auth reconcile -f -", RIGHTS).await;
    assert!(
        made.contains("role.rbac.authorization.k8s.io/reader reconciled"),
        "{made}"
    );
    assert_eq!(can("auth can-i list pods --as bob").await, "yes");
    assert_eq!(can("auth can-i list pods -A --as bob").await, "no");
    assert_eq!(can("auth can-i get /version --as bob").await, "yes");
    let listed = k("auth can-i --list --as bob").await;
    for expected in [
        "pods",
        "[get list]",
        "selfsubjectreviews.authentication.k8s.io",
        "[/api/*]",
    ] {
        assert!(listed.contains(expected), "{expected}: {listed}");
    }
    let all = k("auth can-i --list").await;
    assert!(all.contains("*.*"), "{all}");
    let of_paths = |line: &&str| line.trim_start().starts_with("[*] ");
    assert_eq!(all.lines().filter(of_paths).count(), 1, "{all}");
    // A second time it adds what is missing, and keeps what is there.
    let more = RIGHTS.replace("[get, list]", "[get, watch]");
    cluster.kubectl_with("auth reconcile -f -", &more).await;
    assert_eq!(can("auth can-i watch pods --as bob").await, "yes");
    assert_eq!(can("auth can-i list pods --as bob").await, "yes");
    k("create clusterrolebinding eves --clusterrole=view --user=eve --serviceaccount=default:robot").await;
    assert_eq!(can("auth can-i list deployments --as eve").await, "yes");
    assert_eq!(can("auth can-i get secrets --as eve").await, "no");
    let robot = "auth can-i list pods --as system:serviceaccount:default:robot";
    assert_eq!(can(robot).await, "yes");
    let who = k("auth whoami --as eve --as-group dev --as-uid u1").await;
    for expected in ["eve", "u1", "dev"] {
        assert!(who.contains(expected), "{who}");
    }
    k("get pods --as eve --as-uid u1").await;
    let described = k("describe clusterrole view").await;
    assert!(described.contains("deployments.apps"), "{described}");
    cluster.stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_kept_to_its_own() {
    let Some(cluster) = Cluster::start().await else {
        return;
    };
    cluster.kubeconfig(
        "node",
        &Profile::Node {
            name: "n1".to_owned(),
            addresses: vec![],
        },
    );
    let node = |name: &str| {
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}).to_string()
    };
    let create = ["create", "-f", "-"];
    let own = cluster.run("node", &create, &node("n1")).await;
    assert!(
        own.status.success(),
        "{}",
        String::from_utf8_lossy(&own.stderr)
    );
    let other = cluster.run("node", &create, &node("n2")).await;
    assert!(!other.status.success());
    let secrets = cluster.run("node", &["get", "secrets"], "").await;
    let refusal = String::from_utf8_lossy(&secrets.stderr).into_owned();
    assert!(
        refusal.contains("User \"system:node:n1\" cannot list resource \"secrets\" in API group \"\" in the namespace \"default\""),
        "{refusal}"
    );
    let mine = ["get", "pods", "-A", "--field-selector", "spec.nodeName=n1"];
    assert!(cluster.run("node", &mine, "").await.status.success());
    let answer: Value = cluster.server.get("/api/v1/nodes/n1").await.expect(200);
    assert_eq!(answer["metadata"]["name"], "n1");
    cluster.stop.cancel();
}

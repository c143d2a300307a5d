//! Claims, and where the volumes are that they are bound to.

use super::*;

const CLAIMS: &str = "/api/v1/namespaces/shop/persistentvolumeclaims";
const VOLUMES: &str = "/api/v1/persistentvolumes";

fn claim(name: &str, phase: &str) -> Value {
    let owner =
        json!({"apiVersion": "v1", "kind": "Pod", "name": "web", "uid": "u", "controller": true});
    json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": "shop", "uid": format!("uid-{name}"), "ownerReferences": [owner]},
        "spec": {"volumeName": format!("pvc-{name}")}, "status": {"phase": phase},
    })
}

/// The volume of a claim, on the node's own disk where nothing else is said.
fn volume(claim: &str, spec: Value) -> Value {
    let name = format!("pvc-{claim}");
    let mut volume = json!({
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name},
        "spec": {"claimRef": {"namespace": "shop", "name": claim, "uid": format!("uid-{claim}")}},
    });
    let spec = match spec.is_null() {
        true => {
            let mut own = on("n1");
            own["local"] = json!({"path": name});
            own
        }
        false => spec,
    };
    for (field, value) in spec.as_object().unwrap() {
        volume["spec"][field] = value.clone();
    }
    volume
}

fn on(node: &str) -> Value {
    let term = json!({"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}]});
    json!({"nodeAffinity": {"required": {"nodeSelectorTerms": [term]}}})
}

/// A node, and a claim of each kind that is bound to a volume of its disk.
pub(super) fn there() -> BTreeMap<String, Option<Value>> {
    let labels = json!({"kubernetes.io/hostname": "n1"});
    let node =
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1", "labels": labels}});
    let mut all = BTreeMap::from([("/api/v1/nodes/n1".to_owned(), Some(node))]);
    for name in ["data", "web-v"] {
        put(&mut all, claim(name, "Bound"), volume(name, Value::Null));
    }
    all
}

fn put(all: &mut BTreeMap<String, Option<Value>>, claim: Value, volume: Value) {
    let at = |root: &str, object: &Value| {
        format!("{root}/{}", object["metadata"]["name"].as_str().unwrap())
    };
    all.insert(at(CLAIMS, &claim), Some(claim));
    all.insert(at(VOLUMES, &volume), Some(volume));
}

fn named(claim: &str) -> Value {
    json!({"name": "v", "persistentVolumeClaim": {"claimName": claim}})
}

/// What mounting a claim says that is bound to a volume like this.
async fn of(b: &Bench, spec: Value) -> Result<Made, String> {
    put(
        &mut b.server.changed.lock(),
        claim("x", "Bound"),
        volume("x", spec),
    );
    b.make(&named("x")).await
}

#[tokio::test(start_paused = true)]
async fn a_claim_may_be_mounted_to_be_read() {
    let b = Bench::new();
    let source = json!({"claimName": "data", "readOnly": true});
    let volume = json!({"name": "v", "persistentVolumeClaim": source});
    let made = b.make(&volume).await.unwrap();
    assert!(made.read_only && made.path == b.disks.own.join("pvc-data"));
    assert!(!made.is_own, "other pods may write to it");
    assert!(!b.make(&named("data")).await.unwrap().read_only);
}

#[tokio::test(start_paused = true)]
async fn why_a_claim_cannot_be_mounted() {
    let b = Bench::new();
    let processing = |why: &str| {
        format!(
            "Unable to attach or mount volumes: unmounted volumes=[v], unattached volumes=[], failed to process volumes=[v]: {why}"
        )
    };
    let none = b.make(&named("none")).await.unwrap_err();
    let begins =
        processing("error processing PVC shop/none: failed to fetch PVC from API server: ");
    assert!(none.starts_with(&begins), "{none}");

    let mut going = claim("x", "Bound");
    going["metadata"]["deletionTimestamp"] = json!("2026-11-21T10:00:00Z");
    let stolen = json!({"claimRef": {"namespace": "shop", "name": "x", "uid": "another"}});
    let block = json!({"local": {"path": "pvc-x"}, "volumeMode": "Block"});
    for (claim, volume, why) in [
        (
            claim("x", "Pending"),
            volume("x", Value::Null),
            "error processing PVC shop/x: PVC is not bound",
        ),
        (
            claim("x", "Lost"),
            volume("x", Value::Null),
            "error processing PVC shop/x: PVC is not bound",
        ),
        (
            going,
            volume("x", Value::Null),
            "error processing PVC shop/x: PVC is being deleted",
        ),
        (
            claim("x", "Bound"),
            volume("x", stolen),
            "error processing PVC shop/x: found PV object pvc-x with pv.Spec.ClaimRef.UID another that does not point to the claim UID uid-x",
        ),
        (
            claim("x", "Bound"),
            volume("x", block),
            "volume v has volumeMode Block, but is specified in volumeMounts",
        ),
    ] {
        put(&mut b.server.changed.lock(), claim, volume);
        assert_eq!(b.make(&named("x")).await.unwrap_err(), processing(why));
    }
    let mut theirs = claim("web-v", "Bound");
    theirs["metadata"]["ownerReferences"][0]["uid"] = json!("another");
    put(
        &mut b.server.changed.lock(),
        theirs,
        volume("web-v", Value::Null),
    );
    let why = "PVC shop/web-v was not created for pod shop/web (pod is not owner)";
    let ephemeral = json!({"name": "v", "ephemeral": {}});
    assert_eq!(b.make(&ephemeral).await.unwrap_err(), processing(why));
    assert!(!b.disks.own.exists(), "nothing was made");
}

#[tokio::test(start_paused = true)]
async fn volumes_are_where_the_operator_lets_them_be() {
    let b = Bench::new();
    let (root, shared) = (b.dir.path(), b.dir.path().join("shared"));
    fs::create_dir_all(shared.join("there")).unwrap();
    fs::create_dir_all(root.join("outside")).unwrap();
    std::os::unix::fs::symlink(root.join("outside"), shared.join("link")).unwrap();
    let at = |path: &str| root.join(path).display().to_string();
    let local = |path: &str| json!({"local": {"path": at(path)}});
    let host = |path: &str, kind: &str| json!({"hostPath": {"path": at(path), "type": kind}});
    for (spec, place) in [
        (local("shared/there"), "there"),
        (host("shared/there", ""), "there"),
        (host("shared/new/deep", "DirectoryOrCreate"), "new/deep"),
    ] {
        let made = of(&b, spec.clone()).await.unwrap();
        let due = Made {
            beneath: place.to_owned(),
            ..Made::new(&shared, false)
        };
        assert_eq!(made, due, "{spec}");
        assert!(shared.join(place).is_dir(), "{spec}");
    }
    let refused = |path: &str| {
        let path = at(path);
        format!(
            "MountVolume.SetUp failed for volume \"pvc-x\" : this node's operator does not share {path}"
        )
    };
    for (spec, path) in [
        (local("outside"), "outside"),
        (host("outside", ""), "outside"),
        (local("shared/../outside"), "shared/../outside"),
        (local("shared/link"), "shared/link"),
        (
            host("shared/link/new", "DirectoryOrCreate"),
            "shared/link/new",
        ),
        (local("shared-too"), "shared-too"),
    ] {
        assert_eq!(of(&b, spec).await.unwrap_err(), refused(path), "{path}");
    }
    assert!(!root.join("outside/new").exists());
    for path in ["../x", "a/b", ".."] {
        let why = of(&b, json!({"local": {"path": path}})).await.unwrap_err();
        assert!(why.contains("neither absolute nor the name"), "{why}");
    }
    let mut far = on("n2");
    far["local"] = json!({"path": "pvc-x"});
    let why = "MountVolume.NodeAffinity check failed for volume \"pvc-x\" : no matching NodeSelectorTerms";
    assert_eq!(of(&b, far).await.unwrap_err(), why);
    let mut options = local("shared/there");
    options["mountOptions"] = json!(["ro"]);
    assert!(
        of(&b, options)
            .await
            .unwrap_err()
            .ends_with("mount options are not supported")
    );
    let nfs = json!({"nfs": {"server": "s", "path": "/"}});
    assert!(
        of(&b, nfs)
            .await
            .unwrap_err()
            .ends_with("no volume plugin matched")
    );
}

#[tokio::test(start_paused = true)]
async fn a_volume_that_is_deleted_is_mounted_while_a_claim_keeps_it() {
    let b = Bench::new();
    let mut deleted = volume("x", Value::Null);
    deleted["metadata"]["deletionTimestamp"] = json!("2026-11-21T10:00:00Z");
    let mount = async |finalizers: Value| {
        let mut volume = deleted.clone();
        volume["metadata"]["finalizers"] = finalizers;
        put(&mut b.server.changed.lock(), claim("x", "Bound"), volume);
        b.make(&named("x")).await
    };
    let ours = "carob.dev/local-path";
    let made = mount(json!([ours, "kubernetes.io/pv-protection"])).await;
    assert_eq!(made.unwrap().path, b.disks.own.join("pvc-x"));
    let why = mount(json!([ours])).await.unwrap_err();
    assert!(why.ends_with("it is being deleted"), "{why}");
}

#[tokio::test(start_paused = true)]
async fn volumes_are_anywhere_where_host_paths_are_allowed() {
    let mut b = Bench::new();
    b.disks.host_path = true;
    let dir = b.dir.path().join("anywhere");
    fs::create_dir_all(&dir).unwrap();
    let made = of(&b, json!({"local": {"path": dir}})).await.unwrap();
    assert_eq!(made, Made::new(&dir, false));
    let none = dir.join("none").display().to_string();
    let why = of(&b, json!({"local": {"path": none}})).await.unwrap_err();
    assert_eq!(
        why,
        format!(
            "MountVolume.NewMounter initialization failed for volume \"pvc-x\" : path {none:?} does not exist"
        )
    );
}

use serde_json::{Value, json};

use super::*;

fn claim(more: Value) -> PersistentVolumeClaim {
    let mut spec = json!({"accessModes": ["ReadWriteOnce"], "storageClassName": "fast",
        "resources": {"requests": {"storage": "2Gi"}}});
    for (field, value) in more.as_object().into_iter().flatten() {
        spec[field] = value.clone();
    }
    serde_json::from_value(json!({
        "metadata": {"namespace": "d", "name": "data", "uid": "u"}, "spec": spec,
    }))
    .expect("a claim")
}

fn volume(name: &str, size: &str, more: Value) -> PersistentVolume {
    let mut spec = json!({"accessModes": ["ReadWriteOnce", "ReadOnlyMany"], "storageClassName": "fast",
        "capacity": {"storage": size}, "hostPath": {"path": "/x"}});
    let mut metadata = json!({"name": name});
    for (field, value) in more.as_object().into_iter().flatten() {
        match field.as_str() {
            "labels" | "deletionTimestamp" => metadata[field] = value.clone(),
            _ => spec[field] = value.clone(),
        }
    }
    let object = json!({"metadata": metadata, "spec": spec, "status": {"phase": "Available"}});
    serde_json::from_value(object).expect("a volume")
}

fn on(node: &str) -> Value {
    let term = json!({"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}]});
    json!({"nodeAffinity": {"required": {"nodeSelectorTerms": [term]}}})
}

fn of(uid: Value) -> Value {
    json!({"claimRef": {"namespace": "d", "name": "data", "uid": uid}})
}

fn chosen(
    claim: &PersistentVolumeClaim,
    volumes: &[PersistentVolume],
    seeker: Seeker<'_>,
) -> String {
    let found = best(claim, volumes, seeker, |_| false);
    found
        .and_then(|volume| volume.metadata.name.clone())
        .unwrap_or_default()
}

const NOW: Seeker<'_> = Seeker::Claim { waits: false };
const LATER: Seeker<'_> = Seeker::Claim { waits: true };

#[test]
fn the_smallest_that_fits() {
    let labelled = |label: &str| json!({"labels": {"disk": label}});
    let volumes = [
        volume("small", "1Gi", json!({})),
        volume("large", "10Gi", json!({"labels": {"disk": "ssd"}})),
        volume("right", "3Gi", json!({})),
        volume("narrow", "3Gi", json!({"accessModes": ["ReadWriteOnce"]})),
        volume("other", "2Gi", json!({"storageClassName": "slow"})),
        volume("block", "2Gi", json!({"volumeMode": "Block"})),
        volume(
            "had",
            "2Gi",
            json!({"claimRef": {"namespace": "d", "name": "another"}}),
        ),
        volume(
            "going",
            "2Gi",
            json!({"deletionTimestamp": "2026-01-01T00:00:00Z"}),
        ),
        volume("shared", "20Gi", json!({"accessModes": ["ReadWriteMany"]})),
    ];
    let table = [
        (json!({}), "narrow"),
        (json!({"accessModes": ["ReadOnlyMany"]}), "right"),
        (json!({"accessModes": ["ReadWriteMany"]}), "shared"),
        (
            json!({"resources": {"requests": {"storage": "4Gi"}}}),
            "large",
        ),
        (json!({"resources": {"requests": {"storage": "30Gi"}}}), ""),
        (json!({"storageClassName": "slow"}), "other"),
        (json!({"storageClassName": ""}), ""),
        (json!({"volumeMode": "Block"}), "block"),
        (
            json!({"selector": {"matchLabels": {"disk": "ssd"}}}),
            "large",
        ),
        (
            json!({"selector": {"matchExpressions": [{"key": "disk", "operator": "Likes"}]}}),
            "",
        ),
    ];
    for (asked, name) in table {
        let claim = claim(asked.clone());
        assert_eq!(chosen(&claim, &volumes, NOW), name, "{asked}");
        assert_eq!(chosen(&claim, &volumes, LATER), "", "{asked}: it waits");
    }
    let found = best(&claim(json!({})), &volumes, NOW, |volume| {
        volume.metadata.name.as_deref() == Some("narrow")
    });
    assert_eq!(
        found.and_then(|v| v.metadata.name.as_deref()),
        Some("right")
    );
    let labelled = [
        volume("a", "2Gi", labelled("a")),
        volume("b", "2Gi", labelled("b")),
    ];
    assert_eq!(chosen(&claim(json!({})), &labelled, NOW), "a");
}

#[test]
fn what_is_set_aside_comes_first() {
    let free = volume("free", "2Gi", json!({}));
    for (reference, mine) in [
        (of(json!(null)), true),
        (of(json!("")), true),
        (of(json!("u")), true),
        (of(json!("another")), false),
    ] {
        let volumes = [free.clone(), volume("mine", "9Gi", reference.clone())];
        let claim = claim(json!({}));
        assert_eq!(is_for(&volumes[1], &claim), mine, "{reference}");
        let now = if mine { "mine" } else { "free" };
        assert_eq!(chosen(&claim, &volumes, NOW), now, "{reference}");
        let later = if mine { "mine" } else { "" };
        assert_eq!(chosen(&claim, &volumes, LATER), later, "{reference}");
    }
    // Not if it is too small.
    let volumes = [free, volume("mine", "1Gi", of(json!("u")))];
    assert_eq!(chosen(&claim(json!({})), &volumes, NOW), "free");
}

#[test]
fn a_pod_s_volume_is_near_its_node() {
    let labels = Labels::from([("kubernetes.io/hostname".to_owned(), "n1".to_owned())]);
    let node = Seeker::Node {
        name: "n1",
        labels: &labels,
    };
    let volumes = [
        volume("far", "2Gi", on("n2")),
        volume("near", "5Gi", on("n1")),
        volume("anywhere", "9Gi", json!({})),
    ];
    assert_eq!(chosen(&claim(json!({})), &volumes, node), "near");
    assert_eq!(chosen(&claim(json!({})), &volumes[..1], node), "");
    let mut far = on("n2");
    far["claimRef"] = of(json!("u"))["claimRef"].clone();
    let mine = [volume("mine", "2Gi", far), volumes[1].clone()];
    assert_eq!(
        chosen(&claim(json!({})), &mine, node),
        "",
        "it has one, elsewhere"
    );
}

#[test]
fn why_a_named_volume_does_not_fit() {
    let table = [
        (json!({}), None),
        (
            json!({"capacity": {"storage": "1Gi"}}),
            Some("requested PV is too small"),
        ),
        (
            json!({"capacity": {"storage": "much"}}),
            Some("requested PV is too small"),
        ),
        (
            json!({"storageClassName": "slow"}),
            Some("storageClassName does not match"),
        ),
        (
            json!({"volumeMode": "Block"}),
            Some("incompatible volumeMode"),
        ),
        (
            json!({"accessModes": ["ReadOnlyMany"]}),
            Some("incompatible accessMode"),
        ),
    ];
    for (more, why) in table {
        let volume = volume("v", "2Gi", more.clone());
        assert_eq!(misfit(&volume, &claim(json!({}))), why, "{more}");
    }
}

#[test]
fn whose_an_ephemeral_claim_is() {
    let mut claim = claim(json!({}));
    let owned = |uid: &str| {
        let owner = json!([{"apiVersion": "v1", "kind": "Pod", "name": "web", "uid": uid, "controller": true}]);
        serde_json::from_value(owner).expect("owners")
    };
    let why = "PVC d/data was not created for pod d/web (pod is not owner)";
    assert_eq!(foreign(&claim, "d", "web", "p").as_deref(), Some(why));
    claim.metadata.owner_references = owned("other");
    assert_eq!(foreign(&claim, "d", "web", "p").as_deref(), Some(why));
    claim.metadata.owner_references = owned("p");
    assert_eq!(foreign(&claim, "d", "web", "p"), None);
}

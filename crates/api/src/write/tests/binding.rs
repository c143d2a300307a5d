//! How a pod gets its node.

use super::*;

#[test]
fn pods_are_bound_once() {
    let binding = json!({"metadata": {"name": "p", "annotations": {"a": "b"}}, "target": {"kind": "Node", "name": "n1"}});
    let bound = bind(pods(), &pod("", "Pending"), 7, &binding, &context()).expect("bound");
    assert_eq!(bound["spec"]["nodeName"], "n1");
    assert_eq!(bound["metadata"]["generation"], 2);
    assert_eq!(bound["metadata"]["annotations"], json!({"a": "b"}));
    assert_eq!(
        bound["status"]["conditions"],
        json!([{"type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": "2026-11-21T10:00:00Z"}])
    );
    let again = bind(pods(), &bound, 7, &binding, &context()).expect_err("bound already");
    assert_eq!(
        again.to_value(),
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": "Operation cannot be fulfilled on pods/binding \"p\": pod p is already assigned to node \"n1\"",
            "reason": "Conflict", "details": {"name": "p", "kind": "pods/binding"}, "code": 409})
    );
    let mut stale = binding.clone();
    stale["metadata"]["resourceVersion"] = "6".into();
    let stale = bind(pods(), &pod("", "Pending"), 7, &stale, &context()).expect_err("stale");
    assert_eq!(
        stale.message,
        "Operation cannot be fulfilled on pods/binding \"p\": Precondition failed: ResourceVersion in precondition: 6, ResourceVersion in object meta: 7"
    );
    let nowhere = json!({"target": {"kind": "Pod"}});
    assert_eq!(
        causes(bind(pods(), &pod("", "Pending"), 7, &nowhere, &context())).len(),
        2
    );
}

"""What programs do with a cluster by the Kubernetes client for Python, unmodified.

Reads the cluster from KUBECONFIG, works in a namespace of its own, and ends with an exception where something is not as
it should be.
"""

import time

from kubernetes import client, config, dynamic, watch

NAMESPACE = "python"


def expect(status, reason, call, *arguments, **options):
    """Calls, and checks that the server refuses with this status and reason."""
    try:
        call(*arguments, **options)
    except client.ApiException as error:
        assert error.status == status, error
        assert f'"reason":"{reason}"' in error.body.replace(" ", ""), error.body
        return error
    raise AssertionError(f"{call.__name__} was not refused")


def versions_and_discovery():
    version = client.VersionApi().get_code()
    assert version.major == "1", version
    assert "v1" in client.CoreApi().get_api_versions().versions
    groups = [group.name for group in client.ApisApi().get_api_versions().groups]
    assert "apps" in groups and "batch" in groups, groups
    kinds = [r.kind for r in client.AppsV1Api().get_api_resources().resources]
    assert "Deployment" in kinds, kinds
    nodes = client.CoreV1Api().list_node().items
    assert nodes and all(node.metadata.uid for node in nodes)


def account(core):
    """A namespace is ready once it has its account."""
    for _ in range(100):
        try:
            return core.read_namespaced_service_account("default", NAMESPACE)
        except client.ApiException as error:
            assert error.status == 404, error
            time.sleep(0.1)
    raise AssertionError("the namespace has no account after ten seconds")


def writes(core):
    labels = {"app": "web"}
    body = client.V1ConfigMap(
        metadata=client.V1ObjectMeta(name="one", labels=labels), data={"a": "1"}
    )
    made = core.create_namespaced_config_map(NAMESPACE, body)
    assert made.metadata.uid and made.data == {"a": "1"}, made
    expect(409, "AlreadyExists", core.create_namespaced_config_map, NAMESPACE, body)
    read = core.read_namespaced_config_map("one", NAMESPACE)
    assert read.metadata.resource_version == made.metadata.resource_version

    for media_type, patch, data in [
        ("application/merge-patch+json", {"data": {"b": "2"}}, {"a": "1", "b": "2"}),
        ("application/json-patch+json", [{"op": "remove", "path": "/data/a"}], {"b": "2"}),
        ("application/strategic-merge-patch+json", {"data": {"b": None, "c": "3"}}, {"c": "3"}),
    ]:
        patched = core.patch_namespaced_config_map(
            "one", NAMESPACE, patch, _content_type=media_type
        )
        assert patched.data == data, (media_type, patched.data)

    expect(409, "Conflict", core.replace_namespaced_config_map, "one", NAMESPACE, made)
    fresh = core.read_namespaced_config_map("one", NAMESPACE)
    fresh.data = {"d": "4"}
    assert core.replace_namespaced_config_map("one", NAMESPACE, fresh).data == {"d": "4"}
    dry = core.create_namespaced_config_map(
        NAMESPACE, {"metadata": {"name": "dry"}}, dry_run="All"
    )
    assert dry.metadata.name == "dry"
    expect(404, "NotFound", core.read_namespaced_config_map, "dry", NAMESPACE)


def lists(core):
    for name in ["two", "three", "four"]:
        core.create_namespaced_config_map(
            NAMESPACE, {"metadata": {"name": name, "labels": {"part": "list"}}}
        )
    found, token = [], None
    while True:
        page = core.list_namespaced_config_map(
            NAMESPACE, label_selector="part=list", limit=2, _continue=token
        )
        found += [item.metadata.name for item in page.items]
        token = page.metadata._continue
        if not token:
            break
    assert found == ["four", "three", "two"], found
    one = core.list_namespaced_config_map(NAMESPACE, field_selector="metadata.name=two")
    assert [item.metadata.name for item in one.items] == ["two"]
    everywhere = core.list_config_map_for_all_namespaces(label_selector="part in (list)")
    assert len(everywhere.items) == 3


def watches(core):
    begin = core.list_namespaced_config_map(NAMESPACE).metadata.resource_version
    core.create_namespaced_config_map(NAMESPACE, {"metadata": {"name": "seen"}})
    core.patch_namespaced_config_map("seen", NAMESPACE, {"data": {"a": "1"}})
    core.delete_namespaced_config_map("seen", NAMESPACE)
    events, watcher = [], watch.Watch()
    for event in watcher.stream(
        core.list_namespaced_config_map,
        NAMESPACE,
        resource_version=begin,
        field_selector="metadata.name=seen",
        timeout_seconds=20,
    ):
        events.append((event["type"], event["object"].metadata.name))
        if event["type"] == "DELETED":
            watcher.stop()
    assert events == [("ADDED", "seen"), ("MODIFIED", "seen"), ("DELETED", "seen")], events


def applies():
    maps = dynamic.DynamicClient(client.ApiClient()).resources.get(
        api_version="v1", kind="ConfigMap"
    )

    def apply(manager, value, **options):
        body = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "applied"},
            "data": {"a": value},
        }
        return maps.server_side_apply(
            body, namespace=NAMESPACE, field_manager=manager, **options
        )

    assert apply("one", "1").metadata.managedFields[0].manager == "one"
    try:
        apply("two", "2")
    except dynamic.exceptions.ConflictError as error:
        assert 'conflict with \\"one\\": .data.a' in error.body, error.body
    else:
        raise AssertionError("two managers want a field, and nobody says so")
    forced = apply("two", "2", force_conflicts=True)
    assert forced.data.a == "2"
    assert [entry.manager for entry in forced.metadata.managedFields] == ["two"]


def workloads():
    apps = client.AppsV1Api()
    labels = {"app": "web"}
    template = client.V1PodTemplateSpec(
        metadata=client.V1ObjectMeta(labels=labels),
        spec=client.V1PodSpec(containers=[client.V1Container(name="c", image="i")]),
    )
    spec = client.V1DeploymentSpec(
        replicas=0, selector=client.V1LabelSelector(match_labels=labels), template=template
    )
    body = client.V1Deployment(metadata=client.V1ObjectMeta(name="web"), spec=spec)
    made = apps.create_namespaced_deployment(NAMESPACE, body)
    assert made.spec.strategy.type == "RollingUpdate"
    patch = {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "j"}]}}}}
    patched = apps.patch_namespaced_deployment("web", NAMESPACE, patch)
    assert patched.spec.template.spec.containers[0].image == "j"
    more = {"spec": {"replicas": 2}}
    scale = apps.patch_namespaced_deployment_scale("web", NAMESPACE, more)
    assert scale.spec.replicas == 2, scale
    assert apps.read_namespaced_deployment("web", NAMESPACE).spec.replicas == 2
    invalid = {"metadata": {"name": "web"}, "spec": {"selector": {}, "template": {}}}
    error = expect(422, "Invalid", apps.create_namespaced_deployment, NAMESPACE, invalid)
    assert error.reason == "Unprocessable Entity", error.reason


def rights():
    review = {"spec": {"resourceAttributes": {"verb": "delete", "resource": "nodes"}}}
    answer = client.AuthorizationV1Api().create_self_subject_access_review(review)
    assert answer.status.allowed, answer


def deletions(core):
    status = core.delete_namespaced_config_map("one", NAMESPACE)
    assert status["status"] == "Success", status
    error = expect(404, "NotFound", core.read_namespaced_config_map, "one", NAMESPACE)
    assert error.reason == "Not Found", error.reason
    core.delete_collection_namespaced_config_map(NAMESPACE, label_selector="part=list")
    left = core.list_namespaced_config_map(NAMESPACE, label_selector="part=list")
    assert not left.items, left
    core.delete_namespace(NAMESPACE)


def main():
    config.load_kube_config()
    core = client.CoreV1Api()
    versions_and_discovery()
    core.create_namespace({"metadata": {"name": NAMESPACE}})
    account(core)
    writes(core)
    lists(core)
    watches(core)
    applies()
    workloads()
    rights()
    deletions(core)


main()

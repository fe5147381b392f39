"""Drives a server with the Python client: `client.py KUBECONFIG`. Prints one line per step; exit code 1: a step failed.

It wants the definitions of tests/conformance, and works in a namespace of its own, which it removes.
"""

import sys
import threading

from kubernetes import client, config, dynamic, watch
from kubernetes.client.rest import ApiException

GROUP, VERSION, WIDGETS = "conformance.ferrovirt.io", "v1", "widgets"


def config_map(name, **data):
    return client.V1ConfigMap(metadata=client.V1ObjectMeta(name=name, labels={"app": "python"}), data=data)


def refused(code, reason, call, *arguments, **options):
    """The call must fail with this status."""
    try:
        call(*arguments, **options)
    except ApiException as error:
        assert error.status == code and f'"reason":"{reason}"' in error.body, (error.status, error.body)
        return error.body
    raise AssertionError(f"{call.__name__} succeeded")


def config_maps(core, namespace):
    made = core.create_namespaced_config_map(namespace, config_map("a", k="v"))
    assert made.metadata.uid and made.metadata.creation_timestamp.tzinfo, made
    refused(409, "AlreadyExists", core.create_namespaced_config_map, namespace, config_map("a"))
    refused(404, "NotFound", core.read_namespaced_config_map, "none", namespace)
    refused(422, "Invalid", core.create_namespaced_config_map, namespace, config_map("A_b"))

    # The client sends a dictionary as a strategic merge patch, and a list as a JSON patch.
    patched = core.patch_namespaced_config_map("a", namespace, {"data": {"l": "m"}})
    assert patched.data == {"k": "v", "l": "m"}, patched.data
    operations = [{"op": "remove", "path": "/data/l"}, {"op": "replace", "path": "/data/k", "value": "w"}]
    patched = core.patch_namespaced_config_map("a", namespace, operations)
    assert patched.data == {"k": "w"}, patched.data

    made.data = {"k": "lost"}
    refused(409, "Conflict", core.replace_namespaced_config_map, "a", namespace, made)
    patched.data = {"k": "x"}
    replaced = core.replace_namespaced_config_map("a", namespace, patched, field_manager="python")
    assert "python" in [entry.manager for entry in replaced.metadata.managed_fields], replaced.metadata.managed_fields
    gone = core.delete_namespaced_config_map("a", namespace)
    assert gone.status == "Success", gone


def lists(core, namespace):
    for number in range(7):
        core.create_namespaced_config_map(namespace, config_map(f"l{number}", n=str(number)))
    seen, token = [], None
    while True:
        page = core.list_namespaced_config_map(namespace, label_selector="app=python", limit=3, _continue=token)
        seen += [item.metadata.name for item in page.items]
        token = page.metadata._continue
        if not token:
            break
    assert seen == [f"l{number}" for number in range(7)], seen
    one = core.list_namespaced_config_map(namespace, field_selector="metadata.name=l3").items
    assert [item.data for item in one] == [{"n": "3"}], one
    core.delete_collection_namespaced_config_map(namespace, label_selector="app=python")
    assert not core.list_namespaced_config_map(namespace, label_selector="app=python").items


def watches(core, namespace):
    version = core.list_namespaced_config_map(namespace).metadata.resource_version
    failures = []

    def write():
        try:
            core.create_namespaced_config_map(namespace, config_map("w", k="v"))
            core.patch_namespaced_config_map("w", namespace, {"data": {"k": "w"}})
            core.delete_namespaced_config_map("w", namespace)
        except ApiException as error:
            failures.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    stream, seen = watch.Watch(), []
    for event in stream.stream(core.list_namespaced_config_map, namespace, resource_version=version, timeout_seconds=60):
        seen.append((event["type"], event["object"].data["k"]))
        if event["type"] == "DELETED":
            stream.stop()
    writer.join()
    assert not failures and seen == [("ADDED", "v"), ("MODIFIED", "w"), ("DELETED", "w")], (failures, seen)


def pods(core, namespace):
    container = client.V1Container(name="c", image="registry.example.com/c:1", command=["run"])
    spec = client.V1PodSpec(containers=[container], restart_policy="Never")
    made = core.create_namespaced_pod(namespace, client.V1Pod(metadata=client.V1ObjectMeta(name="p"), spec=spec))
    assert made.status.phase == "Pending" and made.spec.containers[0].image_pull_policy == "IfNotPresent", made
    core.patch_namespaced_pod_status("p", namespace, {"status": {"phase": "Running", "podIP": "10.0.0.1"}})
    running = core.list_namespaced_pod(namespace, field_selector="status.phase=Running").items
    assert [pod.status.pod_ip for pod in running] == ["10.0.0.1"], running
    core.delete_namespaced_pod("p", namespace, grace_period_seconds=0)
    refused(404, "NotFound", core.read_namespaced_pod, "p", namespace)


def custom_objects(core, namespace):
    api, place = client.CustomObjectsApi(), (GROUP, VERSION, namespace, WIDGETS)
    body = {"apiVersion": f"{GROUP}/{VERSION}", "kind": "Widget", "metadata": {"name": "w"}, "spec": {"mode": "fast"}}
    made = api.create_namespaced_custom_object(*place, body)
    assert made["spec"]["size"] == 1, made
    patched = api.patch_namespaced_custom_object(*place, "w", {"spec": {"size": 7}})
    assert patched["spec"] == {**made["spec"], "size": 7} and patched["metadata"]["generation"] == 2, patched
    refused(422, "Invalid", api.patch_namespaced_custom_object, *place, "w", {"spec": {"size": 70}})
    api.patch_namespaced_custom_object_status(*place, "w", {"status": {"phase": "Good"}})
    listed = api.list_namespaced_custom_object(*place, label_selector="")["items"]
    assert [item["status"] for item in listed] == [{"phase": "Good"}], listed
    scale = api.patch_namespaced_custom_object_scale(*place, "w", {"spec": {"replicas": 3}})
    assert scale["spec"]["replicas"] == 3, scale
    api.delete_namespaced_custom_object(*place, "w")
    refused(404, "NotFound", api.get_namespaced_custom_object, *place, "w")


def dynamic_client(core, namespace):
    api = dynamic.DynamicClient(client.ApiClient())
    widgets = api.resources.get(api_version=f"{GROUP}/{VERSION}", kind="Widget")
    body = {"apiVersion": f"{GROUP}/{VERSION}", "kind": "Widget", "metadata": {"name": "d"}, "spec": {"size": 2}}
    applied = widgets.server_side_apply(body=body, name="d", namespace=namespace, field_manager="python")
    assert applied.spec.size == 2 and applied.metadata.managedFields[0].operation == "Apply", applied
    body["spec"]["size"] = 3
    try:
        widgets.server_side_apply(body=body, name="d", namespace=namespace, field_manager="other")
        raise AssertionError("another manager's field was taken without force")
    except dynamic.exceptions.ConflictError:
        pass
    widgets.delete(name="d", namespace=namespace)


STEPS = [
    ("config maps: create, patch, replace, delete, and what is refused", config_maps),
    ("lists: pages, selectors, deletion of a collection", lists),
    ("watch", watches),
    ("pods", pods),
    ("custom objects: defaults, validation, status, scale", custom_objects),
    ("dynamic client: discovery and server-side apply", dynamic_client),
]


def main():
    config.load_kube_config(config_file=sys.argv[1])
    core = client.CoreV1Api()
    meta = client.V1ObjectMeta(generate_name="python-")
    namespace = core.create_namespace(client.V1Namespace(metadata=meta)).metadata.name
    try:
        for name, step in STEPS:
            step(core, namespace)
            print(f"ok    {name}", flush=True)
    finally:
        core.delete_namespace(namespace)


if __name__ == "__main__":
    main()

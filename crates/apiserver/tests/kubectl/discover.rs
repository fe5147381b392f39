//! `api-resources`, `api-versions`, `explain`.

use crate::harness::Served;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn api_resources_and_versions_list_what_is_served() {
    let served = Served::with_widgets().await;
    let resources = served.run(&["api-resources"]).await.out();
    for line in [
        "configmaps cm v1 true ConfigMap",
        "pods po v1 true Pod",
        "nodes no v1 false Node",
        "customresourcedefinitions crd,crds apiextensions.k8s.io/v1 false CustomResourceDefinition",
        "leases coordination.k8s.io/v1 true Lease",
        "persistentvolumeclaims pvc v1 true PersistentVolumeClaim",
        "persistentvolumes pv v1 false PersistentVolume",
        "storageclasses sc storage.k8s.io/v1 false StorageClass",
        "widgets wd example.com/v1 true Widget",
    ] {
        let found = resources.lines().any(|l| l.split_whitespace().collect::<Vec<_>>().join(" ") == line);
        assert!(found, "{line} is not in\n{resources}");
    }
    assert!(!resources.contains("services"), "{resources}");
    if served.since(21) {
        let all = served.run(&["api-resources", "--categories=all", "-o", "name"]).await.out();
        assert_eq!(all.lines().collect::<Vec<_>>(), ["pods", "widgets.example.com"]);
    }
    let verbs = served.run(&["api-resources", "--verbs=deletecollection", "-o", "name"]).await.out();
    assert!(!verbs.contains("namespaces") && verbs.contains("pods"), "{verbs}");
    let versions = served.run(&["api-versions"]).await.out();
    assert_eq!(
        versions.lines().collect::<Vec<_>>(),
        [
            "apiextensions.k8s.io/v1",
            "apps/v1",
            "authentication.k8s.io/v1",
            "authorization.k8s.io/v1",
            "coordination.k8s.io/v1",
            "events.k8s.io/v1",
            "example.com/v1",
            "policy/v1",
            "scheduling.k8s.io/v1",
            "storage.k8s.io/v1",
            "v1"
        ]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn explain_describes_custom_and_builtin_kinds() {
    let served = Served::with_widgets().await;
    // From OpenAPI v2 in protobuf, the only form before 1.27.
    let output: &[&str] = if served.since(27) { &["--output=plaintext-openapiv2"] } else { &[] };
    let explain = async |what: &[&str]| served.run(&[&["explain"], what, output].concat()).await.out();
    let spec = explain(&["widget.spec"]).await;
    for text in [
        "KIND:     Widget",
        "VERSION:  example.com/v1",
        "What is wanted.",
        "size\t<integer> -required-",
        "How large it is.",
        "parts\t<[]Object>",
    ] {
        assert!(spec.contains(text), "{text} is not in\n{spec}");
    }
    let pod = explain(&["pod.spec.containers"]).await;
    assert!(pod.contains("imagePullPolicy") && pod.contains("ports\t<[]Object>"), "{pod}");
    let tree = explain(&["lease", "--recursive"]).await;
    assert!(tree.contains("holderIdentity") && tree.contains("creationTimestamp"), "{tree}");
    let none = served.run(&["explain", "widget.spec.nothing"]).await.refused();
    assert!(none.contains("does not exist"), "{none}");
    if !served.since(27) {
        return;
    }
    let spec = served.run(&["explain", "widget.spec"]).await.out();
    for text in
        ["GROUP:      example.com", "KIND:       Widget", "What is wanted.", "size", "-required-", "How large it is."]
    {
        assert!(spec.contains(text), "{text} is not in\n{spec}");
    }
    assert!(spec.contains("enum: red, green") && spec.contains("<[]Object>"), "{spec}");
    let part = served.run(&["explain", "wd.spec.parts.name"]).await.out();
    assert!(part.contains("Which part.") && part.contains("<string>"), "{part}");
    let pod = served.run(&["explain", "pod.spec.containers"]).await.out();
    assert!(
        pod.contains("VERSION:    v1") && pod.contains("imagePullPolicy") && pod.contains("<[]ContainerPort>"),
        "{pod}"
    );
    let tree = served.run(&["explain", "lease", "--recursive"]).await.out();
    assert!(tree.contains("holderIdentity") && tree.contains("creationTimestamp"), "{tree}");
    let crd = served.run(&["explain", "crd.spec.names"]).await.out();
    assert!(crd.contains("shortNames"), "{crd}");
    let none = served.run(&["explain", "widget.spec.nothing"]).await.refused();
    assert!(none.contains("does not exist"), "{none}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_definition_disappears_from_discovery() {
    let served = Served::with_widgets().await;
    served.run(&["delete", "crd", "widgets.example.com"]).await.out();
    let resources = served.run(&["api-resources", "--cached=false", "-o", "name"]).await.out();
    assert!(!resources.contains("widgets"), "{resources}");
    let error = served.run(&["get", "widgets"]).await.refused();
    assert!(error.contains("the server doesn't have a resource type \"widgets\""), "{error}");
}

use fv_api::KubeVirt;
use k8s_openapi::api::admissionregistration::v1 as admission;
use k8s_openapi::api::{apps, core, policy as budgets, rbac, scheduling};
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::*;

fn kubevirt(spec: Value) -> KubeVirt {
    serde_json::from_value(json!({
        "apiVersion": "kubevirt.io/v1", "kind": "KubeVirt",
        "metadata": {"name": "kubevirt", "namespace": "kubevirt", "generation": 3}, "spec": spec
    }))
    .unwrap()
}

fn source() -> ImageSource {
    ImageSource::of_operator_image("quay.io/ferrovirt/virt-operator:v0.1.0", "v0.1.0").unwrap()
}

fn try_objects(spec: Value, is_monitored: bool) -> Result<Vec<Object>, RenderError> {
    let kubevirt = kubevirt(spec);
    let images = source().resolve(&kubevirt.spec);
    let candidates = Monitoring::candidates(&kubevirt.spec);
    let monitoring = candidates.last().filter(|_| is_monitored);
    Install { kubevirt: &kubevirt, namespace: "kubevirt", images: &images, ca_bundle: "PEM", monitoring }.objects()
}

fn objects(spec: Value) -> Vec<Object> {
    try_objects(spec, false).unwrap()
}

fn monitored(spec: Value) -> Vec<Object> {
    try_objects(spec, true).unwrap()
}

fn named<'a>(objects: &'a [Object], kind: &str, name: &str) -> &'a Value {
    let is = |object: &&Object| object.value["kind"] == kind && object.value["metadata"]["name"] == name;
    &objects.iter().find(is).unwrap_or_else(|| panic!("no {kind} {name}")).value
}

/// The objects without the definitions, which have golden files of their own.
fn without_definitions(objects: Vec<Value>) -> Vec<Value> {
    objects.into_iter().filter(|value| value["kind"] != "CustomResourceDefinition").collect()
}

#[test]
fn the_default_installation_is_as_reviewed() {
    let values = objects(json!({})).into_iter().map(|object| object.value).collect();
    insta::assert_yaml_snapshot!("default", without_definitions(values));
}

#[test]
fn the_operators_manifest_is_as_reviewed() {
    let manifest = operator::manifest("kubevirt", &source(), "IfNotPresent").unwrap();
    insta::assert_yaml_snapshot!("operator", without_definitions(manifest));
}

/// Reads a value as its type and writes it again: what differs is not a field of the type.
fn typed<T: DeserializeOwned + Serialize>(value: &Value) -> Value {
    serde_json::to_value(serde_json::from_value::<T>(value.clone()).unwrap()).unwrap()
}

#[test]
fn every_field_is_one_that_the_api_knows() {
    let mut values: Vec<Value> = monitored(json!({})).into_iter().map(|object| object.value).collect();
    values.extend(operator::manifest("kubevirt", &source(), "Always").unwrap());
    values.push(certificates::secret("kubevirt", "x", "crt", "key").value);
    values.push(certificates::bundle("kubevirt", "PEM").value);
    for value in values {
        let kind = value["kind"].as_str().unwrap();
        let mut back = match kind {
            "APIService" => typed::<APIService>(&value),
            "ClusterRole" => typed::<rbac::v1::ClusterRole>(&value),
            "ClusterRoleBinding" => typed::<rbac::v1::ClusterRoleBinding>(&value),
            "ConfigMap" => typed::<core::v1::ConfigMap>(&value),
            "CustomResourceDefinition" | "PrometheusRule" | "ServiceMonitor" => continue,
            "DaemonSet" => typed::<apps::v1::DaemonSet>(&value),
            "Deployment" => typed::<apps::v1::Deployment>(&value),
            "MutatingWebhookConfiguration" => typed::<admission::MutatingWebhookConfiguration>(&value),
            "Namespace" => typed::<core::v1::Namespace>(&value),
            "PodDisruptionBudget" => typed::<budgets::v1::PodDisruptionBudget>(&value),
            "PriorityClass" => typed::<scheduling::v1::PriorityClass>(&value),
            "Role" => typed::<rbac::v1::Role>(&value),
            "RoleBinding" => typed::<rbac::v1::RoleBinding>(&value),
            "Secret" => typed::<core::v1::Secret>(&value),
            "Service" => typed::<core::v1::Service>(&value),
            "ServiceAccount" => typed::<core::v1::ServiceAccount>(&value),
            "ValidatingAdmissionPolicy" => typed::<admission::ValidatingAdmissionPolicy>(&value),
            "ValidatingAdmissionPolicyBinding" => typed::<admission::ValidatingAdmissionPolicyBinding>(&value),
            "ValidatingWebhookConfiguration" => typed::<admission::ValidatingWebhookConfiguration>(&value),
            other => panic!("{other} has no type here"),
        };
        drop_nulls(&mut back);
        assert_eq!(back, value);
    }
}

#[test]
fn every_object_is_marked_as_ours_and_named_once() {
    let objects = objects(json!({"productName": "shop", "productVersion": "1"}));
    let mut ids: Vec<ObjectId> = objects.iter().map(Object::id).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), objects.len());
    for object in &objects {
        let (labels, annotations) = (&object.value["metadata"]["labels"], &object.value["metadata"]["annotations"]);
        assert_eq!((&labels[OWNER], &labels[MANAGED_BY]), (&json!("kubevirt"), &json!("virt-operator")));
        assert_eq!(labels["app.kubernetes.io/part-of"], "shop");
        assert_eq!(labels["app.kubernetes.io/version"], "1");
        assert!(labels["kubevirt.io"].is_string());
        assert_eq!(annotations[ANNOTATION_VERSION], "v0.1.0");
        assert_eq!(annotations[ANNOTATION_REGISTRY], "quay.io/ferrovirt");
        assert_eq!(annotations[ANNOTATION_GENERATION], "3");
        assert_eq!(annotations[ANNOTATION_IDENTIFIER].as_str().unwrap().len(), 40);
    }
    let stages: Vec<Stage> = objects.iter().map(|object| object.stage).collect();
    assert!(stages.is_sorted());
}

#[test]
fn no_component_but_the_operator_may_read_secrets() {
    for object in objects(json!({})) {
        for rule in object.value["rules"].as_array().into_iter().flatten() {
            let resources = rule["resources"].as_array().unwrap();
            let reaches = |name: &str| resources.iter().any(|resource| resource == name || resource == "*");
            assert!(!reaches("secrets") && !reaches("pods/exec"), "{}: {rule}", object.id());
            let verbs = rule["verbs"].as_array().unwrap();
            assert!(!verbs.contains(&json!("*")) && !rule["apiGroups"].as_array().unwrap().contains(&json!("*")));
        }
    }
}

#[test]
fn an_operator_has_every_right_that_it_hands_out() {
    let manifest = operator::manifest("kubevirt", &source(), "Always").unwrap();
    for object in monitored(json!({})) {
        let kind = &object.value["kind"];
        for rule in object.value["rules"].as_array().into_iter().flatten() {
            let is_own = |v: &&Value| v["kind"] == *kind && v["metadata"]["name"] == "kubevirt-operator";
            let own = manifest.iter().find(is_own).unwrap();
            assert!(own["rules"].as_array().unwrap().contains(rule), "{}: {rule}", object.id());
        }
    }
}

#[test]
fn webhooks_concern_our_own_kinds_and_pods_with_machines_only() {
    let objects = objects(json!({}));
    for (kind, name) in [
        ("MutatingWebhookConfiguration", "virt-api-mutator"),
        ("ValidatingWebhookConfiguration", "virt-api-validator"),
        ("ValidatingWebhookConfiguration", "virt-operator-validator"),
    ] {
        for hook in named(&objects, kind, name)["webhooks"].as_array().unwrap() {
            let is_ours = hook["rules"][0]["apiGroups"] == json!(["kubevirt.io"]);
            let is_by_name =
                hook["matchConditions"][0]["expression"] == "object.metadata.name.startsWith('virt-launcher')";
            assert!(is_ours || is_by_name, "{hook}");
            assert_eq!(hook["timeoutSeconds"], 10);
        }
    }
}

#[test]
fn what_components_write_to_existing_instances_does_not_wait_for_virt_api() {
    let objects = objects(json!({}));
    for (kind, name) in
        [("MutatingWebhookConfiguration", "virt-api-mutator"), ("ValidatingWebhookConfiguration", "virt-api-validator")]
    {
        for hook in named(&objects, kind, name)["webhooks"].as_array().unwrap() {
            let rule = &hook["rules"][0];
            let is_asked = rule["resources"] == json!(["virtualmachineinstances"])
                && rule["operations"].as_array().unwrap().contains(&json!("UPDATE"));
            let exempts =
                hook["matchConditions"].to_string().contains("system:serviceaccount:kubevirt:kubevirt-handler");
            assert_eq!(is_asked, exempts, "{hook}");
        }
    }
}

#[test]
fn images_come_from_where_the_resource_says() {
    let objects = objects(json!({"imageRegistry": "mirror:5000/x", "imageTag": "v2", "imagePullPolicy": "Always",
        "imagePullSecrets": [{"name": "mirror"}]}));
    for (kind, name) in [("Deployment", "virt-api"), ("Deployment", "virt-controller"), ("DaemonSet", "virt-handler")] {
        let pod = &named(&objects, kind, name)["spec"]["template"]["spec"];
        assert_eq!(pod["containers"][0]["image"], format!("mirror:5000/x/{name}:v2"));
        assert_eq!(pod["containers"][0]["imagePullPolicy"], "Always");
        assert_eq!(pod["imagePullSecrets"], json!([{"name": "mirror"}]));
    }
    let args = &named(&objects, "Deployment", "virt-controller")["spec"]["template"]["spec"]["containers"][0]["args"];
    assert_eq!(*args, json!(["--launcher-image", "mirror:5000/x/virt-launcher:v2"]));
}

#[test]
fn monitoring_objects_are_as_reviewed_and_last() {
    let (plain, monitored) = (objects(json!({})), monitored(json!({})));
    let is_added = |object: &&Object| !plain.iter().any(|known| known.id() == object.id());
    let added: Vec<&Object> = monitored.iter().filter(is_added).collect();
    let last: Vec<String> = monitored.iter().rev().take(2).map(|object| object.value["kind"].to_string()).collect();
    assert_eq!(last, [r#""PrometheusRule""#, r#""ServiceMonitor""#]);
    insta::assert_yaml_snapshot!("monitoring", added.iter().map(|object| &object.value).collect::<Vec<_>>());
}

#[test]
fn monitoring_is_where_the_resource_says() {
    let all = json!({"monitorNamespace": "watchers", "monitorAccount": "prom", "serviceMonitorNamespace": "monitors"});
    let objects = monitored(all);
    let binding = named(&objects, "RoleBinding", "kubevirt-monitoring");
    assert_eq!(binding["metadata"]["namespace"], "kubevirt");
    assert_eq!(binding["subjects"], json!([{"kind": "ServiceAccount", "name": "prom", "namespace": "watchers"}]));
    let place = |objects: &[Object], kind: &str| {
        named(objects, kind, "prometheus-kubevirt-rules")["metadata"]["namespace"].as_str().unwrap().to_owned()
    };
    assert_eq!(
        (place(&objects, "ServiceMonitor"), place(&objects, "PrometheusRule")),
        ("monitors".into(), "kubevirt".into())
    );
    let near = monitored(json!({"monitorNamespace": "watchers"}));
    assert_eq!(place(&near, "ServiceMonitor"), "watchers");
    assert_eq!(named(&near, "RoleBinding", "kubevirt-monitoring")["subjects"][0]["name"], "prometheus-k8s");
    let places = Monitoring::candidates(&fv_api::KubeVirtSpec::default());
    let places: Vec<&str> = places.iter().map(|candidate| candidate.namespace.as_str()).collect();
    assert_eq!(places, ["openshift-monitoring", "monitoring"]);
}

/// All rules of an installation with that many replicas.
fn rules(replicas: u8) -> Vec<Value> {
    let groups = monitoring::rules::groups("kubevirt", replicas);
    groups.as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
}

#[test]
fn rules_ask_only_for_series_that_we_serve_or_record() {
    let rules = rules(2);
    let recorded: Vec<&str> = rules.iter().filter_map(|rule| rule["record"].as_str()).collect();
    // Of an alert by kube-state-metrics, which is silent where there is none.
    let others = ["kube_daemonset_status_desired_number_scheduled", "kube_daemonset_status_number_ready"];
    let served: Vec<&str> = fv_metrics::catalogue::all().iter().map(|metric| metric.name).collect();
    for rule in &rules {
        let words = rule["expr"].as_str().unwrap().split(|c: char| !c.is_ascii_alphanumeric() && !"_:".contains(c));
        for word in words.filter(|word| word.contains("kubevirt_") || word.starts_with("kube_")) {
            let is_known = served.contains(&word) || recorded.contains(&word) || others.contains(&word);
            assert!(is_known, "{word} in {rule}");
        }
    }
    assert!(recorded.iter().all(|name| !served.contains(name)), "a series has one origin");
}

#[test]
fn alerts_have_a_name_of_their_own_a_severity_and_a_text() {
    let rules = rules(2);
    let mut names: Vec<&str> = rules.iter().filter_map(|rule| rule["alert"].as_str()).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
    for alert in rules.iter().filter(|rule| rule["alert"].is_string()) {
        let (labels, texts) = (&alert["labels"], &alert["annotations"]);
        assert!(["critical", "warning"].contains(&labels["severity"].as_str().unwrap()), "{alert}");
        assert!(texts["summary"].as_str().unwrap().ends_with('.') && texts["description"].is_string(), "{alert}");
    }
}

#[test]
fn one_replica_is_not_too_few_where_no_more_are_wanted() {
    let has = |replicas, name: &str| rules(replicas).iter().any(|rule| rule["alert"] == name);
    for name in ["LowVirtAPICount", "LowVirtControllersCount"] {
        assert!(has(2, name) && !has(1, name), "{name}");
    }
    assert!(has(1, "LowVirtOperatorCount"), "there are always two");
}

#[test]
fn one_replica_needs_no_disruption_budget_and_three_keep_two() {
    let one = objects(json!({"infra": {"replicas": 1}}));
    assert_eq!(named(&one, "Deployment", "virt-api")["spec"]["replicas"], 1);
    assert!(!one.iter().any(|object| object.value["kind"] == "PodDisruptionBudget"));
    let three = objects(json!({"infra": {"replicas": 3}}));
    assert_eq!(named(&three, "PodDisruptionBudget", "virt-controller-pdb")["spec"]["minAvailable"], 2);
}

#[test]
fn placement_is_added_to_the_components_it_is_for() {
    let toleration = json!({"key": "dedicated", "operator": "Exists"});
    let objects = objects(json!({
        "infra": {"nodePlacement": {"nodeSelector": {"role": "infra"}, "tolerations": [toleration]}},
        "workloads": {"nodePlacement": {"nodeSelector": {"role": "vms"}}}
    }));
    let api = &named(&objects, "Deployment", "virt-api")["spec"]["template"]["spec"];
    assert_eq!(api["nodeSelector"], json!({"role": "infra"}));
    assert!(api["tolerations"].as_array().unwrap().contains(&toleration));
    assert!(api["affinity"]["podAntiAffinity"].is_object());
    let handler = &named(&objects, "DaemonSet", "virt-handler")["spec"]["template"]["spec"];
    assert_eq!(handler["nodeSelector"], json!({"kubernetes.io/os": "linux", "role": "vms"}));
}

#[test]
fn flags_replace_ours_and_patches_apply_in_order() {
    let objects = objects(json!({"customizeComponents": {
        "flags": {"controller": {"launcher-image": "mine:1", "v": "", "zone": "a"}},
        "patches": [
            {"resourceType": "deployment", "resourceName": "virt-api", "type": "merge",
             "patch": "{\"metadata\": {\"labels\": {\"ferrovirt.io/installed-by\": \"nobody\"}}, \"spec\": {\"replicas\": 5}}"},
            {"resourceType": "Deployment", "resourceName": "virt-api", "type": "json",
             "patch": "[{\"op\": \"test\", \"path\": \"/spec/replicas\", \"value\": 5}, {\"op\": \"replace\", \"path\": \"/spec/replicas\", \"value\": 7}]"}
        ]
    }}));
    let args = &named(&objects, "Deployment", "virt-controller")["spec"]["template"]["spec"]["containers"][0]["args"];
    assert_eq!(*args, json!(["--launcher-image", "mine:1", "-v", "--zone", "a"]));
    let api = named(&objects, "Deployment", "virt-api");
    assert_eq!(api["spec"]["replicas"], 7);
    assert_eq!(api["metadata"]["labels"][OWNER], "kubevirt", "a patch cannot disown an object");
}

#[test]
fn names_in_patches_are_compared_as_upstream_does() {
    let objects = objects(json!({"customizeComponents": {"patches": [
        {"resourceType": "deployment", "resourceName": "*", "type": "merge", "patch": "{\"metadata\": {\"labels\": {\"all\": \"yes\"}}}"},
        {"resourceType": "Deployment", "resourceName": "Virt-API", "type": "merge", "patch": "{\"metadata\": {\"labels\": {\"one\": \"yes\"}}}"}
    ]}}));
    let labels = |kind: &str, name: &str| named(&objects, kind, name)["metadata"]["labels"].clone();
    let (api, controller) = (labels("Deployment", "virt-api"), labels("Deployment", "virt-controller"));
    assert_eq!((&api["all"], &api["one"]), (&json!("yes"), &json!("yes")));
    assert_eq!((&controller["all"], controller.get("one")), (&json!("yes"), None));
    assert_eq!(labels("DaemonSet", "virt-handler").get("all"), None);
}

#[test]
fn a_patch_that_cannot_be_applied_is_named() {
    let patch = |name: &str, type_: &str, patch: &str| {
        let patch = json!({"resourceType": "Deployment", "resourceName": name, "type": type_, "patch": patch});
        try_objects(json!({"customizeComponents": {"patches": [patch]}}), false).unwrap_err().to_string()
    };
    assert_eq!(patch("nobody", "merge", "{}"), "spec.customizeComponents.patches[0]: there is no Deployment nobody");
    let misfit = patch("virt-api", "json", "[{\"op\": \"remove\", \"path\": \"/spec/nothing\"}]");
    assert!(misfit.starts_with("spec.customizeComponents.patches[0] does not fit Deployment virt-api: "), "{misfit}");
    assert_eq!(
        patch(
            "virt-api",
            "strategic",
            "{\"spec\": {\"template\": {\"spec\": {\"containers\": [{\"image\": \"x\"}]}}}}"
        ),
        "spec.customizeComponents.patches[0] does not fit Deployment virt-api: map: map[image:x] does not contain declared merge key: name"
    );
}

#[test]
fn a_strategic_patch_changes_the_entries_it_names() {
    let patch = |kind: &str, name: &str, patch: serde_json::Value| json!({"resourceType": kind, "resourceName": name, "type": "strategic", "patch": patch.to_string()});
    let objects = objects(json!({"customizeComponents": {"patches": [
        patch("DaemonSet", "virt-handler", json!({"spec": {"template": {"spec": {
            "containers": [{"name": "virt-handler", "resources": {"requests": {"memory": "64Mi"}}}],
            "volumes": [{"name": "extra", "emptyDir": {}}],
            "tolerations": [{"key": "only", "operator": "Exists"}],
        }}}})),
        patch("Service", "virt-api", json!({"spec": {"ports": [{"port": 8443, "name": "more"}]}})),
    ]}}));
    let plain = self::objects(json!({}));
    let pod = |objects: &[Object]| named(objects, "DaemonSet", "virt-handler")["spec"]["template"]["spec"].clone();
    let (before, after) = (pod(&plain), pod(&objects));
    let (was, is) = (&before["containers"][0], &after["containers"][0]);
    assert_eq!(is["resources"]["requests"]["memory"], "64Mi");
    assert_eq!(is["resources"]["requests"]["cpu"], was["resources"]["requests"]["cpu"]);
    assert_eq!((&is["image"], &is["volumeMounts"]), (&was["image"], &was["volumeMounts"]));
    let count = |pod: &serde_json::Value| pod["volumes"].as_array().unwrap().len();
    assert_eq!(count(&after), count(&before) + 1);
    assert_eq!(
        after["tolerations"],
        json!([{"key": "only", "operator": "Exists"}]),
        "a list without merge key is replaced"
    );
    let ports = |objects: &[Object]| named(objects, "Service", "virt-api")["spec"]["ports"].as_array().unwrap().len();
    assert_eq!(ports(&objects), ports(&plain) + 1);
}

#[test]
fn every_kind_that_is_installed_can_be_patched_strategically_but_custom_ones() {
    for object in monitored(json!({})) {
        let kind = object.value["kind"].as_str().unwrap().to_owned();
        let patch = json!({"resourceType": kind, "resourceName": "*", "type": "strategic", "patch": "{}"});
        let patched = try_objects(json!({"customizeComponents": {"patches": [patch]}}), true);
        if ["ServiceMonitor", "PrometheusRule"].contains(&kind.as_str()) {
            let text = patched.unwrap_err().to_string();
            assert!(text.ends_with("use json or merge"), "{text}");
        } else {
            patched.unwrap();
        }
    }
}

#[test]
fn view_lets_look_and_edit_does_not_migrate() {
    let objects = objects(json!({}));
    let rules = |name: &str| named(&objects, "ClusterRole", name)["rules"].to_string();
    let view = rules("kubevirt.io:view");
    for word in ["start", "console", "vnc", "portforward", "pause", "delete", "create"] {
        assert!(!view.contains(word), "{word}");
    }
    assert!(rules("kubevirt.io:edit").contains("virtualmachines/start"));
    for role in ["kubevirt.io:admin", "kubevirt.io:edit"] {
        assert!(!rules(role).contains("virtualmachines/migrate"));
    }
    let label = "rbac.authorization.k8s.io/aggregate-to-view";
    assert_eq!(named(&objects, "ClusterRole", "kubevirt.io:view")["metadata"]["labels"][label], "true");
    let manual = self::objects(json!({"configuration": {"roleAggregationStrategy": "Manual"}}));
    assert!(named(&manual, "ClusterRole", "kubevirt.io:view")["metadata"]["labels"].get(label).is_none());
}

#[test]
fn a_bundle_is_changed_wherever_the_api_server_calls_us_and_nothing_else_is() {
    let objects = objects(json!({}));
    let callers: Vec<&Object> = objects.iter().filter(|object| object.stage == Stage::Registration).collect();
    assert_eq!(callers.len(), 5);
    for object in callers {
        assert_eq!(webhooks::with_bundle(&object.value, "PEM"), None, "{}", object.id());
        let changed = webhooks::with_bundle(&object.value, "other").unwrap();
        assert!(!changed.to_string().contains("UEVN"), "{}", object.id());
        assert_eq!(webhooks::with_bundle(&changed, "PEM").as_ref(), Some(&object.value));
    }
}

#[test]
fn names_of_an_installation_are_told_from_others() {
    for object in monitored(json!({"infra": {"replicas": 2}})) {
        assert!(is_name_of_ours(&object.id().name), "{}", object.id());
    }
    for certificate in certificates::certificates("kubevirt") {
        assert!(is_name_of_ours(certificate.secret), "{}", certificate.secret);
    }
    for theirs in ["my-kubevirt", "copy-of-virt-api", "admin", "kube-virt", ""] {
        assert!(!is_name_of_ours(theirs), "{theirs}");
    }
}

#[test]
fn the_identifier_follows_what_is_installed_and_not_the_settings_components_read() {
    let id = |spec| {
        let kubevirt = kubevirt(spec);
        let images = source().resolve(&kubevirt.spec);
        let install =
            Install { kubevirt: &kubevirt, namespace: "kubevirt", images: &images, ca_bundle: "", monitoring: None };
        install.identifier().unwrap()
    };
    let plain = id(json!({}));
    assert_eq!(plain, id(json!({"configuration": {"cpuModel": "Haswell"}})));
    assert_ne!(plain, id(json!({"imageTag": "v2"})));
    assert_ne!(plain, id(json!({"infra": {"replicas": 3}})));
    assert_ne!(plain, id(json!({"configuration": {"roleAggregationStrategy": "Manual"}})));
}

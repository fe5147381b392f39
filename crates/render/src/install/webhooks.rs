//! What makes the API server call us: webhooks and the aggregated API.
//!
//! All of it is about our own kinds, so an outage of ours never blocks anything of others. For those kinds the webhooks fail
//! closed: an object that was not checked could ask for what is not implemented. While virt-api is away nothing but writes by users
//! waits for it: what our components write to instances that exist is not sent to it, so node agents go on reporting. The one webhook
//! about pods sees only evictions of pods whose name says that a machine is behind them; it fails closed too, since a drain that
//! waits can be repeated and an eviction that went through cannot be taken back.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::Install;

/// An API server gives up after this many seconds; ours answer within milliseconds or not at all.
const TIMEOUT_SECONDS: u32 = 10;

pub(super) fn objects(install: &Install<'_>) -> Vec<Value> {
    let bundle = STANDARD.encode(install.ca_bundle);
    let webhooks = Webhooks { namespace: install.namespace, bundle: &bundle };
    let mut objects = vec![webhooks.mutating(), webhooks.validating(), webhooks.operator()];
    objects.extend(["v1", "v1alpha3"].map(|version| {
        json!({
            "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
            "metadata": {"name": format!("{version}.subresources.kubevirt.io")},
            "spec": {
                "group": "subresources.kubevirt.io", "version": version,
                "groupPriorityMinimum": 1000, "versionPriority": 15,
                "service": {"name": "virt-api", "namespace": install.namespace, "port": 443},
                "caBundle": bundle
            }
        })
    }));
    objects
}

/// A live object that makes the API server call us, changed so that it trusts `bundle` (PEM) and is otherwise as it was. None where it
/// does already.
pub fn with_bundle(live: &Value, bundle: &str) -> Option<Value> {
    let bundle = json!(STANDARD.encode(bundle));
    let mut value = live.clone();
    let hooks = value.get_mut("webhooks").and_then(Value::as_array_mut).into_iter().flatten();
    for hook in hooks.filter_map(|hook| hook.get_mut("clientConfig")).filter(|client| client.get("service").is_some()) {
        hook["caBundle"] = bundle.clone();
    }
    if let Some(spec) = value.get_mut("spec").filter(|spec| spec.get("service").is_some()) {
        spec["caBundle"] = bundle;
    }
    (value != *live).then_some(value)
}

struct Webhooks<'a> {
    namespace: &'a str,
    bundle: &'a str,
}

impl Webhooks<'_> {
    fn mutating(&self) -> Value {
        let hooks = [
            self.kubevirt(
                "virtualmachines-mutator",
                "/virtualmachines-mutate",
                "virtualmachines",
                &["CREATE", "UPDATE"],
            ),
            self.but_components(self.kubevirt(
                "virtualmachineinstances-mutator",
                "/virtualmachineinstances-mutate",
                "virtualmachineinstances",
                &["CREATE", "UPDATE"],
            )),
        ];
        configuration("MutatingWebhookConfiguration", "virt-api-mutator", "virt-api", &hooks)
    }

    fn validating(&self) -> Value {
        let instances = |name, path, operations: &[&str]| {
            self.kubevirt(&format!("virtualmachineinstances-{name}"), path, "virtualmachineinstances", operations)
        };
        let mut eviction = self.hook("virt-launcher-eviction-interceptor", "virt-api", "/pod-eviction-validate");
        eviction["rules"] = json!([{
            "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods/eviction"],
            "scope": "Namespaced"
        }]);
        eviction["matchConditions"] =
            json!([{"name": "only-vms", "expression": "object.metadata.name.startsWith('virt-launcher')"}]);
        // It writes to the VMI, but not when asked for a dry run.
        eviction["sideEffects"] = json!("NoneOnDryRun");
        let hooks = [
            eviction,
            self.kubevirt(
                "virtualmachine-validator",
                "/virtualmachines-validate",
                "virtualmachines",
                &["CREATE", "UPDATE"],
            ),
            instances("create-validator", "/virtualmachineinstances-validate-create", &["CREATE"]),
            self.but_components(instances("update-validator", "/virtualmachineinstances-validate-update", &["UPDATE"])),
        ];
        configuration("ValidatingWebhookConfiguration", "virt-api-validator", "virt-api", &hooks)
    }

    /// The KubeVirt resource, which the operator judges itself.
    fn operator(&self) -> Value {
        let hooks = [("delete", "DELETE"), ("update", "UPDATE"), ("create", "CREATE")].map(|(word, operation)| {
            let name = format!("kubevirt-{word}-validator");
            let mut hook = self.hook(&name, "kubevirt-operator-webhook", &format!("/kubevirt-validate-{word}"));
            hook["rules"] = rules("kubevirts", &[operation]);
            hook
        });
        configuration("ValidatingWebhookConfiguration", "virt-operator-validator", "virt-operator", &hooks)
    }

    fn kubevirt(&self, name: &str, path: &str, resource: &str, operations: &[&str]) -> Value {
        let mut hook = self.hook(name, "virt-api", path);
        hook["rules"] = rules(resource, operations);
        hook
    }

    /// A webhook that is not asked when one of our components changes an object that exists.
    fn but_components(&self, mut hook: Value) -> Value {
        let accounts = ["kubevirt-controller", "kubevirt-handler"]
            .map(|account| format!("'system:serviceaccount:{}:{account}'", self.namespace));
        hook["matchConditions"] = json!([{
            "name": "not-by-components",
            "expression":
                format!("request.operation == 'CREATE' || !(request.userInfo.username in [{}])", accounts.join(", "))
        }]);
        hook
    }

    fn hook(&self, name: &str, service: &str, path: &str) -> Value {
        json!({
            "name": format!("{name}.kubevirt.io"),
            "admissionReviewVersions": ["v1"],
            "clientConfig": {
                "caBundle": self.bundle,
                "service": {"name": service, "namespace": self.namespace, "path": path, "port": 443}
            },
            "failurePolicy": "Fail", "matchPolicy": "Equivalent", "sideEffects": "None", "timeoutSeconds": TIMEOUT_SECONDS
        })
    }
}

fn rules(resource: &str, operations: &[&str]) -> Value {
    json!([{
        "apiGroups": ["kubevirt.io"], "apiVersions": ["v1", "v1alpha3"], "operations": operations, "resources": [resource],
        "scope": "Namespaced"
    }])
}

fn configuration(kind: &str, name: &str, component: &str, webhooks: &[Value]) -> Value {
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": kind,
        "metadata": {"name": name, "labels": {"kubevirt.io": component}},
        "webhooks": webhooks
    })
}

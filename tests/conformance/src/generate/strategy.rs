//! What random cases look like. Values are drawn from small sets, so that patches meet what is there.

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::case::{APPLY, Case, Patch};
use super::directive::with_directive;
use super::operations::operations;

const MERGE: &str = "application/merge-patch+json";
const JSON: &str = "application/json-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PODS: &str = "/api/v1/namespaces/default/pods";
const ACCOUNTS: &str = "/api/v1/namespaces/default/serviceaccounts";
const WIDGETS: &str = "/apis/conformance.ferrovirt.io/v1/namespaces/default/widgets";

/// The finalizers of generated objects.
pub(super) const FINALIZERS: [&str; 2] = ["example.com/a", "example.com/b"];

/// Any case.
pub fn cases() -> impl Strategy<Value = Case> {
    prop_oneof![
        case("configmap", MAPS, config_map().boxed(), true),
        case("pod", PODS, pod().boxed(), true),
        case("serviceaccount", ACCOUNTS, service_account().boxed(), true),
        case("widget", WIDGETS, widget().boxed(), false),
    ]
}

fn case(
    theme: &'static str,
    collection: &'static str,
    object: BoxedStrategy<Value>,
    strategic: bool,
) -> impl Strategy<Value = Case> {
    let patch = {
        let merge = object.clone().prop_map(|o| plain(MERGE, without_type(o)));
        let operations = operations().prop_map(|o| plain(JSON, o));
        let nulls = (object.clone(), key()).prop_map(|(o, key)| plain(MERGE, with_null(without_type(o), key)));
        // Two managers, who take fields from each other, and leave out what they had set.
        let managers =
            ["?fieldManager=one", "?fieldManager=two", "?fieldManager=one&force=true", "?fieldManager=two&force=true"];
        let applied = (object.clone(), prop::sample::select(managers.to_vec())).prop_map(|(body, query)| Patch {
            media: APPLY,
            query,
            body: without_the_invisible(body),
        });
        let choice = prop_oneof![1 => merge, 1 => operations, 1 => nulls, 2 => applied];
        if strategic {
            let strategic = object.clone().prop_map(without_type).boxed();
            let directed = with_directive(theme, strategic.clone());
            prop_oneof![2 => choice, 1 => strategic.prop_map(|o| plain(STRATEGIC, o)), 2 => directed.prop_map(|o| plain(STRATEGIC, o))]
                .boxed()
        } else {
            choice.boxed()
        }
    };
    (object, vec(patch, 0..4)).prop_map(move |(object, patches)| Case { theme, collection, object, patches })
}

/// Without what the real server stores and never shows: empty maps and lists of the metadata, which make its next write one that
/// changes nothing, and a null that no type forbids, which counts as a change of what is desired.
fn without_the_invisible(mut object: Value) -> Value {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.retain(|_, value| *value != json!({}) && *value != json!([]));
    }
    if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut)
        && spec.get("free").is_some_and(Value::is_null)
    {
        spec.shift_remove("free");
    }
    object
}

fn plain(media: &'static str, body: Value) -> Patch {
    Patch { media, query: "", body }
}

fn without_type(mut object: Value) -> Value {
    if let Some(map) = object.as_object_mut() {
        map.shift_remove("apiVersion");
        map.shift_remove("kind");
    }
    object
}

/// Makes one field of each object null, which a merge patch takes for a removal.
fn with_null(mut object: Value, key: &'static str) -> Value {
    for field in ["data", "spec"] {
        if let Some(map) = object.get_mut(field).and_then(Value::as_object_mut) {
            map.insert(key.to_owned(), Value::Null);
        }
    }
    object
}

fn key() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["a", "b", "c.d", "size", "labels", "mode", "unknown"])
}

pub(super) fn word() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["", "x", "y", "long value with spaces", "ü"])
}

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        word().prop_map(Value::from),
        (-3i64..12).prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        Just(Value::Null),
        Just(json!(1.5)),
    ]
}

pub(super) fn anything() -> impl Strategy<Value = Value> {
    scalar().prop_recursive(2, 6, 3, |inner| {
        prop_oneof![vec(inner.clone(), 0..3).prop_map(Value::Array), fields(vec((key(), inner), 0..3).boxed()),]
    })
}

fn fields(pairs: BoxedStrategy<Vec<(&'static str, Value)>>) -> impl Strategy<Value = Value> {
    pairs.prop_map(|pairs| Value::Object(pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect::<Map<_, _>>()))
}

/// Mostly good values, now and then anything.
fn mostly(good: BoxedStrategy<Value>) -> impl Strategy<Value = Value> {
    prop_oneof![12 => good, 1 => anything()]
}

fn texts() -> BoxedStrategy<Value> {
    fields(vec((key(), word().prop_map(Value::from)), 0..4).boxed()).boxed()
}

fn metadata() -> BoxedStrategy<Value> {
    let part = prop_oneof![
        texts().prop_map(|t| ("labels", safe_labels(t))),
        texts().prop_map(|t| ("annotations", t)),
        vec(prop::sample::select(FINALIZERS.to_vec()), 0..2).prop_map(|f| ("finalizers", json!(f))),
    ];
    fields(vec(part, 0..3).boxed()).boxed()
}

/// Label values are words; the texts drawn for annotations are not all.
fn safe_labels(mut labels: Value) -> Value {
    for value in labels.as_object_mut().into_iter().flat_map(|m| m.values_mut()) {
        if value.as_str().is_some_and(|v| !v.chars().all(|c| c.is_ascii_alphanumeric())) {
            *value = json!("z");
        }
    }
    labels
}

fn config_map() -> impl Strategy<Value = Value> {
    let data = fields(vec((key(), mostly(word().prop_map(Value::from).boxed())), 0..4).boxed());
    (metadata(), data, any::<Option<bool>>()).prop_map(|(metadata, data, immutable)| {
        let mut object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data});
        // Immutable maps refuse most patches: a few of them are enough.
        if immutable == Some(false) {
            object["immutable"] = json!(false);
        }
        object
    })
}

fn widget() -> impl Strategy<Value = Value> {
    let port = (1i64..4, prop::sample::select(vec!["TCP", "UDP"]))
        .prop_map(|(number, protocol)| json!({"number": number, "protocol": protocol}));
    let field = prop_oneof![
        mostly((-2i64..14).prop_map(Value::from).boxed()).prop_map(|v| ("size", v)),
        mostly(prop::sample::select(vec!["fast", "slow", "other"]).prop_map(Value::from).boxed())
            .prop_map(|v| ("mode", v)),
        mostly(texts()).prop_map(|v| ("labels", v)),
        mostly(vec(port, 0..3).prop_map(Value::Array).boxed()).prop_map(|v| ("ports", v)),
        mostly(vec(word(), 0..3).prop_map(|v| json!(v)).boxed()).prop_map(|v| ("tags", v)),
        anything().prop_map(|v| ("free", v)),
        anything().prop_map(|v| ("unknown", v)),
        prop_oneof![Just(json!(5)), Just(json!("50%")), anything()].prop_map(|v| ("share", v)),
        scalar().prop_map(|v| ("nullable", v)),
    ];
    (metadata(), fields(vec(field, 0..5).boxed())).prop_map(|(metadata, spec)| {
        json!({"apiVersion": "conformance.ferrovirt.io/v1", "kind": "Widget", "metadata": metadata, "spec": spec})
    })
}

fn service_account() -> impl Strategy<Value = Value> {
    let secret = (prop::sample::select(vec!["a", "b", "c"]), prop::option::of(prop::sample::select(vec!["x", "y"])))
        .prop_map(|(name, namespace)| match namespace {
            Some(namespace) => json!({"name": name, "namespace": namespace}),
            None => json!({"name": name}),
        });
    let pulled = prop::sample::select(vec!["a", "b"]).prop_map(|name| json!({"name": name}));
    let field = prop_oneof![
        3 => vec(secret, 0..3).prop_map(|secrets| ("secrets", json!(secrets))),
        2 => vec(pulled, 0..3).prop_map(|pulled| ("imagePullSecrets", json!(pulled))),
        1 => mostly(any::<bool>().prop_map(Value::from).boxed()).prop_map(|v| ("automountServiceAccountToken", v)),
    ];
    (metadata(), fields(vec(field, 0..4).boxed())).prop_map(|(metadata, mut object)| {
        object["apiVersion"] = json!("v1");
        object["kind"] = json!("ServiceAccount");
        object["metadata"] = metadata;
        object
    })
}

fn pod() -> impl Strategy<Value = Value> {
    // An empty value is one of Go's zero values, which the real server writes or leaves out.
    let text = word().prop_filter("a value", |word| !word.is_empty());
    let variable = (prop::sample::select(vec!["A", "B"]), text).prop_map(|(n, v)| json!({"name": n, "value": v}));
    let container = (
        prop::sample::select(vec!["c", "d", "e"]),
        prop::sample::select(vec!["one", "two:v1", "three:latest"]),
        prop::option::of(vec(variable, 0..3)),
        prop::option::of(prop::sample::select(vec!["Always", "Never", "Sometimes"])),
    )
        .prop_map(|(name, image, env, pull)| {
            let mut container = json!({"name": name, "image": image});
            if let Some(env) = env {
                container["env"] = json!(env);
            }
            if let Some(pull) = pull {
                container["imagePullPolicy"] = json!(pull);
            }
            container
        });
    let seconds = prop::option::of(prop::sample::select(vec![0i64, 10]));
    (metadata(), vec(container, 1..3), seconds, prop::option::of(1i64..100)).prop_map(
        |(metadata, containers, grace, active)| {
            let mut spec = json!({"containers": containers});
            if let Some(grace) = grace {
                spec["terminationGracePeriodSeconds"] = json!(grace);
            }
            if let Some(active) = active {
                spec["activeDeadlineSeconds"] = json!(active);
            }
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
        },
    )
}

//! What particular kinds do beyond the common rules: initial status, deletion, places they may be created in.

mod account;
pub(crate) mod bootstrap;
mod crd;
mod event;
mod limits;
mod namespace;
pub(crate) mod pod;
mod priority;
pub(crate) mod quota;
pub(crate) mod scale;
pub(crate) mod storage;

pub(crate) use event::Sweep;

use std::pin::Pin;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::codec;
use crate::handlers::{Context, Part};
use crate::meta::{MetaExt as _, object_mut};
use crate::registry::Resource;
use crate::schema::{Cause, builtin};
use crate::server::Core;
use crate::status::Status;

/// Group and plural name, for matching.
fn id(resource: &Resource) -> (&str, &str) {
    (&resource.group, &resource.plural)
}

const NAMESPACES: (&str, &str) = ("", "namespaces");
const PODS: (&str, &str) = ("", "pods");
const CLAIMS: (&str, &str) = ("", "persistentvolumeclaims");
const VOLUMES: (&str, &str) = ("", "persistentvolumes");
const STORAGE_CLASSES: (&str, &str) = ("storage.k8s.io", "storageclasses");
const PRIORITY_CLASSES: (&str, &str) = ("scheduling.k8s.io", "priorityclasses");
const BUDGETS: (&str, &str) = ("policy", "poddisruptionbudgets");
const QUOTAS: (&str, &str) = ("", "resourcequotas");
const ACCOUNTS: (&str, &str) = ("", "serviceaccounts");
const CRDS: (&str, &str) = ("apiextensions.k8s.io", "customresourcedefinitions");

/// Whether objects carry `metadata.generation`.
pub(crate) fn counts_generation(resource: &Resource) -> bool {
    !resource.builtin() || matches!(id(resource), PODS | CRDS | BUDGETS | PRIORITY_CLASSES)
}

/// Whether a change of what is desired counts: all that matters in a priority class never changes.
pub(crate) fn bumps_generation(resource: &Resource) -> bool {
    counts_generation(resource) && id(resource) != PRIORITY_CLASSES
}

/// Whether an update of an object that is not there makes it.
pub(crate) fn created_by_update(resource: &Resource) -> bool {
    matches!(id(resource), ("coordination.k8s.io", "leases") | ("" | "events.k8s.io", "events") | ("", "limitranges"))
}

/// Whether a deletion answers with the object instead of a status.
pub(crate) fn returns_deleted(resource: &Resource) -> bool {
    matches!(id(resource), PODS | NAMESPACES | CLAIMS | VOLUMES | STORAGE_CLASSES | QUOTAS | ACCOUNTS)
}

/// Sets what a new object starts with, and drops what a client cannot set.
pub(crate) fn prepare_create(core: &Core, resource: &Resource, version: &str, object: &mut Value) {
    if resource.version(version).is_some_and(|v| v.has_status())
        && let Some(map) = object.as_object_mut()
    {
        map.shift_remove("status");
    }
    match id(resource) {
        NAMESPACES => namespace::prepare_create(object),
        PODS => pod::prepare_create(object),
        CLAIMS => storage::prepare_claim(object),
        VOLUMES => storage::prepare_volume(object),
        QUOTAS => drop(object_mut(object).insert("status".into(), json!({}))),
        BUDGETS => {
            let none = json!({"disruptionsAllowed": 0, "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0});
            object_mut(object).insert("status".into(), none);
        }
        ACCOUNTS => account::prepare(object),
        CRDS => crd::prepare_create(core, object),
        _ => {}
    }
}

/// Adjusts an update before admission.
pub(crate) fn prepare_update(core: &Core, resource: &Resource, part: Part, new: &mut Value, old: &Value) {
    match id(resource) {
        NAMESPACES if part == Part::Main => namespace::prepare_update(new, old),
        PODS if part == Part::Main => {
            priority::keep(new, old);
            pod::prepare_update(new);
        }
        CLAIMS if part == Part::Main => storage::data_source(new, Some(old)),
        VOLUMES if part == Part::Status => storage::volume_status(new, old),
        ACCOUNTS => account::prepare(new),
        CRDS if part == Part::Main => crd::prepare_update(core, new),
        _ => {}
    }
}

/// What Kubernetes' own admission plugins add to a new object, before the embedder's admission sees it.
pub(crate) fn admit(context: &Context, object: &mut Value) -> Result<(), Status> {
    let core = &context.core;
    let outcome = match id(&context.target.resource) {
        PODS => {
            limits::admit_pod(core, object);
            priority::admit_pod(core, object).inspect(|()| pod::complete(object))
        }
        CLAIMS => {
            storage::admit_claim(core, object);
            Ok(())
        }
        VOLUMES => {
            storage::admit_volume(object);
            Ok(())
        }
        _ => Ok(()),
    };
    outcome.map_err(|why| refusal(context, object, &why))
}

/// What Kubernetes' own admission plugins refuse of a write that is valid.
pub(crate) fn check_admission(
    context: &Context,
    part: Part,
    object: &Value,
    old: Option<&Value>,
) -> Result<(), Status> {
    if part != Part::Main {
        return Ok(());
    }
    let core = &context.core;
    let why = match (id(&context.target.resource), old) {
        (PODS, None) => limits::check(core, "pods", object),
        (CLAIMS, _) => limits::check(core, "persistentvolumeclaims", object)
            .or_else(|| storage::check_growth(core, object, old?).map(str::to_owned)),
        (PRIORITY_CLASSES, _) => priority::check_default(core, object, old.is_some()),
        _ => None,
    };
    why.map_or(Ok(()), |why| Err(refusal(context, object, &why)))
}

fn refusal(context: &Context, object: &Value, why: &str) -> Status {
    let resource = &context.target.resource;
    Status::forbidden(&resource.group, &resource.plural, object.meta_str("name"), why)
}

/// The stored objects of a built-in kind, in a namespace or (empty) everywhere.
pub(crate) fn stored(core: &Core, group: &str, plural: &str, namespace: &str) -> Vec<Value> {
    let tables = core.registry.tables();
    let Some(resource) = tables.resource(group, plural) else { return Vec::new() };
    let prefix = if namespace.is_empty() { String::new() } else { format!("{namespace}/") };
    let listing = core.store.list(&resource.storage, &prefix, None);
    let objects = listing.map(|listing| listing.objects).unwrap_or_default();
    objects.iter().filter_map(|object| codec::decode(resource, &resource.storage_version, object).ok()).collect()
}

/// Everything wrong with an object that is complete; `old` is the stored one on updates.
pub(crate) fn validate(context: &Context, object: &Value, old: Option<&Value>) -> Vec<Cause> {
    let resource = &context.target.resource;
    let mut causes = match (context.schema(), old) {
        (Some(schema), Some(old)) => schema.validate_update(object, old),
        (Some(schema), None) => schema.validate(object),
        (None, _) => Vec::new(),
    };
    if resource.builtin() && causes.is_empty() {
        causes = builtin::check(&resource.group, &resource.kind, object, old);
        if let (PODS, Some(old)) = (id(resource), old) {
            causes.extend(pod::check_update(object, old));
        }
    }
    if let Some(paths) = context.target.version_info().and_then(|version| version.scale.as_ref()) {
        causes.extend(scale::check(paths, object, old));
    }
    causes
}

/// Texts for `Warning:` headers about an accepted object.
pub(crate) fn warnings(resource: &Resource, object: &Value) -> Vec<String> {
    match id(resource) {
        _ if !resource.builtin() => builtin::finalizer_warnings(object),
        CLAIMS => storage::warnings(object),
        _ => Vec::new(),
    }
}

/// Whether an object may be created there.
pub(crate) fn check_place(core: &Core, resource: &Resource, namespace: &str, name: &str) -> Result<(), Status> {
    if resource.terminating {
        let message = "create not allowed while custom resource definition is terminating";
        return Err(Status::new(405, "MethodNotAllowed", message).about(&resource.group, &resource.plural, name));
    }
    if resource.namespaced() { namespace::check_open(core, resource, namespace, name) } else { Ok(()) }
}

/// Whether the object may be deleted at all.
pub(crate) fn check_delete(resource: &Resource, name: &str) -> Result<(), Status> {
    match id(resource) {
        NAMESPACES => namespace::check_delete(name),
        PRIORITY_CLASSES => priority::check_delete(name),
        _ => Ok(()),
    }
}

/// The grace period of a deletion in seconds; 0 for everything but pods.
pub(crate) fn grace_period(resource: &Resource, requested: Option<i64>, object: &Value) -> i64 {
    match id(resource) {
        PODS => pod::grace_period(requested, object),
        _ => 0,
    }
}

/// Whether an object that goes at once is marked all the same; what cannot be granted time is not.
pub(crate) fn marks_gone(resource: &Resource) -> bool {
    id(resource) == PODS
}

/// Whether a marked object says how long it has; namespaces and definitions are emptied first, however long that takes.
pub(crate) fn records_grace(resource: &Resource) -> bool {
    !matches!(id(resource), NAMESPACES | CRDS)
}

/// Records the begin of a deletion in the object.
pub(crate) fn on_deletion(resource: &Resource, object: &mut Value) {
    match id(resource) {
        NAMESPACES => namespace::on_deletion(object),
        CRDS => crd::on_deletion(object),
        _ => {}
    }
}

/// Whether nothing keeps a deleted object: no finalizer, no running grace period.
pub(crate) fn nothing_holds(resource: &Resource, object: &Value) -> bool {
    let grace = object.meta("deletionGracePeriodSeconds").and_then(Value::as_i64).unwrap_or(0);
    let held = match id(resource) {
        NAMESPACES => namespace::held(object),
        _ => false,
    };
    object.finalizers().is_empty() && grace == 0 && !held
}

/// What follows from a write: definitions change what is served, old events go.
pub(crate) fn after_write<'a>(
    core: &'a Arc<Core>,
    resource: &'a Resource,
    key: &'a str,
) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
    Box::pin(async move {
        match id(resource) {
            CRDS => {
                crd::sync(core, key).await;
                crd::clean_up(core, key).await;
                crd::reconsider(core).await;
            }
            ("" | "events.k8s.io", "events") => event::expire(core, resource).await,
            _ => {
                if let crate::registry::Origin::Crd(name) = &resource.origin
                    && core.store.get(&resource.storage, key).is_none()
                {
                    crd::clean_up(core, name).await;
                }
            }
        }
    })
}

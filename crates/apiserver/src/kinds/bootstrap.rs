//! What exists from the start: the standard namespaces, and the embedder's definitions.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, header};
use serde_json::{Value, json};

use super::{crd, namespace, priority};
use crate::handlers::{Context, Format, Params, Part, Shape, Target, create_object, modify};
use crate::identity::UserInfo;
use crate::managed;
use crate::meta::{MetaExt as _, object_mut};
use crate::server::{Core, StartError};
use crate::status::Status;

/// The server's own identity.
const SYSTEM: &str = "system:apiserver";
/// The name by which it owns what it writes, as in every cluster.
const MANAGER: HeaderValue = HeaderValue::from_static("kube-apiserver");

/// A request of the server to itself.
pub(crate) fn context(core: &Arc<Core>, group: &str, plural: &str) -> Option<Context> {
    let tables = core.registry.tables();
    let resource = tables.resource(group, plural)?.clone();
    Some(Context {
        core: core.clone(),
        target: Target {
            version: resource.storage_version.clone(),
            resource,
            namespace: String::new(),
            name: String::new(),
            subresource: String::new(),
        },
        params: Params::default(),
        headers: HeaderMap::from_iter([(header::USER_AGENT, MANAGER)]),
        user: UserInfo::admin(SYSTEM),
        format: Format { shape: Shape::Object, yaml: false },
        warnings: Vec::new(),
        seat: None,
    })
}

/// The namespaces and priority classes every cluster has.
pub(crate) async fn standard(core: &Arc<Core>) -> Result<(), StartError> {
    for name in namespace::STANDARD {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        provide(core, "", "namespaces", namespace).await?;
    }
    for class in priority::standard() {
        provide(core, "scheduling.k8s.io", "priorityclasses", class).await?;
    }
    Ok(())
}

/// Creates an object that is not there yet.
async fn provide(core: &Arc<Core>, group: &str, plural: &str, mut object: Value) -> Result<(), StartError> {
    let Some(mut context) = context(core, group, plural) else { return Ok(()) };
    let name = object.meta_str("name").to_owned();
    let failed = |status| StartError::Standard { resource: plural.to_owned(), name, status: Box::new(status) };
    if let Err(status) = context.shape(&mut object) {
        return Err(failed(status));
    }
    managed::created(&context, &mut object);
    match create_object(&mut context, object, false).await {
        Err(status) if status.reason != "AlreadyExists" => Err(failed(status)),
        _ => Ok(()),
    }
}

/// Serves the stored definitions, then creates or updates those of the embedder.
pub(crate) async fn definitions(core: &Arc<Core>, wanted: Vec<Value>) -> Result<(), StartError> {
    let Some(probe) = context(core, "apiextensions.k8s.io", "customresourcedefinitions") else { return Ok(()) };
    let stored = core.store.list(&probe.target.resource.storage, "", None);
    for object in stored.map(|l| l.objects).unwrap_or_default() {
        let served = crd::serve(core, &object.key)
            .await
            .map_err(|reason| StartError::Stored { name: object.key.to_string(), reason })?;
        if !served {
            // The last process ended before it saw that two have the same names.
            crd::sync(core, &object.key).await;
        }
    }
    for definition in wanted {
        let name = definition.meta_str("name").to_owned();
        install(core, definition).await.map_err(|status| StartError::Crd { name, status: Box::new(status) })?;
    }
    let stored = core.store.list(&probe.target.resource.storage, "", None);
    for object in stored.map(|l| l.objects).unwrap_or_default() {
        // A deletion that the last process did not finish.
        crd::clean_up(core, &object.key).await;
    }
    crd::reconsider(core).await;
    Ok(())
}

async fn install(core: &Arc<Core>, mut definition: Value) -> Result<(), Status> {
    let Some(mut context) = context(core, "apiextensions.k8s.io", "customresourcedefinitions") else {
        return Ok(());
    };
    context.check_type(&mut definition)?;
    context.shape(&mut definition)?;
    context.target.name = definition.meta_str("name").to_owned();
    if core.store.get(&context.target.resource.storage, &context.target.name).is_none() {
        managed::created(&context, &mut definition);
        return create_object(&mut context, definition, false).await.map(|_| ());
    }
    modify(&mut context, Part::Main, false, &mut |context, old| {
        let mut new = old.clone();
        if let Some(spec) = definition.get("spec") {
            object_mut(&mut new).insert("spec".into(), spec.clone());
        }
        for field in ["labels", "annotations"] {
            let ours = definition.meta(field).and_then(Value::as_object).cloned().unwrap_or_default();
            if !ours.is_empty() {
                object_mut(new.meta_mut().entry(field).or_insert(Value::Null)).extend(ours);
            }
        }
        managed::updated(context, &mut new, old);
        Ok(new)
    })
    .await
    .map(|_| ())
}

//! Charges what is made in a namespace to its quotas (the admission plugin ResourceQuota).

use std::sync::Arc;

use serde_json::{Value, json};

use super::{bootstrap, stored};
use crate::amounts;
use crate::handlers::{Context, Part, modify};
use crate::managed;
use crate::meta::{MetaExt as _, object_mut};
use crate::quota::{Charge, charge};
use crate::server::Core;
use crate::status::Status;

/// Charges a new object, or the growth of one. A quota is charged with its revision as precondition: of two objects that fit
/// alone only one gets in.
pub(crate) async fn admit(context: &Context, object: &Value, old: Option<&Value>, dry_run: bool) -> Result<(), Status> {
    let resource = &context.target.resource;
    let (group, plural) = super::id(resource);
    let grows = old.is_none() || super::id(resource) == super::CLAIMS;
    if !resource.namespaced() || plural == "events" || !grows {
        return Ok(());
    }
    let namespace = &context.target.namespace;
    for quota in stored(&context.core, "", "resourcequotas", namespace) {
        let name = quota.meta_str("name").to_owned();
        let refuse = |why: String| Status::forbidden(group, plural, object.meta_str("name"), &why);
        let now = jiff::Timestamp::now();
        if dry_run {
            charge(&quota, (group, plural), object, old, now).map_err(refuse)?;
            continue;
        }
        let Some(mut update) = update(&context.core, namespace, &name) else { continue };
        let mut add = |update: &mut Context, quota: &Value| {
            let mut new = quota.clone();
            if let Charge::Used(used) = charge(quota, (group, plural), object, old, now).map_err(refuse)? {
                let status = object_mut(object_mut(&mut new).entry("status").or_insert(json!({})));
                status.insert("used".into(), amounts::write(&used));
                managed::updated(update, &mut new, quota);
            }
            Ok(new)
        };
        // A write that leads to a write.
        match Box::pin(modify(&mut update, Part::Status, false, &mut add)).await {
            // Deleted meanwhile: it limits nothing.
            Err(status) if status.code == 404 => {}
            outcome => drop(outcome?),
        }
    }
    Ok(())
}

/// A write of the server itself to the status of a quota.
fn update(core: &Arc<Core>, namespace: &str, name: &str) -> Option<Context> {
    let mut context = bootstrap::context(core, "", "resourcequotas")?;
    context.target.namespace = namespace.to_owned();
    context.target.name = name.to_owned();
    context.target.subresource = "status".into();
    Some(context)
}

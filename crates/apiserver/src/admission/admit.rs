//! The mutating plugins in their order, and what they need to have been seen before.

use std::time::Duration;

use api::static_pods::is_mirror;
use api::{Resource, Status};
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::node::v1::RuntimeClass;
use k8s_openapi::api::scheduling::v1::PriorityClass;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{
    claim_resize, default_class, limit_ranger, namespace, node_restriction, priority, protection,
    runtime_class, service_account, tolerations,
};
use crate::dispatch::Call;

/// Changes, or refuses, what is about to be written. Given are the stored object, none for a create,
/// and the next one.
type Plugin = fn(&Call, Option<&Value>, &mut Value) -> Result<(), Status>;

/// Kubernetes' plugins in Kubernetes' order. NamespaceLifecycle, the first of all, is
/// [`namespace`], which also conditions the write.
const PLUGINS: [Plugin; 10] = [
    limit_ranger::admit,
    service_account::admit,
    node_restriction,
    priority::admit,
    tolerations::admit,
    default_class::of_claim,
    protection::admit,
    runtime_class::admit,
    claim_resize::admit,
    default_class::of_ingress,
];

/// How long a new pod waits for the account that its namespace's controller makes: a namespace and a
/// pod in it may be made one right after the other.
const ACCOUNT_WAIT: Duration = Duration::from_secs(2);

/// Has all plugins look at what is about to be written.
pub(crate) fn admit(call: &Call, old: Option<&Value>, new: &mut Value) -> Result<(), Status> {
    PLUGINS
        .into_iter()
        .try_for_each(|plugin| plugin(call, old, new))
}

/// Whether the call writes objects of this kind, as wholes.
pub(super) fn writes(call: &Call, group: &str, plural: &str) -> bool {
    call.path.subresource.is_none()
        && call.resource.plural == plural
        && call.resource.group == group
}

/// Refuses what is about to be written, by the name that the client gave.
pub(super) fn refused(call: &Call, object: &Value, why: &str) -> Status {
    Status::forbidden(call.resource, given_name(object), why)
}

/// An object's name, or what its name will begin with.
fn given_name(object: &Value) -> &str {
    let get = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
    match get("name") {
        "" => get("generateName"),
        name => name,
    }
}

/// An object as far as this server knows.
pub(super) fn find<T: DeserializeOwned>(
    call: &Call,
    resource: &Resource,
    namespace: Option<&str>,
    name: &str,
) -> Option<T> {
    let entry = call
        .server
        .local(resource.key(namespace, name).as_bytes())?;
    serde_json::from_slice(&entry.value).ok()
}

/// All objects of a resource, or of a namespace's, as far as this server knows. Where there are none nothing is read.
pub(super) fn all<T: DeserializeOwned>(
    call: &Call,
    resource: &Resource,
    namespace: Option<&str>,
) -> Vec<T> {
    let state = call.server.inner.store.state();
    state
        .range(resource.prefix(namespace).as_bytes())
        .filter_map(|(_, entry)| serde_json::from_slice(&entry.value).ok())
        .collect()
}

/// Waits until this server knows what the admission of a new object asks for, if it is anywhere:
/// it may have been made a moment ago through another server.
///
/// # Errors
///
/// Where it cannot be known at the moment.
pub(crate) async fn settle(call: &Call, object: &Value) -> Result<(), Status> {
    let pod = writes(call, "", "pods");
    let mut needed = Vec::new();
    let account = service_account::name_of(&object["spec"]);
    let accounts = Resource::of::<ServiceAccount>();
    // A mirror has no account.
    let has_account = pod && !is_mirror(object);
    if has_account {
        needed.push(accounts.key(call.namespace(), account));
    }
    if pod {
        let class = object["spec"]["priorityClassName"].as_str();
        if let Some(class) = class.filter(|class| !priority::is_known(class)) {
            needed.push(Resource::of::<PriorityClass>().key(None, class));
        }
        if let Some(class) = runtime_class::name_of(&object["spec"]) {
            needed.push(Resource::of::<RuntimeClass>().key(None, class));
        }
    }
    let missing = |key: &String| call.server.local(key.as_bytes()).is_none();
    let homeless = namespace(call, given_name(object)).is_err();
    if !homeless && !needed.iter().any(missing) {
        return Ok(());
    }
    call.server.fresh().await?;
    let born = has_account && account == service_account::DEFAULT && namespace(call, "").is_ok();
    if let Some(key) = needed.first().filter(|key| born && missing(key)) {
        await_account(call, key).await;
    }
    Ok(())
}

async fn await_account(call: &Call, key: &str) {
    let Some(shelf) = call
        .server
        .inner
        .cache
        .shelf(Resource::of::<ServiceAccount>())
    else {
        return;
    };
    let mut changes = shelf.subscribe();
    let made = async {
        while call.server.local(key.as_bytes()).is_none() && changes.changed().await.is_ok() {}
    };
    // Without it the plugin refuses the pod.
    let _ = tokio::time::timeout(ACCOUNT_WAIT, made).await;
}

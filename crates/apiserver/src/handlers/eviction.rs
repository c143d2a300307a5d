//! `pods/eviction`: a deletion that a disruption budget forbids, for budgets are not counted yet.

use api::codec::{Decoded, Expected};
use api::selector::LabelSelector;
use api::status::Cause;
use api::{Object, Resource, Status};
use http::StatusCode;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;

use super::{delete, write};
use crate::body::Response;
use crate::dispatch::Call;
use crate::options::WriteOptions;
use crate::respond;

/// Answers the creation of an eviction.
pub(crate) async fn evict(call: &Call) -> Result<Response, Status> {
    let options = WriteOptions::read("CreateOptions", &call.query, &call.headers)?;
    let sub = call.resource.subresource("eviction");
    let sub = sub.ok_or_else(Status::no_such_resource)?;
    let expected = Expected::subresource(call.resource, sub);
    let Decoded { value, warnings } = write::decode(call, expected)?;
    let name = write::metadata(&value, "name");
    if !name.is_empty() && name != call.name() {
        return Err(Status::bad_request(
            "name in URL does not match name in Eviction object",
        ));
    }
    within_budget(call).await?;
    let mut delete = delete::from_value(&value["deleteOptions"])?;
    delete.dry_run |= options.dry_run;
    delete::remove(call, call.name(), &delete).await?;
    let response = respond::value(StatusCode::CREATED, call.form.media, &Status::created())?;
    Ok(respond::warn(response, &warnings))
}

/// Refuses to evict a running pod that a budget protects: what may be missing of it is not known.
async fn within_budget(call: &Call) -> Result<(), Status> {
    super::catch_up(&call.server).await?;
    let cache = &call.server.inner.cache;
    let pod = cache.get(call.resource, call.namespace(), call.name());
    let Some(pod) = pod.filter(is_protected) else {
        return Ok(());
    };
    let budgets = Resource::of::<PodDisruptionBudget>();
    let Some(shelf) = cache.shelf(budgets) else {
        return Ok(());
    };
    let prefix = budgets.prefix(call.namespace());
    let (snapshot, _) = cache.snapshot(shelf);
    let budget = snapshot
        .objects
        .iter()
        .filter(|(key, _)| key.starts_with(prefix.as_bytes()))
        .find(|(_, budget)| selects(budget, &pod));
    match budget {
        Some((_, budget)) => Err(refusal(budget.name())),
        None => Ok(()),
    }
}

/// Whether a budget counts the pod: one that does not run yet or any more disrupts nothing.
fn is_protected(pod: &Object) -> bool {
    pod.value().is_ok_and(|pod| {
        let phase = pod["status"]["phase"].as_str().unwrap_or_default();
        pod["metadata"]["deletionTimestamp"].is_null() && matches!(phase, "Running" | "Unknown")
    })
}

/// A budget that cannot be read protects everything.
fn selects(budget: &Object, pod: &Object) -> bool {
    let budget: Result<PodDisruptionBudget, _> = serde_json::from_slice(budget.bytes());
    let selector = budget.ok().and_then(|budget| {
        let selector = budget.spec.and_then(|spec| spec.selector);
        LabelSelector::from_meta(selector.as_ref()).ok()
    });
    selector.is_none_or(|selector| selector.matches_object(pod))
}

fn refusal(budget: &str) -> Status {
    let mut status = Status::too_many_requests(
        "Cannot evict pod as it would violate the pod's disruption budget.",
        0,
    );
    status.details.get_or_insert_default().causes.push(Cause {
        reason: "DisruptionBudget".to_owned(),
        message: format!(
            "The disruption budget {budget} selects the pod, and carob does not keep disruption budgets yet"
        ),
        field: String::new(),
    });
    status
}

//! What containers ask of the machine, and what the machine has.

use api::quantity::Quantity;
use k8s_openapi::api::core::v1::{Container, ResourceRequirements};
use runtime::Limits;

/// An amount of each resource of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Amounts {
    /// Thousandths of a core.
    pub(crate) milli_cpu: i64,
    /// Bytes.
    pub(crate) memory: i64,
    /// Bytes on disk.
    pub(crate) ephemeral: i64,
}

/// The share of a container that requests nothing, as the kubelet gives it.
const LEAST_WEIGHT: u32 = 2;

/// Reads a container's limits and requests as the runtime takes them. Who has no limit of memory may have no more than the node.
pub(crate) fn limits(resources: Option<&ResourceRequirements>, node: &Amounts) -> Limits {
    let memory = quantity(resources, Of::Limits, "memory");
    let cpu = quantity(resources, Of::Limits, "cpu");
    let request = quantity(resources, Of::Requests, "cpu").or(cpu);
    let bytes = |quantity: Option<Quantity>| u64::try_from(quantity?.value()).ok();
    let requested = bytes(quantity(resources, Of::Requests, "memory"));
    Limits {
        memory_request: requested.or(bytes(memory)).unwrap_or(0),
        memory: bytes(memory)
            .filter(|m| *m > 0)
            .or_else(|| u64::try_from(node.memory).ok())
            .filter(|m| *m > 0),
        cpu_quota: cpu.map(|q| q.milli() as f64 / 1000.0).filter(|c| *c > 0.0),
        cpu_weight: request
            .and_then(|q| u32::try_from(q.milli()).ok())
            .unwrap_or(0)
            .max(LEAST_WEIGHT),
    }
}

/// What a `resourceFieldRef` stands for: the amount in units of the divisor, rounded up.
///
/// # Errors
/// When the resource or the divisor is none that there is.
pub(crate) fn field(
    container: &Container,
    resource: &str,
    divisor: Option<&str>,
    node: &Amounts,
) -> Result<String, String> {
    let unknown = || format!("unsupported container resource: {resource}");
    let (of, kind) = match resource.split_once('.') {
        Some(("limits", kind)) => (Of::Limits, kind),
        Some(("requests", kind)) => (Of::Requests, kind),
        _ => return Err(unknown()),
    };
    let all = match kind {
        "cpu" => Quantity::from_milli(node.milli_cpu),
        "memory" => Quantity::from_value(node.memory, api::quantity::Notation::BinarySi),
        "ephemeral-storage" => {
            Quantity::from_value(node.ephemeral, api::quantity::Notation::BinarySi)
        }
        _ => return Err(unknown()),
    };
    let missing = match of {
        Of::Limits => all,
        Of::Requests => Quantity::ZERO,
    };
    let amount = quantity(container.resources.as_ref(), of, kind).unwrap_or(missing);
    let divisor = match divisor.filter(|d| !d.is_empty() && *d != "0") {
        None => Quantity::from_milli(1000),
        Some(text) => Quantity::parse(text).map_err(|e| format!("divisor {text:?}: {e}"))?,
    };
    // The API server lets only these divisors in: powers of 2 or 10, and a thousandth for CPU.
    let (amount, divisor) = if kind == "cpu" {
        (amount.milli(), divisor.milli())
    } else {
        (amount.value(), divisor.value())
    };
    if divisor <= 0 {
        return Err("the divisor is not positive".to_owned());
    }
    Ok((amount / divisor + i64::from(amount % divisor > 0)).to_string())
}

#[derive(Clone, Copy)]
enum Of {
    Limits,
    Requests,
}

fn quantity(resources: Option<&ResourceRequirements>, of: Of, kind: &str) -> Option<Quantity> {
    let resources = resources?;
    let amounts = match of {
        Of::Limits => resources.limits.as_ref()?,
        Of::Requests => resources.requests.as_ref()?,
    };
    Quantity::parse(&amounts.get(kind)?.0).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_as_the_runtime_takes_them() {
        let node = Amounts {
            memory: 1 << 30,
            ..Amounts::default()
        };
        let of = |resources: serde_json::Value| {
            limits(Some(&serde_json::from_value(resources).unwrap()), &node)
        };
        let all = of(
            serde_json::json!({"limits": {"cpu": "250m", "memory": "64Mi"}, "requests": {"cpu": "100m"}}),
        );
        assert_eq!(
            all,
            Limits {
                memory: Some(64 << 20),
                memory_request: 64 << 20,
                cpu_quota: Some(0.25),
                cpu_weight: 100
            }
        );
        let only_limit = of(serde_json::json!({"limits": {"cpu": "1"}}));
        assert_eq!(
            only_limit,
            Limits {
                memory: Some(1 << 30),
                memory_request: 0,
                cpu_quota: Some(1.0),
                cpu_weight: 1000
            }
        );
        assert_eq!(
            of(serde_json::json!({})),
            Limits {
                memory: Some(1 << 30),
                memory_request: 0,
                cpu_quota: None,
                cpu_weight: 2
            }
        );
        let both = serde_json::json!({"limits": {"memory": "64Mi"}, "requests": {"memory": "1Mi"}});
        assert_eq!(of(both).memory_request, 1 << 20);
    }
}

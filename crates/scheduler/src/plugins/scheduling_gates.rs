//! A pod with gates waits until somebody has removed them all.

use super::{Plugin, PreFilter};
use crate::{pod::Pod, snapshot::Snapshot};

pub(super) struct SchedulingGates;

impl Plugin for SchedulingGates {
    fn name(&self) -> &'static str {
        "SchedulingGates"
    }

    fn pre_filter<'a>(&'a self, pod: &'a Pod, _: &'a Snapshot) -> PreFilter<'a> {
        if pod.gates.is_empty() {
            return PreFilter::Skip;
        }
        let gates = pod.gates.join(" ");
        PreFilter::Reject {
            condition: "SchedulingGated",
            message: format!("Scheduling is blocked due to non-empty scheduling gates: [{gates}]"),
        }
    }
}

//! The priorities that are the system's, as in Kubernetes' `pkg/apis/scheduling/types.go` and `v1/helpers.go` there.

/// The highest priority that a user may give away.
pub const HIGHEST_OF_USERS: i32 = 1_000_000_000;

/// From this priority on a pod is critical: its node keeps it whatever it lacks.
pub const CRITICAL: i32 = 2 * HIGHEST_OF_USERS;

/// The PriorityClasses that every cluster has and nobody changes.
pub const SYSTEM_CLASSES: [(&str, i32); 2] = [
    ("system-cluster-critical", CRITICAL),
    ("system-node-critical", CRITICAL + 1_000),
];

/// The priority of one of them.
pub fn of_system(class: &str) -> Option<i32> {
    let mut classes = SYSTEM_CLASSES.iter();
    classes.find_map(|(name, priority)| (*name == class).then_some(*priority))
}

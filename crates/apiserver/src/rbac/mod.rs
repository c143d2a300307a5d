//! Role-based access control, as Kubernetes' RBAC authorizer evaluates it.
//!
//! [`Index`] holds every role and binding in the form that a decision needs; the watch cache keeps it
//! up to date, so that deciding parses nothing. [`Rule`] says what one rule allows and whether rules
//! cover others. [`escalation`] keeps writers from giving away rights that they lack, [`defaults`] are
//! the roles that every cluster has from birth and [`reconcile`] what is missing of them.

pub(crate) mod defaults;
pub(crate) mod escalation;
mod index;
pub(crate) mod reconcile;
mod rule;

pub(crate) use index::{Index, Kind, Missing, Source};
pub(crate) use rule::Rule;

/// The API group of roles and bindings.
pub(crate) const GROUP: &str = "rbac.authorization.k8s.io";

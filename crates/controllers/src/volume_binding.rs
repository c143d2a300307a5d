//! Claims and the volumes that they are bound to.
//!
//! A claim gets the volume that is set aside for it, or the smallest that fits, or waits: for a volume, for somebody to
//! make one, or, where its class says so, for a pod that is placed. Binding takes four writes, of which a plan has one:
//! the volume names the claim, the claim the volume, then both say so in their status. That a volume names a claim is
//! written on the condition that it is as it was seen, so that no two get it; whoever goes on after an interruption finds
//! it set aside and goes on with that.
//!
//! Many claims are looked at at once, and would all choose the same volume, which one of them gets. So a claim leaves to
//! others what they were promised, which is what they chose and no view shows yet.

mod claim;
mod promises;
#[cfg(test)]
mod tests;
mod volume;

pub(crate) use claim::reconcile as reconcile_claim;
pub(crate) use promises::Promises;
pub(crate) use volume::reconcile as reconcile_volume;

//! NetworkPolicies through the index and the judge together.

mod changes;
mod naive;
mod recipes;
mod world;

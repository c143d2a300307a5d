//! The decider's tables: scripts of observations, the plans that follow, the statuses that are reported.

mod bench;
mod ending;
mod fields;
mod gates;
mod hooks;
mod images;
mod probing;
mod renewing;
mod resizing;
mod restarting;
mod rules;
mod sidecars;
mod starting;

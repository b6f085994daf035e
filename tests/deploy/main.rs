//! The Helm chart is valid, refuses wrong values, and renders the same as Kustomize; the rules for
//! Prometheus fire when they should, and only then; every alert and every cause has its runbook; the
//! configurations of the Collector are valid; the registry says what the code does; the dashboards
//! ask for what there is. Needs neither a cluster nor root.
#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panic"
)]

mod chart;
mod chart_readme;
mod collector;
mod dashboards;
mod krew;
mod kustomize;
mod paths;
mod perses;
mod render;
mod rules;
mod runbooks;
mod semconv;
mod threat_model;

//! What an operator takes: that the chart is sound, refuses what is wrong, and renders what
//! Kustomize renders. No cluster, no root.
#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test fails by panic"
)]

mod chart;
mod kustomize;
mod render;

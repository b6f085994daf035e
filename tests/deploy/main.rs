//! The Helm chart is valid, refuses wrong values, and renders the same as Kustomize. Needs neither a
//! cluster nor root.
#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test fails by panic"
)]

mod chart;
mod kustomize;
mod render;

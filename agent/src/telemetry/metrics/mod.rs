//! Metrics: the instruments, and what one export shows.
//!
//! Observable instruments read one [`ExportView`](export_view::ExportView), so the figures of one
//! export always agree. Their callbacks take no lock and cannot panic. The tables of all metrics
//! are in [`links`], [`durations`] and [`agent`].

mod agent;
mod durations;
mod export_view;
#[cfg(test)]
mod flat_export;
mod instruments;
mod links;
mod page;
mod pipeline;
mod progress;
#[cfg(test)]
mod tests;

pub(super) use page::Page;
pub(super) use pipeline::MetricPipeline;

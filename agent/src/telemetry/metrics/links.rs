//! The metrics of each pod's link. When the link has ended, its counters are exported once more and
//! then no longer; its gauges end at once.
//!
//! | metric | instrument, unit | more attributes |
//! |---|---|---|
//! | `kn.activator.stats.conn.reachable` | gauge, `{reachable}` | |
//! | `kn.activator.stats.conn.checks` | counter, `{check}` | `kn.check.kind` |
//! | `kn.activator.stats.conn.errors` | counter, `{error}` | `kn.check.kind`, `error.type` |
//! | `kn.activator.stats.conn.connects` | counter, `{connection}` | |
//! | `kn.activator.stats.conn.retransmits` | counter, `{segment}` | |
//! | `kn.activator.stats.conn.lives` | counter, `{process}` | |
//! | `kn.activator.stats.conn.rtt` | gauge, `s` | |
//! | `kn.activator.stats.conn.silence` | gauge, `s` | |

use std::{sync::Arc, time::Duration};

use opentelemetry::{KeyValue, metrics::Meter};

use super::export_view::{CurrentView, LinkView};
use crate::link::{Cause, CheckKind};

pub(super) const ERRORS: &str = "kn.activator.stats.conn.errors";

pub(super) fn create(meter: &Meter, view: &CurrentView) {
    reachable(meter, view);
    checks(meter, view);
    errors(meter, view);
    counter(
        meter,
        view,
        "kn.activator.stats.conn.connects",
        "{connection}",
        "Connections from the activator to the peer that came up.",
        |link| link.total.counts.connects(),
    );
    counter(
        meter,
        view,
        "kn.activator.stats.conn.retransmits",
        "{segment}",
        "TCP segments that the activator retransmitted to the peer.",
        |link| link.total.retransmits,
    );
    counter(
        meter,
        view,
        "kn.activator.stats.conn.lives",
        "{process}",
        "Processes that the pod's activator has been: it was restarted if there is more than one.",
        |link| link.total.lives,
    );
    seconds(
        meter,
        view,
        "kn.activator.stats.conn.rtt",
        "Smoothed round-trip time of the live connection.",
        |link| link.rtt,
    );
    seconds(
        meter,
        view,
        "kn.activator.stats.conn.silence",
        "Time since the activator last heard from the peer.",
        |link| link.silence,
    );
}

fn reachable(meter: &Meter, view: &CurrentView) {
    let view = Arc::clone(view);
    meter
        .u64_observable_gauge("kn.activator.stats.conn.reachable")
        .with_unit("{reachable}")
        .with_description("Whether the peer is reachable from the activator: 1 or 0.")
        .with_callback(move |observer| {
            for link in &view.load().links {
                if let Some(reachable) = link.reachable {
                    observer.observe(u64::from(reachable), &link.attributes);
                }
            }
        })
        .build();
}

fn checks(meter: &Meter, view: &CurrentView) {
    let view = Arc::clone(view);
    meter
        .u64_observable_counter("kn.activator.stats.conn.checks")
        .with_unit("{check}")
        .with_description("Observations that decide for or against reachable.")
        .with_callback(move |observer| {
            for link in &view.load().links {
                for kind in CheckKind::ALL {
                    let attributes = link.with([kind_attribute(kind)]);
                    observer.observe(link.total.counts.checks(kind), &attributes);
                }
            }
        })
        .build();
}

fn errors(meter: &Meter, view: &CurrentView) {
    let view = Arc::clone(view);
    meter
        .u64_observable_counter(ERRORS)
        .with_unit("{error}")
        .with_description("Checks that decided against reachable, by cause.")
        .with_callback(move |observer| {
            for link in &view.load().links {
                for kind in CheckKind::ALL {
                    for cause in Cause::ALL {
                        let count = link.total.counts.errors(kind, cause);
                        if count > 0 || cause.is_feasible(kind) {
                            let more = [kind_attribute(kind), cause_attribute(cause)];
                            observer.observe(count, &link.with(more));
                        }
                    }
                }
            }
        })
        .build();
}

fn counter(
    meter: &Meter,
    view: &CurrentView,
    name: &'static str,
    unit: &'static str,
    description: &'static str,
    figure: fn(&LinkView) -> u64,
) {
    let view = Arc::clone(view);
    meter
        .u64_observable_counter(name)
        .with_unit(unit)
        .with_description(description)
        .with_callback(move |observer| {
            for link in &view.load().links {
                observer.observe(figure(link), &link.attributes);
            }
        })
        .build();
}

fn seconds(
    meter: &Meter,
    view: &CurrentView,
    name: &'static str,
    description: &'static str,
    figure: fn(&LinkView) -> Option<Duration>,
) {
    let view = Arc::clone(view);
    meter
        .f64_observable_gauge(name)
        .with_unit("s")
        .with_description(description)
        .with_callback(move |observer| {
            for link in &view.load().links {
                if let Some(duration) = figure(link) {
                    observer.observe(duration.as_secs_f64(), &link.attributes);
                }
            }
        })
        .build();
}

fn kind_attribute(kind: CheckKind) -> KeyValue {
    KeyValue::new("kn.check.kind", kind.as_str())
}

pub(super) fn cause_attribute(cause: Cause) -> KeyValue {
    KeyValue::new("error.type", cause.as_str())
}

//! What is said of each link. A link that has ended is gone from the next export.
//!
//! | metric | instrument, unit | more attributes |
//! |---|---|---|
//! | `kn.activator.stats.conn.reachable` | gauge, `{reachable}` | |
//! | `kn.activator.stats.conn.checks` | counter, `{check}` | `kn.check.kind` |
//! | `kn.activator.stats.conn.errors` | counter, `{error}` | `kn.check.kind`, `error.type` |
//! | `kn.activator.stats.conn.connects` | counter, `{connection}` | |
//! | `kn.activator.stats.conn.retransmits` | counter, `{segment}` | |
//! | `kn.activator.stats.conn.rtt` | gauge, `s` | |
//! | `kn.activator.stats.conn.silence` | gauge, `s` | |

use std::{sync::Arc, time::Duration};

use opentelemetry::{KeyValue, metrics::Meter};

use super::{Frozen, view::Series};
use crate::link::{Cause, CheckKind};

pub(super) const ERRORS: &str = "kn.activator.stats.conn.errors";

pub(super) fn create(meter: &Meter, frozen: &Frozen) {
    reachable(meter, frozen);
    checks(meter, frozen);
    errors(meter, frozen);
    counter(
        meter,
        frozen,
        "kn.activator.stats.conn.connects",
        "{connection}",
        "Connections from the activator to the peer that came up.",
        |series| series.counts.connects(),
    );
    counter(
        meter,
        frozen,
        "kn.activator.stats.conn.retransmits",
        "{segment}",
        "TCP segments the activator sent to the peer again.",
        |series| series.retransmits,
    );
    seconds(
        meter,
        frozen,
        "kn.activator.stats.conn.rtt",
        "Smoothed round-trip time of the live connection.",
        |series| series.rtt,
    );
    seconds(
        meter,
        frozen,
        "kn.activator.stats.conn.silence",
        "Time since the peer was last heard on a connection that exists.",
        |series| series.silence,
    );
}

fn reachable(meter: &Meter, frozen: &Frozen) {
    let frozen = Arc::clone(frozen);
    meter
        .u64_observable_gauge("kn.activator.stats.conn.reachable")
        .with_unit("{reachable}")
        .with_description("Whether the peer is reachable from the activator: 1 or 0.")
        .with_callback(move |observer| {
            for series in &frozen.load().series {
                if let Some(reachable) = series.reachable {
                    observer.observe(u64::from(reachable), &series.attributes);
                }
            }
        })
        .build();
}

fn checks(meter: &Meter, frozen: &Frozen) {
    let frozen = Arc::clone(frozen);
    meter
        .u64_observable_counter("kn.activator.stats.conn.checks")
        .with_unit("{check}")
        .with_description("Observations that decide for or against reachable.")
        .with_callback(move |observer| {
            for series in &frozen.load().series {
                for kind in CheckKind::ALL {
                    let attributes = series.with([kind_attribute(kind)]);
                    observer.observe(series.counts.checks(kind), &attributes);
                }
            }
        })
        .build();
}

fn errors(meter: &Meter, frozen: &Frozen) {
    let frozen = Arc::clone(frozen);
    meter
        .u64_observable_counter(ERRORS)
        .with_unit("{error}")
        .with_description("Checks that decided against reachable, by cause.")
        .with_callback(move |observer| {
            for series in &frozen.load().series {
                for kind in CheckKind::ALL {
                    for cause in Cause::ALL {
                        let count = series.counts.errors(kind, cause);
                        if count > 0 || cause.is_feasible(kind) {
                            let more = [kind_attribute(kind), cause_attribute(cause)];
                            observer.observe(count, &series.with(more));
                        }
                    }
                }
            }
        })
        .build();
}

fn counter(
    meter: &Meter,
    frozen: &Frozen,
    name: &'static str,
    unit: &'static str,
    description: &'static str,
    figure: fn(&Series) -> u64,
) {
    let frozen = Arc::clone(frozen);
    meter
        .u64_observable_counter(name)
        .with_unit(unit)
        .with_description(description)
        .with_callback(move |observer| {
            for series in &frozen.load().series {
                observer.observe(figure(series), &series.attributes);
            }
        })
        .build();
}

fn seconds(
    meter: &Meter,
    frozen: &Frozen,
    name: &'static str,
    description: &'static str,
    figure: fn(&Series) -> Option<Duration>,
) {
    let frozen = Arc::clone(frozen);
    meter
        .f64_observable_gauge(name)
        .with_unit("s")
        .with_description(description)
        .with_callback(move |observer| {
            for series in &frozen.load().series {
                if let Some(duration) = figure(series) {
                    observer.observe(duration.as_secs_f64(), &series.attributes);
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

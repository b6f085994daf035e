//! What the agent says of itself.
//!
//! | metric | instrument, unit | attributes | what |
//! |---|---|---|---|
//! | `statlink.links` | gauge, `{link}` | | links known |
//! | `statlink.hook.attached` | gauge, `{hook}` | `statlink.hook.name` | 1 attached, 0 not |
//! | `statlink.hook.misses` | counter, `{event}` | `statlink.hook.name` | events that came while the hook's program ran on the same CPU: any socket's, most likely none that is watched |
//! | `statlink.records.read` | counter, `{record}` | `statlink.record.kind` | kernel records read |
//! | `statlink.records.lost` | counter, `{record}` | `statlink.loss.reason` | kernel records lost |
//! | `statlink.record.age` | gauge, `s` | | since the last kernel record |
//! | `statlink.ring.usage` | gauge, `By` | | bytes waiting in the ring |
//! | `statlink.ring.limit` | gauge, `By` | | size of the ring |
//! | `statlink.exports` | counter, `{export}` | `statlink.export.outcome` | exports of metrics before this one, `ok` or `failed` |
//! | `statlink.memory.usage` | gauge, `By` | | resident memory of the agent |

use std::{fs, sync::Arc};

use opentelemetry::{KeyValue, metrics::Meter};

use super::Frozen;
use crate::{snapshot::AgentSnapshot, telemetry::exporter::Outcomes};

/// A counter with one attribute.
struct Figures {
    name: &'static str,
    unit: &'static str,
    description: &'static str,
    attribute: &'static str,
    of: fn(&AgentSnapshot) -> &[(&'static str, u64)],
}

const FIGURES: &[Figures] = &[
    Figures {
        name: "statlink.hook.misses",
        unit: "{event}",
        description: "Events that came while the hook's program ran on the same CPU.",
        attribute: "statlink.hook.name",
        of: |agent| &agent.misses,
    },
    Figures {
        name: "statlink.records.read",
        unit: "{record}",
        description: "Kernel records read.",
        attribute: "statlink.record.kind",
        of: |agent| &agent.records,
    },
    Figures {
        name: "statlink.records.lost",
        unit: "{record}",
        description: "Kernel records lost; the kernel's counts make up for them.",
        attribute: "statlink.loss.reason",
        of: |agent| &agent.lost,
    },
];

pub(super) fn create(meter: &Meter, frozen: &Frozen, outcomes: &Arc<Outcomes>) {
    links(meter, frozen);
    hooks(meter, frozen);
    for figures in FIGURES {
        counter(meter, frozen, figures);
    }
    record_age(meter, frozen);
    ring(
        meter,
        frozen,
        "statlink.ring.usage",
        "Bytes waiting in the ring.",
        |(fill, _)| fill,
    );
    ring(
        meter,
        frozen,
        "statlink.ring.limit",
        "Size of the ring.",
        |(_, size)| size,
    );
    exports(meter, outcomes);
    memory(meter);
}

fn links(meter: &Meter, frozen: &Frozen) {
    let frozen = Arc::clone(frozen);
    meter
        .u64_observable_gauge("statlink.links")
        .with_unit("{link}")
        .with_description("Links the agent knows.")
        .with_callback(move |observer| {
            observer.observe(frozen.load().snapshot.links.len() as u64, &[]);
        })
        .build();
}

fn hooks(meter: &Meter, frozen: &Frozen) {
    let frozen = Arc::clone(frozen);
    meter
        .u64_observable_gauge("statlink.hook.attached")
        .with_unit("{hook}")
        .with_description("Whether a kernel hook is attached: 1 or 0.")
        .with_callback(move |observer| {
            for (name, attached) in &frozen.load().snapshot.agent.hooks {
                let name = KeyValue::new("statlink.hook.name", *name);
                observer.observe(u64::from(*attached), &[name]);
            }
        })
        .build();
}

fn counter(meter: &Meter, frozen: &Frozen, figures: &'static Figures) {
    let frozen = Arc::clone(frozen);
    meter
        .u64_observable_counter(figures.name)
        .with_unit(figures.unit)
        .with_description(figures.description)
        .with_callback(move |observer| {
            for (value, count) in (figures.of)(&frozen.load().snapshot.agent) {
                observer.observe(*count, &[KeyValue::new(figures.attribute, *value)]);
            }
        })
        .build();
}

fn record_age(meter: &Meter, frozen: &Frozen) {
    let frozen = Arc::clone(frozen);
    meter
        .f64_observable_gauge("statlink.record.age")
        .with_unit("s")
        .with_description("Time since the last kernel record.")
        .with_callback(move |observer| {
            if let Some(age) = frozen.load().snapshot.agent.last_record {
                observer.observe(age.as_secs_f64(), &[]);
            }
        })
        .build();
}

fn ring(
    meter: &Meter,
    frozen: &Frozen,
    name: &'static str,
    description: &'static str,
    figure: fn((u64, u64)) -> u64,
) {
    let frozen = Arc::clone(frozen);
    meter
        .u64_observable_gauge(name)
        .with_unit("By")
        .with_description(description)
        .with_callback(move |observer| {
            if let Some(ring) = frozen.load().snapshot.agent.ring {
                observer.observe(figure(ring), &[]);
            }
        })
        .build();
}

fn exports(meter: &Meter, outcomes: &Arc<Outcomes>) {
    let outcomes = Arc::clone(outcomes);
    meter
        .u64_observable_counter("statlink.exports")
        .with_unit("{export}")
        .with_description("Exports of metrics that ended before this one.")
        .with_callback(move |observer| {
            let outcome = |value| KeyValue::new("statlink.export.outcome", value);
            observer.observe(outcomes.ok(), &[outcome("ok")]);
            observer.observe(outcomes.failed(), &[outcome("failed")]);
        })
        .build();
}

fn memory(meter: &Meter) {
    meter
        .u64_observable_gauge("statlink.memory.usage")
        .with_unit("By")
        .with_description("Resident memory of the agent.")
        .with_callback(|observer| {
            if let Some(bytes) = resident() {
                observer.observe(bytes, &[]);
            }
        })
        .build();
}

/// Bytes of physical memory this process has, as the kernel tells.
fn resident() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

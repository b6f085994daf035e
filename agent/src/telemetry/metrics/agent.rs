//! The agent's own metrics. An agent without a link exports only a few, which say that it lives and
//! what it lacks: `statlink.links`, `statlink.exports`, `statlink.hook.attached` where it is 0, and
//! problems with links that it should have.
//!
//! | metric | instrument, unit | attributes | what |
//! |---|---|---|---|
//! | `statlink.links` | gauge, `{link}` | | links known |
//! | `statlink.links.unknown` | gauge, `{link}` | `statlink.unknown.reason` | links with an unknown state; absent without any |
//! | `statlink.pods.unobserved` | gauge, `{pod}` | `statlink.unobserved.reason` | pods that run here without a visible process; absent without any |
//! | `statlink.clients.refused` | gauge, `{process}` | `statlink.refusal.reason` | processes with a client's name that have no link; absent without any |
//! | `statlink.hook.attached` | gauge, `{hook}` | `statlink.hook.name` | 1 attached, 0 not |
//! | `statlink.hook.misses` | counter, `{event}` | `statlink.hook.name` | events that the hook's program did not see because it, or another, was running on the same CPU; they may be any socket's, and most likely are no watched one's |
//! | `statlink.records.read` | counter, `{record}` | `statlink.record.kind` | kernel records read |
//! | `statlink.records.lost` | counter, `{record}` | `statlink.loss.reason` | kernel records lost |
//! | `statlink.record.age` | gauge, `s` | | time since the last kernel record |
//! | `statlink.ring.usage` | gauge, `By` | | the most bytes found waiting in the ring since the last export |
//! | `statlink.ring.limit` | gauge, `By` | | size of the ring |
//! | `statlink.exports` | counter, `{export}` | `statlink.export.outcome` | exports of metrics before this one, `ok` or `failed` |
//! | `statlink.memory.usage` | gauge, `By` | | resident memory of the agent |

use std::{collections::BTreeMap, fs, sync::Arc};

use opentelemetry::{KeyValue, metrics::Meter};

use super::export_view::{CurrentView, ExportView, OfAgent};
use crate::{link::UnknownReason, snapshot::AgentSnapshot, telemetry::exporter::ExportLog};

/// A counter of the agent, with one attribute.
struct AgentCounter {
    name: &'static str,
    unit: &'static str,
    description: &'static str,
    attribute: &'static str,
    /// The attribute's values and their counts.
    counts: fn(&AgentSnapshot) -> &[(&'static str, u64)],
}

const COUNTERS: &[AgentCounter] = &[
    AgentCounter {
        name: "statlink.hook.misses",
        unit: "{event}",
        description: "Events that came while the hook's program ran on the same CPU.",
        attribute: "statlink.hook.name",
        counts: |agent| &agent.missed_events,
    },
    AgentCounter {
        name: "statlink.records.read",
        unit: "{record}",
        description: "Kernel records read.",
        attribute: "statlink.record.kind",
        counts: |agent| &agent.records,
    },
    AgentCounter {
        name: "statlink.records.lost",
        unit: "{record}",
        description: "Kernel records lost; the kernel's counts make up for them.",
        attribute: "statlink.loss.reason",
        counts: |agent| &agent.lost,
    },
];

pub(super) fn create(meter: &Meter, view: &CurrentView, log: &Arc<ExportLog>) {
    links(meter, view);
    unknown_links(meter, view);
    unobserved_pods(meter, view);
    refused_clients(meter, view);
    hooks(meter, view);
    for definition in COUNTERS {
        counter(meter, view, definition);
    }
    record_age(meter, view);
    ring(
        meter,
        view,
        "statlink.ring.usage",
        "Bytes waiting in the ring.",
        |(fill, _)| fill,
    );
    ring(
        meter,
        view,
        "statlink.ring.limit",
        "Size of the ring.",
        |(_, size)| size,
    );
    exports(meter, view, log);
    memory(meter, view);
}

/// The agent's figures, if this request shows all of them.
fn in_full(view: &ExportView) -> Option<&AgentSnapshot> {
    (view.of_agent == OfAgent::All).then_some(&view.snapshot.agent)
}

fn links(meter: &Meter, view: &CurrentView) {
    let view = Arc::clone(view);
    meter
        .u64_observable_gauge("statlink.links")
        .with_unit("{link}")
        .with_description("Links the agent knows.")
        .with_callback(move |observer| {
            let view = view.load();
            if view.of_agent != OfAgent::Nothing {
                observer.observe(view.snapshot.links.len() as u64, &[]);
            }
        })
        .build();
}

fn unknown_links(meter: &Meter, view: &CurrentView) {
    let view = Arc::clone(view);
    meter
        .u64_observable_gauge("statlink.links.unknown")
        .with_unit("{link}")
        .with_description("Links of which nobody can tell whether they are up.")
        .with_callback(move |observer| {
            let view = view.load();
            if view.of_agent == OfAgent::Nothing {
                return;
            }
            let links = view.snapshot.links.iter();
            let unobserved = view.snapshot.unobserved.iter();
            let reasons: Vec<_> = links
                .filter_map(|link| link.state.unknown_reason())
                .chain(unobserved.map(|_| UnknownReason::NotObserved))
                .collect();
            for reason in UnknownReason::ALL {
                let number = reasons.iter().filter(|other| **other == reason).count();
                if number > 0 {
                    let reason = KeyValue::new("statlink.unknown.reason", reason.as_str());
                    observer.observe(number as u64, &[reason]);
                }
            }
        })
        .build();
}

fn unobserved_pods(meter: &Meter, view: &CurrentView) {
    let view = Arc::clone(view);
    meter
        .u64_observable_gauge("statlink.pods.unobserved")
        .with_unit("{pod}")
        .with_description("Pods that run here without a process that is seen.")
        .with_callback(move |observer| {
            let view = view.load();
            if view.of_agent == OfAgent::Nothing {
                return;
            }
            let mut numbers = BTreeMap::<_, u64>::new();
            for pod in &view.snapshot.unobserved {
                *numbers.entry(pod.reason).or_default() += 1;
            }
            for (reason, number) in numbers {
                let reason = KeyValue::new("statlink.unobserved.reason", reason);
                observer.observe(number, &[reason]);
            }
        })
        .build();
}

fn refused_clients(meter: &Meter, view: &CurrentView) {
    let view = Arc::clone(view);
    meter
        .u64_observable_gauge("statlink.clients.refused")
        .with_unit("{process}")
        .with_description("Processes with a client's name that have no link.")
        .with_callback(move |observer| {
            let view = view.load();
            if view.of_agent == OfAgent::Nothing {
                return;
            }
            for (reason, number) in &view.snapshot.agent.refused {
                if *number > 0 {
                    let reason = KeyValue::new("statlink.refusal.reason", *reason);
                    observer.observe(*number, &[reason]);
                }
            }
        })
        .build();
}

fn hooks(meter: &Meter, view: &CurrentView) {
    let view = Arc::clone(view);
    meter
        .u64_observable_gauge("statlink.hook.attached")
        .with_unit("{hook}")
        .with_description("Whether a kernel hook is attached: 1 or 0.")
        .with_callback(move |observer| {
            let view = view.load();
            for (name, attached) in &view.snapshot.agent.hooks {
                let is_shown = match view.of_agent {
                    OfAgent::Nothing => false,
                    OfAgent::Life => !attached,
                    OfAgent::All => true,
                };
                if is_shown {
                    let name = KeyValue::new("statlink.hook.name", *name);
                    observer.observe(u64::from(*attached), &[name]);
                }
            }
        })
        .build();
}

fn counter(meter: &Meter, view: &CurrentView, definition: &'static AgentCounter) {
    let view = Arc::clone(view);
    meter
        .u64_observable_counter(definition.name)
        .with_unit(definition.unit)
        .with_description(definition.description)
        .with_callback(move |observer| {
            let view = view.load();
            let counts = in_full(&view).map(definition.counts);
            for (value, count) in counts.unwrap_or_default() {
                observer.observe(*count, &[KeyValue::new(definition.attribute, *value)]);
            }
        })
        .build();
}

fn record_age(meter: &Meter, view: &CurrentView) {
    let view = Arc::clone(view);
    meter
        .f64_observable_gauge("statlink.record.age")
        .with_unit("s")
        .with_description("Time since the last kernel record.")
        .with_callback(move |observer| {
            let view = view.load();
            if let Some(age) = in_full(&view).and_then(|agent| agent.last_record) {
                observer.observe(age.as_secs_f64(), &[]);
            }
        })
        .build();
}

fn ring(
    meter: &Meter,
    view: &CurrentView,
    name: &'static str,
    description: &'static str,
    figure: fn((u64, u64)) -> u64,
) {
    let view = Arc::clone(view);
    meter
        .u64_observable_gauge(name)
        .with_unit("By")
        .with_description(description)
        .with_callback(move |observer| {
            let view = view.load();
            if let Some(ring) = in_full(&view).and_then(|agent| agent.ring) {
                observer.observe(figure(ring), &[]);
            }
        })
        .build();
}

fn exports(meter: &Meter, view: &CurrentView, log: &Arc<ExportLog>) {
    let (view, log) = (Arc::clone(view), Arc::clone(log));
    meter
        .u64_observable_counter("statlink.exports")
        .with_unit("{export}")
        .with_description("Exports of metrics that ended before this one.")
        .with_callback(move |observer| {
            if view.load().of_agent == OfAgent::Nothing {
                return;
            }
            let outcome = |value| KeyValue::new("statlink.export.outcome", value);
            observer.observe(log.ok(), &[outcome("ok")]);
            observer.observe(log.failed(), &[outcome("failed")]);
        })
        .build();
}

fn memory(meter: &Meter, view: &CurrentView) {
    let view = Arc::clone(view);
    meter
        .u64_observable_gauge("statlink.memory.usage")
        .with_unit("By")
        .with_description("Resident memory of the agent.")
        .with_callback(move |observer| {
            let bytes = in_full(&view.load()).and_then(|_| resident());
            if let Some(bytes) = bytes {
                observer.observe(bytes, &[]);
            }
        })
        .build();
}

/// Bytes of physical memory that this process uses (`VmRSS`, proc_pid_status(5)).
fn resident() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

//! Tests: exports as the SDK's in-memory exporter receives them.

mod failures;
mod harness;
mod own_figures;
mod succession;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use self::harness::{
    A, B, CHECKS, Harness, REACHABLE, UNREACHABLE, counts_of, departed, link, total,
};
use super::{export_view::REQUEST_LINKS, flat_export::flatten, *};
use crate::{
    link::{Cause, CheckKind, State},
    snapshot::{Departed, LinkSnapshot, Snapshot},
};

#[test]
fn names_units_and_scope_are_as_designed() {
    let harness = Harness::new();
    harness
        .pipeline
        .durations()
        .connect("autoscaler", Duration::from_millis(3), None);
    harness
        .pipeline
        .durations()
        .outage("autoscaler", Duration::from_secs(3), Cause::Stalled);
    let export = harness.export_raw(vec![link("a")]);
    let scope = export.scope_metrics().next().unwrap();
    assert_eq!(scope.scope().name(), "statlink");
    assert_eq!(scope.scope().version(), Some(env!("CARGO_PKG_VERSION")));
    let mut units: Vec<_> = scope.metrics().map(|m| (m.name(), m.unit())).collect();
    units.sort_unstable();
    assert_eq!(
        units,
        [
            ("kn.activator.stats.conn.checks", "{check}"),
            ("kn.activator.stats.conn.connect.duration", "s"),
            ("kn.activator.stats.conn.connects", "{connection}"),
            ("kn.activator.stats.conn.errors", "{error}"),
            ("kn.activator.stats.conn.lives", "{process}"),
            ("kn.activator.stats.conn.outage.duration", "s"),
            ("kn.activator.stats.conn.reachable", "{reachable}"),
            ("kn.activator.stats.conn.retransmits", "{segment}"),
            ("kn.activator.stats.conn.rtt", "s"),
            ("kn.activator.stats.conn.silence", "s"),
            ("statlink.exports", "{export}"),
            ("statlink.hook.attached", "{hook}"),
            ("statlink.hook.misses", "{event}"),
            ("statlink.links", "{link}"),
            ("statlink.memory.usage", "By"),
            ("statlink.record.age", "s"),
            ("statlink.records.lost", "{record}"),
            ("statlink.records.read", "{record}"),
            ("statlink.ring.limit", "By"),
            ("statlink.ring.usage", "By"),
        ]
    );
    assert!(scope.metrics().all(|m| !m.description().is_empty()));
}

#[test]
fn counters_are_exported_as_zero_first_and_then_in_full() {
    let harness = Harness::new();
    let first = harness.export(vec![link("a")]);
    for metric in [
        CHECKS,
        links::ERRORS,
        "kn.activator.stats.conn.connects",
        "kn.activator.stats.conn.retransmits",
    ] {
        assert_eq!(total(&first, metric), 0.0, "{metric}");
    }
    assert_eq!(first[CHECKS].len(), 3);
    // Errors of a dial, of liveness, and of the end of a live connection.
    assert_eq!(first[links::ERRORS].len(), 14 + 18 + 15);
    assert_eq!(first[REACHABLE][A], 1.0);

    let second = harness.export(vec![link("a")]);
    let refused = format!("error.type=connection_refused {A}")
        .replace(" peer", " kn.check.kind=connect peer");
    assert_eq!(second[links::ERRORS][&refused], 2.0);
    assert_eq!(
        second[CHECKS][&A.replace(" peer", " kn.check.kind=connect peer")],
        5.0
    );
    assert_eq!(total(&second, links::ERRORS), 2.0);
    assert_eq!(second["kn.activator.stats.conn.connects"][A], 1.0);
    assert_eq!(second["kn.activator.stats.conn.retransmits"][A], 5.0);
    assert_eq!(second["kn.activator.stats.conn.rtt"][A], 0.00025);
    assert_eq!(second["kn.activator.stats.conn.silence"][A], 1.2);

    // Each link begins on its own: the second one begins at zero beside the first one's counts.
    let third = harness.export(vec![link("a"), link("b")]);
    assert_eq!(
        third["kn.activator.stats.conn.retransmits"],
        BTreeMap::from([(A.to_owned(), 5.0), (B.to_owned(), 0.0)])
    );
}

#[test]
fn an_unexpected_pair_is_exported_once_it_is_counted() {
    let harness = Harness::new();
    let mut odd = link("a");
    odd.total.counts = counts_of(0, &[(CheckKind::Disconnect, Cause::Dns, 1)], 0);
    harness.export(vec![odd.clone()]);
    let errors = &harness.export(vec![odd])[links::ERRORS];
    assert_eq!(errors.len(), 14 + 18 + 15 + 1);
}

#[test]
fn reachable_waits_for_the_grace_and_gauges_for_a_connection() {
    let harness = Harness::new();
    let young = LinkSnapshot {
        state: State::Starting,
        rtt: None,
        silence: None,
        ..link("a")
    };
    let export = harness.export(vec![young]);
    for metric in [
        REACHABLE,
        "kn.activator.stats.conn.rtt",
        "kn.activator.stats.conn.silence",
    ] {
        assert!(!export.contains_key(metric), "{metric}");
    }
    assert_eq!(export[CHECKS].len(), 3);
    let export = harness.export(vec![LinkSnapshot {
        state: UNREACHABLE,
        ..link("a")
    }]);
    assert_eq!(export[REACHABLE][A], 0.0);
}

const RETRANSMITS: &str = "kn.activator.stats.conn.retransmits";

/// A case from the field: 100 refused dials a second for 9 s, and the activator is killed 1 s
/// before the next export. Of 900 errors, 500 were exported.
#[test]
fn what_an_ended_pod_counted_is_exported_once_more() {
    let harness = Harness::new();
    harness.export(vec![link("a"), link("b")]);
    let mut last = departed("a", 1);
    last.total.retransmits = 900;
    let first = &harness.export_all(vec![link("b")], vec![last.clone()])[0];
    let first = flatten(first);
    assert_eq!(first[RETRANSMITS][A], 900.0);
    assert_eq!(first["statlink.links"][""], 1.0);
    // Nobody knows any more whether it is reachable.
    for gauge in [REACHABLE, "kn.activator.stats.conn.rtt"] {
        let pods: Vec<_> = first[gauge].keys().collect();
        assert_eq!(pods, [B], "{gauge}");
    }
    let next = flatten(&harness.export_all(vec![link("b")], vec![last])[0]);
    for (metric, points) in next.iter().filter(|(metric, _)| metric.starts_with("kn.")) {
        let of_b = points.keys().all(|key| key.contains("k8s.pod.name=b"));
        assert!(of_b, "{metric}");
    }
}

#[test]
fn a_pod_that_comes_back_goes_on_and_its_next_end_is_exported_too() {
    let harness = Harness::new();
    let exports = |links: Vec<LinkSnapshot>, departed: Vec<Departed>| {
        let export = flatten(&harness.export_all(links, departed)[0]);
        export.get(RETRANSMITS).map(|points| points[A])
    };
    assert_eq!(exports(vec![link("a")], vec![]), Some(0.0));
    assert_eq!(exports(vec![], vec![departed("a", 1)]), Some(5.0));
    assert_eq!(exports(vec![], vec![departed("a", 1)]), None);
    // Not from 0 again: the counter would fall under one start time.
    assert_eq!(exports(vec![link("a")], vec![]), Some(5.0));
    assert_eq!(exports(vec![], vec![departed("a", 2)]), Some(5.0));
    assert_eq!(exports(vec![], vec![departed("a", 2)]), None);
    // After its account is closed, a pod with that name is a new one.
    assert_eq!(exports(vec![], vec![]), None);
    assert_eq!(exports(vec![link("a")], vec![]), Some(0.0));
}

#[test]
fn a_pod_that_came_and_went_between_two_exports_is_exported_twice() {
    let harness = Harness::new();
    let snapshot = Arc::new(Snapshot {
        departed: vec![departed("a", 1)],
        ..Snapshot::default()
    });
    let exported = |expected: Option<f64>, withheld| {
        harness.memory.reset();
        let delivery = harness.pipeline.export(&snapshot);
        assert_eq!((delivery.arrived, delivery.withheld), (true, withheld));
        let exports = harness.memory.get_finished_metrics().unwrap();
        let retransmits = flatten(&exports[0]).remove(RETRANSMITS);
        assert_eq!(retransmits.map(|points| points[A]), expected);
    };
    assert!(!harness.pipeline.is_idle(&snapshot));
    exported(Some(0.0), true);
    exported(Some(5.0), false);
    assert!(harness.pipeline.is_idle(&snapshot));
    exported(None, false);
}

/// The errors of 150 pods once went to `otel.metric.overflow`, those of the real one among them.
#[test]
fn however_many_links_there_are_each_is_exported_in_full_and_agrees() {
    let harness = Harness::new();
    let failed: Vec<_> = CheckKind::ALL
        .into_iter()
        .flat_map(|kind| Cause::ALL.map(|cause| (kind, cause, 1)))
        .collect();
    let pods = REQUEST_LINKS * 3 + 1;
    let full = |pod: usize| {
        let mut link = link(&format!("pod-{pod}"));
        link.total.counts = counts_of(1, &failed, 1);
        link
    };
    let links: Vec<_> = (0..pods).map(full).collect();
    harness.export_all(links.clone(), Vec::new());
    let requests = harness.export_all(links, Vec::new());
    assert_eq!(requests.len(), 4);
    let requests: Vec<_> = requests.iter().map(flatten).collect();
    let mut seen = 0;
    for request in &requests {
        let (errors, checks) = (&request[links::ERRORS], &request[CHECKS]);
        assert!(errors.keys().all(|key| !key.contains("overflow")));
        assert_eq!(errors.len() / failed.len(), request[REACHABLE].len());
        assert_eq!(checks.len() / 3, request[REACHABLE].len());
        assert!(total(request, links::ERRORS) <= total(request, CHECKS));
        seen += request[REACHABLE].len();
    }
    assert_eq!(seen, pods);
    // One request has the agent's own figures.
    let own: Vec<_> = requests
        .iter()
        .map(|request| {
            request
                .keys()
                .filter(|it| it.starts_with("statlink"))
                .count()
        })
        .collect();
    assert_eq!(own, [10, 0, 0, 0]);
}

#[test]
fn names_as_long_as_they_may_be_make_smaller_requests() {
    let long = |n: usize| {
        let mut link = link(&format!("{n:0>253}"));
        link.name.namespace = "n".repeat(63);
        link.name.peer = "p".repeat(2_000);
        link
    };
    let harness = Harness::new();
    let requests = harness.export_all((0..100).map(long).collect(), Vec::new());
    let sizes: Vec<_> = requests
        .iter()
        .map(|request| flatten(request)[REACHABLE].len())
        .collect();
    assert_eq!(sizes.iter().sum::<usize>(), 100);
    assert!(sizes.iter().all(|size| *size < REQUEST_LINKS), "{sizes:?}");
}

#[test]
fn durations_carry_no_pod() {
    let harness = Harness::new();
    let durations = harness.pipeline.durations();
    durations.connect("autoscaler", Duration::from_millis(500), None);
    durations.connect(
        "autoscaler",
        Duration::from_secs(3),
        Some(Cause::HandshakeFailed),
    );
    durations.outage("autoscaler", Duration::from_secs(90), Cause::PeerClosed);
    let export = harness.export(Vec::new());
    let connect = &export["kn.activator.stats.conn.connect.duration"];
    let expected = [
        ("peer=autoscaler", 0.5),
        ("error.type=handshake_failed peer=autoscaler", 3.0),
    ];
    assert_eq!(
        *connect,
        expected.map(|(key, sum)| (key.to_owned(), sum)).into()
    );
    let outage = &export["kn.activator.stats.conn.outage.duration"];
    assert_eq!(outage["error.type=peer_closed peer=autoscaler"], 90.0);
}

//! Tests: what the agent exports about itself.

use std::time::Duration;

use super::{
    harness::{Harness, REACHABLE, link},
    *,
};
use crate::snapshot::{AgentSnapshot, SeriesName, Unobserved};

#[test]
fn without_a_link_it_exports_that_it_lives_and_which_hooks_it_lacks() {
    let export = Harness::new().export(Vec::new());
    let points: Vec<_> = export
        .iter()
        .flat_map(|(metric, points)| points.keys().map(move |key| format!("{metric} {key}")))
        .collect();
    assert_eq!(
        points,
        [
            "statlink.exports statlink.export.outcome=failed",
            "statlink.exports statlink.export.outcome=ok",
            "statlink.hook.attached statlink.hook.name=tcp_send_reset",
            "statlink.links ",
        ]
    );
}

#[test]
fn the_agent_exports_its_own_figures() {
    let export = Harness::new().export(vec![link("a"), link("b")]);
    assert_eq!(export["statlink.links"][""], 2.0);
    assert_eq!(
        export["statlink.hook.attached"]["statlink.hook.name=tcp_send_reset"],
        0.0
    );
    assert_eq!(
        export["statlink.hook.attached"]["statlink.hook.name=inet_sock_set_state"],
        1.0
    );
    assert_eq!(
        export["statlink.hook.misses"]["statlink.hook.name=inet_sock_set_state"],
        3.0
    );
    assert_eq!(
        export["statlink.records.read"]["statlink.record.kind=state"],
        7.0
    );
    assert_eq!(
        export["statlink.records.lost"]["statlink.loss.reason=ring_full"],
        2.0
    );
    assert_eq!(export["statlink.record.age"][""], 1.5);
    assert_eq!(export["statlink.ring.usage"][""], 64.0);
    assert_eq!(export["statlink.ring.limit"][""], 4096.0);
    assert_eq!(
        export["statlink.exports"]["statlink.export.outcome=failed"],
        0.0
    );
    assert!(export["statlink.memory.usage"][""] > 100_000.0);
}

#[test]
fn pods_that_are_not_observed_and_processes_without_a_link_are_told_though_there_is_no_link() {
    let unobserved = |pod, reason| Unobserved {
        name: SeriesName::of_activator(pod),
        since: Duration::from_secs(12),
        reason,
        explanation: String::new(),
    };
    let snapshot = Snapshot {
        unobserved: vec![
            unobserved("a", "no_process"),
            unobserved("b", "unplaced"),
            unobserved("c", "unplaced"),
        ],
        agent: AgentSnapshot {
            refused: vec![("name_taken", 0), ("unplaced", 3)],
            ..AgentSnapshot::default()
        },
        ..Snapshot::default()
    };
    let exported = Harness::new().export_snapshot(snapshot);
    let [export] = &exported[..] else {
        panic!("{exported:#?}");
    };
    let export = flatten(export);
    let pods = &export["statlink.pods.unobserved"];
    assert_eq!(pods["statlink.unobserved.reason=no_process"], 1.0);
    assert_eq!(pods["statlink.unobserved.reason=unplaced"], 2.0);
    assert_eq!(pods.len(), 2);
    let refused = &export["statlink.clients.refused"];
    assert_eq!(refused["statlink.refusal.reason=unplaced"], 3.0);
    assert_eq!(refused.len(), 1);
    let unknown = &export["statlink.links.unknown"];
    assert_eq!(unknown["statlink.unknown.reason=not_observed"], 3.0);
    assert!(!export.contains_key(REACHABLE));
}

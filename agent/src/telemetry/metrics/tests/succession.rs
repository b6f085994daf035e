//! Tests: one agent after another, with a memory.

use super::{
    harness::{A, Harness, departed, link},
    *,
};
use crate::{
    clock,
    memory::{self, Receiver},
    snapshot::SeriesName,
};

/// A counter that fell to 0 and came back would be counted twice.
#[test]
fn the_zeros_of_a_pod_are_exported_by_one_agent_alone() {
    let directory = tempfile::tempdir().unwrap();
    let agent = || {
        let memory = memory::open_again(directory.path());
        let mut harness = Harness::new();
        let to = Receiver::Collector;
        harness.pipeline =
            harness
                .pipeline
                .with_memory(Some(Arc::clone(&memory)), to, clock::now());
        // Like the loop, before it gives a snapshot.
        let name = SeriesName::of_activator("a");
        memory.write_down([memory::Pod::counting_since(name, 1, clock::now())]);
        harness
    };
    let retransmits = |harness: &Harness| harness.export(vec![link("a")])[RETRANSMITS][A];
    let first = agent();
    assert_eq!(retransmits(&first), 0.0);
    // The agent is killed.
    drop(first);
    let second = agent();
    // The agent has not found the pod's process yet.
    second.export_all(Vec::new(), Vec::new());
    assert_eq!(retransmits(&second), 5.0);
    assert!(second.export_all(Vec::new(), vec![departed("a", 1)]).len() == 1);
    drop(second);
    // The last counts have arrived.
    let third = agent();
    let flat = third.export_all(Vec::new(), vec![departed("a", 1)]);
    assert!(!flatten(flat.last().unwrap()).contains_key(RETRANSMITS));
}

//! One agent after the other, with a memory.

use super::{
    harness::{A, Harness, departed, link},
    *,
};
use crate::{
    memory::{self, Memory},
    snapshot::SeriesName,
    time::Timestamp,
};

/// A counter that fell to 0 and came back would be counted twice.
#[test]
fn the_zeros_of_a_pod_are_exported_by_one_agent_alone() {
    let directory = tempfile::tempdir().unwrap();
    let agent = || {
        let memory = Memory::open(directory.path()).unwrap().memory;
        // As the loop does, before it gives a snapshot.
        memory.remember([remembered("a")]);
        let mut harness = Harness::new();
        harness.pipeline = harness.pipeline.with_memory(Some(memory));
        harness
    };
    let retransmits = |harness: &Harness| harness.export(vec![link("a")])[RETRANSMITS][A];
    let first = agent();
    assert_eq!(retransmits(&first), 0.0);
    // It is killed.
    drop(first);
    let second = agent();
    // It has not found the pod's process yet.
    second.export_all(Vec::new(), Vec::new());
    assert_eq!(retransmits(&second), 5.0);
    assert!(second.export_all(Vec::new(), vec![departed("a", 1)]).len() == 1);
    drop(second);
    // The last counts have arrived.
    let third = agent();
    let flat = third.export_all(Vec::new(), vec![departed("a", 1)]);
    assert!(!flatten(flat.last().unwrap()).contains_key(RETRANSMITS));
}

fn remembered(pod: &str) -> memory::Pod {
    memory::Pod {
        name: SeriesName::of_activator(pod),
        uid: None,
        series_began: 1,
        total: memory::Tally::default(),
        unreached: None,
        last_seen: Timestamp::from_nanos(1),
        processes: Vec::new(),
    }
}

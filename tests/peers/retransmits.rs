//! Retransmitted segments: as many as the kernel counts, while the activator holds the connection.

use std::time::Duration;

use statlink_tests::{
    figures::Figures,
    peer::{Activator, Traffic},
    scenario::{Bed, metric},
    tcp::Counters,
    wait,
};

use crate::{PATIENCE, start_agent};

/// The kernel's count for the activator's pod.
fn by_kernel(activator: &Activator) -> f64 {
    Counters::of(activator.process.pid()).unwrap().retransmits as f64
}

/// Waits until the agent has exported the kernel's count; returns it.
#[track_caller]
fn wait_equal(bed: &Bed, activator: &Activator) -> f64 {
    let exported = || bed.count(activator, metric::RETRANSMITS, &[]);
    let equal = wait::until("equal count", PATIENCE, || {
        let kernel = by_kernel(activator);
        Ok((exported() == kernel).then_some(kernel))
    });
    let (kernel, exported) = (by_kernel(activator), exported());
    assert!(equal.is_ok(), "kernel {kernel}, exported {exported}");
    equal.unwrap()
}

#[test]
fn retransmits_are_counted_as_the_kernel_counts_them() {
    let mut bed = Bed::new().unwrap();
    start_agent(&mut bed);
    let stats = Traffic::Every(Duration::from_secs(1));
    let activator = bed.activator("activator", stats).unwrap();
    bed.wait_reachable(&activator, 1, PATIENCE).unwrap();

    let blackhole = bed.faults(&activator).blackhole().unwrap();
    // It stalls by retransmissions, long before the activator gives it up after 10 s.
    bed.wait_reachable(&activator, 0, PATIENCE).unwrap();
    blackhole.heal().unwrap();
    bed.wait_reachable(&activator, 1, PATIENCE).unwrap();
    let data = wait_equal(&bed, &activator);
    assert!(data > 0.0);

    let dropped = bed.faults(&activator).drop_syn().unwrap();
    bed.faults(&activator).reset_established().unwrap();
    bed.wait_error(&activator, "connect", "timeout", PATIENCE)
        .unwrap();
    dropped.heal().unwrap();
    bed.wait_reachable(&activator, 1, PATIENCE).unwrap();
    let with_syns = wait_equal(&bed, &activator);
    assert!(with_syns > data);

    // Segments that the kernel sends on a connection that the activator has given up belong to no
    // link.
    let blackhole = bed.faults(&activator).blackhole().unwrap();
    let dials = || Figures::of(&bed, &activator).checks("connect");
    let before = dials();
    wait::until("another dial", PATIENCE, || {
        Ok((dials() > before).then_some(()))
    })
    .unwrap();
    bed.wait_liveness_checks(&activator, 1, PATIENCE).unwrap();
    let exported = bed.count(&activator, metric::RETRANSMITS, &[]);
    let kernel = by_kernel(&activator);
    assert!(
        with_syns < exported && exported <= kernel,
        "{with_syns} < {exported} <= {kernel}"
    );
    blackhole.heal().unwrap();
    bed.check_invariants().unwrap();
}

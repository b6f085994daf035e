//! Segments sent again: as many as the kernel counts, while the activator holds the connection.

use std::{
    thread,
    time::{Duration, Instant},
};

use statlink_tests::{
    figures::Figures,
    peer::{Activator, Traffic},
    scenario::{Bed, metric},
    tcp::Counters,
};

use crate::{PATIENCE, start_agent};

/// What the kernel counted and what was told, once it is the same, or after a while.
fn counted(bed: &Bed, activator: &Activator) -> (f64, f64) {
    let end = Instant::now() + Duration::from_secs(5);
    loop {
        let kernel = Counters::of(activator.process.pid()).unwrap().retransmits as f64;
        let told = bed.count(activator, metric::RETRANSMITS, &[]);
        if told == kernel || Instant::now() > end {
            return (kernel, told);
        }
        thread::sleep(Duration::from_millis(100));
    }
}

/// After a moment too short for the activator to give it up.
fn hold() {
    thread::sleep(Duration::from_secs(4));
}

#[test]
fn what_is_sent_again_is_counted_as_the_kernel_counts_it() {
    let mut bed = Bed::new().unwrap();
    start_agent(&mut bed);
    let stats = Traffic::Every(Duration::from_secs(1));
    let activator = bed.activator("activator", stats).unwrap();
    bed.wait_reachable(&activator, 1, PATIENCE).unwrap();

    let blackhole = bed.faults(&activator).blackhole().unwrap();
    hold();
    blackhole.heal().unwrap();
    bed.wait_reachable(&activator, 1, PATIENCE).unwrap();
    let (data, told) = counted(&bed, &activator);
    assert!(data > 0.0);
    assert_eq!(told, data, "data");

    let dropped = bed.faults(&activator).drop_syn().unwrap();
    bed.faults(&activator).reset_established().unwrap();
    bed.wait_error(&activator, "connect", "timeout", PATIENCE)
        .unwrap();
    dropped.heal().unwrap();
    bed.wait_reachable(&activator, 1, PATIENCE).unwrap();
    let (syns, told) = counted(&bed, &activator);
    assert!(syns > data);
    assert_eq!(told, syns, "SYNs");

    // What the kernel still sends of a connection that the activator has given up is no link's.
    let blackhole = bed.faults(&activator).blackhole().unwrap();
    let dials = || Figures::of(&bed, &activator).checks("connect");
    let (before, end) = (dials(), Instant::now() + PATIENCE);
    while dials() == before {
        assert!(Instant::now() < end, "it never dialled again");
        thread::sleep(Duration::from_millis(100));
    }
    let (orphans, told) = counted(&bed, &activator);
    assert!(
        syns < told && told <= orphans,
        "{syns} < {told} <= {orphans}"
    );
    blackhole.heal().unwrap();
    bed.check_invariants().unwrap();
}

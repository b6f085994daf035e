//! A whole node without an agent.

use statlink_tests::{fault::Reject, peer::Traffic, scenario::Bed};

use crate::SOON;

#[test]
fn a_bed_is_a_node_with_a_healthy_link() {
    let mut bed = Bed::new().unwrap();
    let mut one = bed.activator("one", Traffic::Idle).unwrap();
    let target = bed.autoscaler().unwrap().v6();
    let mut other = bed.activator_to("other", target, Traffic::Idle).unwrap();
    one.wait_connected(SOON).unwrap();
    other.wait_connected(SOON).unwrap();

    let (mark, others) = (one.process.mark(), other.process.mark());
    let faults = bed.faults(&one);
    let fault = faults.reject_syn(Reject::TcpReset).unwrap();
    faults.reset_established().unwrap();
    one.wait_lost_after(mark, SOON).unwrap();
    one.wait_dial_failed_after(mark, "connection refused", SOON)
        .unwrap();
    fault.heal().unwrap();
    one.wait_connected_after(mark, SOON).unwrap();
    let spared = other.process.lines();
    let spared = spared
        .iter()
        .skip(others)
        .all(|line| line.event() != Some("lost"));
    assert!(spared, "a fault of one link must not affect another");
    bed.check_invariants().unwrap();
}

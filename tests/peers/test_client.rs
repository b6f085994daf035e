//! Behaviour that Knative's client cannot be made to show: the test client does it under the same
//! name.

use std::net::{IpAddr, SocketAddr};

use statlink_tests::{
    fault::Faults,
    figures::Figures,
    netns::Pod,
    peer::{Activator, PORT},
    process::Signal,
    scenario::{Bed, link, metric},
};

use crate::{
    PATIENCE,
    agent_log::{assert_outage_logged, assert_recovery_logged, wait_log},
    start_agent,
};

#[test]
fn a_dial_given_up_before_any_retransmission_is_cancelled() {
    assert_cancelled(|pod| pod.v4.into());
    assert_cancelled(|pod| pod.v6.into());
    assert_cancelled(|pod| pod.v4.to_ipv6_mapped().into());
}

fn assert_cancelled(to: fn(&Pod) -> IpAddr) {
    let mut bed = Bed::new().unwrap();
    start_agent(&mut bed);
    let pod = bed.network.pod("activator").unwrap();
    let faults = Faults::new(&pod, &bed.autoscaler_pod);
    let _fault = faults.drop_syn().unwrap();
    let to = SocketAddr::new(to(&bed.autoscaler_pod), PORT);
    let activator = Activator::stand_in(&pod, ["cancel", &to.to_string()]).unwrap();
    bed.wait_reachable(&activator, 0, PATIENCE).unwrap();
    bed.wait_error(&activator, "connect", "cancelled", PATIENCE)
        .unwrap();
    let figures = Figures::of(&bed, &activator);
    let attempts = figures.checks("connect");
    assert_eq!(figures.errors("connect"), [("cancelled", attempts)]);
    assert_eq!(figures.connects, 0.0);
    let to = to.ip().to_canonical().to_string();
    assert_outage_logged(&bed, &activator, "cancelled", &to);
}

#[test]
fn a_connection_that_a_running_activator_closes_is_local_closed() {
    let mut bed = Bed::new().unwrap();
    start_agent(&mut bed);
    let to = bed.target().to_string();
    let activator = bed.stand_in("activator", &["hold", &to]).unwrap();
    bed.wait_reachable(&activator, 1, PATIENCE).unwrap();
    // A close within 30 ms of the peer's last data would count as the answer to the peer's close.
    // The first pong is older: a connection counts 250 ms after the answer. The next is due after
    // 3.3 s.
    activator.process.signal(Signal::USR1).unwrap();
    bed.wait_reachable(&activator, 0, PATIENCE).unwrap();
    let to = bed.target().ip().to_string();
    assert_outage_logged(&bed, &activator, "local_closed", &to);
    activator.process.signal(Signal::USR1).unwrap();
    bed.wait_reachable(&activator, 1, PATIENCE).unwrap();
    assert_recovery_logged(&bed, &activator, "local_closed");
    let figures = Figures::of(&bed, &activator);
    assert_eq!(figures.errors("disconnect"), [("local_closed", 1.0)]);
    assert_eq!(figures.checks("disconnect"), 1.0);
    assert_eq!(figures.connects, 2.0);
    bed.check_invariants().unwrap();
}

#[test]
fn an_activator_that_never_dials_is_no_attempt() {
    let mut bed = Bed::new().unwrap();
    start_agent(&mut bed);
    let activator = bed.stand_in("activator", &["idle"]).unwrap();
    // After the grace the cause is not known yet.
    bed.wait_reachable(&activator, 0, PATIENCE).unwrap();
    bed.wait_error(&activator, "liveness", "_OTHER", PATIENCE)
        .unwrap();
    bed.wait_error(&activator, "liveness", "no_attempt", PATIENCE)
        .unwrap();
    let figures = Figures::of(&bed, &activator);
    assert_eq!(figures.checks("connect"), 0.0);
    let causes: Vec<_> = wait_log(&bed, &activator, "ERROR", 1)
        .iter()
        .map(|line| line.get("error.type").clone())
        .collect();
    assert_eq!(causes, ["no_attempt"], "logged once the cause is known");
    bed.check_invariants().unwrap();
}

/// Knative's client would make an IPv4 socket for such an address.
#[test]
fn an_ipv4_mapped_socket_is_like_any_other() {
    for (how, cause) in [("terminate", "peer_closed"), ("reset", "connection_reset")] {
        let mut bed = Bed::new().unwrap();
        start_agent(&mut bed);
        let mapped = bed.autoscaler.as_ref().unwrap().mapped().to_string();
        let activator = bed.stand_in("activator", &["hold", &mapped]).unwrap();
        bed.wait_reachable(&activator, 1, PATIENCE).unwrap();
        let rtt = bed.collector.latest(metric::RTT, &link(&activator.pod));
        assert!(rtt.unwrap().value.number() > 0.0);
        if how == "reset" {
            bed.faults(&activator).reset_established().unwrap();
        } else {
            let autoscaler = &mut bed.autoscaler().unwrap().process;
            autoscaler.terminate(PATIENCE).unwrap();
        }
        bed.wait_reachable(&activator, 0, PATIENCE).unwrap();
        // Logged in its IPv4 form.
        let to = bed.target().ip().to_string();
        assert_outage_logged(&bed, &activator, cause, &to);
        let figures = Figures::of(&bed, &activator);
        assert_eq!(figures.errors("disconnect"), [(cause, 1.0)]);
    }
}

//! An upgrade that is refused, and whose body takes long or does not end: the client holds on until it
//! has read it, or until its own deadline, 3 s after its dial began.

use statlink_tests::{
    figures::Figures,
    peer::{Activator, Autoscaler, PORT, Traffic, bad_server},
    scenario::Bed,
    wait::until,
};

use crate::{
    PATIENCE,
    agent_log::{assert_outage_logged, wait_log},
    start_agent,
};

#[test]
fn a_refusal_without_an_end_is_handshake_failed_and_up_once_at_most() {
    let mut bed = Bed::without_autoscaler().unwrap();
    start_agent(&mut bed);
    let server = bed.autoscaler_pod.clone();
    let listen = format!("[::]:{PORT}");
    let mut refusing = bad_server(&server, ["forbid-open", &listen]).unwrap();
    let pod = bed.network.pod("activator").unwrap();
    let activator = Activator::start(&pod, bed.target(), Traffic::Idle).unwrap();
    // For 3 s, the first dial looks like one that succeeds.
    bed.wait_error(&activator, "disconnect", "handshake_failed", PATIENCE)
        .unwrap();
    bed.wait_reachable(&activator, 0, PATIENCE).unwrap();
    let to = bed.target().ip().to_string();
    assert_outage_logged(&bed, &activator, "handshake_failed", &to);
    let failed = |bed: &Bed| Figures::of(bed, &activator).checks("connect");
    let more = || Ok((failed(&bed) >= 4.0).then_some(()));
    until("three more dials", PATIENCE, more).unwrap();
    let figures = Figures::of(&bed, &activator);
    assert_eq!(figures.connects, 1.0, "{figures:#?}");
    assert_eq!(figures.errors("disconnect"), [("handshake_failed", 1.0)]);
    let refused = figures.checks("connect") - 1.0;
    assert_eq!(figures.errors("connect"), [("handshake_failed", refused)]);
    assert_eq!(wait_log(&bed, &activator, "ERROR", 1).len(), 1);

    refusing.kill().unwrap();
    let _autoscaler = Autoscaler::start(&server).unwrap();
    bed.wait_reachable(&activator, 1, PATIENCE).unwrap();
    assert_eq!(Figures::of(&bed, &activator).connects, 2.0);
    bed.check_invariants().unwrap();
}

/// The client closes just after it has heard something, as it answers a peer that closes.
#[test]
fn a_refusal_that_comes_slowly_is_up_once_at_most() {
    for how in ["forbid-slowly", "forbid-endlessly"] {
        let mut bed = Bed::without_autoscaler().unwrap();
        start_agent(&mut bed);
        let server = bed.autoscaler_pod.clone();
        let listen = format!("[::]:{PORT}");
        let mut refusing = bad_server(&server, [how, &listen]).unwrap();
        let pod = bed.network.pod("activator").unwrap();
        let activator = Activator::start(&pod, bed.target(), Traffic::Idle).unwrap();
        let more = || {
            let figures = Figures::of(&bed, &activator);
            let failed = figures.errors("connect");
            Ok(failed.iter().any(|(_, count)| *count >= 3.0).then_some(()))
        };
        until("dials that failed", PATIENCE, more).unwrap();
        bed.wait_reachable(&activator, 0, PATIENCE).unwrap();
        let figures = Figures::of(&bed, &activator);
        assert_eq!(figures.connects, 1.0, "{how}: {figures:#?}");
        let refused = figures.checks("connect") - 1.0;
        assert_eq!(figures.errors("connect"), [("handshake_failed", refused)]);
        assert_eq!(figures.checks("disconnect"), 1.0, "{how}: {figures:#?}");

        refusing.kill().unwrap();
        let _autoscaler = Autoscaler::start(&server).unwrap();
        bed.wait_reachable(&activator, 1, PATIENCE).unwrap();
        bed.check_invariants().unwrap();
    }
}

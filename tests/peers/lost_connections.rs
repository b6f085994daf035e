//! Links that were up and are lost: each cause, in the order of the kernel's events.

use std::{
    net::SocketAddr,
    time::{Duration, SystemTime},
};

use statlink_tests::{
    fault::{Fault, Reject},
    figures::Figures,
    peer::{Activator, Traffic},
    process::{Line, Signal},
    scenario::{Bed, link, metric},
};

use crate::{
    PATIENCE,
    agent_log::{assert_outage_logged, assert_recovery_logged},
    start_agent,
};

const FLOWING: Traffic = Traffic::Every(Duration::from_secs(1));

/// `inject` breaks a link that is up, and `heal` mends it. The agent must report the loss once,
/// with `cause` and not before it happened, and then the recovery.
#[track_caller]
fn assert_loss<T>(
    traffic: Traffic,
    to: fn(&Bed) -> SocketAddr,
    cause: &str,
    inject: impl FnOnce(&mut Bed, &Activator) -> T,
    heal: impl FnOnce(&mut Bed, T),
) {
    let mut bed = Bed::new().unwrap();
    start_agent(&mut bed);
    let to = to(&bed);
    let mut events = bed.agent.as_ref().unwrap().events().unwrap();
    let activator = bed.activator_to("activator", to, traffic).unwrap();
    bed.wait_reachable(&activator, 1, PATIENCE).unwrap();
    events.wait_event("reachable", PATIENCE).unwrap();
    let mark = events.mark();
    assert_eq!(Figures::of(&bed, &activator).connects, 1.0);

    let begin = SystemTime::now();
    let undo = inject(&mut bed, &activator);
    let lost = events.wait_event("unreachable", PATIENCE).unwrap();
    assert_eq!(lost.get("cause"), cause, "{}", lost.text);
    assert!(lost.time().unwrap() >= begin, "{}", lost.text);
    bed.wait_error(&activator, "disconnect", cause, PATIENCE)
        .unwrap();
    // Some links recover at once: the gauge may have been 0 in only one export.
    let zeros = bed.collector.read(|exports| {
        let points = exports.iter().flat_map(|export| &export.points);
        let of_link = points.filter(|p| p.is(metric::REACHABLE, &link(&activator.pod)));
        of_link.filter(|p| p.value.number() == 0.0).count()
    });
    assert!(zeros > 0, "the gauge was never 0");
    assert_outage_logged(&bed, &activator, cause, &to.ip().to_string());

    heal(&mut bed, undo);
    let again = |line: &Line| line.event() == Some("reachable");
    events
        .wait_for_after(mark, "recovery", PATIENCE, again)
        .unwrap();
    bed.wait_reachable(&activator, 1, PATIENCE).unwrap();
    assert_recovery_logged(&bed, &activator, cause);
    let figures = Figures::of(&bed, &activator);
    assert_eq!(figures.errors("disconnect"), [(cause, 1.0)], "{figures:#?}");
    assert_eq!(figures.checks("disconnect"), 1.0, "{figures:#?}");
    bed.check_invariants().unwrap();
}

fn v4(bed: &Bed) -> SocketAddr {
    bed.target()
}

fn v6(bed: &Bed) -> SocketAddr {
    bed.autoscaler.as_ref().unwrap().v6()
}

fn terminate(bed: &mut Bed, _: &Activator) {
    let process = &mut bed.autoscaler().unwrap().process;
    process.terminate(PATIENCE).unwrap();
}

fn reset(bed: &mut Bed, activator: &Activator) {
    bed.faults(activator).reset_established().unwrap();
}

fn blackhole(bed: &mut Bed, activator: &Activator) -> Fault {
    bed.faults(activator).blackhole().unwrap()
}

fn freeze(bed: &mut Bed, _: &Activator) {
    bed.autoscaler().unwrap().process.freeze().unwrap();
}

#[test]
fn a_terminated_autoscaler_is_peer_closed() {
    for to in [v4, v6] {
        assert_loss(FLOWING, to, "peer_closed", terminate, |bed, ()| {
            bed.start_autoscaler().unwrap();
        });
    }
}

#[test]
fn a_killed_autoscaler_is_peer_closed() {
    let kill = |bed: &mut Bed, _: &Activator| {
        bed.autoscaler().unwrap().process.kill().unwrap();
    };
    assert_loss(Traffic::Idle, v4, "peer_closed", kill, |bed, ()| {
        bed.start_autoscaler().unwrap();
    });
}

#[test]
fn a_reset_is_connection_reset() {
    for to in [v4, v6] {
        assert_loss(Traffic::Idle, to, "connection_reset", reset, |_, ()| {});
    }
}

#[test]
fn an_abort_by_the_client_s_kernel_is_connection_aborted() {
    let abort = |bed: &mut Bed, activator: &Activator| {
        bed.faults(activator).abort_at_client().unwrap();
    };
    for to in [v4, v6] {
        assert_loss(Traffic::Idle, to, "connection_aborted", abort, |_, ()| {});
    }
}

#[test]
fn an_unreachable_host_is_stalled_while_the_kernel_retries() {
    let unreachable = |bed: &mut Bed, activator: &Activator| {
        let faults = bed.faults(activator);
        faults.reject_all(Reject::HostUnreachable).unwrap()
    };
    for to in [v4, v6] {
        assert_loss(FLOWING, to, "stalled", unreachable, |_, fault| {
            fault.heal().unwrap();
        });
    }
}

#[test]
fn a_blackhole_under_stats_is_stalled() {
    for to in [v4, v6] {
        assert_loss(FLOWING, to, "stalled", blackhole, |_, fault| {
            fault.heal().unwrap();
        });
    }
}

#[test]
fn an_idle_blackhole_is_stalled() {
    assert_loss(Traffic::Idle, v4, "stalled", blackhole, |_, fault| {
        fault.heal().unwrap();
    });
}

#[test]
fn a_frozen_peer_is_stalled_though_its_kernel_acknowledges() {
    for traffic in [FLOWING, Traffic::Idle] {
        assert_loss(traffic, v4, "stalled", freeze, |bed, ()| {
            bed.autoscaler().unwrap().process.thaw().unwrap();
        });
    }
}

#[test]
fn a_frozen_activator_is_local_stalled_until_it_is_answered_again() {
    for traffic in [FLOWING, Traffic::Idle] {
        let mut bed = Bed::new().unwrap();
        start_agent(&mut bed);
        let activator = bed.activator("activator", traffic).unwrap();
        bed.wait_reachable(&activator, 1, PATIENCE).unwrap();
        activator.process.freeze().unwrap();
        bed.wait_error(&activator, "disconnect", "local_stalled", PATIENCE)
            .unwrap();
        bed.wait_reachable(&activator, 0, PATIENCE).unwrap();
        let to = bed.target().ip().to_string();
        assert_outage_logged(&bed, &activator, "local_stalled", &to);
        bed.wait_error(&activator, "liveness", "local_stalled", PATIENCE)
            .unwrap();
        // Its client closes the old connection, because its own deadline has passed, and dials
        // again.
        activator.process.thaw().unwrap();
        bed.wait_reachable(&activator, 1, PATIENCE).unwrap();
        assert_recovery_logged(&bed, &activator, "local_stalled");
        let figures = Figures::of(&bed, &activator);
        assert_eq!(figures.errors("disconnect"), [("local_stalled", 1.0)]);
        assert_eq!(figures.connects, 2.0);
        bed.check_invariants().unwrap();
    }
}

#[test]
fn a_stall_that_ends_in_a_close_is_one_loss() {
    // Knative's client closes a stalled connection at its read deadline, after 10 s.
    let mut bed = Bed::new().unwrap();
    start_agent(&mut bed);
    let activator = bed.activator("activator", FLOWING).unwrap();
    bed.wait_reachable(&activator, 1, PATIENCE).unwrap();
    let fault = bed.faults(&activator).blackhole().unwrap();
    bed.wait_error(&activator, "connect", "timeout", PATIENCE)
        .unwrap();
    fault.heal().unwrap();
    bed.wait_reachable(&activator, 1, PATIENCE).unwrap();
    let figures = Figures::of(&bed, &activator);
    assert_eq!(figures.errors("disconnect"), [("stalled", 1.0)]);
    assert_eq!(figures.connects, 2.0);
}

#[test]
fn a_thawed_peer_recovers_on_the_connection_that_it_had() {
    let mut bed = Bed::new().unwrap();
    start_agent(&mut bed);
    let activator = bed.activator("activator", FLOWING).unwrap();
    bed.wait_reachable(&activator, 1, PATIENCE).unwrap();
    let autoscaler = &bed.autoscaler().unwrap().process;
    autoscaler.freeze().unwrap();
    bed.wait_reachable(&activator, 0, PATIENCE).unwrap();
    bed.autoscaler()
        .unwrap()
        .process
        .signal(Signal::CONT)
        .unwrap();
    bed.wait_reachable(&activator, 1, PATIENCE).unwrap();
    let figures = Figures::of(&bed, &activator);
    assert_eq!(figures.connects, 1.0, "the connection is the same");
    assert_eq!(figures.checks("disconnect"), 1.0);
}

//! Links that were up and break.

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
    PATIENCE, start_agent,
    told::{assert_outage_logged, assert_recovery_logged},
};

const FLOWING: Traffic = Traffic::Every(Duration::from_secs(1));

/// A link that is up; broken by `inject` and mended by `heal`, it is told as lost for `cause`,
/// once, within `limit`, and as back again.
#[track_caller]
fn assert_loss<T>(
    traffic: Traffic,
    to: fn(&Bed) -> SocketAddr,
    cause: &str,
    limit: Duration,
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
    let told = events.wait_event("unreachable", PATIENCE).unwrap();
    assert_eq!(told.get("cause"), cause, "{}", told.text);
    let known = told.get("known_at").as_f64().unwrap();
    let known = SystemTime::UNIX_EPOCH + Duration::try_from_secs_f64(known).unwrap();
    let latency = known.duration_since(begin).unwrap_or_default();
    println!("{cause} to {to} known after {latency:?}");
    assert!(latency < limit * 2, "known after {latency:?}");
    bed.wait_error(&activator, "disconnect", cause, PATIENCE)
        .unwrap();
    // Some come back at once: the gauge may have been 0 for a moment only.
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

fn soon() -> Duration {
    Duration::from_secs(1)
}

fn terminate(bed: &mut Bed, _: &Activator) {
    let process = &mut bed.autoscaler().unwrap().process;
    process.terminate(Duration::from_secs(10)).unwrap();
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
fn an_autoscaler_that_is_terminated_has_closed() {
    for to in [v4, v6] {
        assert_loss(FLOWING, to, "peer_closed", soon(), terminate, |bed, ()| {
            bed.start_autoscaler().unwrap();
        });
    }
}

#[test]
fn an_autoscaler_that_is_killed_has_closed() {
    let kill = |bed: &mut Bed, _: &Activator| {
        bed.autoscaler().unwrap().process.kill().unwrap();
    };
    assert_loss(Traffic::Idle, v4, "peer_closed", soon(), kill, |bed, ()| {
        bed.start_autoscaler().unwrap();
    });
}

#[test]
fn a_reset_is_a_reset() {
    for to in [v4, v6] {
        assert_loss(
            Traffic::Idle,
            to,
            "connection_reset",
            soon(),
            reset,
            |_, ()| {},
        );
    }
}

#[test]
fn an_abort_by_the_kernel_is_none_of_the_known() {
    let abort = |bed: &mut Bed, activator: &Activator| {
        bed.faults(activator).abort_at_client().unwrap();
    };
    for to in [v4, v6] {
        assert_loss(Traffic::Idle, to, "_OTHER", soon(), abort, |_, ()| {});
    }
}

#[test]
fn a_host_out_of_reach_is_stalled_as_long_as_the_kernel_tries() {
    let limit = Duration::from_secs(2);
    let unreachable = |bed: &mut Bed, activator: &Activator| {
        let faults = bed.faults(activator);
        faults.reject_all(Reject::HostUnreachable).unwrap()
    };
    for to in [v4, v6] {
        assert_loss(FLOWING, to, "stalled", limit, unreachable, |_, fault| {
            fault.heal().unwrap();
        });
    }
}

#[test]
fn a_blackhole_under_stats_is_stalled_within_two_seconds() {
    let limit = Duration::from_secs(2);
    for to in [v4, v6] {
        assert_loss(FLOWING, to, "stalled", limit, blackhole, |_, fault| {
            fault.heal().unwrap();
        });
    }
}

#[test]
fn an_idle_blackhole_is_stalled() {
    let limit = Duration::from_millis(5_500);
    assert_loss(
        Traffic::Idle,
        v4,
        "stalled",
        limit,
        blackhole,
        |_, fault| {
            fault.heal().unwrap();
        },
    );
}

#[test]
fn a_frozen_peer_is_stalled_though_its_kernel_acknowledges() {
    for traffic in [FLOWING, Traffic::Idle] {
        let limit = Duration::from_secs(9);
        assert_loss(traffic, v4, "stalled", limit, freeze, |bed, ()| {
            bed.autoscaler().unwrap().process.thaw().unwrap();
        });
    }
}

#[test]
fn a_stall_that_ends_in_a_close_is_one_loss() {
    // Knative's read deadline of 10 s closes a connection that has stalled before.
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
fn a_thawed_peer_heals_the_connection_that_it_had() {
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

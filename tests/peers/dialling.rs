//! Activators that start into trouble: each way a dial fails, told from the first one on.

use std::net::IpAddr;

use statlink_tests::{
    fault::{Fault, Faults, Reject, Route},
    figures::Figures,
    netns::Pod,
    peer::{Activator, Autoscaler, PORT, Traffic, bad_server},
    process::Process,
    scenario::Bed,
};

use crate::{
    PATIENCE, start_agent,
    told::{assert_outage_logged, assert_recovery_logged},
};

/// One way a dial fails.
struct Case {
    name: &'static str,
    cause: &'static str,
    server: Server,
    fault: fn(&Faults<'_>) -> Option<Fault>,
}

/// Who is on the port.
#[derive(Clone, Copy)]
enum Server {
    Nobody,
    Autoscaler,
    Frozen,
    Bad(&'static str),
}

const fn case(
    name: &'static str,
    cause: &'static str,
    fault: fn(&Faults<'_>) -> Option<Fault>,
) -> Case {
    Case {
        name,
        cause,
        server: Server::Autoscaler,
        fault,
    }
}

const fn served(name: &'static str, cause: &'static str, server: Server) -> Case {
    Case {
        name,
        cause,
        server,
        fault: |_| None,
    }
}

const CASES: &[Case] = &[
    served("no-listener", "connection_refused", Server::Nobody),
    case("tcp-reset", "connection_refused", |f| {
        f.reject_syn(Reject::TcpReset).ok()
    }),
    // As kube-proxy rejects for a Service without endpoints.
    case("port-unreach", "connection_refused", |f| {
        f.reject_syn(Reject::PortUnreachable).ok()
    }),
    case("local-reject", "connection_refused", |f| {
        f.reject_syn_locally(Reject::PortUnreachable).ok()
    }),
    case("syn-dropped", "timeout", |f| f.drop_syn().ok()),
    case("host-unreach", "host_unreachable", |f| {
        f.reject_syn(Reject::HostUnreachable).ok()
    }),
    case("no-host-route", "host_unreachable", |f| {
        f.route(Route::Unreachable).ok()
    }),
    case("net-unreach", "network_unreachable", |f| {
        f.reject_syn(Reject::NetworkUnreachable).ok()
    }),
    case("no-route", "network_unreachable", |f| {
        f.route(Route::None).ok()
    }),
    case("prohibited", "permission_denied", |f| {
        f.route(Route::Prohibit).ok()
    }),
    // EINVAL, which no cause of its own stands for.
    case("discarded", "_OTHER", |f| f.route(Route::Blackhole).ok()),
    case("out-of-ports", "address_unavailable", |f| {
        f.out_of_ports().ok()
    }),
    served("forbidden", "handshake_failed", Server::Bad("forbid")),
    served("closed", "handshake_failed", Server::Bad("close")),
    served("mute", "handshake_failed", Server::Bad("mute")),
    served("frozen", "handshake_failed", Server::Frozen),
    served("reset", "connection_reset", Server::Bad("reset")),
];

/// Where an IPv6 dial fails in another way than an IPv4 one.
const V6: &[&str] = &[
    "no-listener",
    "tcp-reset",
    "port-unreach",
    "syn-dropped",
    "host-unreach",
    "no-host-route",
    "net-unreach",
    "no-route",
    "prohibited",
    "discarded",
    "out-of-ports",
    "forbidden",
];

#[test]
fn each_way_a_dial_fails_has_its_cause() {
    play(&CASES.iter().collect::<Vec<_>>(), |pod| pod.v4.into());
}

#[test]
fn each_way_a_dial_fails_has_its_cause_in_ipv6() {
    let cases: Vec<_> = CASES
        .iter()
        .filter(|case| V6.contains(&case.name))
        .collect();
    assert_eq!(cases.len(), V6.len());
    play(&cases, |pod| pod.v6.into());
}

/// A case under way.
struct Scene<'a> {
    case: &'a Case,
    server_pod: Pod,
    autoscaler: Option<Autoscaler>,
    bad: Option<Process>,
    fault: Option<Fault>,
    activator: Activator,
    to: IpAddr,
}

/// All at once on one node, each in pods of its own: so each is told apart from the others, too.
fn play(cases: &[&Case], address: fn(&Pod) -> IpAddr) {
    let mut bed = Bed::without_autoscaler().unwrap();
    start_agent(&mut bed);
    let mut scenes: Vec<_> = cases.iter().map(|case| set(&bed, case, address)).collect();
    for scene in &scenes {
        failed(&bed, scene);
    }
    for scene in &mut scenes {
        heal(scene);
    }
    for scene in &scenes {
        healed(&bed, scene);
    }
    bed.check_invariants().unwrap();
}

fn set<'a>(bed: &Bed, case: &'a Case, address: fn(&Pod) -> IpAddr) -> Scene<'a> {
    let server_pod = bed.network.pod(&format!("{}-s", case.name)).unwrap();
    let pod = bed.network.pod(case.name).unwrap();
    let (mut autoscaler, mut bad) = (None, None);
    match case.server {
        Server::Nobody => {}
        Server::Autoscaler => autoscaler = Some(Autoscaler::start(&server_pod).unwrap()),
        Server::Frozen => {
            let frozen = autoscaler.insert(Autoscaler::start(&server_pod).unwrap());
            frozen.process.freeze().unwrap();
        }
        Server::Bad(how) => {
            let listen = format!("[::]:{PORT}");
            bad = Some(bad_server(&server_pod, [how, &listen]).unwrap());
        }
    }
    let fault = (case.fault)(&Faults::new(&pod, &server_pod));
    let to = address(&server_pod);
    let activator = Activator::start(&pod, (to, PORT).into(), Traffic::Idle).unwrap();
    Scene {
        case,
        server_pod,
        autoscaler,
        bad,
        fault,
        activator,
        to,
    }
}

/// It was never connected: not a missing series but 0, and every failed dial is counted, under
/// this cause alone.
fn failed(bed: &Bed, scene: &Scene<'_>) {
    let Scene {
        case,
        activator,
        to,
        ..
    } = scene;
    bed.wait_reachable(activator, 0, PATIENCE).unwrap();
    bed.wait_error(activator, "connect", case.cause, PATIENCE)
        .unwrap();
    let figures = Figures::of(bed, activator);
    let attempts = figures.checks("connect");
    assert_eq!(
        figures.errors("connect"),
        [(case.cause, attempts)],
        "{}: {figures:#?}",
        case.name
    );
    assert_eq!(figures.checks("disconnect"), 0.0, "{}", case.name);
    assert_eq!(figures.connects, 0.0, "{}", case.name);
    assert_outage_logged(bed, activator, case.cause, &to.to_string());
    bed.wait_error(activator, "liveness", case.cause, PATIENCE)
        .unwrap();
}

fn heal(scene: &mut Scene<'_>) {
    if let Some(fault) = scene.fault.take() {
        fault.heal().unwrap();
    }
    if let Some(bad) = &mut scene.bad {
        bad.kill().unwrap();
    }
    match (scene.case.server, &mut scene.autoscaler) {
        (Server::Frozen, Some(frozen)) => frozen.process.thaw().unwrap(),
        (_, Some(_)) => {}
        (_, none) => *none = Some(Autoscaler::start(&scene.server_pod).unwrap()),
    }
}

fn healed(bed: &Bed, scene: &Scene<'_>) {
    let Scene {
        case, activator, ..
    } = scene;
    bed.wait_reachable(activator, 1, PATIENCE).unwrap();
    let figures = Figures::of(bed, activator);
    assert_eq!(figures.connects, 1.0, "{}", case.name);
    let failed: f64 = figures.errors("connect").iter().map(|(_, n)| n).sum();
    assert_eq!(figures.checks("connect"), failed + 1.0, "{}", case.name);
    assert_eq!(figures.checks("disconnect"), 0.0, "{}", case.name);
    assert_recovery_logged(bed, activator, case.cause);
}

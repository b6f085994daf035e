//! A proxy in the activator's pod, such as a mesh's sidecar, which accepts the activator's connection
//! whatever the autoscaler does. Its own connection may explain a failure; it never proves that the
//! link is reachable.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    time::Duration,
};

use anyhow::Result;
use statlink_tests::{
    collector::Point,
    fault::{Fault, Faults, Reject},
    figures::Figures,
    netns::Pod,
    peer::{Activator, Autoscaler, PORT, Traffic, bad_server},
    process::Process,
    scenario::{Bed, link, metric},
    service::Service,
    sidecar::{Rule, Sidecar},
    wait::until,
};

use crate::{
    PATIENCE,
    agent_log::{assert_outage_logged, assert_recovery_logged, wait_log},
    start_agent,
};

/// A sidecar that forwards everything to `upstream`.
fn passing(pod: &Pod, service: SocketAddrV4, upstream: SocketAddrV4) -> Sidecar {
    Sidecar::start(pod, service, Rule::Pass(upstream)).unwrap()
}

/// A node without an autoscaler yet, an agent, a pod, and the Service that its activator dials.
fn world() -> (Bed, Pod, SocketAddrV4, SocketAddrV4) {
    let mut bed = Bed::without_autoscaler().unwrap();
    start_agent(&mut bed);
    let pod = bed.network.pod("activator").unwrap();
    let service = Service::new(bed.network.node(), PORT).unwrap().socket();
    let upstream = SocketAddrV4::new(bed.autoscaler_pod.v4, PORT);
    (bed, pod, service, upstream)
}

/// How the upstream fails the dials of the sidecar.
struct Upstream {
    what: &'static str,
    /// Its server, if that is not Knative's.
    server: Option<&'static str>,
    fault: Option<fn(Faults<'_>) -> Result<Fault>>,
    cause: &'static str,
}

const fn behaves(what: &'static str, server: &'static str, cause: &'static str) -> Upstream {
    Upstream {
        what,
        server: Some(server),
        fault: None,
        cause,
    }
}

const fn meets(
    what: &'static str,
    fault: fn(Faults<'_>) -> Result<Fault>,
    cause: &'static str,
) -> Upstream {
    Upstream {
        what,
        server: None,
        fault: Some(fault),
        cause,
    }
}

impl Upstream {
    /// Whether a dial may also fail with this cause.
    fn may_also_be(&self, cause: &str) -> bool {
        match cause {
            // The kernel drops an ICMP error for a socket that a process is using at that moment.
            // The SYN may then stay unanswered until the activator gives up.
            ICMP_IGNORED => self.what.starts_with("no-"),
            // The agent does not know the proxy's activity before it knew the pod.
            BEFORE_DISCOVERY => self.cause != BEFORE_DISCOVERY,
            _ => false,
        }
    }

    /// The cause at the beginning of the outage.
    fn onset(&self, bed: &Bed, activator: &Activator) -> String {
        let lines = wait_log(bed, activator, "ERROR", 1);
        let logged = lines
            .last()
            .and_then(|line| line.get("error.type").as_str());
        let other = logged.filter(|cause| self.may_also_be(cause));
        other.unwrap_or(self.cause).to_owned()
    }
}

const ICMP_IGNORED: &str = "timeout";
const BEFORE_DISCOVERY: &str = "handshake_failed";

const UPSTREAMS: &[Upstream] = &[
    behaves("reset", "reset", "connection_reset"),
    behaves("closed", "close", "handshake_failed"),
    meets("dropped", |f| f.drop_syn(), "timeout"),
    meets(
        "no-host",
        |f| f.reject_syn(Reject::HostUnreachable),
        "host_unreachable",
    ),
    meets(
        "no-network",
        |f| f.reject_syn(Reject::NetworkUnreachable),
        "network_unreachable",
    ),
];

/// The destination of the proxy's connection, by the last ERROR line.
fn proxy_address(bed: &Bed, activator: &Activator) -> Option<String> {
    let lines = wait_log(bed, activator, "ERROR", 1);
    let line = lines.last()?;
    line.get("hop.address").as_str().map(str::to_owned)
}

#[test]
fn an_upstream_that_refuses_the_sidecar_is_the_cause() {
    let (mut bed, pod, service, upstream) = world();
    let _sidecar = passing(&pod, service, upstream);
    let activator = Activator::start(&pod, service.into(), Traffic::Idle).unwrap();
    bed.wait_error(&activator, "connect", "connection_refused", PATIENCE)
        .unwrap();
    bed.wait_reachable(&activator, 0, PATIENCE).unwrap();
    assert_eq!(proxy_address(&bed, &activator), Some(upstream.to_string()));

    bed.start_autoscaler().unwrap();
    bed.wait_reachable(&activator, 1, PATIENCE).unwrap();
    bed.check_invariants().unwrap();
}

#[test]
fn a_sidecar_that_refuses_the_upgrade_by_itself_fails_the_handshake() {
    for status in [403, 503] {
        let (bed, pod, service, _) = world();
        let _sidecar = Sidecar::start(&pod, service, Rule::Answer(status)).unwrap();
        let activator = Activator::start(&pod, service.into(), Traffic::Idle).unwrap();
        bed.wait_error(&activator, "connect", "handshake_failed", PATIENCE)
            .unwrap();
        bed.wait_reachable(&activator, 0, PATIENCE).unwrap();
        assert_eq!(proxy_address(&bed, &activator), None, "{status}");
        assert_eq!(Figures::of(&bed, &activator).connects, 0.0);
    }
}

#[test]
fn a_sidecar_that_acknowledges_for_a_lost_upstream_does_not_hide_it() {
    let (mut bed, pod, service, upstream) = world();
    bed.start_autoscaler().unwrap();
    let _sidecar = passing(&pod, service, upstream);
    let flowing = Traffic::Every(Duration::from_secs(1));
    let activator = Activator::start(&pod, service.into(), flowing).unwrap();
    bed.wait_reachable(&activator, 1, PATIENCE).unwrap();
    assert_eq!(Figures::of(&bed, &activator).checks("connect"), 1.0);

    // Dropped only at the server: inside the pod, packets to and from the sidecar must arrive.
    let lost = bed.faults(&activator).drop_to_server().unwrap();
    bed.wait_error(&activator, "disconnect", "stalled", PATIENCE)
        .unwrap();
    assert_eq!(proxy_address(&bed, &activator), Some(upstream.to_string()));
    lost.heal().unwrap();
    bed.wait_reachable(&activator, 1, PATIENCE).unwrap();
    bed.check_invariants().unwrap();
}

#[test]
fn an_upstream_that_fails_the_sidecar_s_dial_is_the_cause() {
    let mut bed = Bed::without_autoscaler().unwrap();
    start_agent(&mut bed);
    // No interface has this address: the redirection catches packets to it.
    let service = Service::new(bed.network.node(), PORT).unwrap().socket();
    let scenes = UPSTREAMS.iter().map(|case| {
        let pod = bed.network.pod(case.what).unwrap();
        let server = bed.network.pod(&format!("{}-s", case.what)).unwrap();
        let upstream = SocketAddrV4::new(server.v4, PORT);
        let bad = case.server.map(|how| {
            let listen = format!("[::]:{PORT}");
            bad_server(&server, [how, &listen]).unwrap()
        });
        let fault = case
            .fault
            .map(|inject| inject(Faults::new(&pod, &server)).unwrap());
        let sidecar = passing(&pod, service, upstream);
        let activator = Activator::start(&pod, service.into(), Traffic::Idle).unwrap();
        (case, server, upstream, bad, fault, sidecar, activator)
    });
    let mut scenes: Vec<_> = scenes.collect();
    for (case, _, upstream, _, _, _, activator) in &scenes {
        bed.wait_reachable(activator, 0, PATIENCE).unwrap();
        bed.wait_error(activator, "connect", case.cause, PATIENCE)
            .unwrap();
        let figures = Figures::of(&bed, activator);
        let mut attempts = figures.checks("connect");
        let mut errors = figures.errors("connect");
        errors.retain(|(cause, count)| {
            // Only the first dial may be older than the discovery.
            let other = case.may_also_be(cause) && (*cause != BEFORE_DISCOVERY || *count == 1.0);
            attempts -= if other { *count } else { 0.0 };
            !other
        });
        assert_eq!(errors, [(case.cause, attempts)], "{}", case.what);
        assert_eq!(figures.connects, 0.0, "{}", case.what);
        let onset = case.onset(&bed, activator);
        assert_outage_logged(&bed, activator, &onset, &service.ip().to_string());
        let address = proxy_address(&bed, activator);
        assert_eq!(address, Some(upstream.to_string()), "{}", case.what);
    }
    for (case, server, _, bad, fault, _, activator) in &mut scenes {
        if let Some(bad) = bad {
            bad.kill().unwrap();
        }
        if let Some(fault) = fault.take() {
            fault.heal().unwrap();
        }
        let _autoscaler = Autoscaler::start(server).unwrap();
        bed.wait_reachable(activator, 1, PATIENCE).unwrap();
        let onset = case.onset(&bed, activator);
        assert_recovery_logged(&bed, activator, &onset);
        activator.process.kill().unwrap();
    }
    bed.check_invariants().unwrap();
}

#[test]
fn an_upstream_that_ends_the_sidecar_s_connection_is_the_cause() {
    type End = fn(&mut Bed, &Activator);
    let ends: [(&str, End); 2] = [
        ("connection_reset", |bed, activator| {
            bed.faults(activator).reset_established().unwrap();
        }),
        ("peer_closed", |bed, _| {
            bed.autoscaler().unwrap().process.kill().unwrap();
            bed.start_autoscaler().unwrap();
        }),
    ];
    let (mut bed, pod, service, upstream) = world();
    bed.start_autoscaler().unwrap();
    let _sidecar = passing(&pod, service, upstream);
    let activator = Activator::start(&pod, service.into(), Traffic::Idle).unwrap();
    for (before, (cause, end)) in ends.into_iter().enumerate() {
        let up = |point: &Point| point.value.number() > before as f64;
        let of_link = link(&activator.pod);
        let connects = bed
            .collector
            .wait_for(metric::CONNECTS, &of_link, PATIENCE, up);
        connects.unwrap();
        end(&mut bed, &activator);
        bed.wait_error(&activator, "disconnect", cause, PATIENCE)
            .unwrap();
        let figures = Figures::of(&bed, &activator);
        assert_eq!(figures.checks("disconnect"), before as f64 + 1.0, "{cause}");
        let lines = wait_log(&bed, &activator, "ERROR", before + 1);
        assert_eq!(lines.len(), before + 1, "{lines:#?}");
        assert_eq!(lines.last().unwrap().get("error.type"), cause);
        assert_eq!(proxy_address(&bed, &activator), Some(upstream.to_string()));
    }
    bed.wait_reachable(&activator, 1, PATIENCE).unwrap();
    bed.check_invariants().unwrap();
}

/// An engineer's own dials in the activator's pod, like curl in a debug container.
#[test]
fn what_somebody_else_dials_in_the_pod_explains_nothing() {
    let mut bed = Bed::new().unwrap();
    start_agent(&mut bed);
    let nobody = bed.network.pod("nobody").unwrap();
    let activator = bed.activator("activator", Traffic::Idle).unwrap();
    bed.wait_reachable(&activator, 1, PATIENCE).unwrap();
    let mut curl = curl(&activator.pod, nobody.v4);
    // Meanwhile it dials.
    bed.wait_liveness_checks(&activator, 1, PATIENCE).unwrap();
    bed.faults(&activator).reset_established().unwrap();
    bed.wait_error(&activator, "disconnect", "connection_reset", PATIENCE)
        .unwrap();
    assert_eq!(proxy_address(&bed, &activator), None);
    let figures = Figures::of(&bed, &activator);
    assert_eq!(figures.errors("disconnect"), [("connection_reset", 1.0)]);
    assert_eq!(figures.errors("connect"), []);
    curl.kill().unwrap();
}

/// The same while a dial is under way, and without an API that tells the autoscaler's addresses.
#[test]
fn what_somebody_else_dials_while_a_handshake_fails_explains_nothing() {
    let mut bed = Bed::without_autoscaler().unwrap();
    start_agent(&mut bed);
    let nobody = bed.network.pod("nobody").unwrap();
    let listen = format!("[::]:{PORT}");
    let _mute = bad_server(&bed.autoscaler_pod.clone(), ["mute", &listen]).unwrap();
    let pod = bed.network.pod("activator").unwrap();
    let mut curl = curl(&pod, nobody.v4);
    let activator = Activator::start(&pod, bed.target(), Traffic::Idle).unwrap();
    bed.wait_error(&activator, "connect", "handshake_failed", PATIENCE)
        .unwrap();
    let more = || {
        let figures = Figures::of(&bed, &activator);
        Ok((figures.checks("connect") >= 3.0).then_some(figures))
    };
    let figures = until("three dials", PATIENCE, more).unwrap();
    let failed = figures.checks("connect");
    assert_eq!(figures.errors("connect"), [("handshake_failed", failed)]);
    assert_eq!(proxy_address(&bed, &activator), None);
    curl.kill().unwrap();
}

/// Dials `nobody` again and again, in the namespace of `pod`.
fn curl(pod: &Pod, nobody: Ipv4Addr) -> Process {
    let mut curl = pod.namespace.command("bash");
    let dial = format!("while :; do (exec 3<>/dev/tcp/{nobody}/{PORT}); sleep 0.05; done");
    curl.args(["-c", &dial]).stderr(std::process::Stdio::null());
    Process::spawn("curl", curl).unwrap()
}

//! Activators that start into trouble: each way a dial fails, told from the first one on.
//!
//! What the kernel makes of a failure depends on where it meets it. Each column below is a test,
//! each row a case in it; what is in a field is the errno that the log has.
//!
//! | cause | how | IPv4 | IPv6 | IPv4-mapped | blocking |
//! |---|---|---|---|---|---|
//! | `connection_refused` | RST: nobody listens, or a reject | 111 | 111 | 111 | 111 |
//! | | ICMP port unreachable, by the server or on the node | 111 | 111 | 111 | 111 |
//! | | the same on the first retransmission | 111 | 111 | 111 | 111 |
//! | `timeout` | no answer, and the dialler gives up | none | none | none | |
//! | `host_unreachable` | ICMP, at once | 113 | 113 | 113 | 113 |
//! | | ICMP on the first retransmission | 113 | 113 | 113 | 113 |
//! | | ICMP administratively prohibited | 113 | | 113 | 113 |
//! | | no neighbour answers | 113 | 113 | 113 | 113 |
//! | | route `unreachable` | 113 | 113 | 113 | 113 |
//! | `network_unreachable` | ICMP, at once | 101 | 101 | 101 | 101 |
//! | | ICMP on the first retransmission | 101 | 101 | 101 | 101 |
//! | | no route | 101 | 101 | 101 | 101 |
//! | `permission_denied` | route `prohibit` | 13 | 13 | 13 | 13 |
//! | | ICMP administratively prohibited | | 13 | | |
//! | | a cgroup's program | 1 | 1 | | |
//! | `address_unavailable` | no local port; Go tries each dial three times | 99 | 99 | 99 | 99 |
//! | `_OTHER` | route `blackhole` | 22 | 22 | 22 | 22 |
//! | | ICMP protocol unreachable | 92 | | 92 | 92 |
//! | `handshake_failed` | refused, closed, never answered, frozen | none | none | | |
//! | `connection_reset` | RST once established | 104 | 104 | | |
//!
//! Knative's client dials by a non-blocking connect(): an error of the socket reaches it later. It
//! makes IPv4 sockets of mapped addresses. So a mapped socket is that of a dialler of ours, and so
//! is a blocking connect(), which returns what an ICMP error means. `cancelled` takes one, too.

use std::net::{IpAddr, SocketAddr};

use anyhow::Result;
use rustix::io::Errno;
use statlink_tests::{
    fault::{Fault, Faults, Reject, Route},
    figures::Figures,
    netns::Pod,
    peer::{Activator, Autoscaler, PORT, Traffic, bad_server},
    process::Process,
    scenario::Bed,
};

use crate::{
    PATIENCE,
    policy::Policy,
    start_agent,
    told::{assert_outage_logged, assert_recovery_logged, log},
};

/// One way a dial fails.
struct Case {
    name: &'static str,
    /// What it is told as, in IPv4 and in IPv6.
    told: [Option<Told>; 2],
    trouble: Trouble,
}

/// A cause, and the errno behind it.
type Told = (&'static str, Option<Errno>);

/// What is wrong.
#[derive(Clone, Copy)]
enum Trouble {
    Nobody,
    Frozen,
    Server(&'static str),
    Policy,
    Fault(fn(Faults<'_>) -> Result<Fault>),
}

/// Who dials, and how.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Knative's client.
    V4,
    V6,
    /// A dialler of ours to IPv4-mapped addresses, which gives up after 1.5 s.
    Mapped,
    /// A dialler of ours that waits in connect().
    Blocking,
}

const fn both(
    name: &'static str,
    cause: &'static str,
    errno: Option<Errno>,
    trouble: Trouble,
) -> Case {
    each(name, [Some((cause, errno)); 2], trouble)
}

const fn each(name: &'static str, told: [Option<Told>; 2], trouble: Trouble) -> Case {
    Case {
        name,
        told,
        trouble,
    }
}

const REFUSED: Option<Errno> = Some(Errno::CONNREFUSED);
const NO_HOST: Option<Errno> = Some(Errno::HOSTUNREACH);
const NO_NETWORK: Option<Errno> = Some(Errno::NETUNREACH);

const CASES: &[Case] = &[
    both(
        "no-listener",
        "connection_refused",
        REFUSED,
        Trouble::Nobody,
    ),
    both(
        "tcp-reset",
        "connection_refused",
        REFUSED,
        Trouble::Fault(|f| f.reject_syn(Reject::TcpReset)),
    ),
    // As kube-proxy rejects for a Service without endpoints.
    both(
        "port-unreach",
        "connection_refused",
        REFUSED,
        Trouble::Fault(|f| f.reject_syn(Reject::PortUnreachable)),
    ),
    both(
        "port-late",
        "connection_refused",
        REFUSED,
        Trouble::Fault(|f| f.reject_syn_late(Reject::PortUnreachable)),
    ),
    both(
        "local-reject",
        "connection_refused",
        REFUSED,
        Trouble::Fault(|f| f.reject_syn_locally(Reject::PortUnreachable)),
    ),
    both(
        "syn-dropped",
        "timeout",
        None,
        Trouble::Fault(|f| f.drop_syn()),
    ),
    both(
        "host-unreach",
        "host_unreachable",
        NO_HOST,
        Trouble::Fault(|f| f.reject_syn(Reject::HostUnreachable)),
    ),
    both(
        "host-late",
        "host_unreachable",
        NO_HOST,
        Trouble::Fault(|f| f.reject_syn_late(Reject::HostUnreachable)),
    ),
    both(
        "no-neighbour",
        "host_unreachable",
        NO_HOST,
        Trouble::Fault(|f| f.unplug_server()),
    ),
    both(
        "no-host-route",
        "host_unreachable",
        NO_HOST,
        Trouble::Fault(|f| f.route(Route::Unreachable)),
    ),
    each(
        "admin",
        [
            Some(("host_unreachable", NO_HOST)),
            Some(("permission_denied", Some(Errno::ACCESS))),
        ],
        Trouble::Fault(|f| f.reject_syn(Reject::AdminProhibited)),
    ),
    both(
        "net-unreach",
        "network_unreachable",
        NO_NETWORK,
        Trouble::Fault(|f| f.reject_syn(Reject::NetworkUnreachable)),
    ),
    both(
        "net-late",
        "network_unreachable",
        NO_NETWORK,
        Trouble::Fault(|f| f.reject_syn_late(Reject::NetworkUnreachable)),
    ),
    both(
        "no-route",
        "network_unreachable",
        NO_NETWORK,
        Trouble::Fault(|f| f.route(Route::None)),
    ),
    both(
        "prohibited",
        "permission_denied",
        Some(Errno::ACCESS),
        Trouble::Fault(|f| f.route(Route::Prohibit)),
    ),
    both(
        "policy",
        "permission_denied",
        Some(Errno::PERM),
        Trouble::Policy,
    ),
    both(
        OUT_OF_PORTS,
        "address_unavailable",
        Some(Errno::ADDRNOTAVAIL),
        Trouble::Fault(|f| f.out_of_ports()),
    ),
    both(
        "discarded",
        "_OTHER",
        Some(Errno::INVAL),
        Trouble::Fault(|f| f.route(Route::Blackhole)),
    ),
    each(
        "protocol",
        [Some(("_OTHER", Some(Errno::NOPROTOOPT))), None],
        Trouble::Fault(|f| f.reject_protocol()),
    ),
    both(
        "forbidden",
        "handshake_failed",
        None,
        Trouble::Server("forbid"),
    ),
    both("closed", "handshake_failed", None, Trouble::Server("close")),
    both("mute", "handshake_failed", None, Trouble::Server("mute")),
    both("frozen", "handshake_failed", None, Trouble::Frozen),
    both(
        "reset",
        "connection_reset",
        Some(Errno::CONNRESET),
        Trouble::Server("reset"),
    ),
];

#[test]
fn each_way_a_dial_fails_has_its_cause() {
    play(Form::V4);
}

#[test]
fn each_way_a_dial_fails_has_its_cause_in_ipv6() {
    play(Form::V6);
}

#[test]
fn each_way_a_dial_fails_has_its_cause_in_ipv4_mapped_sockets() {
    play(Form::Mapped);
}

#[test]
fn each_way_a_blocking_dial_fails_has_its_cause() {
    play(Form::Blocking);
}

impl Case {
    /// What it is told as where it is dialled like that; none where it cannot be.
    fn told(&self, form: Form) -> Option<Told> {
        let [v4, v6] = self.told;
        match (form, self.trouble) {
            (Form::V4, _) => v4,
            (Form::V6, _) => v6,
            // Ours does not speak HTTP, and starts where it likes.
            (_, Trouble::Frozen | Trouble::Server(_) | Trouble::Policy) => None,
            (Form::Mapped, Trouble::Nobody | Trouble::Fault(_)) => v4,
            // A time-out of the kernel's own takes minutes.
            (Form::Blocking, Trouble::Nobody | Trouble::Fault(_)) => {
                v4.filter(|(_, errno)| errno.is_some())
            }
        }
    }
}

impl Form {
    fn is_knative(self) -> bool {
        matches!(self, Self::V4 | Self::V6)
    }

    fn address(self, server: &Pod) -> IpAddr {
        match self {
            Self::V4 | Self::Blocking => server.v4.into(),
            Self::V6 => server.v6.into(),
            Self::Mapped => server.v4.to_ipv6_mapped().into(),
        }
    }

    fn dial(self, pod: &Pod, to: SocketAddr, policy: Option<&Policy>) -> Result<Activator> {
        let at = to.to_string();
        match (self, policy) {
            (Self::V4 | Self::V6, None) => Activator::start(pod, to, Traffic::Idle),
            (Self::V4 | Self::V6, Some(policy)) => Activator::start_in(&policy.container, pod, to),
            (Self::Mapped, _) => Activator::stand_in(pod, ["cancel", &at, "1600", "1500"]),
            (Self::Blocking, _) => Activator::stand_in(pod, ["flap", &at, "1", "1000"]),
        }
    }
}

/// A case under way. Who is in a pod or a container goes before it does.
struct Scene<'a> {
    case: &'a Case,
    told: Told,
    to: IpAddr,
    activator: Activator,
    policy: Option<Policy>,
    fault: Option<Fault>,
    autoscaler: Option<Autoscaler>,
    bad: Option<Process>,
    server_pod: Pod,
}

/// All at once on one node, each in pods of its own: so each is told apart from the others, too.
fn play(form: Form) {
    let mut bed = Bed::without_autoscaler().unwrap();
    start_agent(&mut bed);
    let cases = CASES
        .iter()
        .filter_map(|case| Some((case, case.told(form)?)));
    let mut scenes: Vec<_> = cases
        .map(|(case, told)| set(&bed, case, told, form))
        .collect();
    for scene in &scenes {
        failed(&bed, scene);
    }
    if form.is_knative() {
        for scene in &mut scenes {
            heal(scene);
        }
        for scene in &scenes {
            healed(&bed, scene);
        }
    }
    bed.check_invariants().unwrap();
}

fn set<'a>(bed: &Bed, case: &'a Case, told: Told, form: Form) -> Scene<'a> {
    let server_pod = bed.network.pod(&format!("{}-s", case.name)).unwrap();
    let pod = bed.network.pod(case.name).unwrap();
    let (mut autoscaler, mut bad, mut fault, mut policy) = (None, None, None, None);
    match case.trouble {
        Trouble::Nobody => {}
        Trouble::Frozen => {
            let frozen = autoscaler.insert(Autoscaler::start(&server_pod).unwrap());
            frozen.process.freeze().unwrap();
        }
        Trouble::Server(how) => {
            let listen = format!("[::]:{PORT}");
            bad = Some(bad_server(&server_pod, [how, &listen]).unwrap());
        }
        Trouble::Policy => {
            autoscaler = Some(Autoscaler::start(&server_pod).unwrap());
            policy = Some(Policy::refuse(&pod.name).unwrap());
        }
        Trouble::Fault(inject) => {
            autoscaler = Some(Autoscaler::start(&server_pod).unwrap());
            fault = Some(inject(Faults::new(&pod, &server_pod)).unwrap());
        }
    }
    let to = form.address(&server_pod);
    let activator = form.dial(&pod, (to, PORT).into(), policy.as_ref()).unwrap();
    Scene {
        case,
        told,
        to,
        activator,
        policy,
        fault,
        autoscaler,
        bad,
        server_pod,
    }
}

/// It was never connected: not a missing series but 0, and every failed dial is counted, under
/// this cause alone.
fn failed(bed: &Bed, scene: &Scene<'_>) {
    let Scene {
        case,
        told: (cause, errno),
        activator,
        to,
        ..
    } = scene;
    bed.wait_reachable(activator, 0, PATIENCE).unwrap();
    bed.wait_error(activator, "connect", cause, PATIENCE)
        .unwrap();
    let figures = Figures::of(bed, activator);
    let attempts = figures.checks("connect");
    assert_eq!(
        figures.errors("connect"),
        [(*cause, attempts)],
        "{}: {figures:#?}",
        case.name
    );
    assert_eq!(figures.checks("disconnect"), 0.0, "{}", case.name);
    assert_eq!(figures.connects, 0.0, "{}", case.name);
    assert_outage_logged(bed, activator, cause, &to.to_canonical().to_string());
    let lines = log(bed, activator, "ERROR");
    let attempts = lines.last().unwrap().get("attempts").to_string();
    match errno.map(Errno::raw_os_error) {
        Some(errno) => assert!(attempts.contains(&format!("errno {errno})")), "{attempts}"),
        None => assert!(!attempts.contains("errno"), "{attempts}"),
    }
    bed.wait_error(activator, "liveness", cause, PATIENCE)
        .unwrap();
}

fn heal(scene: &mut Scene<'_>) {
    if let Some(fault) = scene.fault.take() {
        fault.heal().unwrap();
    }
    if let Some(bad) = &mut scene.bad {
        bad.kill().unwrap();
    }
    if let Some(policy) = &mut scene.policy {
        policy.lift();
    }
    match (scene.case.trouble, &mut scene.autoscaler) {
        (Trouble::Frozen, Some(frozen)) => frozen.process.thaw().unwrap(),
        (_, Some(_)) => {}
        (_, none) => *none = Some(Autoscaler::start(&scene.server_pod).unwrap()),
    }
}

fn healed(bed: &Bed, scene: &Scene<'_>) {
    let Scene {
        case,
        told: (cause, _),
        activator,
        ..
    } = scene;
    let up = bed.wait_reachable(activator, 1, PATIENCE);
    assert!(up.is_ok(), "{up:?}; {:#?}", activator.process.lines());
    let figures = Figures::of(bed, activator);
    assert_eq!(figures.connects, 1.0, "{}", case.name);
    let failed: f64 = figures.errors("connect").iter().map(|(_, n)| n).sum();
    assert_eq!(figures.checks("connect"), failed + 1.0, "{}", case.name);
    // As many as the client's own log has.
    let lines = activator.process.lines();
    let dials = lines
        .iter()
        .filter(|line| line.event() == Some("dial_failed"));
    let tries = if case.name == OUT_OF_PORTS { 3 } else { 1 };
    assert_eq!(failed, (dials.count() * tries) as f64, "{}", case.name);
    assert_eq!(figures.checks("disconnect"), 0.0, "{}", case.name);
    assert_recovery_logged(bed, activator, cause);
}

/// For want of a port, Go makes three attempts of a dial.
const OUT_OF_PORTS: &str = "out-of-ports";

//! Activators that start while something is wrong: every way in which a dial fails, counted from
//! the first dial on.

mod cases;

use std::net::IpAddr;

use rustix::io::Errno;
use statlink_tests::{
    container::Container,
    fault::{Fault, Faults, Route},
    figures::Figures,
    netns::Pod,
    peer::{Activator, Autoscaler, PORT, Traffic, bad_server},
    policy::Policy,
    process::Process,
    scenario::Bed,
    tcp::Counters,
    wait::until,
};

use self::cases::{CASES, Case, Expected, Form, OTHER, OUT_OF_PORTS, Trouble};
use crate::{
    PATIENCE,
    agent_log::{assert_outage_logged, assert_recovery_logged, log},
    start_agent,
};

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

/// The client waits for an answer and does not know that its kernel cannot retransmit the SYN.
#[test]
fn a_route_that_goes_while_a_dial_waits_is_a_timeout_of_that_dial() {
    let mut bed = Bed::new().unwrap();
    start_agent(&mut bed);
    let pod = bed.network.pod("activator").unwrap();
    let server_pod = bed.autoscaler_pod.clone();
    let faults = Faults::new(&pod, &server_pod);
    let dropped = faults.drop_syn().unwrap();
    let mut activator = Activator::start(&pod, bed.target(), Traffic::Idle).unwrap();
    let pid = activator.process.pid();
    let sent = || Ok((Counters::of(pid)?.opens > 0).then_some(()));
    until("a SYN", PATIENCE, sent).unwrap();
    let routeless = faults.route(Route::None).unwrap();
    activator
        .wait_dial_failed_after(0, "i/o timeout", PATIENCE)
        .unwrap();
    for cause in ["network_unreachable", "timeout"] {
        bed.wait_error(&activator, "connect", cause, PATIENCE)
            .unwrap();
    }

    // In this order no second dial waits: without a route each fails at once.
    dropped.heal().unwrap();
    routeless.heal().unwrap();
    bed.wait_reachable(&activator, 1, PATIENCE).unwrap();
    let figures = Figures::of(&bed, &activator);
    let errors = figures.errors("connect");
    assert!(errors.contains(&("timeout", 1.0)), "{errors:?}");
    bed.check_invariants().unwrap();
}

/// A running case. Fields are dropped in this order: processes before their containers and pods.
struct Scene<'a> {
    case: &'a Case,
    expected: Expected,
    to: IpAddr,
    activator: Activator,
    policy: Option<Policy>,
    /// The policy is attached to its control group.
    _container: Option<Container>,
    fault: Option<Fault>,
    autoscaler: Option<Autoscaler>,
    bad: Option<Process>,
    server_pod: Pod,
}

/// Plays all cases at once on one node, each in its own pods: this also proves that links do not
/// affect each other.
fn play(form: Form) {
    let mut bed = Bed::without_autoscaler().unwrap();
    start_agent(&mut bed);
    let cases = CASES
        .iter()
        .filter_map(|case| Some((case, case.expected(form)?)));
    let mut scenes: Vec<_> = cases
        .map(|(case, expected)| start(&bed, case, expected, form))
        .collect();
    for scene in &scenes {
        assert_failed(&bed, scene);
    }
    if form.is_knative() {
        for scene in &mut scenes {
            heal(scene);
        }
        for scene in &scenes {
            assert_healed(&bed, scene);
        }
    }
    bed.check_invariants().unwrap();
}

fn start<'a>(bed: &Bed, case: &'a Case, expected: Expected, form: Form) -> Scene<'a> {
    let server_pod = bed.network.pod(&format!("{}-s", case.name)).unwrap();
    let pod = bed.network.pod(case.name).unwrap();
    let (mut autoscaler, mut bad, mut fault) = (None, None, None);
    let (mut container, mut policy) = (None, None);
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
            let container = container.insert(Container::new(&pod.name).unwrap());
            policy = Some(Policy::refuse(container).unwrap());
        }
        Trouble::Fault(inject) => {
            autoscaler = Some(Autoscaler::start(&server_pod).unwrap());
            fault = Some(inject(Faults::new(&pod, &server_pod)).unwrap());
        }
    }
    let to = form.address(&server_pod);
    let activator = form
        .dial(&pod, (to, PORT).into(), container.as_ref())
        .unwrap();
    Scene {
        case,
        expected,
        to,
        activator,
        policy,
        _container: container,
        fault,
        autoscaler,
        bad,
        server_pod,
    }
}

/// A link that was never connected is 0, not absent, and every failed dial is counted with the
/// expected cause only.
fn assert_failed(bed: &Bed, scene: &Scene<'_>) {
    let Scene {
        case,
        expected: (cause, errno),
        activator,
        to,
        ..
    } = scene;
    bed.wait_reachable(activator, 0, PATIENCE).unwrap();
    bed.wait_error(activator, "connect", cause, PATIENCE)
        .unwrap();
    let figures = Figures::of(bed, activator);
    let (mut errors, mut attempts) = (figures.errors("connect"), figures.checks("connect"));
    let mut taken = 0.0;
    // In IPv6 an ICMP error also comes with the first retransmission.
    let may_be_taken = case.comes_late() || to.to_canonical().is_ipv6();
    if may_be_taken && *cause != OTHER {
        // On a busy machine the client may take the errno before the kernel half reads it.
        errors.retain(|(of, count)| {
            let is_taken = *of == OTHER;
            taken += if is_taken { *count } else { 0.0 };
            !is_taken
        });
        attempts -= taken;
    }
    assert_eq!(errors, [(*cause, attempts)], "{}: {figures:#?}", case.name);
    assert_eq!(figures.checks("disconnect"), 0.0, "{}", case.name);
    assert_eq!(figures.connects, 0.0, "{}", case.name);
    if taken == 0.0 {
        assert_outage_logged(bed, activator, cause, &to.to_canonical().to_string());
    }
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
    scene.policy = None;
    match (scene.case.trouble, &mut scene.autoscaler) {
        (Trouble::Frozen, Some(frozen)) => frozen.process.thaw().unwrap(),
        (_, Some(_)) => {}
        (_, none) => *none = Some(Autoscaler::start(&scene.server_pod).unwrap()),
    }
}

fn assert_healed(bed: &Bed, scene: &Scene<'_>) {
    let Scene {
        case,
        expected: (cause, _),
        activator,
        ..
    } = scene;
    let up = bed.wait_reachable(activator, 1, PATIENCE);
    assert!(up.is_ok(), "{up:?}; {:#?}", activator.process.lines());
    let figures = Figures::of(bed, activator);
    assert_eq!(figures.connects, 1.0, "{}", case.name);
    let failed: f64 = figures.errors("connect").iter().map(|(_, n)| n).sum();
    assert_eq!(figures.checks("connect"), failed + 1.0, "{}", case.name);
    // The number of failures equals that in the client's own log.
    let lines = activator.process.lines();
    let dials = lines
        .iter()
        .filter(|line| line.event() == Some("dial_failed"));
    let tries = if case.name == OUT_OF_PORTS { 3 } else { 1 };
    assert_eq!(failed, (dials.count() * tries) as f64, "{}", case.name);
    assert_eq!(figures.checks("disconnect"), 0.0, "{}", case.name);
    assert_recovery_logged(bed, activator, cause);
}

//! A name with an IPv4 and an IPv6 address, of which one does not work: Go connects to both (Happy
//! Eyeballs, RFC 8305), and the loser is no failed attempt.

use statlink_tests::{
    fault::{Fault, Faults},
    figures::Figures,
    names::{self, Answer, URL, ask},
    netns::Pod,
    peer::{Activator, Autoscaler, Traffic},
    process::Process,
    scenario::Bed,
    wait::until,
};

use crate::{PATIENCE, start_agent};

/// How new connections to one family's address fail.
const TROUBLES: [(&str, &str); 4] = [
    (
        "v4-refused",
        "meta nfproto ipv4 tcp dport 8080 reject with tcp reset",
    ),
    (
        "v6-refused",
        "meta nfproto ipv6 tcp dport 8080 reject with tcp reset",
    ),
    ("v4-dropped", "meta nfproto ipv4 tcp dport 8080 drop"),
    ("v6-dropped", "meta nfproto ipv6 tcp dport 8080 drop"),
];

#[test]
fn a_family_that_does_not_work_is_no_failed_attempt_where_the_other_does() {
    let mut bed = Bed::without_autoscaler().unwrap();
    start_agent(&mut bed);
    let scenes: Vec<_> = TROUBLES
        .iter()
        .map(|(name, rule)| Scene::start(&bed, name, rule))
        .collect();
    for scene in &scenes {
        scene.assert_connected(&bed, 1.0);
    }
    for scene in &scenes {
        scene.faults().reset_established().unwrap();
    }
    for scene in &scenes {
        scene.assert_connected(&bed, 2.0);
    }
    bed.check_invariants().unwrap();
}

struct Scene {
    name: &'static str,
    activator: Activator,
    pod: Pod,
    server: Pod,
    _autoscaler: Autoscaler,
    _names: Process,
    _trouble: Fault,
}

impl Scene {
    fn start(bed: &Bed, name: &'static str, rule: &str) -> Self {
        let server = bed.network.pod(&format!("{name}-s")).unwrap();
        let pod = bed.network.pod(name).unwrap();
        let autoscaler = Autoscaler::start(&server).unwrap();
        let trouble = Fault::nft(name, &server.namespace, "input", rule).unwrap();
        let names = names::name_server(&server, Answer::Both(server.v4, server.v6)).unwrap();
        let activator = Activator::start_with(&pod, URL, Traffic::Idle, ask(&server)).unwrap();
        Self {
            name,
            activator,
            pod,
            server,
            _autoscaler: autoscaler,
            _names: names,
            _trouble: trouble,
        }
    }

    fn faults(&self) -> Faults<'_> {
        Faults::new(&self.pod, &self.server)
    }

    /// It has connected this many times, and no dial has failed.
    fn assert_connected(&self, bed: &Bed, times: f64) {
        let connected = || Ok((Figures::of(bed, &self.activator).connects >= times).then_some(()));
        until("connected", PATIENCE, connected).unwrap();
        bed.wait_reachable(&self.activator, 1, PATIENCE).unwrap();
        let figures = Figures::of(bed, &self.activator);
        assert_eq!(figures.connects, times, "{}: {figures:#?}", self.name);
        assert_eq!(
            figures.checks("connect"),
            times,
            "{}: {figures:#?}",
            self.name
        );
        assert_eq!(figures.errors("connect"), [], "{}: {figures:#?}", self.name);
    }
}

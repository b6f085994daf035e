//! Misbehaving servers, and the test client.

use std::{fs, net::SocketAddr, os::unix::fs::MetadataExt as _, time::Duration};

use statlink_tests::{
    fault::{Fault, Faults},
    peer::{Activator, Autoscaler, PORT, Traffic, bad_server},
    process::{Line, Signal},
    service::Service,
};

use crate::{SOON, two_pods};

fn event(name: &str) -> impl FnMut(&Line) -> bool {
    move |line| line.event() == Some(name)
}

#[test]
fn each_bad_server_fails_the_handshake_with_its_own_error() {
    let cases = [
        ("forbid", "bad handshake"),
        ("forbid-open", "bad handshake"),
        ("forbid-slowly", "bad handshake"),
        ("forbid-endlessly", "bad handshake"),
        ("unavailable", "bad handshake"),
        ("close", "EOF"),
        ("reset", "connection reset by peer"),
        ("mute", "i/o timeout"),
    ];
    for (behaviour, error) in cases {
        let (_network, client, server) = two_pods();
        let _server = bad_server(&server, [behaviour, "[::]:8080"]).unwrap();
        let target = SocketAddr::from((server.v4, PORT));
        let mut activator = Activator::start(&client, target, Traffic::Idle).unwrap();
        activator.wait_dial_failed_after(0, error, SOON).unwrap();
    }
}

#[test]
fn an_absorbing_sidecar_acknowledges_and_passes_nothing_on() {
    let (_network, client, server) = two_pods();
    let mut autoscaler = Autoscaler::start(&server).unwrap();
    let upstream = autoscaler.v4().to_string();
    let mut sidecar = bad_server(&client, ["proxy", "127.0.0.1:8080", &upstream]).unwrap();
    let traffic = Traffic::Every(Duration::from_millis(20));
    let target = SocketAddr::from(([127, 0, 0, 1], PORT));
    let mut activator = Activator::start(&client, target, traffic).unwrap();
    activator.wait_connected(SOON).unwrap();
    autoscaler.process.wait_event("message", SOON).unwrap();

    sidecar.signal(Signal::USR1).unwrap();
    let mut wait_absorbed = |stats: usize| {
        let (mark, mut seen) = (sidecar.mark(), 0);
        let absorbed = sidecar.wait_for_after(mark, "absorbed stats", SOON, |line| {
            seen += usize::from(line.event() == Some("absorbed"));
            seen >= stats
        });
        absorbed.unwrap();
    };
    // What it passed on before has arrived by then.
    wait_absorbed(5);
    let before = autoscaler.messages();
    wait_absorbed(10);
    assert_eq!(autoscaler.messages(), before);
    assert!(
        !activator
            .process
            .lines()
            .iter()
            .any(|line| line.event() == Some("lost"))
    );
}

#[test]
fn a_redirected_activator_connects_through_its_sidecar() {
    let (network, client, server) = two_pods();
    let mut autoscaler = Autoscaler::start(&server).unwrap();
    let service = Service::new(network.node(), PORT).unwrap();
    let target = service.socket();
    let upstream = autoscaler.v4().to_string();
    let _sidecar = bad_server(&client, ["proxy", "127.0.0.1:15001", &upstream]).unwrap();
    let _redirect = Fault::redirect(&client.namespace, target, 15_001).unwrap();
    let mut activator = Activator::start(&client, target.into(), Traffic::Idle).unwrap();
    activator.wait_connected(SOON).unwrap();
    autoscaler.process.wait_event("upgraded", SOON).unwrap();
}

#[test]
fn the_test_client_looks_like_an_activator_of_the_field() {
    let (_network, client, _server) = two_pods();
    let activator = Activator::stand_in(&client, ["idle"]).unwrap();
    let pid = activator.process.pid();
    assert_eq!(
        fs::read_to_string(format!("/proc/{pid}/comm"))
            .unwrap()
            .trim(),
        "activator"
    );
    // The user of Knative's images.
    let owner = fs::metadata(format!("/proc/{pid}")).unwrap();
    assert_eq!((owner.uid(), owner.gid()), (65_532, 65_532));
    let environment = fs::read_to_string(format!("/proc/{pid}/environ")).unwrap();
    assert!(
        environment.contains(&format!("POD_NAME={}\0", client.name)),
        "{environment}"
    );
}

#[test]
fn the_test_client_holds_a_websocket_until_a_signal() {
    let (_network, client, server) = two_pods();
    let mut autoscaler = Autoscaler::start(&server).unwrap();
    for target in [autoscaler.v4(), autoscaler.mapped()] {
        let mut held = Activator::stand_in(&client, ["hold", &target.to_string()]).unwrap();
        held.process.wait_event("upgraded", SOON).unwrap();
        held.process.signal(Signal::USR1).unwrap();
        held.process.wait_event("closed", SOON).unwrap();
        let mark = held.process.mark();
        held.process.signal(Signal::USR1).unwrap();
        let again = held
            .process
            .wait_for_after(mark, "upgrade", SOON, event("upgraded"));
        again.unwrap_or_else(|e| panic!("{e:#}; {}", autoscaler.process.describe()));
    }
    let mut upgrades = 0;
    let fourth = |line: &Line| {
        upgrades += usize::from(line.event() == Some("upgraded"));
        upgrades == 4
    };
    autoscaler
        .process
        .wait_for("fourth upgrade", SOON, fourth)
        .unwrap();
    assert_eq!(autoscaler.upgrades(), 4);
}

#[test]
fn the_test_client_flaps_as_often_as_asked() {
    let (_network, client, server) = two_pods();
    let refused = Activator::stand_in(&client, ["flap", &format!("{}:8080", server.v4), "0", "50"])
        .unwrap()
        .process
        .wait_event("flapped", SOON)
        .unwrap();
    assert_eq!(refused.get("failed"), &serde_json::json!({ "111": 50 }));

    let _server = bad_server(&server, ["sink", "[::]:8080"]).unwrap();
    let flapped = Activator::stand_in(
        &client,
        ["flap", &format!("{}:8080", server.v4), "100", "50"],
    )
    .unwrap()
    .process
    .wait_event("flapped", SOON)
    .unwrap();
    assert_eq!(flapped.get("connected"), 50);
    assert!(
        flapped.get("seconds").as_f64().unwrap() >= 0.49,
        "{flapped:?}"
    );
}

#[test]
fn the_test_client_cancels_before_any_answer() {
    let (_network, client, server) = two_pods();
    let faults = Faults::new(&client, &server);
    let _fault = faults.drop_syn().unwrap();
    let target = format!("{}:8080", server.v4);
    let mut activator = Activator::stand_in(&client, ["cancel", &target, "200", "50"]).unwrap();
    let cancelled = activator.process.wait_event("cancelled", SOON).unwrap();
    assert_eq!(
        cancelled.get("errno"),
        rustix::io::Errno::INPROGRESS.raw_os_error()
    );
}

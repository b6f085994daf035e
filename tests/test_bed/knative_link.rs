//! Knative's client and server: connecting, sending stats, restarting, ending.

use std::time::Duration;

use statlink_tests::{
    netns::{Network, Pod},
    peer::{Activator, Autoscaler, PORT, Traffic},
    service::Service,
};

use crate::{SOON, two_pods};

#[test]
fn the_native_metric_follows_the_autoscaler() {
    let (_network, client, server) = two_pods();
    let mut autoscaler = Autoscaler::start(&server).unwrap();
    let mut activator = Activator::start(&client, autoscaler.v4(), Traffic::Idle).unwrap();
    let up = activator.wait_connected(SOON).unwrap();
    assert_eq!(
        up.get("errors"),
        &serde_json::Value::Null,
        "no error was counted yet"
    );

    let mark = activator.process.mark();
    autoscaler.process.kill().unwrap();
    let lost = activator.wait_lost_after(mark, SOON).unwrap();
    assert_eq!(lost.get("errors"), 1);
    activator
        .wait_dial_failed_after(mark, "connection refused", SOON)
        .unwrap();

    let mark = activator.process.mark();
    let mut autoscaler = Autoscaler::start(&server).unwrap();
    let up = activator.wait_connected_after(mark, SOON).unwrap();
    assert_eq!(
        up.get("errors"),
        1,
        "failed dials count nothing in Knative's own metric"
    );
    autoscaler.process.wait_event("upgraded", SOON).unwrap();
    assert_eq!(autoscaler.upgrades(), 1);
}

#[test]
fn stats_arrive() {
    let (_network, client, server) = two_pods();
    let mut autoscaler = Autoscaler::start(&server).unwrap();
    let traffic = Traffic::Every(Duration::from_millis(20));
    let _activator = Activator::start(&client, autoscaler.v4(), traffic).unwrap();
    let third = |line: &statlink_tests::process::Line| line.get("count") == 3;
    let third = autoscaler
        .process
        .wait_for("third message", SOON, third)
        .unwrap();
    assert_eq!(third.get("pod"), client.name.as_str());
    assert!(autoscaler.messages() >= 3);
}

#[test]
fn an_autoscaler_that_restarts_sends_a_close_frame() {
    let (_network, client, server) = two_pods();
    let mut autoscaler = Autoscaler::start(&server).unwrap();
    let mut activator = Activator::start(&client, autoscaler.v4(), Traffic::Idle).unwrap();
    activator.wait_connected(SOON).unwrap();
    autoscaler.process.wait_event("upgraded", SOON).unwrap();
    let mark = activator.process.mark();
    autoscaler.restart().unwrap();
    let lost = |line: &statlink_tests::process::Line| line.event() == Some("lost");
    let lost = activator
        .process
        .wait_for_after(mark, "lost", SOON, lost)
        .unwrap();
    assert!(lost.text.contains("close 1012"), "{lost:?}");
    activator.wait_connected_after(mark, SOON).unwrap();
}

/// Shutdown() of Knative's client waits for its reader, which ends at the read deadline. No ping goes
/// out meanwhile, and the close comes up to 10 s after the last pong.
#[test]
fn an_activator_that_ends_drains_before_it_closes() {
    let (_network, client, server) = two_pods();
    let autoscaler = Autoscaler::start(&server).unwrap();
    let url = format!("ws://{}", autoscaler.v4());
    let mut activator =
        Activator::start_with(&client, &url, Traffic::Idle, ["--drain", "300ms"]).unwrap();
    activator.wait_connected(SOON).unwrap();
    assert!(activator.process.terminate(2 * SOON).unwrap().success());
    let lines = activator.process.lines();
    let at = |name| {
        lines
            .iter()
            .find(|line| line.event() == Some(name))
            .unwrap()
            .time()
            .unwrap()
    };
    let drained = at("stopped").duration_since(at("terminating")).unwrap();
    assert!(drained >= Duration::from_millis(300), "{drained:?}");
}

#[test]
fn every_form_of_address_connects() {
    let (_network, client, server) = two_pods();
    let autoscaler = Autoscaler::start(&server).unwrap();
    for target in [autoscaler.v4(), autoscaler.v6(), autoscaler.mapped()] {
        let mut activator = Activator::start(&client, target, Traffic::Idle).unwrap();
        activator.wait_connected(SOON).unwrap();
    }
}

#[test]
fn a_service_forwards_to_its_endpoint_or_refuses() {
    let (network, client, server) = two_pods();
    let _autoscaler = Autoscaler::start(&server).unwrap();
    let service = Service::new(network.node(), PORT).unwrap();
    let target = service.socket().into();
    let mut activator = Activator::start(&client, target, Traffic::Idle).unwrap();
    activator
        .wait_dial_failed_after(0, "connection refused", SOON)
        .unwrap();
    service.set_endpoint(Some(&server)).unwrap();
    activator.wait_connected(SOON).unwrap();
}

#[test]
fn lookups_go_to_the_given_name_server() {
    let network = Network::new().unwrap();
    let pod = |name| network.pod(name).unwrap();
    let (client, dns, server): (Pod, Pod, Pod) = (pod("client"), pod("dns"), pod("server"));
    let _autoscaler = Autoscaler::start(&server).unwrap();
    let start = || {
        let resolver = format!("{}:53", dns.v4);
        let url = "ws://autoscaler.knative-serving.svc.cluster.local:8080";
        Activator::start_with(&client, url, Traffic::Idle, ["--resolver", &resolver]).unwrap()
    };
    start()
        .wait_dial_failed_after(0, "connection refused", SOON)
        .unwrap();
    {
        let _dns = statlink_tests::peer::bad_server(&dns, ["dns", "[::]:53", "nxdomain"]).unwrap();
        start()
            .wait_dial_failed_after(0, "no such host", SOON)
            .unwrap();
    }
    let answer = server.v4.to_string();
    let _dns = statlink_tests::peer::bad_server(&dns, ["dns", "[::]:53", &answer]).unwrap();
    start().wait_connected(SOON).unwrap();
}

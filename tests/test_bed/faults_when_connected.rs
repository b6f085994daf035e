//! What Knative's client logs when a fault breaks its connection.

use std::{thread, time::Duration};

use statlink_tests::{
    fault::{Faults, Reject},
    peer::{Activator, Autoscaler, Traffic},
    process::Line,
};

use crate::{SOON, two_pods};

const BUSY: Traffic = Traffic::Every(Duration::from_millis(50));

/// What a connected client logs of the loss that `break_it` causes. A fault that this returns stays
/// in force until the loss.
fn loss<T>(traffic: Traffic, break_it: impl FnOnce(&Faults<'_>, &mut Autoscaler) -> T) -> String {
    let (_network, client, server) = two_pods();
    let mut autoscaler = Autoscaler::start(&server).unwrap();
    let mut activator = Activator::start(&client, autoscaler.v4(), traffic).unwrap();
    activator.wait_connected(SOON).unwrap();
    let mark = activator.process.mark();
    let faults = Faults::new(&client, &server);
    let _fault = break_it(&faults, &mut autoscaler);
    let lost = |line: &Line| line.event() == Some("lost");
    let patience = Duration::from_secs(20);
    let lost = activator
        .process
        .wait_for_after(mark, "loss", patience, lost);
    lost.unwrap().text
}

#[test]
fn a_reset_by_the_servers_kernel_arrives() {
    let lost = loss(Traffic::Idle, |faults, _| {
        faults.reset_established().unwrap();
    });
    assert!(lost.contains("connection reset by peer"), "{lost}");
}

#[test]
fn a_reset_on_the_way_answers_the_next_segment() {
    let lost = loss(BUSY, |faults, _| {
        faults.reject_all(Reject::TcpReset).unwrap()
    });
    assert!(lost.contains("connection reset by peer"), "{lost}");
}

#[test]
fn an_abort_by_the_client_s_kernel_is_reported_as_such() {
    let lost = loss(Traffic::Idle, |faults, _| faults.abort_at_client().unwrap());
    assert!(lost.contains("software caused connection abort"), "{lost}");
}

#[test]
fn a_killed_autoscaler_closes() {
    let lost = loss(Traffic::Idle, |_, autoscaler| {
        autoscaler.process.kill().unwrap()
    });
    assert!(lost.contains("EOF"), "{lost}");
}

/// The client notices either after 10 s, and logs the same.
#[test]
fn a_frozen_autoscaler_and_a_blackhole_look_alike_to_the_client() {
    thread::scope(|scope| {
        let frozen =
            scope.spawn(|| loss(BUSY, |_, autoscaler| autoscaler.process.freeze().unwrap()));
        let blackhole =
            scope.spawn(|| loss(Traffic::Idle, |faults, _| faults.blackhole().unwrap()));
        for lost in [frozen.join().unwrap(), blackhole.join().unwrap()] {
            assert!(lost.contains("i/o timeout"), "{lost}");
        }
    });
}

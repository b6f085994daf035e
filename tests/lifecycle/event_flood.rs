//! More records than the ring holds: counts stay right, and lost records are counted.

use statlink_tests::{
    figures::Figures,
    netns::Pod,
    peer::{Activator, PORT, bad_server},
    process::Process,
    scenario::{Bed, link, metric},
    tcp::Counters,
    wait,
};

use crate::{PATIENCE, options};

/// The test client connects at the rate at which the agent must not lose a count.
#[test]
fn every_connection_of_a_flood_is_counted_although_the_agent_slept() {
    const CONNECTIONS: u32 = 50_000;
    let (bed, _sink, mut client) = flood(10_000, u64::from(CONNECTIONS));
    let of_link = link(&client.pod);
    let agent = &bed.agent.as_ref().unwrap().process;
    let opened = || Counters::of(client.process.pid()).map(|counters| counters.opens);
    agent.freeze().unwrap();
    let asleep = opened().unwrap();
    wait::until("flood while the agent sleeps", PATIENCE, || {
        Ok((opened()? >= asleep + WHILE_ASLEEP).then_some(()))
    })
    .unwrap();
    agent.thaw().unwrap();
    let done = client.process.wait_event("flapped", PATIENCE * 2).unwrap();
    let seconds = done.get("seconds").as_f64().unwrap();
    println!(
        "{:.0} connections a second",
        f64::from(CONNECTIONS) / seconds
    );

    let all = f64::from(CONNECTIONS);
    let checks = [("kn.check.kind", "connect")];
    let of_link = [&of_link[..], &checks].concat();
    bed.collector
        .wait_for(metric::CHECKS, &of_link, PATIENCE, |point| {
            point.value.number() >= all
        })
        .unwrap();
    // None is counted again later.
    bed.wait_liveness_checks(&client, 1, PATIENCE).unwrap();
    let figures = Figures::of(&bed, &client);
    let errors: f64 = figures.errors("connect").iter().map(|(_, n)| n).sum();
    assert_eq!(figures.checks("connect"), all, "{figures:#?}");
    assert_eq!(errors, all, "none was upgraded: {figures:#?}");
    let reason = [("statlink.loss.reason", "ring_full")];
    let lost = bed.collector.value("statlink.records.lost", &reason);
    println!("{lost} records did not fit into the ring");
    assert!(lost > 0.0, "the test floods too little");
    bed.check_invariants().unwrap();
}

/// Only the kernel's totals have most of these ends, and the process ends before any pass.
#[test]
fn what_a_client_did_is_counted_although_it_is_gone_and_its_records_were_lost() {
    // Slowly at first, so that it has a link before the agent sleeps.
    let (bed, _sink, mut client) = flood(5_000, WHILE_ASLEEP);
    let of_link = link(&client.pod);
    let agent = &bed.agent.as_ref().unwrap().process;
    agent.freeze().unwrap();
    client.process.wait_event("flapped", PATIENCE).unwrap();
    client.process.kill().unwrap();
    agent.thaw().unwrap();

    let checks = [("kn.check.kind", "connect")];
    let of_link = [&of_link[..], &checks].concat();
    let all = WHILE_ASLEEP as f64;
    bed.collector
        .wait_for(metric::CHECKS, &of_link, PATIENCE, |point| {
            point.value.number() >= all
        })
        .unwrap();
    let figures = Figures::of(&bed, &client);
    let errors: f64 = figures.errors("connect").iter().map(|(_, n)| n).sum();
    assert_eq!(
        (figures.checks("connect"), errors),
        (all, all),
        "{figures:#?}"
    );
    bed.check_invariants().unwrap();
}

/// A client with a link that begins this many connections, at this rate; and the server that
/// accepts them.
fn flood(a_second: u32, connections: u64) -> (Bed, (Pod, Process), Activator) {
    let mut bed = Bed::without_autoscaler().unwrap();
    let options = options(&bed);
    bed.start_agent_with(&options).unwrap();
    let sink = bed.network.pod("sink").unwrap();
    let server = bad_server(&sink, ["sink", &format!("[::]:{PORT}")]).unwrap();
    let to = format!("{}:{PORT}", sink.v4);
    let (a_second, connections) = (a_second.to_string(), connections.to_string());
    let client = bed
        .stand_in("activator", &["flap", &to, &a_second, &connections])
        .unwrap();
    bed.collector
        .wait_for(metric::CHECKS, &link(&client.pod), PATIENCE, |_| true)
        .unwrap();
    (bed, (sink, server), client)
}

/// Each connection sends two records of more than 64 bytes; the ring has 128 KiB.
const WHILE_ASLEEP: u64 = 15_000;

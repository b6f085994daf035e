//! More than the ring holds: counts stay right, and the loss itself is told.

use std::{thread, time::Duration};

use statlink_tests::{
    figures::Figures,
    peer::{PORT, bad_server},
    scenario::{Bed, link, metric},
};

use crate::{PATIENCE, options};

/// Our dialler, at the rate that the design promises to bear.
#[test]
fn a_flood_that_the_agent_sleeps_through_is_counted_to_the_last() {
    const CONNECTIONS: u32 = 50_000;
    let mut bed = Bed::without_autoscaler().unwrap();
    let options = options(&bed);
    bed.start_agent_with(&options).unwrap();
    let sink = bed.network.pod("sink").unwrap();
    let _sink = bad_server(&sink, ["sink", &format!("[::]:{PORT}")]).unwrap();
    let to = format!("{}:{PORT}", sink.v4);
    let arguments = ["flap", &to, "10000", &CONNECTIONS.to_string()];
    let mut dialler = bed.stand_in("dialler", &arguments).unwrap();
    let of_link = link(&dialler.pod);
    bed.collector
        .wait_for(metric::CHECKS, &of_link, PATIENCE, |_| true)
        .unwrap();
    let agent = &bed.agent.as_ref().unwrap().process;
    agent.freeze().unwrap();
    thread::sleep(Duration::from_secs(2));
    agent.thaw().unwrap();
    let done = dialler.process.wait_event("flapped", PATIENCE * 2).unwrap();
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
    // Nor is one counted twice, later.
    thread::sleep(Duration::from_secs(2));
    let figures = Figures::of(&bed, &dialler);
    let errors: f64 = figures.errors("connect").iter().map(|(_, n)| n).sum();
    assert_eq!(figures.checks("connect"), all, "{figures:#?}");
    assert_eq!(errors, all, "none was upgraded: {figures:#?}");
    let reason = [("statlink.loss.reason", "ring_full")];
    let lost = bed.collector.value("statlink.records.lost", &reason);
    println!("{lost} records did not fit into the ring");
    assert!(lost > 0.0, "the test floods too little");
    bed.check_invariants().unwrap();
}

//! Counts belong to the pod: across its containers' lives, for two processes at once, and up to its
//! end.

use statlink_tests::{
    figures::Figures,
    peer::{Activator, PORT, Traffic},
    process::{Line, Signal},
    prometheus::Prometheus,
    scenario::{Bed, link, metric},
    wait,
};

use crate::{PATIENCE, options};

/// Waits until the Collector has this many dials of the activator's pod. It never had more, and
/// none of them succeeded.
#[track_caller]
fn wait_refused(bed: &Bed, activator: &Activator, dials: u32) {
    let connects = [&link(&activator.pod)[..], &[("kn.check.kind", "connect")]].concat();
    let all = f64::from(dials);
    let waited = bed
        .collector
        .wait_for(metric::CHECKS, &connects, PATIENCE, |point| {
            point.value.number() >= all
        });
    let figures = Figures::of(bed, activator);
    assert!(waited.is_ok(), "{all} dials: {waited:?}: {figures:#?}");
    assert_eq!(figures.checks("connect"), all);
    assert_eq!(figures.errors("connect"), [("connection_refused", all)]);
}

/// The activator made 900 dials, and the last export before its end had 500 of them.
#[test]
fn what_one_counted_between_an_export_and_its_end_is_exported() {
    let mut bed = Bed::without_autoscaler().unwrap();
    // By default, every 10 s.
    bed.start_agent().unwrap();
    let to = bed.target().to_string();
    let mut activator = bed
        .stand_in("activator", &["flap", &to, "100", "900"])
        .unwrap();
    activator.process.wait_event("flapped", PATIENCE).unwrap();
    activator.process.kill().unwrap();
    wait_refused(&bed, &activator, 900);
    bed.check_invariants().unwrap();
}

#[test]
fn what_one_counted_until_it_ended_waits_for_the_collector() {
    let mut bed = Bed::without_autoscaler().unwrap();
    let options = options(&bed);
    bed.start_agent_with(&options).unwrap();
    let mut events = bed.agent.as_ref().unwrap().events().unwrap();
    let to = bed.target().to_string();
    let mut activator = bed
        .stand_in("activator", &["flap", &to, "10", "20"])
        .unwrap();
    let of_link = link(&activator.pod);
    bed.collector
        .wait_for(metric::CHECKS, &of_link, PATIENCE, |_| true)
        .unwrap();
    bed.collector.stop().unwrap();
    activator.process.wait_event("flapped", PATIENCE).unwrap();
    activator.process.kill().unwrap();
    events.wait_event("ended", PATIENCE).unwrap();
    // `status` no longer has it.
    assert_eq!(bed.agent.as_ref().unwrap().activators().unwrap().len(), 0);
    bed.collector.restart().unwrap();
    wait_refused(&bed, &activator, 20);
    // Once is enough.
    bed.collector
        .wait_absent(metric::CHECKS, &of_link, PATIENCE)
        .unwrap();
    bed.check_invariants().unwrap();
}

/// A crash loop: its lives are shorter than the start-up grace, and none of them connects.
#[test]
fn one_that_is_restarted_goes_on_counting_and_is_0_from_its_second_life_on() {
    let mut bed = Bed::without_autoscaler().unwrap();
    let options = options(&bed);
    bed.start_agent_with(&options).unwrap();
    let mut events = bed.agent.as_ref().unwrap().events().unwrap();
    let pod = bed.network.pod("activator").unwrap();
    let to = bed.target().to_string();
    for life in 1..=3 {
        let mark = events.mark();
        let mut activator = Activator::stand_in(&pod, ["flap", &to, "0", "10"]).unwrap();
        activator.process.wait_event("flapped", PATIENCE).unwrap();
        if life > 1 {
            // At its discovery, not after a grace.
            let mut at = |name: &str| {
                let is = |line: &Line| line.event() == Some(name);
                let event = events.wait_for_after(mark, name, PATIENCE, is).unwrap();
                assert!(
                    name == "discovered" || event.get("cause") == "connection_refused",
                    "{}",
                    event.text
                );
                event.time().unwrap()
            };
            assert_eq!(at("discovered"), at("unreachable"));
            bed.wait_reachable(&activator, 0, PATIENCE).unwrap();
        }
        wait_refused(&bed, &activator, life * 10);
        let lives = bed.count(&activator, metric::LIVES, &[]);
        assert_eq!(lives, f64::from(life));
        let status = bed.agent.as_ref().unwrap().activators().unwrap();
        assert_eq!(status.len(), 1, "{status:?}");
        assert_eq!(status[0]["lives"], life);
        assert_eq!(status[0]["pid"], activator.process.pid());
        activator.process.kill().unwrap();
        let ended = |line: &Line| line.event() == Some("ended");
        events
            .wait_for_after(mark, "its end", PATIENCE, ended)
            .unwrap();
    }
    bed.check_invariants().unwrap();
}

/// Its counters fell to 0 and came back, which `increase()` counts as that many errors again.
#[test]
fn a_second_process_that_comes_and_goes_is_added_and_hides_nothing() {
    let mut bed = Bed::new().unwrap();
    let options = options(&bed);
    bed.start_agent_with(&options).unwrap();
    let mut events = bed.agent.as_ref().unwrap().events().unwrap();
    let activator = bed.activator("activator", Traffic::Idle).unwrap();
    bed.wait_reachable(&activator, 1, PATIENCE).unwrap();
    let nobody = bed.network.pod("nobody").unwrap();
    let to = format!("{}:{PORT}", nobody.v4);
    let mut second = Activator::stand_in(&activator.pod, ["flap", &to, "10", "20"]).unwrap();
    second.process.wait_event("flapped", PATIENCE).unwrap();
    // It runs for longer than its grace.
    bed.wait_liveness_checks(&activator, 2, PATIENCE).unwrap();
    let links = bed.agent.as_ref().unwrap().activators().unwrap();
    assert_eq!(links.len(), 1, "{links:?}");
    assert_eq!(links[0]["pid"], activator.process.pid());
    second.process.signal(Signal::KILL).unwrap();
    events.wait_event("ended", PATIENCE).unwrap();
    bed.wait_liveness_checks(&activator, 1, PATIENCE).unwrap();

    let figures = Figures::of(&bed, &activator);
    assert_eq!(figures.reachable, Some(1.0));
    assert_eq!(figures.connects, 1.0);
    assert_eq!(figures.checks("connect"), 21.0);
    assert_eq!(figures.errors("connect"), [("connection_refused", 20.0)]);
    assert_eq!(bed.count(&activator, metric::LIVES, &[]), 2.0);
    bed.collector.read(|exports| {
        let points = exports.iter().flat_map(|export| &export.points);
        for point in points.filter(|it| it.is(metric::REACHABLE, &link(&activator.pod))) {
            assert_eq!(point.value.number(), 1.0, "{point:#?}");
        }
    });
    bed.check_invariants().unwrap();
}

/// What an operator adds up: a restarted container, a second process beside it for a moment, and
/// counts from just before an end.
#[test]
fn prometheus_adds_up_each_error_once_over_restarts_of_the_container() {
    let mut bed = Bed::without_autoscaler().unwrap();
    let prometheus = Prometheus::start(bed.network.node()).unwrap();
    let mut options = options(&bed);
    options.endpoint = Some(prometheus.otlp_endpoint());
    let options = options.env("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf");
    bed.start_agent_with(&options).unwrap();
    let events = bed.agent.as_ref().unwrap().events().unwrap();
    let pod = bed.network.pod("activator").unwrap();
    let to = bed.target().to_string();
    let told_after = |mark| {
        let lines = events.lines_after(mark);
        let failed = lines
            .iter()
            .filter(|it| it.event() == Some("connect_failed"));
        failed.count()
    };
    // The agent sees each dial before the process ends, and Prometheus only few.
    let start = |dials: usize| {
        let mark = events.mark();
        let count = dials.to_string();
        let mut activator = Activator::stand_in(&pod, ["flap", &to, "0", &count]).unwrap();
        activator.process.wait_event("flapped", PATIENCE).unwrap();
        wait::until("every dial", PATIENCE, || {
            Ok((told_after(mark) >= dials).then_some(()))
        })
        .unwrap();
        activator
    };
    for dials in [7, 2, 2, 2] {
        let mut activator = start(dials);
        let mut second = start(5);
        second.process.kill().unwrap();
        activator.process.kill().unwrap();
    }
    let _last = start(4);

    let of_pod = format!(r#"k8s_pod_name="{}",kn_check_kind="connect""#, pod.name);
    let errors = format!(
        r#"kn_activator_stats_conn_errors_total{{{of_pod},error_type="connection_refused"}}"#
    );
    let checks = format!("kn_activator_stats_conn_checks_total{{{of_pod}}}");
    let value = |expression: &str| {
        let samples = prometheus.query(expression)?;
        anyhow::ensure!(samples.len() <= 1, "{expression}: {samples:?}");
        Ok(samples.first().map(|sample| sample.value))
    };
    let all = || f64::from(u32::try_from(told_after(0)).unwrap());
    wait::until("each error that was told", PATIENCE, || {
        Ok((value(&errors)? == Some(all())).then_some(()))
    })
    .unwrap();
    for series in [&errors, &checks] {
        // The first sample is 0, and the range ends at the last one, so nothing is extrapolated.
        let last = value(&format!("timestamp({series})")).unwrap().unwrap();
        let increase = value(&format!("increase({series}[10m] @ {last})")).unwrap();
        assert_eq!(increase, Some(all()), "{series}");
        let resets = value(&format!("resets({series}[10m] @ {last})")).unwrap();
        assert_eq!(resets, Some(0.0), "{series}");
    }
}

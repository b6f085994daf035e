//! Agents are killed, and their successors continue with what they left: counts, series, outages.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    time::Duration,
};

use statlink_tests::{
    agent,
    fault::Reject,
    figures::Figures,
    netns::Pod,
    peer::{Activator, Traffic},
    process::{Line, Process},
    prometheus::Prometheus,
    scenario::{Bed, link, metric},
    wait,
};
use tempfile::TempDir;

use crate::{PATIENCE, options};

/// Options of an agent that leaves its counts in `directory` for its successor.
fn heir(bed: &Bed, directory: &TempDir) -> agent::Options {
    options(bed).env("STATLINK_STATE_DIR", directory.path())
}

/// Kills the agent, whatever it is doing, and starts another one.
fn replace(bed: &mut Bed, options: &agent::Options) {
    bed.agent.as_mut().unwrap().process.kill().unwrap();
    bed.start_agent_with(options).unwrap();
}

/// Ends the agent by SIGTERM, and starts another one.
fn upgrade(bed: &mut Bed, options: &agent::Options) {
    let agent = bed.agent.as_mut().unwrap();
    let status = agent.process.terminate(PATIENCE).unwrap();
    assert!(status.success(), "{status:?}");
    bed.start_agent_with(options).unwrap();
}

/// The value of the next export that shows whether the link is reachable.
fn next_reachable(bed: &Bed, mark: usize, activator: &Activator) -> f64 {
    let of_link = link(&activator.pod);
    let (_, first) = bed
        .collector
        .wait_for_after(mark, metric::REACHABLE, &of_link, PATIENCE, |_| true)
        .unwrap();
    first.value.number()
}

/// A `statlink events` that receives everything from now on: it has received an event about a
/// process in `herald`.
fn listen(bed: &Bed, herald: &Pod) -> Process {
    let agent = bed.agent.as_ref().unwrap();
    let events = agent.events().unwrap();
    let to = bed.target().to_string();
    loop {
        let process = Activator::stand_in(herald, ["flap", &to, "0", "0"]).unwrap();
        let pid = process.process.pid();
        let is_of_it = |line: &Line| line.event() == Some("discovered") && line.get("pid") == pid;
        let told = wait::until("herald's link", PATIENCE, || {
            if events.lines_after(0).iter().any(is_of_it) {
                return Ok(Some(true));
            }
            let links = agent.activators()?;
            Ok(links.iter().any(|link| link["pid"] == pid).then_some(false))
        });
        if told.unwrap() {
            return events;
        }
    }
}

/// No counter of any link falls, and each has the same start time in every export.
#[track_caller]
fn check_series(bed: &Bed) {
    bed.collector.read(|exports| {
        let mut starts = BTreeMap::<_, BTreeSet<_>>::new();
        let mut newest = BTreeMap::new();
        for point in exports.iter().flat_map(|export| &export.points) {
            let is_counter = [
                metric::CHECKS,
                metric::ERRORS,
                metric::CONNECTS,
                metric::LIVES,
            ]
            .contains(&point.metric.as_str());
            if !is_counter {
                continue;
            }
            let series = (point.metric.clone(), point.attributes.clone());
            let value = point.value.number();
            if let Some(before) = newest.insert(series.clone(), value) {
                assert!(before <= value, "{before} before {point:#?}");
            }
            starts.entry(series).or_default().insert(point.start);
        }
        assert!(!starts.is_empty());
        for (series, starts) in starts {
            assert_eq!(starts.len(), 1, "{series:?}: {starts:?}");
        }
    });
}

/// An agent is killed five times while its activator's dials fail. Every dial that it knew of is
/// counted, however few of them were exported.
#[test]
fn prometheus_adds_up_each_error_once_over_deaths_of_the_agent() {
    let mut bed = Bed::without_autoscaler().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let prometheus = Prometheus::start(bed.network.node()).unwrap();
    let mut options = heir(&bed, &directory);
    options.endpoint = Some(prometheus.otlp_endpoint());
    let options = options.env("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf");
    bed.start_agent_with(&options).unwrap();
    let to = bed.target().to_string();
    let herald = bed.network.pod("herald").unwrap();
    let pod = bed.network.pod("activator").unwrap();
    let mut activators = Vec::new();
    let mut all = 0_u32;
    // At most as many dials as one pass reports one by one from before the discovery.
    for dials in [10, 1, 16, 7, 12] {
        let events = listen(&bed, &herald);
        let count = dials.to_string();
        activators.push(Activator::stand_in(&pod, ["flap", &to, "0", &count]).unwrap());
        wait::until("every dial", PATIENCE, || {
            let lines = events.lines_after(0);
            let of_pod = lines.iter().filter(|line| line.get("pod") == &*pod.name);
            let failed = of_pod.filter(|line| line.event() == Some("connect_failed"));
            Ok((failed.count() >= dials).then_some(()))
        })
        .unwrap();
        // It may have sent the last events before it wrote them to the memory; what its status
        // shows is written.
        bed.agent.as_ref().unwrap().status().unwrap();
        all += u32::try_from(dials).unwrap();
        replace(&mut bed, &options);
    }

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
    let all = Some(f64::from(all));
    wait::until("each error", PATIENCE, || {
        Ok((value(&errors)? == all && value(&checks)? == all).then_some(()))
    })
    .unwrap();
    let add_up = |series: &str| {
        // The first sample is 0, and the range ends at the last one, so nothing is extrapolated.
        let last = value(&format!("timestamp({series})")).unwrap().unwrap();
        let increase = value(&format!("increase({series}[10m] @ {last})")).unwrap();
        let resets = value(&format!("resets({series}[10m] @ {last})")).unwrap();
        assert_eq!(resets, Some(0.0), "{series}");
        increase
    };
    assert_eq!([add_up(&errors), add_up(&checks)], [all, all]);
    let status = bed.agent.as_ref().unwrap().activators().unwrap();
    let of_pod = status.iter().find(|link| link["pod"] == pod.name);
    assert_eq!(of_pod.unwrap()["lives"], activators.len(), "{status:?}");

    // One more agent is killed while dials run. Dials of which no agent saw both ends are not
    // counted.
    let more = Activator::stand_in(&pod, ["flap", &to, "20", "200"]);
    activators.push(more.unwrap());
    wait::until("an export of more", PATIENCE, || {
        Ok((value(&errors)? > all).then_some(()))
    })
    .unwrap();
    replace(&mut bed, &options);
    let more = &mut activators.last_mut().unwrap().process;
    more.wait_event("flapped", PATIENCE).unwrap();
    let lives = activators.len();
    wait::until("the last life", PATIENCE, || {
        let links = bed.agent.as_ref().unwrap().activators()?;
        let of_pod = links.iter().find(|link| link["pod"] == pod.name);
        Ok(of_pod
            .is_some_and(|link| link["lives"] == lives)
            .then_some(()))
    })
    .unwrap();
    let counted = add_up(&errors);
    let most = all.map(|all| all + 200.0);
    assert!(all < counted && counted <= most, "{counted:?} of {most:?}");
}

/// The first agent reports the begin and is killed, the second reports nothing about it and is
/// stopped, and the third reports the end.
#[test]
fn an_outage_goes_on_over_deaths_of_the_agent() {
    let mut bed = Bed::new().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let options = heir(&bed, &directory);
    bed.start_agent_with(&options).unwrap();
    let herald = bed.network.pod("herald").unwrap();
    let mut events = listen(&bed, &herald);
    let activator = bed.activator("activator", Traffic::Idle).unwrap();
    bed.wait_reachable(&activator, 1, PATIENCE).unwrap();
    let is_of_pod =
        |line: &Line, event| line.event() == Some(event) && line.get("pod") == &*activator.pod.name;
    let refused = bed.faults(&activator).reject_syn(Reject::TcpReset).unwrap();
    bed.faults(&activator).reset_established().unwrap();
    let began = events
        .wait_for("outage", PATIENCE, |line| is_of_pod(line, "unreachable"))
        .unwrap();
    bed.wait_error(&activator, "connect", "connection_refused", PATIENCE)
        .unwrap();
    let began_at = began.time().unwrap();
    let before = began_at.elapsed().unwrap();

    replace(&mut bed, &options);
    let mark = bed.collector.mark();
    assert_eq!(next_reachable(&bed, mark, &activator), 0.0);
    let status = bed.agent.as_ref().unwrap().activators().unwrap();
    let status = status.iter().find(|link| link["pod"] == activator.pod.name);
    let since = status.unwrap()["since_seconds"].as_f64().unwrap();
    // The outage did not begin with this agent.
    assert!(since >= before.as_secs_f64(), "{since} s, {before:?}");
    let figures = Figures::of(&bed, &activator);
    assert_eq!(figures.checks("disconnect"), 1.0);

    upgrade(&mut bed, &options);
    let mut events = listen(&bed, &herald);
    refused.heal().unwrap();
    let ended = events
        .wait_for("recovery", PATIENCE, |line| is_of_pod(line, "reachable"))
        .unwrap();
    let outage = ended.get("outage");
    assert_eq!(
        outage["cause"],
        began.get("cause").clone(),
        "{}",
        ended.text
    );
    let length = Duration::from_secs_f64(outage["duration"].as_f64().unwrap());
    let off = (ended.time().unwrap() - length)
        .duration_since(began_at)
        .unwrap_or_else(|earlier| earlier.duration());
    // Both are dated by the kernel; the shown times differ by the adjustment of the wall clock.
    assert!(off < Duration::from_secs(1), "{off:?}: {}", ended.text);
    bed.wait_reachable(&activator, 1, PATIENCE).unwrap();
    check_series(&bed);
    bed.check_invariants().unwrap();
}

/// Knative's client holds a stalled connection for 10 s, so each agent may find it open, or gone.
#[test]
fn a_connection_that_is_still_stalled_at_the_next_agent_is_one_loss() {
    let mut bed = Bed::new().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let options = heir(&bed, &directory);
    bed.start_agent_with(&options).unwrap();
    let activator = bed.activator("activator", Traffic::Idle).unwrap();
    bed.wait_reachable(&activator, 1, PATIENCE).unwrap();
    let fault = bed.faults(&activator).blackhole().unwrap();
    bed.wait_error(&activator, "disconnect", "stalled", PATIENCE)
        .unwrap();
    for _ in 0..2 {
        bed.agent.as_mut().unwrap().process.kill().unwrap();
        let mark = bed.collector.mark();
        bed.start_agent_with(&options).unwrap();
        assert_eq!(next_reachable(&bed, mark, &activator), 0.0);
    }
    fault.heal().unwrap();
    bed.wait_reachable(&activator, 1, PATIENCE).unwrap();
    bed.wait_liveness_checks(&activator, 1, PATIENCE).unwrap();
    let figures = Figures::of(&bed, &activator);
    assert_eq!(
        figures.errors("disconnect"),
        [("stalled", 1.0)],
        "{figures:#?}"
    );
    check_series(&bed);
    bed.check_invariants().unwrap();
}

/// Nothing happens to the link, and nothing is reported about it.
#[test]
fn a_death_of_the_agent_is_no_loss_of_a_link_that_is_up() {
    let mut bed = Bed::new().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let options = heir(&bed, &directory);
    bed.start_agent_with(&options).unwrap();
    let activator = bed.activator("activator", Traffic::Idle).unwrap();
    bed.wait_reachable(&activator, 1, PATIENCE).unwrap();
    bed.wait_liveness_checks(&activator, 1, PATIENCE).unwrap();
    for end in [replace, upgrade] {
        end(&mut bed, &options);
        bed.wait_liveness_checks(&activator, 1, PATIENCE).unwrap();
    }
    let of_link = link(&activator.pod);
    bed.collector.read(|exports| {
        let points = exports.iter().flat_map(|export| &export.points);
        for point in points.filter(|point| point.is(metric::REACHABLE, &of_link)) {
            assert_eq!(point.value.number(), 1.0, "{point:#?}");
        }
    });
    let figures = Figures::of(&bed, &activator);
    assert_eq!(figures.connects, 1.0, "{figures:#?}");
    assert_eq!(figures.checks("connect"), 1.0, "{figures:#?}");
    assert_eq!(figures.errors, BTreeMap::new(), "{figures:#?}");
    assert_eq!(bed.count(&activator, metric::LIVES, &[]), 1.0);
    check_series(&bed);
    bed.check_invariants().unwrap();
}

/// Agents are killed again and again as soon as they answer, while dials fail all the time.
#[test]
fn a_crash_loop_of_the_agent_leaves_its_counts_and_nothing_else() {
    /// For 24 s. The first count is shown 15 s after the first dial at the latest: the outage is
    /// exported after 5 s, with zeros, and the next export comes within 10 s.
    const DIALS: u32 = 1200;
    let mut bed = Bed::without_autoscaler().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let options = heir(&bed, &directory);
    bed.start_agent_with(&options).unwrap();
    let to = bed.target().to_string();
    let mut activator = bed
        .stand_in("activator", &["flap", &to, "50", &DIALS.to_string()])
        .unwrap();
    let of_link = link(&activator.pod);
    bed.collector
        .wait_for(metric::ERRORS, &of_link, PATIENCE, |point| {
            point.value.number() > 0.0
        })
        .unwrap();
    let shown = Figures::of(&bed, &activator).checks("connect");
    for _ in 0..8 {
        replace(&mut bed, &options);
    }
    activator.process.wait_event("flapped", PATIENCE).unwrap();
    bed.wait_liveness_checks(&activator, 1, PATIENCE).unwrap();
    check_series(&bed);
    let figures = Figures::of(&bed, &activator);
    let counted = figures.checks("connect");
    // For most dials no agent saw both ends. None is counted twice.
    let most = f64::from(DIALS);
    assert!(shown < counted && counted <= most, "{shown}: {figures:#?}");
    assert_eq!(bed.count(&activator, metric::LIVES, &[]), 1.0);
    let files = fs::read_dir(directory.path()).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    let names: BTreeSet<_> = names.collect();
    let left = ["memory", "memory.lock", "memory.new"].map(str::to_owned);
    assert!(names.is_subset(&BTreeSet::from(left)), "{names:?}");
    bed.check_invariants().unwrap();
}

/// It starts with what it can use: a damaged file is reported and replaced.
#[test]
fn what_was_damaged_is_not_taken_over() {
    let mut bed = Bed::new().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("memory");
    fs::write(&file, "statlink-memory 1 17 0\nhalf a file").unwrap();
    let options = heir(&bed, &directory);
    bed.start_agent_with(&options).unwrap();
    let process = &mut bed.agent.as_mut().unwrap().process;
    let is_warning = |line: &Line| {
        let message = line.get("message").as_str();
        message.is_some_and(|message| message.contains("is not taken over"))
    };
    process.wait_for("warning", PATIENCE, is_warning).unwrap();
    let activator = bed.activator("activator", Traffic::Idle).unwrap();
    bed.wait_reachable(&activator, 1, PATIENCE).unwrap();
    wait::until("new file", PATIENCE, || {
        let text = fs::read_to_string(&file).unwrap_or_default();
        Ok(text.contains(&activator.pod.name).then_some(()))
    })
    .unwrap();
}

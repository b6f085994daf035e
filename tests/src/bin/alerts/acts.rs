//! The acts: what happens to the cluster, and in which order.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::process::Signal;
use statlink_tests::{
    cluster::{Filter, KNATIVE},
    wait,
};

use crate::{
    place::{AGENT, Place, SETTLED, SOON},
    rules::Rules,
    table::{Alert, Expected, Table},
    watch::Watch,
};

/// One act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Act {
    /// Nothing happens
    Quiet,
    /// The agent, the autoscaler, the activators are rolled out
    Rollouts,
    /// Nodes are drained
    Drains,
    /// Things that come back by themselves: a deleted autoscaler, a killed activator
    Killed,
    /// The autoscaler is away
    Away,
    /// Activators are cut off by packet filters
    Cut,
    /// Activators are frozen, flap, crash
    Sick,
    /// Names resolve to nothing, or to another server
    Names,
    /// The agent is killed in the middle of an outage
    AgentGone,
}

impl Act {
    pub(crate) const fn rules(self) -> Rules {
        match self {
            Self::Quiet | Self::Rollouts | Self::Drains | Self::Killed | Self::Away => {
                Rules::AsTaken
            }
            Self::Cut | Self::Sick => Rules::WithoutBudget,
            Self::Names | Self::AgentGone => Rules::Faster,
        }
    }

    pub(crate) fn play(self, place: &mut Place, table: &mut Table) -> Result<()> {
        match self {
            Self::Quiet => quiet_hours(place, table),
            Self::Rollouts => rollouts(place, table),
            Self::Drains => drains(place, table),
            Self::Killed => killed(place, table),
            Self::Away => away(place, table),
            Self::Cut => cut(place, table),
            Self::Sick => sick(place, table),
            Self::Names => names(place, table),
            Self::AgentGone => agent_gone(place, table),
        }
    }
}

fn quiet_hours(place: &mut Place, table: &mut Table) -> Result<()> {
    nothing(place, table, "nothing is done", |_, _| Ok(()))
}

fn rollouts(place: &mut Place, table: &mut Table) -> Result<()> {
    nothing(place, table, "the agent is rolled out", |place, _| {
        place.cluster.roll_out(AGENT, "daemonset/statlink", SOON)
    })?;
    nothing(place, table, "the autoscaler is rolled out", |place, _| {
        place
            .cluster
            .roll_out(KNATIVE, "deployment/autoscaler", SOON)
    })?;
    nothing(place, table, "the activators are rolled out", |place, _| {
        place
            .cluster
            .roll_out(KNATIVE, "deployment/activator", SOON)
    })
}

fn drains(place: &mut Place, table: &mut Table) -> Result<()> {
    nothing(
        place,
        table,
        "a node with two activators is drained",
        |place, _| {
            for activator in place.wait_activators()?.iter().take(2) {
                let label = ["label", "pod", activator, "--namespace", KNATIVE, "on=it"];
                place.cluster.kubectl(&label)?;
            }
            place.drain("on=it")
        },
    )?;
    nothing(
        place,
        table,
        "the autoscaler's node is drained",
        |place, _| place.drain("app=autoscaler"),
    )
}

fn killed(place: &mut Place, table: &mut Table) -> Result<()> {
    nothing(
        place,
        table,
        "the autoscaler is deleted by force",
        |place, _| {
            let delete = ["delete", "pod", "--namespace", KNATIVE];
            let how = ["--selector=app=autoscaler", "--force", "--grace-period=0"];
            place.cluster.kubectl(&[&delete[..], &how].concat())?;
            let autoscaler = "deployment/autoscaler";
            place.cluster.rollout_status(KNATIVE, autoscaler, SOON)
        },
    )?;
    nothing(
        place,
        table,
        "an activator is killed, and starts again",
        |place, _| {
            let [activator] = some(place)?;
            place.kill_activator(&activator)
        },
    )?;
    nothing(
        place,
        table,
        "the API server is away for a minute",
        |place, watch| {
            place.cluster.stop_api_server()?;
            watch.stay(QUIET)?;
            place.cluster.start_api_server()
        },
    )
}

fn away(place: &mut Place, table: &mut Table) -> Result<()> {
    let fault = "the autoscaler is scaled to 0";
    place.say(fault);
    let mut watch = place.watch()?;
    let activators = place.wait_activators()?;
    let autoscaler = "deployment/autoscaler";
    place.cluster.scale(KNATIVE, autoscaler, 0)?;
    for activator in &activators {
        wait::until("loss of a connection", SOON, || {
            Ok(place.connection(activator)?.is_none().then_some(()))
        })?;
    }
    let mut expected = vec![of_all(fault, Alert::UnreachableFromAll, GONE, PAGE)];
    for activator in &activators {
        expected.push(unreachable(fault, activator, GONE, PAGE));
    }
    let budget = of_all(fault, Alert::BudgetBurnFast, &[], BUDGET);
    let begin = budget.begin;
    watch.until(FIRING, |watch| {
        begin.elapsed() >= SPENT && expected.iter().all(|expected| expected.has_fired(watch))
    })?;
    place.cluster.scale(KNATIVE, autoscaler, 1)?;
    healed(&mut expected);
    place.say("and to 1 again");
    watch.until(SETTLED, |watch| {
        expected.iter().all(|expected| expected.is_over(watch))
    })?;
    watch.until(Duration::from_secs(BUDGET), |watch| budget.has_fired(watch))?;
    expected.push(budget);
    watch.catch_up()?;
    table.judge(place.rules, &expected, &watch);
    Ok(())
}

fn cut(place: &mut Place, table: &mut Table) -> Result<()> {
    let filters: [(_, _, &[_]); 4] = [
        (
            "an activator's packets are dropped",
            Filter::Drop,
            &["stalled", "timeout"],
        ),
        (
            "an activator's packets are rejected by ICMP",
            Filter::Forbid,
            &["stalled", "host_unreachable"],
        ),
        (
            "an activator's packets are answered by resets",
            Filter::Reset,
            &["connection_reset", "connection_refused"],
        ),
        (
            "an activator's SYNs are dropped, its connection destroyed",
            Filter::DropNew,
            &["connection_aborted", "timeout"],
        ),
    ];
    let watch = place.watch()?;
    let activators: [String; 4] = some(place)?;
    let mut expected = Vec::new();
    for ((fault, filter, causes), activator) in filters.into_iter().zip(&activators) {
        place.say(&format!("{fault}: {activator}"));
        place.cluster.filter(activator, filter)?;
        if matches!(filter, Filter::DropNew) {
            place.destroy_connection(activator)?;
        }
        expected.push(unreachable(fault, activator, causes, PAGE + NOTICED));
    }
    fire_and_heal(place, table, watch, expected, |place| {
        for activator in &activators {
            place.cluster.unfilter(activator)?;
        }
        Ok(())
    })
}

/// Each at its own time, because the kubelet restarts an activator that is frozen for two minutes.
fn sick(place: &mut Place, table: &mut Table) -> Result<()> {
    let mut watch = place.watch()?;
    let known = place.wait_activators()?;
    let [frozen, flapping, deleted] = some(place)?;
    let mut expected = Vec::new();

    let crashes = "a new activator cannot dial, and is killed twice";
    place.cluster.filter_new_pods("new", &known)?;
    let delete = ["delete", "pod", &deleted, "--namespace", KNATIVE];
    let delete = [&delete[..], &["--wait=false"]].concat();
    place.cluster.kubectl(&delete)?;
    let crashing = wait::until("activator in its place", SOON, || {
        let pods = place.pods("app=activator")?.into_iter();
        let mut new = pods.filter(|(name, _)| !known.contains(name));
        let new = new.next().map(|(name, _)| name);
        Ok(new.filter(|name| place.cluster.pid(name).is_ok()))
    })?;
    place.say(&format!("{crashes}: {crashing}"));
    let causes = &["timeout", "cancelled", "no_attempt"];
    expected.push(unreachable(crashes, &crashing, causes, PAGE + GRACE));

    let flaps = "a connection is destroyed five times";
    place.say(&format!("{flaps}: {flapping}"));
    for _ in 0..LOSSES {
        // It dials again within milliseconds.
        let before = place.connection(&flapping)?;
        place.destroy_connection(&flapping)?;
        wait::until("next connection", SOON, || {
            let now = place.connection(&flapping)?;
            Ok((now.is_some() && now != before).then_some(()))
        })?;
        watch.look()?;
    }
    expected.push(of(flaps, Alert::Flapping, &flapping, &[], RATES));

    // From here on its lives are counted.
    let known = format!("statlink:unreachable_since{{k8s_pod_name=\"{crashing}\"}}");
    wait::until("series of the new activator", SOON, || {
        Ok((!place.prometheus()?.query(&known)?.is_empty()).then_some(()))
    })?;
    for _ in 0..2 {
        place.kill_activator(&crashing)?;
        watch.look()?;
    }
    let alert = of(crashes, Alert::CrashLooping, &crashing, &[], RATES + EXPORT);
    expected.insert(1, alert);

    let freezes = "an activator is frozen";
    place.say(&format!("{freezes}: {frozen}"));
    place.signal(&frozen, Signal::STOP)?;
    let causes = &["local_stalled"];
    expected.push(unreachable(freezes, &frozen, causes, PAGE + SILENT));
    fire_and_heal(place, table, watch, expected, |place| {
        place.signal(&frozen, Signal::CONT)?;
        place.cluster.unfilter("new")
    })
}

fn names(place: &mut Place, table: &mut Table) -> Result<()> {
    let watch = place.watch()?;
    let [activator] = some(place)?;
    let fault = "no name server, and a connection is destroyed";
    place.say(&format!("{fault}: {activator}"));
    place.cluster.stop_name_servers()?;
    place.destroy_connection(&activator)?;
    let expected = vec![unreachable(fault, &activator, &["dns"], PAGE + LOOKUP)];
    fire_and_heal(place, table, watch, expected, |place| {
        place.cluster.start_name_servers()
    })?;

    let watch = place.watch()?;
    let fault = "the name leads to another server";
    let right = place.cluster.lead_elsewhere()?;
    place.say(&format!("{fault}: {activator}"));
    place.destroy_connection(&activator)?;
    let expected = vec![
        unreachable(fault, &activator, &["wrong_peer"], PAGE),
        of(fault, Alert::Disagreement, &activator, &[], DISAGREES),
    ];
    fire_and_heal(place, table, watch, expected, |place| {
        place.cluster.lead_right(&right)
    })
}

/// The page must last until the outage is over, whatever happens to the agent.
fn agent_gone(place: &mut Place, table: &mut Table) -> Result<()> {
    let mut watch = place.watch()?;
    let [activator] = some(place)?;
    let fault = "packets are dropped, and the agent is killed meanwhile";
    place.say(&format!("{fault}: {activator}"));
    place.cluster.filter(&activator, Filter::Drop)?;
    let causes = &["stalled", "timeout"];
    let mut page = unreachable(fault, &activator, causes, PAGE + NOTICED);
    watch.until(FIRING, |watch| page.has_fired(watch))?;

    place.take_agent_away()?;
    place.say("the agent is away");
    let mut absent = of_all(fault, Alert::Absent, &[], ABSENT);
    watch.until(Duration::from_secs(ABSENT) + FIRING, |watch| {
        absent.has_fired(watch)
    })?;
    absent.healed = Some(Instant::now());
    place.bring_agent_back()?;
    place.say("the agent is back");
    watch.until(FIRING, |watch| absent.is_over(watch))?;
    // By then the rules have read what the agent exports about the link.
    watch.stay(SPENT)?;
    place.cluster.unfilter(&activator)?;
    page.healed = Some(Instant::now());
    place.say("healed");
    watch.until(SETTLED, |watch| page.is_over(watch))?;
    place.settle()?;
    watch.catch_up()?;
    table.judge(place.rules, &[page, absent], &watch);
    Ok(())
}

/// Does something that must fire no alert, and waits until its effects are over: first for as long as an alert
/// takes to fire, because the rules do not know of them at once.
fn nothing(
    place: &mut Place,
    table: &mut Table,
    what: &str,
    act: impl FnOnce(&mut Place, &mut Watch) -> Result<()>,
) -> Result<()> {
    place.say(what);
    let mut watch = place.watch()?;
    act(place, &mut watch).with_context(|| what.to_owned())?;
    watch.stay(QUIET)?;
    // Until no alert is pending.
    place.settle().with_context(|| what.to_owned())?;
    watch.catch_up()?;
    table.judge_quiet(place.rules, what, &watch);
    Ok(())
}

/// Waits until all alerts fire, heals, waits until all are over, and judges.
fn fire_and_heal(
    place: &mut Place,
    table: &mut Table,
    mut watch: Watch,
    mut expected: Vec<Expected>,
    heal: impl FnOnce(&mut Place) -> Result<()>,
) -> Result<()> {
    watch.until(FIRING, |watch| {
        expected.iter().all(|expected| expected.has_fired(watch))
    })?;
    heal(place)?;
    healed(&mut expected);
    place.say("healed");
    watch.until(SETTLED, |watch| {
        expected.iter().all(|expected| expected.is_over(watch))
    })?;
    let lasting = expected.iter().filter(|expected| expected.lasts());
    let lasting: Vec<_> = lasting.map(Expected::labels).collect();
    place.settle_but(&lasting)?;
    watch.catch_up()?;
    table.judge(place.rules, &expected, &watch);
    Ok(())
}

fn healed(expected: &mut [Expected]) {
    let now = Some(Instant::now());
    for expected in expected {
        expected.healed = now;
    }
}

fn unreachable(
    fault: &'static str,
    pod: &str,
    causes: &'static [&'static str],
    within: u64,
) -> Expected {
    of(fault, Alert::Unreachable, pod, causes, within)
}

/// The alert of a pod, whose reason exists from now on.
fn of(
    fault: &'static str,
    alert: Alert,
    pod: &str,
    causes: &'static [&'static str],
    within: u64,
) -> Expected {
    Expected {
        pod: Some(pod.to_owned()),
        ..of_all(fault, alert, causes, within)
    }
}

/// An alert without a pod.
fn of_all(
    fault: &'static str,
    alert: Alert,
    causes: &'static [&'static str],
    within: u64,
) -> Expected {
    Expected {
        fault,
        alert,
        pod: None,
        causes,
        within,
        begin: Instant::now(),
        healed: None,
    }
}

/// Some of the activators.
fn some<const N: usize>(place: &Place) -> Result<[String; N]> {
    let mut all = place.wait_activators()?;
    all.truncate(N);
    all.try_into()
        .map_err(|all| anyhow::anyhow!("too few activators: {all:?}"))
}

/// The causes of dials while an autoscaler goes down, and after.
const GONE: &[&str] = &[
    "connection_refused",
    "peer_closed",
    "handshake_failed",
    "timeout",
    "host_unreachable",
];

/// From the broken link to the page, in seconds: two evaluations of 10 s, and 30 s.
const PAGE: u64 = 50;
/// How long the agent takes to notice that an idle connection is broken.
const NOTICED: u64 = 4;
/// How long it takes to notice that an activator is frozen.
const SILENT: u64 = 12;
/// The start-up grace.
const GRACE: u64 = 5;
/// When an unanswered lookup has failed: Go's resolver waits 5 s for each of two tries.
const LOOKUP: u64 = 10;
/// Rates are recorded every 30 s and their alerts evaluated every 10 s; both take time.
const RATES: u64 = 45;
/// A change that is no transition waits for the next export.
const EXPORT: u64 = 10;
/// A minute, which is a fifth of the five, after both values are recorded.
const DISAGREES: u64 = 90;
/// A minute until the series end, two of waiting (a fifth of five and of ten), and two evaluations.
const ABSENT: u64 = 240;
/// 2 % of a month's budget is an outage of 52 s of all activators.
const SPENT: Duration = Duration::from_secs(60);
/// The rate of five minutes is summed up once a minute and rises far enough within five minutes; an
/// export, two evaluations and a busy machine make it seven.
const BUDGET: u64 = 420;
/// How many losses count as flapping.
const LOSSES: u32 = 5;
/// Longer than each promise except those of minutes.
const FIRING: Duration = Duration::from_secs(180);
/// Longer than a page takes.
const QUIET: Duration = Duration::from_secs(60);

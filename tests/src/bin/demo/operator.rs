//! The operator's view: the alerts that fire, and the dashboards.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use statlink_tests::{
    dashboards::Dashboards,
    peer::{Activator, Traffic},
    process::Process,
    prometheus::Prometheus,
    scenario::Bed,
};

/// The operator's tools, and the activators that make it look like a cluster.
pub(crate) struct Operator {
    _page: Process,
    page: SocketAddr,
    dashboards: Dashboards,
    prometheus: Prometheus,
    _others: Vec<Activator>,
    pictures: PathBuf,
    started: Instant,
}

/// An alert that fired, how long after the trouble began, and how long after the trouble's end it
/// ended.
struct Seen {
    trouble: &'static str,
    alert: &'static str,
    fired: Duration,
    resolved: Duration,
}

impl Operator {
    pub(crate) fn hire(
        bed: &Bed,
        prometheus: Prometheus,
        listen: SocketAddr,
        pictures: &Path,
    ) -> Result<Self> {
        fs::create_dir_all(pictures).with_context(|| format!("create {}", pictures.display()))?;
        let dashboards = Dashboards::of(&prometheus)?;
        let page = dashboards.serve(listen)?;
        let mut others = Vec::new();
        for number in 2..=ACTIVATORS {
            let mut other = bed.activator(&format!("activator-{number}"), Traffic::Idle)?;
            other.wait_connected(PATIENCE)?;
            bed.wait_reachable(&other, 1, PATIENCE)?;
            others.push(other);
        }
        println!(
            "{ACTIVATORS} activators; dashboards at http://{listen}/?dashboard=links&from=now-15m"
        );
        Ok(Self {
            _page: page,
            page: listen,
            dashboards,
            prometheus,
            _others: others,
            pictures: pictures.to_owned(),
            started: Instant::now(),
        })
    }

    /// Breaks one link, then all of them, each until its alert fires. Returns whether these and no
    /// other alerts fired in the whole demo.
    pub(crate) fn watch(&self, bed: &mut Bed, activator: &Activator) -> Result<bool> {
        println!("\nalerts: one link of {ACTIVATORS} is cut, and stays so");
        let begin = Instant::now();
        let fault = bed.faults(activator).blackhole()?;
        let alert = self.prometheus.wait_firing(ONE, ALERT_PATIENCE)?;
        let fired = begin.elapsed();
        for key in ["summary", "cause_url"] {
            println!(
                "      {}",
                alert.annotations.get(key).map_or("", String::as_str)
            );
        }
        self.take_pictures()?;
        fault.heal()?;
        let healed = Instant::now();
        self.prometheus.wait_resolved(ONE, ALERT_PATIENCE)?;
        let one = Seen {
            trouble: "one link cut",
            alert: ONE,
            fired,
            resolved: healed.elapsed(),
        };

        println!("alerts: the autoscaler is away, for {} s", AWAY.as_secs());
        let begin = Instant::now();
        bed.autoscaler()?
            .process
            .terminate(Duration::from_secs(10))?;
        let alert = self.prometheus.wait_firing(ALL, ALERT_PATIENCE)?;
        let fired = begin.elapsed();
        println!(
            "      {}",
            alert.annotations.get("summary").map_or("", String::as_str)
        );
        // The budget's alert needs a minute of outage of all activators.
        thread::sleep(AWAY.saturating_sub(begin.elapsed()));
        bed.start_autoscaler()?;
        let healed = Instant::now();
        self.prometheus.wait_resolved(ALL, ALERT_PATIENCE)?;
        let all = Seen {
            trouble: "autoscaler away",
            alert: ALL,
            fired,
            resolved: healed.elapsed(),
        };
        self.prometheus.wait_firing(BUDGET, BUDGET_PATIENCE)?;
        println!(
            "      {BUDGET} fires {:.0} s after its begin",
            begin.elapsed().as_secs_f64()
        );

        println!("\n{}", render(&[one, all]));
        self.fired_as_expected()
    }

    fn fired_as_expected(&self) -> Result<bool> {
        let minutes = self.started.elapsed().as_secs() / 60 + 1;
        let fired = format!("max_over_time(ALERTS{{alertstate=\"firing\"}}[{minutes}m])");
        let samples = self.prometheus.query(&fired)?;
        let mut fired: Vec<&str> = Vec::new();
        for sample in &samples {
            let name = sample.labels.get("alertname").map_or("", String::as_str);
            fired.push(name);
            if !EXPECTED.contains(&name) {
                println!("not expected: {:?}", sample.labels);
            }
        }
        fired.sort_unstable();
        fired.dedup();
        println!("alerts that fired: {}", fired.join(", "));
        Ok(fired == EXPECTED)
    }

    fn take_pictures(&self) -> Result<()> {
        for (dashboard, theme) in [("links", "dark"), ("links", "light"), ("agents", "dark")] {
            let file = self.pictures.join(format!("{dashboard}-{theme}.png"));
            let minutes = u32::try_from(self.started.elapsed().as_secs() / 60)?;
            self.dashboards
                .picture(dashboard, theme, minutes.max(5), &file)?;
            println!("      picture: {}", file.display());
        }
        Ok(())
    }

    /// The address of the dashboards.
    pub(crate) fn page(&self) -> SocketAddr {
        self.page
    }
}

fn render(seen: &[Seen]) -> String {
    let mut lines = vec![format!(
        "{:<18}{:<40}{:>8}{:>10}",
        "trouble", "alert", "fired", "resolved"
    )];
    lines.extend(seen.iter().map(|seen| {
        format!(
            "{:<18}{:<40}{:>6.0} s{:>8.0} s",
            seen.trouble,
            seen.alert,
            seen.fired.as_secs_f64(),
            seen.resolved.as_secs_f64()
        )
    }));
    lines.join("\n")
}

/// As many as a large installation of Knative has by default.
const ACTIVATORS: u32 = 10;

const ONE: &str = "KnativeAutoscalerUnreachable";
const ALL: &str = "KnativeAutoscalerUnreachableFromAll";
const BUDGET: &str = "KnativeLinkBudgetBurnFast";

/// In alphabetical order. The troubles before cost the first activator four connections, and these
/// two more, so it flaps.
const EXPECTED: [&str; 4] = [ONE, ALL, BUDGET, "KnativeLinkFlapping"];

/// Longer than any promise of the agent.
const PATIENCE: Duration = Duration::from_secs(30);
/// The promise is 50 s.
const ALERT_PATIENCE: Duration = Duration::from_secs(90);
/// 2 % of the month's budget is an outage of 52 s of all activators.
const AWAY: Duration = Duration::from_secs(75);
/// The rate of five minutes is summed up once a minute and rises far enough within these five.
const BUDGET_PATIENCE: Duration = Duration::from_secs(420);

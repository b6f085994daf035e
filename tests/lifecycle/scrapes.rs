//! A Prometheus that scrapes the agent gets the same as over OTLP.

use std::{
    collections::BTreeSet,
    time::{SystemTime, UNIX_EPOCH},
};

use statlink_tests::{peer::Traffic, prometheus::Prometheus, scenario::Bed, wait};

use crate::{PATIENCE, options};

const PAGE: &str = "127.0.0.1:19464";

/// The same Prometheus gets the agent's metrics twice: over OTLP through the Collector, and from
/// its page.
#[test]
fn its_page_has_the_same_series_as_its_exports() {
    let (mut bed, prometheus) = Bed::with_prometheus_that(&scrape("bed/node-1")).unwrap();
    let options = options(&bed)
        .arg("--metrics-address")
        .arg(PAGE)
        .arg("--node-name")
        .arg("node-1")
        .arg("--cluster-name")
        .arg("bed");
    bed.start_agent_with(&options).unwrap();
    let activator = bed.activator("activator", Traffic::Idle).unwrap();
    bed.wait_reachable(&activator, 1, PATIENCE).unwrap();
    let mut last = (BTreeSet::new(), BTreeSet::new());
    let same = wait::until("the same series on both ways", PATIENCE, || {
        let [exported, scraped] = ["", "scraped"].map(|way| series(&prometheus, way));
        last = (exported?, scraped?);
        let (exported, scraped) = &last;
        // A gauge that ends disappears from the page at once, and over OTLP five minutes later.
        let stay = exported.iter().filter(|one| !is_gauge(one));
        let same = scraped.is_subset(exported) && stay.into_iter().all(|it| scraped.contains(it));
        let has_link = scraped.iter().any(|one| one.contains("conn_rtt_seconds"));
        Ok((has_link && same).then_some(()))
    });
    let (exported, scraped) = &last;
    assert!(
        same.is_ok(),
        "exported only: {:#?}\nscraped only: {:#?}",
        exported.difference(scraped).collect::<Vec<_>>(),
        scraped.difference(exported).collect::<Vec<_>>()
    );
    // The agent's names are where the rules look for them.
    let info = "target_info{way=\"scraped\", k8s_node_name=\"node-1\", k8s_cluster_name=\"bed\"}";
    assert_eq!(prometheus.query(info).unwrap().len(), 1);
}

/// A counter that fell to 0 at a restart and came back would be counted twice.
#[test]
fn each_check_is_added_up_once_over_deaths_of_the_agent() {
    let (mut bed, prometheus) = Bed::with_prometheus_that(&scrape("node-1")).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let options = options(&bed)
        .arg("--metrics-address")
        .arg(PAGE)
        .env("STATLINK_STATE_DIR", directory.path());
    bed.start_agent_with(&options).unwrap();
    let activator = bed.activator("activator", Traffic::Idle).unwrap();
    bed.wait_reachable(&activator, 1, PATIENCE).unwrap();
    let checks = format!(
        r#"kn_activator_stats_conn_checks_total{{way="scraped",k8s_pod_name="{}",kn_check_kind="liveness"}}"#,
        activator.pod.name
    );
    let value = |expression: &str| {
        let samples = prometheus.query(expression)?;
        Ok::<_, anyhow::Error>(samples.first().map(|sample| sample.value))
    };
    let (mut shown, mut started) = (0.0, SystemTime::now());
    for _ in 0..3 {
        // The page has zeros for 30 s first.
        shown = wait::until("a scrape that has more", PATIENCE * 2, || {
            Ok(value(&checks)?.filter(|more| *more > shown))
        })
        .unwrap();
        bed.agent.as_mut().unwrap().process.kill().unwrap();
        bed.start_agent_with(&options).unwrap();
        started = SystemTime::now();
    }
    let started = started.duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    let last = wait::until("the last agent's page", PATIENCE, || {
        value(&format!("timestamp({checks}) > {started}"))
    })
    .unwrap();
    // The first sample is 0, and the range ends at the last one, so nothing is extrapolated.
    let increase = value(&format!("increase({checks}[10m] @ {last})")).unwrap();
    let at = value(&format!("{checks} @ {last}")).unwrap();
    assert_eq!(increase, at, "at {last}");
    let resets = value(&format!("resets({checks}[10m] @ {last})")).unwrap();
    assert_eq!(resets, Some(0.0));
}

/// The configuration to scrape the page of this instance every second.
fn scrape(instance: &str) -> String {
    format!(
        "scrape_configs:\n- job_name: statlink\n  scrape_interval: 1s\n  static_configs:\n  \
         - targets: ['{PAGE}']\n    labels: {{way: scraped, instance: {instance}}}\n"
    )
}

fn is_gauge(series: &str) -> bool {
    let name = series.split(' ').next().unwrap_or_default();
    let others = ["_total", "_bucket", "_sum", "_count"];
    !others.iter().any(|end| name.ends_with(end))
}

/// Every series of one path, by name and labels. Labels that say by which path it came are left
/// out, and so are those that Prometheus copies from the resource: the page has them only on
/// `target_info`, where the rules find them.
fn series(prometheus: &Prometheus, way: &str) -> anyhow::Result<BTreeSet<String>> {
    let query = format!("{{__name__=~\"(kn|statlink)_.+\", job=\"statlink\", way=\"{way}\"}}");
    let samples = prometheus.query(&query)?.into_iter();
    let series = samples.map(|sample| {
        let own = |name: &str| !["way", "k8s_cluster_name", "k8s_node_name"].contains(&name);
        let labels = sample.labels.iter().filter(|(name, _)| own(name));
        let labels: Vec<_> = labels
            .map(
                |(name, value)| match (name.as_str(), value.parse::<f64>()) {
                    // Prometheus writes a whole bound as 1 over OTLP, and as 1.0 from a page.
                    ("le", Ok(bound)) => format!("le={bound}"),
                    _ => format!("{name}={value}"),
                },
            )
            .collect();
        labels.join(" ")
    });
    Ok(series.collect())
}

//! The end of a run: the rules for the run as a whole, and the report.

use std::{cmp::Reverse, collections::BTreeMap, fs};

use anyhow::{Context as _, Result};
use serde_json::json;

use crate::{
    judge::Wrong,
    reported::{EXPORTS_A_SECOND, own_log_lines},
    run::Run,
};

impl Run<'_> {
    /// Ends the run; returns whether nothing was wrong.
    pub(crate) fn close(mut self) -> Result<bool> {
        self.read()?;
        for text in self.site.bed.collector.undecodable() {
            self.add_wrong(Wrong::Promise, format!("undecodable: {text}"));
        }
        let most = self.ledger.busiest_second;
        if most > EXPORTS_A_SECOND {
            self.add_wrong(Wrong::Promise, format!("{most} exports in one second"));
        }
        let agent = self.site.bed.agent.as_ref().context("no agent")?;
        self.log_lines.extend(own_log_lines(&agent.process));
        self.judge_log();
        self.judge_strangers();
        println!("\n{}", self.tally.render());
        println!(
            "seed {}, {} lanes, {:.0} s; {} exports, at most {most} a second; {} log lines for {} \
             outages; {} agents, {} outages of the Collector, {} of the Kubernetes API; {}",
            self.plan.seed,
            self.plan.lanes,
            self.start.elapsed().as_secs_f64(),
            self.ledger.exports(),
            self.log_lines.len(),
            self.ledger.onsets,
            self.restarts + 1,
            self.collector_outages,
            self.api_outages,
            self.strangers.probes.describe()
        );
        self.write()?;
        Ok(self.tally.violated() == 0)
    }

    /// Limits the log: two lines for each outage, and one summary a minute for each flapping link.
    /// For each link that an agent sees: discovered, reachable and ended. For each autoscaler,
    /// which might forward: discovered and ended. For each agent, its start and end; for each
    /// outage of the Collector, its start and end.
    fn judge_log(&mut self) {
        let (lanes, agents) = (self.plan.lanes as u64, self.restarts + 1);
        let minutes = self.start.elapsed().as_secs() / 60 + 1;
        let autoscalers = self.streams.iter().map(|of| of.lane.autoscalers());
        let most = 2 * self.ledger.onsets
            + minutes * lanes
            + 3 * (agents * lanes + self.tally.births())
            + 2 * (agents * lanes + autoscalers.sum::<u64>())
            + LINES_OF_AN_AGENT * agents
            + 2 * self.collector_outages
            + LINES_OF_AN_API_OUTAGE * self.api_outages;
        let lines = self.log_lines.len() as u64;
        if lines > most {
            let outages = self.ledger.onsets;
            let text = format!("{lines} log lines for {outages} outages, at most {most} are right");
            self.add_wrong(Wrong::Promise, text);
            self.print_most_frequent();
        }
    }

    /// Only the lanes' pods have links, and autoscalers, which might forward: no stranger's pod has
    /// one.
    fn judge_strangers(&mut self) {
        let told: Vec<_> = self.ledger.all().map(|(pod, _)| pod.to_owned()).collect();
        let may = |pod: &String| OWN_PODS.iter().any(|own| pod.starts_with(own));
        for pod in told.iter().filter(|pod| !may(pod)) {
            self.add_wrong(Wrong::Promise, format!("{pod} was told of, a stranger's"));
        }
    }

    /// Shows the most frequent lines of a long log.
    fn print_most_frequent(&self) {
        let mut counts = BTreeMap::<_, u64>::new();
        for line in &self.log_lines {
            *counts.entry(line).or_default() += 1;
        }
        let mut counts: Vec<_> = counts.into_iter().collect();
        counts.sort_by_key(|(_, count)| Reverse(*count));
        for (line, count) in counts.iter().take(10) {
            println!("       {count:>5} × {line}");
        }
    }

    fn write(&self) -> Result<()> {
        let Some(file) = &self.plan.json else {
            return Ok(());
        };
        let report = json!({
            "seed": self.plan.seed,
            "lanes": self.plan.lanes,
            "seconds": self.start.elapsed().as_secs_f64(),
            "exports": self.ledger.exports(),
            "most_exports_in_a_second": self.ledger.busiest_second,
            "log_lines": self.log_lines.len(),
            "outages": self.ledger.onsets,
            "agents": self.restarts + 1,
            "collector_outages": self.collector_outages,
            "api_outages": self.api_outages,
            "judged": self.tally.json(),
            "schedule": self.steps,
        });
        fs::write(file, format!("{report:#}\n"))
            .with_context(|| format!("write {}", file.display()))
    }
}

const OWN_PODS: [&str; 3] = ["lane", "autoscaler", "theirs"];
/// One for each kind of object at its start, and at its end.
const LINES_OF_AN_API_OUTAGE: u64 = 6;
/// It attached, which hooks it lacks, the API or the Collector is away, its end.
const LINES_OF_AN_AGENT: u64 = 10;

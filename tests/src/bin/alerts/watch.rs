//! Which alerts fire, and when.

use std::{
    collections::BTreeMap,
    rc::Rc,
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use statlink_tests::prometheus::Prometheus;

/// The labels of an alert, which are its identity.
pub(crate) type Labels = BTreeMap<String, String>;

/// All alerts that have fired since it was made.
pub(crate) struct Watch {
    prometheus: Rc<Prometheus>,
    /// When the program began, for its log.
    zero: Instant,
    begin: Instant,
    fired: BTreeMap<Labels, Fired>,
}

/// One alert that fired.
#[derive(Clone, Debug)]
pub(crate) struct Fired {
    pub(crate) at: Instant,
    /// When it stopped firing.
    pub(crate) over: Option<Instant>,
    pub(crate) annotations: BTreeMap<String, String>,
}

impl Watch {
    pub(crate) fn new(prometheus: Rc<Prometheus>, zero: Instant) -> Self {
        Self {
            prometheus,
            zero,
            begin: Instant::now(),
            fired: BTreeMap::new(),
        }
    }

    /// All of them, by their labels.
    pub(crate) fn fired(&self) -> &BTreeMap<Labels, Fired> {
        &self.fired
    }

    /// Looks once.
    pub(crate) fn look(&mut self) -> Result<()> {
        let now = Instant::now();
        let mut firing = BTreeMap::new();
        for alert in self.prometheus.alerts()? {
            if alert.is_firing {
                firing.insert(alert.labels, alert.annotations);
            }
        }
        for (labels, fired) in &mut self.fired {
            if fired.over.is_none() && !firing.contains_key(labels) {
                fired.over = Some(now);
                say(self.zero, "over ", labels);
            }
        }
        for (labels, annotations) in firing {
            let fired = self.fired.entry(labels);
            fired
                .and_modify(|fired| {
                    // The last texts count; a pause in between does not matter.
                    fired.annotations.clone_from(&annotations);
                })
                .or_insert_with_key(|labels| {
                    say(self.zero, "FIRES", labels);
                    Fired {
                        at: now,
                        over: None,
                        annotations,
                    }
                });
        }
        Ok(())
    }

    /// Looks until a condition is met, or for this long; returns whether it is met.
    pub(crate) fn until(
        &mut self,
        timeout: Duration,
        mut is_met: impl FnMut(&Self) -> bool,
    ) -> Result<bool> {
        let deadline = Instant::now() + timeout;
        loop {
            self.look()?;
            if is_met(self) {
                return Ok(true);
            }
            if Instant::now() >= deadline {
                return Ok(false);
            }
            thread::sleep(PERIOD);
        }
    }

    /// Looks for some time, in which an unwanted alert would fire.
    pub(crate) fn stay(&mut self, time: Duration) -> Result<()> {
        self.until(time, |_| false).map(drop)
    }

    /// Adds alerts that fired between two looks, from Prometheus' own record; their seconds are not
    /// known.
    pub(crate) fn catch_up(&mut self) -> Result<()> {
        self.look()?;
        let seconds = self.begin.elapsed().as_secs() + 1;
        let record = format!("max_over_time(ALERTS{{alertstate=\"firing\"}}[{seconds}s])");
        let now = Instant::now();
        for mut sample in self.prometheus.query(&record)? {
            sample.labels.remove("alertstate");
            self.fired.entry(sample.labels).or_insert_with(|| Fired {
                at: now,
                over: Some(now),
                annotations: BTreeMap::new(),
            });
        }
        Ok(())
    }

    /// The alert with these labels, if it has fired.
    pub(crate) fn of(&self, labels: &Labels) -> Option<&Fired> {
        self.fired.get(labels)
    }
}

fn say(zero: Instant, what: &str, labels: &Labels) {
    let label = |key: &str| labels.get(key).map_or("", String::as_str);
    println!(
        "{:>6.1} s    {what} {} {}",
        zero.elapsed().as_secs_f64(),
        label("alertname"),
        label("k8s_pod_name")
    );
}

/// Alerts change every ten seconds, so this is accurate enough and costs little.
const PERIOD: Duration = Duration::from_millis(250);

//! Lanes, an agent and its reports, for runs without random faults.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use statlink_tests::{observe::Observed, process::Process};

use crate::{lane::Lane, reported::Ledger, site::Site};

pub(crate) struct Stage {
    pub(crate) lanes: Vec<Lane>,
    pub(crate) ledger: Ledger,
    events: Process,
    // The network is dropped last.
    pub(crate) site: Site,
}

impl Stage {
    pub(crate) fn set(lanes: usize) -> Result<Self> {
        let mut site = Site::new()?;
        let events = site.start_agent()?;
        let lanes = (0..lanes).map(|number| Lane::new(&mut site, number));
        let lanes = lanes.collect::<Result<Vec<_>>>()?;
        Ok(Self {
            lanes,
            ledger: Ledger::default(),
            events,
            site,
        })
    }

    pub(crate) fn lane(&self) -> Result<&Lane> {
        self.lanes.first().context("no lane")
    }

    /// The agent's process.
    pub(crate) fn agent(&self) -> Result<&Process> {
        let agent = self.site.bed.agent.as_ref().context("no agent")?;
        Ok(&agent.process)
    }

    pub(crate) fn observed(&self) -> Result<Observed> {
        Ok(Observed::new(self.agent()?.pid()))
    }

    /// Reads what is reported for this long.
    pub(crate) fn look_for(&mut self, length: Duration) {
        let end = Instant::now() + length;
        loop {
            for lane in &mut self.lanes {
                lane.look();
            }
            self.ledger.read_events(&self.events);
            self.ledger.read_exports(self.site.bed.collector.take());
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            thread::sleep(left.min(PERIOD));
        }
    }
}

/// How often to look.
const PERIOD: Duration = Duration::from_millis(20);

//! An activator that crashes again and again in one container: each life ends before its start-up
//! grace, and none connects.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use statlink_tests::peer::{Activator, PORT};

use crate::{lane::Lane, site::Site};

/// A running crash loop.
#[derive(Debug)]
pub(crate) struct CrashLoop {
    /// When the life ends, or the next one begins.
    next: Instant,
}

impl Lane {
    /// Kills the activator, and begins the first of the short lives.
    pub(crate) fn begin_crash_loop(&mut self, site: &Site) -> Result<()> {
        self.end_life()?;
        self.begin_life(site)
    }

    /// Ends and begins what is due.
    pub(crate) fn go_on_crashing(&mut self, site: &Site) -> Result<()> {
        let Some(crash_loop) = &self.crash_loop else {
            return Ok(());
        };
        if Instant::now() < crash_loop.next {
            return Ok(());
        }
        self.end_life()?;
        self.begin_life(site)
    }

    /// Begins a life that lasts.
    pub(crate) fn end_crash_loop(&mut self, site: &Site) -> Result<()> {
        self.crash_loop = None;
        self.end_life()?;
        self.arrive(site)
    }

    /// It dials an autoscaler's address where nobody listens, so that each dial is refused and
    /// decided before the life ends.
    fn begin_life(&mut self, site: &Site) -> Result<()> {
        let to = format!("{}:{PORT}", site.nobody.v4);
        let args = ["flap", &to, "0", &DIALS.to_string()];
        let mut life = Activator::stand_in_in(&self.home.container, &self.pod, args)?;
        life.process.wait_event("flapped", START)?;
        self.history.flapped(DIALS);
        self.activator = Some(life);
        self.crash_loop = Some(CrashLoop {
            next: Instant::now() + LIFE,
        });
        Ok(())
    }

    fn end_life(&mut self) -> Result<()> {
        let mut ended = self.activator.take().context("no activator to crash")?;
        ended.process.kill()?;
        ended.process.wait_all_read(START)?;
        self.history.read(&ended.process);
        self.history.ended();
        Ok(())
    }
}

/// Less than the start-up grace of 5 s.
const LIFE: Duration = Duration::from_millis(1_500);
const DIALS: u64 = 10;
const START: Duration = Duration::from_secs(10);

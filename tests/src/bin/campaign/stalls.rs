//! How long the machine itself stood still: a CPU that is busy with other work, or that a
//! hypervisor takes away, delays everything, including the agent and the kernel's ticks. The judge
//! allows for that much.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, Result};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Measures on each CPU, until it is dropped.
pub(crate) struct Stalls {
    seen: Arc<Mutex<VecDeque<Stall>>>,
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// One thread woke up late.
#[derive(Clone, Copy, Debug)]
struct Stall {
    end: SystemTime,
    length: Duration,
}

impl Stalls {
    pub(crate) fn measure() -> Result<Self> {
        let allowed = sched_getaffinity(None).context("ask for the processors")?;
        let seen = Arc::<Mutex<VecDeque<Stall>>>::default();
        let over = Arc::<AtomicBool>::default();
        let mut threads = Vec::new();
        for processor in (0..CpuSet::MAX_CPU).filter(|processor| allowed.is_set(*processor)) {
            let (seen, over) = (Arc::clone(&seen), Arc::clone(&over));
            threads.push(thread::spawn(move || watch(processor, &seen, &over)));
        }
        Ok(Self {
            seen,
            over,
            threads,
        })
    }

    /// The longest that ended after `from`.
    pub(crate) fn longest_since(&self, from: SystemTime) -> Duration {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let since = seen.iter().filter(|stall| stall.end >= from);
        since.map(|stall| stall.length).max().unwrap_or_default()
    }
}

impl Drop for Stalls {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // The thread has reported why it panicked.
            let _ = thread.join();
        }
    }
}

fn watch(processor: usize, seen: &Mutex<VecDeque<Stall>>, over: &AtomicBool) {
    let mut only = CpuSet::new();
    only.set(processor);
    // If it may not be bound to a CPU, it measures any.
    let _ = sched_setaffinity(None, &only);
    while !over.load(Ordering::Relaxed) {
        let start = Instant::now();
        thread::sleep(PERIOD);
        let length = start.elapsed().saturating_sub(PERIOD);
        if length >= SHORTEST {
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            let end = SystemTime::now();
            seen.push_back(Stall { end, length });
            if seen.len() > KEPT {
                seen.pop_front();
            }
        }
    }
}

/// How often to look.
const PERIOD: Duration = Duration::from_millis(5);
/// Shorter ones are within what the judge allows anyway.
const SHORTEST: Duration = Duration::from_millis(10);
/// More than a minute of a machine that stalls all the time.
const KEPT: usize = 10_000;

//! Counts the exports of one signal, and logs when they begin to fail and when they work again.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::failure::Failure;
use crate::warn_once::WarnOnce;

/// The results of one signal's exports.
#[derive(Debug)]
pub(crate) struct ExportLog {
    signal: &'static str,
    endpoint: String,
    started: Instant,
    ok: AtomicU64,
    failed: AtomicU64,
    /// When metrics were last collected: nanoseconds after `started`.
    collected: AtomicU64,
    warnings: Mutex<WarnOnce>,
    closed: AtomicBool,
}

impl ExportLog {
    pub(crate) fn new(signal: &'static str, endpoint: String) -> Arc<Self> {
        Arc::new(Self {
            signal,
            endpoint,
            started: Instant::now(),
            ok: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            collected: AtomicU64::new(0),
            warnings: Mutex::default(),
            closed: AtomicBool::new(false),
        })
    }

    /// Exports that arrived.
    pub(crate) fn ok(&self) -> u64 {
        self.ok.load(Ordering::Relaxed)
    }

    /// Exports that failed.
    pub(crate) fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// Time since the last collection, or since the start if there was none.
    pub(crate) fn since_collection(&self) -> Duration {
        let collected = Duration::from_nanos(self.collected.load(Ordering::Relaxed));
        self.started.elapsed().saturating_sub(collected)
    }

    /// Notes that metrics were collected just now.
    pub(crate) fn collected(&self) {
        let at = u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.collected.store(at, Ordering::Relaxed);
    }

    /// Makes every further export fail at once, uncounted. The SDK always makes a last export when
    /// it is stopped or dropped, and blocks until that has ended.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Counts one export, and logs it if it begins or ends an outage.
    pub(super) fn count(&self, now: Instant, result: Result<(), String>) {
        let Self {
            signal, endpoint, ..
        } = self;
        let mut warnings = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
        match result {
            Ok(()) => {
                self.ok.fetch_add(1, Ordering::Relaxed);
                if let Some(recovery) = warnings.succeeded(now) {
                    tracing::info!(
                        name: "statlink.export.recovered",
                        signal, endpoint,
                        failed = recovery.failures,
                        outage = recovery.lasted.as_secs_f64(),
                        "Exports to the Collector work again."
                    );
                }
            }
            Err(error) => {
                self.failed.fetch_add(1, Ordering::Relaxed);
                let failure = Failure::of(&error);
                let advice = failure.advice();
                // One outage has many errors (refused, then a timeout, then unavailable) and
                // deserves one warning. An error with another cure deserves one of its own.
                if warnings.failed(now, advice) {
                    tracing::warn!(
                        name: "statlink.export.failing",
                        signal, endpoint, error,
                        "Exports to the Collector fail; counters catch up once it is back. {advice}"
                    );
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::logs::capture::Capture;

    #[test]
    fn an_outage_is_one_warning_and_one_recovery() {
        let logged = Capture::new("info");
        let log = ExportLog::new("metrics", "http://collector:4317".to_owned());
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        log.count(start, Ok(()));
        for second in 1..60 {
            log.count(after(second), Err(format!("refused {second}")));
        }
        log.count(after(61), Ok(()));
        log.count(after(62), Ok(()));
        assert_eq!((log.ok(), log.failed()), (3, 59));
        let [warning, recovery] = &logged.lines()[..] else {
            panic!("{:#?}", logged.lines());
        };
        assert_eq!(warning["level"], "WARN");
        assert_eq!(warning["error"], "refused 1");
        assert_eq!(warning["endpoint"], "http://collector:4317");
        assert_eq!(recovery["level"], "INFO");
        assert_eq!(recovery["failed"], 59);
        assert_eq!(recovery["outage"], 60.0);
        log.count(after(63), Err("refused".to_owned()));
        assert_eq!(logged.lines().len(), 3);
    }
}

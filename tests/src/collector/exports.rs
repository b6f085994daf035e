//! The exports that a Collector received.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Result, bail, ensure};

use super::{Export, LogRecord, Point, follow::Follower};

/// The exports of one Collector, read from its file as they arrive.
#[derive(Debug)]
pub struct Exports(Follower);

impl Exports {
    /// Reads `file`, which may not exist yet.
    pub(crate) fn follow(file: PathBuf) -> Self {
        Self(Follower::start(file, None))
    }

    /// Only the exports whose resource has this attribute: one of several exporters to the same
    /// Collector.
    pub fn of(&self, key: &str, value: &str) -> Self {
        Self(Follower::start(self.file().to_owned(), Some((key, value))))
    }

    /// Every export so far, in order.
    pub fn exports(&self) -> Vec<Export> {
        self.read(<[Export]>::to_vec)
    }

    /// Reads every export so far without a copy; new ones wait meanwhile.
    pub fn read<T>(&self, look: impl FnOnce(&[Export]) -> T) -> T {
        self.0.read(look)
    }

    /// Takes out every export so far, so that a run of hours need not keep them all.
    pub fn take(&self) -> Vec<Export> {
        self.0.take()
    }

    /// Why some exports could not be decoded, and what in an agent's exports is not in the
    /// registry; empty if all is well.
    pub fn undecodable(&self) -> Vec<String> {
        self.0.errors()
    }

    /// How many exports there were so far: what [`Exports::wait_for_after`] starts from.
    pub fn mark(&self) -> usize {
        self.read(<[Export]>::len)
    }

    /// The newest point of `metric` with at least these attributes.
    pub fn latest(&self, metric: &str, attributes: &[(&str, &str)]) -> Option<Point> {
        self.newest_since(0, metric, attributes)
            .map(|(_, point)| point)
    }

    /// The value of [`Exports::latest`]; 0 if there is none, as for a counter.
    pub fn value(&self, metric: &str, attributes: &[(&str, &str)]) -> f64 {
        self.latest(metric, attributes)
            .map_or(0.0, |point| point.value.number())
    }

    /// The sum of the newest values of all series of `metric` with at least these attributes.
    pub fn total(&self, metric: &str, attributes: &[(&str, &str)]) -> f64 {
        self.read(|exports| {
            let mut series = BTreeMap::new();
            let points = exports.iter().flat_map(|export| &export.points);
            for point in points.filter(|point| point.is(metric, attributes)) {
                let of = (&point.attributes, &point.resource);
                series.insert(of, point.value.number());
            }
            series.values().sum()
        })
    }

    /// Waits until the newest point of `metric` with these attributes is as wanted; returns it and
    /// the time it arrived.
    pub fn wait_for(
        &self,
        metric: &str,
        attributes: &[(&str, &str)],
        timeout: Duration,
        wanted: impl Fn(&Point) -> bool,
    ) -> Result<(SystemTime, Point)> {
        self.wait_for_after(0, metric, attributes, timeout, wanted)
    }

    /// The same, for exports after `mark`.
    pub fn wait_for_after(
        &self,
        mark: usize,
        metric: &str,
        attributes: &[(&str, &str)],
        timeout: Duration,
        wanted: impl Fn(&Point) -> bool,
    ) -> Result<(SystemTime, Point)> {
        let deadline = Instant::now() + timeout;
        loop {
            let newest = self.newest_since(mark, metric, attributes);
            if let Some(found) = newest.as_ref().filter(|(_, point)| wanted(point)) {
                return Ok(found.clone());
            }
            if Instant::now() >= deadline {
                bail!(
                    "no {metric} {attributes:?} as wanted within {timeout:?}; the newest of it is \
                     {newest:#?}, of {} exports; undecodable: {:?}",
                    self.mark(),
                    self.undecodable()
                );
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for an export of metrics, from now on, that has no such point: the series has ended.
    pub fn wait_absent(
        &self,
        metric: &str,
        attributes: &[(&str, &str)],
        timeout: Duration,
    ) -> Result<SystemTime> {
        let mark = self.mark();
        let deadline = Instant::now() + timeout;
        loop {
            let without = self.read(|exports| {
                let of_metrics = |e: &&Export| !e.points.is_empty();
                let mut newer = exports
                    .get(mark..)
                    .unwrap_or_default()
                    .iter()
                    .filter(of_metrics);
                newer
                    .find(|e| !e.points.iter().any(|p| p.is(metric, attributes)))
                    .map(|e| e.arrived)
            });
            if let Some(arrived) = without {
                return Ok(arrived);
            }
            ensure!(
                Instant::now() < deadline,
                "no export without {metric} {attributes:?} within {timeout:?}, of {}",
                self.mark().saturating_sub(mark)
            );
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Every log record so far, with the time it arrived.
    pub fn logs(&self) -> Vec<(SystemTime, LogRecord)> {
        let each = self.exports().into_iter();
        each.flat_map(|e| e.logs.into_iter().map(move |log| (e.arrived, log)))
            .collect()
    }

    /// Waits for a log record.
    pub fn wait_for_log(
        &self,
        what: &str,
        timeout: Duration,
        wanted: impl Fn(&LogRecord) -> bool,
    ) -> Result<(SystemTime, LogRecord)> {
        let deadline = Instant::now() + timeout;
        loop {
            let logs = self.logs();
            if let Some(found) = logs.iter().find(|(_, log)| wanted(log)) {
                return Ok(found.clone());
            }
            ensure!(
                Instant::now() < deadline,
                "no {what} within {timeout:?} among {logs:#?}"
            );
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn newest_since(
        &self,
        mark: usize,
        metric: &str,
        attributes: &[(&str, &str)],
    ) -> Option<(SystemTime, Point)> {
        self.read(|exports| {
            exports.get(mark..)?.iter().rev().find_map(|export| {
                let newest = export
                    .points
                    .iter()
                    .rev()
                    .find(|p| p.is(metric, attributes))?;
                Some((export.arrived, newest.clone()))
            })
        })
    }

    /// The file that its exports are in, a line of OTLP JSON each.
    pub fn file(&self) -> &Path {
        self.0.file()
    }
}

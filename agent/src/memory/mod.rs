//! The memory: a file with which a successor continues where a dead agent stopped.
//!
//! It holds what the successor cannot learn elsewhere: the counts of each pod and their start time,
//! the outages under way, and how far each receiver was told. It does not hold whether a link is
//! reachable: the successor has to look.
//!
//! Counts are written before they are shown. Otherwise a successor's counters would fall, which
//! `increase()` takes for a reset. So a caller waits for [`Memory::written`] before it shows
//! counts, and a caller that has shown a pod's zeros calls [`Memory::tell`] before it shows the
//! pod's counts.
//!
//! The loop never waits for the file: it calls [`Memory::remember`], and other threads write.
//!
//! The file is written whole, beside the old one, and replaces it by rename(2). If the process is
//! killed, one of the two is left; [`mod@format`] verifies that it is whole.

mod error;
mod file;
mod format;
mod pause;
mod record;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

pub(crate) use self::{
    error::MemoryError,
    format::Refusal,
    record::{Ended, Left, Pod, Process, ProcessId, Reading, Receiver, Tally, Told},
};
use self::{file::MemoryFile, pause::Pause};
use crate::{clock, snapshot::SeriesName, time::Timestamp, warn_once::WarnOnce};

/// The memory of one agent.
#[derive(Debug)]
pub(crate) struct Memory {
    /// Locked only for moments: the loop needs it.
    known: Mutex<Known>,
    /// Locked before `known`, and held while a write may wait for a disk.
    writer: Mutex<Writer>,
    /// The version of `known` that is in the file.
    written: AtomicU64,
    /// Whether a thread is scheduled to write.
    is_due: AtomicBool,
}

/// An opened memory, and what its file contained or why the file was refused.
#[derive(Debug)]
pub(crate) struct Opened {
    /// The new memory, which replaces the old file.
    pub(crate) memory: Arc<Memory>,
    /// What the agent before this one left.
    pub(crate) left: Result<Left, Refusal>,
    /// Whether a write may wait for a disk.
    pub(crate) is_on_disk: bool,
}

/// The current contents.
#[derive(Debug)]
struct Known {
    boot: String,
    /// Each pod with its line of the file.
    pods: BTreeMap<SeriesName, (Pod, String)>,
    told: BTreeMap<(Receiver, SeriesName), (Told, String)>,
    /// The receivers that are told.
    receivers: BTreeSet<Receiver>,
    /// Which pinned kernel half is read.
    half: Option<u32>,
    /// Grows with each change.
    version: u64,
}

/// The thread that writes uses it.
#[derive(Debug)]
struct Writer {
    file: MemoryFile,
    pause: Pause,
    failing: WarnOnce,
}

impl Memory {
    /// Opens `directory` for this agent alone, which runs without if that fails. Waits some seconds if
    /// an agent that is ending still holds it. Of a directory that cannot be used, it removes the file:
    /// this agent counts without it, so a successor must not continue from it.
    ///
    /// # Errors
    ///
    /// If the directory cannot be used, or another agent uses it.
    pub(crate) async fn open_soon(directory: &Path) -> Result<Opened, MemoryError> {
        Self::open_soon_with(directory, Path::new(BOOT_ID)).await
    }

    async fn open_soon_with(directory: &Path, boot_id: &Path) -> Result<Opened, MemoryError> {
        let mut opened = Self::open_with(directory, boot_id);
        for _ in 0..TRIES {
            if !matches!(opened, Err(MemoryError::Taken(_))) {
                break;
            }
            tokio::time::sleep(TRY_CADENCE).await;
            opened = Self::open_with(directory, boot_id);
        }
        if let Err(MemoryError::Io { .. }) = &opened {
            file::leave_nothing(directory);
        }
        opened
    }

    /// Opens `directory` for this agent alone. If that fails, nothing is changed: another agent may be at
    /// work.
    ///
    /// # Errors
    ///
    /// If the directory cannot be used, or another agent uses it.
    pub(crate) fn open(directory: &Path) -> Result<Opened, MemoryError> {
        Self::open_with(directory, Path::new(BOOT_ID))
    }

    fn open_with(directory: &Path, boot_id: &Path) -> Result<Opened, MemoryError> {
        let boot = fs::read_to_string(boot_id).map_err(error::failed(boot_id))?;
        Self::open_for_boot(directory, boot.trim(), clock::now)
    }

    /// Waits until no other agent has `directory`; or a moment, if that cannot be waited for.
    pub(crate) async fn free(directory: &Path) {
        let directory = directory.to_owned();
        // A thread that still waits at the end of the process ends with it.
        let waited = tokio::task::spawn_blocking(move || file::wait(&directory));
        if !waited.await.is_ok_and(|waited| waited.is_ok()) {
            tokio::time::sleep(TRY_CADENCE).await;
        }
    }

    /// Waits until no other agent holds `directory`, then removes the file: this agent has counted
    /// without it. Holds the directory from then on.
    pub(crate) async fn clear_after(directory: PathBuf) {
        loop {
            match MemoryFile::open(&directory) {
                Err(MemoryError::Taken(_)) => tokio::time::sleep(CLEAR_CADENCE).await,
                Ok((mut file, _)) => {
                    // If the file cannot be removed, it grows too old to be believed.
                    let _ = file.discard();
                    let _kept = file;
                    std::future::pending::<()>().await;
                }
                Err(MemoryError::Io { .. }) => {
                    file::leave_nothing(&directory);
                    return;
                }
            }
        }
    }

    fn open_for_boot(
        directory: &Path,
        boot: &str,
        now: impl FnOnce() -> Timestamp,
    ) -> Result<Opened, MemoryError> {
        let (file, found) = MemoryFile::open(directory)?;
        // The lock is held, so nobody writes any more: a time after this moment is in the future.
        let now = now();
        let is_on_disk = file.is_on_disk();
        let found = found.map(|found| found.and_then(|bytes| format::decode(&bytes, boot)));
        let mut known = Known {
            boot: boot.to_owned(),
            pods: BTreeMap::new(),
            told: BTreeMap::new(),
            receivers: BTreeSet::new(),
            half: None,
            version: 0,
        };
        let left = match found {
            Some(Ok(left)) if left.is_after(now) => {
                known.version += 1;
                Err(Refusal::OfTheFuture)
            }
            Some(Ok(mut left)) => {
                known.receivers.clone_from(&left.receivers);
                let newest = left.pods.iter().map(|pod| pod.last_seen).max();
                let is_recent = newest.is_some_and(|at| now.saturating_since(at) <= BELIEVED);
                // It has been read by somebody else since, or nobody knows how far. Where there was no pod, there was
                // nothing to tell of it.
                left.half = left.half.filter(|_| is_recent || left.pods.is_empty());
                known.half = left.half;
                let is_kept = |pod: &Pod| now.saturating_since(pod.last_seen) <= KEPT;
                left.pods.retain(|pod| is_recent && is_kept(pod));
                for pod in &left.pods {
                    known.put(pod.clone());
                }
                left.told.retain(|told| known.pods.contains_key(&told.name));
                for told in &left.told {
                    known.note(told.clone());
                }
                Ok(left)
            }
            Some(Err(refusal)) => {
                known.version += 1;
                Err(refusal)
            }
            None => Ok(Left::default()),
        };
        // The next write leaves out what was left out here.
        let written = if left.is_ok() { known.version } else { 0 };
        let writer = Writer {
            file,
            pause: Pause::default(),
            failing: WarnOnce::default(),
        };
        let memory = Arc::new(Self {
            known: Mutex::new(known),
            writer: Mutex::new(writer),
            written: AtomicU64::new(written),
            is_due: AtomicBool::default(),
        });
        Ok(Opened {
            memory,
            left,
            is_on_disk,
        })
    }

    /// From here on this pinned kernel half is read; `None`: one that ends with the agent.
    pub(crate) fn reads(&self, half: Option<u32>) {
        let mut known = self.known();
        known.version += u64::from(known.half != half);
        known.half = half;
    }

    /// Records the current state of these pods.
    pub(crate) fn remember(&self, pods: impl IntoIterator<Item = Pod>) {
        let mut known = self.known();
        for pod in pods {
            known.put(pod);
        }
    }

    /// Forgets the pods that `is_kept` does not select.
    pub(crate) fn retain(&self, is_kept: impl Fn(&SeriesName) -> bool) {
        let mut known = self.known();
        let before = known.pods.len() + known.told.len();
        known.pods.retain(|name, _| is_kept(name));
        known.told.retain(|(_, name), _| is_kept(name));
        known.version += u64::from(before != known.pods.len() + known.told.len());
    }

    /// Schedules a write on a blocking thread. Needs a tokio runtime.
    pub(crate) fn write_soon(self: &Arc<Self>) {
        if self.has_news() && !self.is_due.swap(true, Ordering::AcqRel) {
            let memory = Arc::clone(self);
            tokio::task::spawn_blocking(move || memory.write_news());
        }
    }

    /// Waits until the current contents are written. Callers wait for it before they show counts.
    pub(crate) async fn written(self: Arc<Self>) {
        if self.has_news() {
            // The task does not panic, and nobody aborts it.
            let _ = tokio::task::spawn_blocking(move || self.write_news()).await;
        }
    }

    /// Notes how far a receiver was told. Call it before the receiver is told more. May wait for a
    /// disk.
    pub(crate) fn tell(&self, told: impl IntoIterator<Item = Told>) {
        {
            let mut known = self.known();
            for told in told {
                known.note(told);
            }
        }
        self.write_news();
    }

    /// Registers a receiver. If it is new, returns the pods that counted before it came: their
    /// counts are not new events to it.
    pub(crate) fn join(&self, receiver: Receiver) -> Vec<SeriesName> {
        let mut known = self.known();
        if !known.receivers.insert(receiver) {
            return Vec::new();
        }
        known.version += 1;
        let names: Vec<_> = known.pods.keys().cloned().collect();
        // A successor must know it too, in case this agent dies before it has shown these pods.
        for name in names.clone() {
            known.note(Told {
                to: receiver,
                name,
                ended: None,
            });
        }
        names
    }

    /// How far this receiver was told of each pod.
    pub(crate) fn told(&self, receiver: Receiver) -> Vec<Told> {
        let known = self.known();
        let told = known.told.values().map(|(told, _)| told);
        told.filter(|told| told.to == receiver).cloned().collect()
    }

    /// Whether the memory has this pod.
    pub(crate) fn knows(&self, name: &SeriesName) -> bool {
        self.known().pods.contains_key(name)
    }

    /// The start time of a pod's series, given that one of its points is dated `at`; both in
    /// nanoseconds since the Unix epoch. If the clock was set back and the series would begin after
    /// its point, the series begins with that point from now on.
    pub(crate) fn series_began(&self, name: &SeriesName, at: u64) -> Option<u64> {
        let mut known = self.known();
        let (pod, _) = known.pods.get(name)?;
        if pod.series_began <= at {
            return Some(pod.series_began);
        }
        let pod = Pod {
            series_began: at,
            ..pod.clone()
        };
        known.put(pod);
        drop(known);
        // Write the new start time before it is exported.
        self.write_news();
        Some(at)
    }

    fn has_news(&self) -> bool {
        self.known().version != self.written.load(Ordering::Acquire)
    }

    /// Writes the current contents if they changed. May wait for a disk.
    fn write_news(&self) {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        // A change after this line needs another thread to write it.
        self.is_due.store(false, Ordering::Release);
        if !self.has_news() || writer.pause.is_on(Instant::now()) {
            return;
        }
        let (version, body) = {
            let known = self.known();
            let pods = known.pods.values().map(|(_, line)| line.as_str());
            let told = known.told.values().map(|(_, line)| line.as_str());
            let receivers: Vec<_> = known
                .receivers
                .iter()
                .map(format::line_of_receiver)
                .collect();
            let half = known.half.map(format::line_of_half);
            let first = half.iter().chain(&receivers).map(String::as_str);
            let lines = first.chain(pods).chain(told);
            (known.version, format::body(&known.boot, lines))
        };
        if writer.write(&format::encode(&body)) {
            self.written.store(version, Ordering::Release);
        }
    }

    /// For tests: remembers and writes.
    #[cfg(test)]
    pub(crate) fn write_down(&self, pods: impl IntoIterator<Item = Pod>) {
        self.remember(pods);
        self.write_news();
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn put(&mut self, pod: Pod) {
        let known = self.pods.get(&pod.name).map(|(known, _)| known);
        let series_began = known.map_or(pod.series_began, |known| {
            known.series_began.min(pod.series_began)
        });
        let pod = Pod {
            series_began,
            ..pod
        };
        if known == Some(&pod) {
            return;
        }
        let line = format::line_of_pod(&pod);
        self.pods.insert(pod.name.clone(), (pod, line));
        self.version += 1;
    }

    fn note(&mut self, told: Told) {
        let key = (told.to, told.name.clone());
        if self.told.get(&key).map(|(known, _)| known) != Some(&told) {
            let line = format::line_of_told(&told);
            self.told.insert(key, (told, line));
            self.version += 1;
        }
    }
}

impl Writer {
    /// Returns whether the file was written.
    fn write(&mut self, bytes: &[u8]) -> bool {
        let error = match self.file.replace(bytes) {
            Ok(()) => {
                if let Some(recovery) = self.failing.succeeded(Instant::now()) {
                    tracing::info!(
                        lasted_s = recovery.lasted.as_secs_f64(),
                        "The memory for a successor is written again."
                    );
                }
                return true;
            }
            Err(error) => error,
        };
        self.pause.failed(Instant::now());
        let directory = self.file.directory().to_owned();
        // From an old file, a successor would show less than was already shown.
        if let Err(kept) = self.file.discard()
            && self.failing.failed(Instant::now(), &kept.to_string())
        {
            tracing::warn!(
                directory = %directory.display(),
                error = %kept,
                "The memory for a successor is out of date and cannot be removed: its counters may fall."
            );
        }
        if self.failing.failed(Instant::now(), &error.to_string()) {
            tracing::warn!(
                directory = %directory.display(),
                %error,
                "The memory for a successor cannot be written: its counters will begin at 0."
            );
        }
        false
    }
}

/// The id of this boot: random(4). Times and process ids in the file belong to one boot.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// How long a pod's counts are kept after its last process has ended and the Kubernetes API, if
/// any, no longer lists the pod, and how long they are kept while no agent runs. A Collector outage
/// longer than this loses the last counts of pods that ended in it. It is far longer than backends
/// keep a series without a sample (Prometheus: 5 minutes), so a name that returns later begins at 0
/// like a new one.
pub(crate) const KEPT: Duration = Duration::from_secs(3600);
/// How long a memory is believed after it last saw a pod, a time which it updates every minute.
/// Longer than the kubelet waits before it restarts a crashing container (5 minutes) plus the pull
/// of an image. It is short because an agent without a memory may have run meanwhile, as at a
/// rollback: its counts and the older ones would be added twice. To begin at 0 is always right.
const BELIEVED: Duration = Duration::from_secs(600);
/// How often to try again while an agent that is ending holds the directory.
const TRY_CADENCE: Duration = Duration::from_millis(100);
/// 7 s of tries. An agent that ends by SIGTERM takes 6.2 s at most: 1 s for the last write, 5 s for
/// the last export, and 0.2 s for what it leaves undone. The kernel releases the lock when it tears
/// down the process. No link exists yet, so the wait uses up no grace.
const TRIES: u32 = 70;
/// How often an agent that counts without a memory checks whether the other agent has ended. An
/// agent that is started after both usually takes longer to start.
const CLEAR_CADENCE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use tests::open_again;

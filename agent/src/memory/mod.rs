//! What survives the agent's death: a file that a successor goes on from.
//!
//! It holds what nobody else could tell the successor: what each pod has counted and since when, which
//! outages were under way, and how far the Collector was told. Not whether a link is reachable: that
//! takes a look.
//!
//! What is exported was written before: else a successor's counters would fall, which `increase()`
//! takes for a beginning. So whoever shows counts waits for [`Memory::written`] first, and whoever has
//! shown a pod's zeros calls [`Memory::tell`] before its counts.
//!
//! The loop never waits for a file: it says what is [known](Memory::remember), and other threads write.
//!
//! The file is written whole, beside the old one, and takes its place by rename(2). A process that is
//! killed leaves the one or the other; [`mod@format`] has what makes sure of it.

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
    record::{Ended, Left, Pod, Process, ProcessId, Receiver, Tally, Told},
};
use self::{file::MemoryFile, pause::Pause};
use crate::{clock, snapshot::SeriesName, time::Timestamp, warn_once::WarnOnce};

/// The memory of one agent.
#[derive(Debug)]
pub(crate) struct Memory {
    /// Locked for moments only: the loop needs it.
    known: Mutex<Known>,
    /// Locked before what is known, and while a disk may be waited for.
    writer: Mutex<Writer>,
    /// The version of what is known that is in the file.
    written: AtomicU64,
    /// Whether a thread is about to write what is known by then.
    is_due: AtomicBool,
}

/// A memory, and what was in it: or why that is not taken over.
#[derive(Debug)]
pub(crate) struct Opened {
    /// Takes the place of what was there.
    pub(crate) memory: Arc<Memory>,
    /// What is taken over.
    pub(crate) left: Result<Left, Refusal>,
    /// Whether a disk may be waited for at each write.
    pub(crate) is_on_disk: bool,
}

/// What is known now.
#[derive(Debug)]
struct Known {
    boot: String,
    /// Each with its line of the file.
    pods: BTreeMap<SeriesName, (Pod, String)>,
    told: BTreeMap<(Receiver, SeriesName), (Told, String)>,
    /// Who is told.
    receivers: BTreeSet<Receiver>,
    /// Grows with each change.
    version: u64,
}

/// What writes the file.
#[derive(Debug)]
struct Writer {
    file: MemoryFile,
    pause: Pause,
    failing: WarnOnce,
}

impl Memory {
    /// Takes over what is in `directory`, for this agent alone. If an agent that is ending still has it,
    /// waits for that a moment.
    ///
    /// # Errors
    ///
    /// If the directory cannot be used, or another agent uses it.
    pub(crate) async fn open_soon(directory: &Path) -> Result<Opened, MemoryError> {
        for _ in 0..TRIES {
            match Self::open(directory) {
                Err(MemoryError::Taken(_)) => tokio::time::sleep(TRY_CADENCE).await,
                opened => return opened,
            }
        }
        Self::open(directory)
    }

    /// Takes over what is in `directory`, for this agent alone.
    ///
    /// # Errors
    ///
    /// If the directory cannot be used, or another agent uses it.
    pub(crate) fn open(directory: &Path) -> Result<Opened, MemoryError> {
        Self::open_with(directory, Path::new(BOOT_ID))
    }

    fn open_with(directory: &Path, boot_id: &Path) -> Result<Opened, MemoryError> {
        match fs::read_to_string(boot_id) {
            Ok(boot) => Self::open_for_boot(directory, boot.trim(), clock::now),
            Err(error) => {
                file::leave_nothing(directory);
                Err(error::failed(boot_id)(error))
            }
        }
    }

    /// Waits for as long as another agent has `directory`, and leaves nothing there: this one has counted
    /// without it. Keeps the directory from then on.
    pub(crate) async fn clear_after(directory: PathBuf) {
        loop {
            match MemoryFile::open(&directory) {
                Err(MemoryError::Taken(_)) => tokio::time::sleep(CLEAR_CADENCE).await,
                Ok((mut file, _)) => {
                    // Where it cannot be removed it grows old.
                    let _ = file.discard();
                    let _kept = file;
                    std::future::pending::<()>().await;
                }
                // What could be removed is.
                Err(MemoryError::Io { .. }) => return,
            }
        }
    }

    fn open_for_boot(
        directory: &Path,
        boot: &str,
        now: impl FnOnce() -> Timestamp,
    ) -> Result<Opened, MemoryError> {
        let (file, found) = MemoryFile::open(directory)?;
        // Nobody writes there any more: what comes after this moment has not happened.
        let now = now();
        let is_on_disk = file.is_on_disk();
        let found = found.map(|found| found.and_then(|bytes| format::decode(&bytes, boot)));
        let mut known = Known {
            boot: boot.to_owned(),
            pods: BTreeMap::new(),
            told: BTreeMap::new(),
            receivers: BTreeSet::new(),
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
        // What was left out is left out of the file, too, once there is news.
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

    /// What is known of these pods now.
    pub(crate) fn remember(&self, pods: impl IntoIterator<Item = Pod>) {
        let mut known = self.known();
        for pod in pods {
            known.put(pod);
        }
    }

    /// Forgets the pods that are not kept.
    pub(crate) fn retain(&self, is_kept: impl Fn(&SeriesName) -> bool) {
        let mut known = self.known();
        let before = known.pods.len() + known.told.len();
        known.pods.retain(|name, _| is_kept(name));
        known.told.retain(|(_, name), _| is_kept(name));
        known.version += u64::from(before != known.pods.len() + known.told.len());
    }

    /// Has a thread write what is known by then. In a runtime of tokio.
    pub(crate) fn write_soon(self: &Arc<Self>) {
        if self.has_news() && !self.is_due.swap(true, Ordering::AcqRel) {
            let memory = Arc::clone(self);
            tokio::task::spawn_blocking(move || memory.write_news());
        }
    }

    /// Waits until what is known is written: before what pods counted is shown anywhere.
    pub(crate) async fn written(self: Arc<Self>) {
        if self.has_news() {
            // It does not panic, and is not aborted.
            let _ = tokio::task::spawn_blocking(move || self.write_news()).await;
        }
    }

    /// A receiver has been told so far. Before it is told more. May wait for a disk.
    pub(crate) fn tell(&self, told: impl IntoIterator<Item = Told>) {
        {
            let mut known = self.known();
            for told in told {
                known.note(told);
            }
        }
        self.write_news();
    }

    /// From now on this receiver is told, too. If it was not before, gives the pods that counted without it:
    /// what they did is not new to it.
    pub(crate) fn join(&self, receiver: Receiver) -> Vec<SeriesName> {
        let mut known = self.known();
        if !known.receivers.insert(receiver) {
            return Vec::new();
        }
        known.version += 1;
        let names: Vec<_> = known.pods.keys().cloned().collect();
        // Nor is it to a successor's, if this one dies before it has shown them.
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

    /// Whether anything is known of this pod.
    pub(crate) fn knows(&self, name: &SeriesName) -> bool {
        self.known().pods.contains_key(name)
    }

    /// Since when a pod's series count, of which there is a point of `at`, both in nanoseconds since the
    /// Unix epoch. A clock that was set back must not date a series after its points: it is then as old
    /// as this one, and from here on.
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
        // Before it is told.
        self.write_news();
        Some(at)
    }

    fn has_news(&self) -> bool {
        self.known().version != self.written.load(Ordering::Acquire)
    }

    /// Writes what is known, if that is news. May wait for a disk.
    fn write_news(&self) {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        // What is known from here on is another thread's to write.
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
            let lines = receivers.iter().map(String::as_str).chain(pods).chain(told);
            (known.version, format::body(&known.boot, lines))
        };
        if writer.write(&format::encode(&body)) {
            self.written.store(version, Ordering::Release);
        }
    }

    /// For tests: all in one.
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
    /// Says whether it is written.
    fn write(&mut self, bytes: &[u8]) -> bool {
        let error = match self.file.replace(bytes) {
            Ok(()) => {
                if let Some(recovery) = self.failing.succeeded(Instant::now()) {
                    tracing::info!(
                        lasted_s = recovery.lasted.as_secs_f64(),
                        "What a successor needs is written again."
                    );
                }
                return true;
            }
            Err(error) => error,
        };
        self.pause.failed(Instant::now());
        let directory = self.file.directory().to_owned();
        // An old one would have a successor show less than was shown.
        if let Err(kept) = self.file.discard()
            && self.failing.failed(Instant::now(), &kept.to_string())
        {
            tracing::warn!(
                directory = %directory.display(),
                error = %kept,
                "What a successor needs is behind, and cannot be removed: its counters may fall."
            );
        }
        if self.failing.failed(Instant::now(), &error.to_string()) {
            tracing::warn!(
                directory = %directory.display(),
                %error,
                "What a successor needs cannot be written: its counters will begin at 0."
            );
        }
        false
    }
}

/// Of the boot: random(4). Times in the file are of one boot's clock, and process ids, too.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// For how long a pod is kept, with what it counted, after its last process has ended and the Kubernetes
/// API, where there is one, has ceased to list the pod, or while no agent runs. An outage of a Collector
/// that is longer than that costs the last counts of pods that ended in it. And far longer than backends
/// take a series for alive without a sample (Prometheus: 5 minutes), so that a name that comes back after
/// that begins at 0 like a new one.
pub(crate) const KEPT: Duration = Duration::from_secs(3600);
/// For how long a memory is believed after it saw a pod last, which it says to a minute while there is one.
/// Longer than the kubelet waits before it starts a container that crashes once more (5 minutes), and with
/// the pull of an image beside it. It is short because an agent without a memory may have run meanwhile, as
/// at a rollback: counts of before it, after its own, would be added twice. To begin at 0 is always right.
const BELIEVED: Duration = Duration::from_secs(600);
/// How often to look whether an agent that is ending has let go of the directory.
const TRY_CADENCE: Duration = Duration::from_millis(100);
/// So many times: 7 s. An agent that ends in order takes 6.2 s at most: a second for the last write, 5 s for the
/// last export, and 0.2 s for what it leaves undone; the kernel lets go of the directory when the process is taken apart; and there is no link yet whose grace this would use up.
const TRIES: u32 = 70;
/// How often an agent that counts without it looks whether the other one has ended. The one that follows both
/// mostly needs longer to start.
const CLEAR_CADENCE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use tests::open_again;

//! What survives the agent's death: a file that a successor goes on from.
//!
//! It holds what nobody else could tell the successor: what each pod has counted and since when, which
//! outages were under way, and how far the Collector was told. Not whether a link is reachable: that
//! takes a look.
//!
//! What is exported was written before: else a successor's counters would fall, which `increase()`
//! takes for a beginning. So whoever shows counts calls [`Memory::remember`] first, and whoever has
//! shown a pod's zeros calls [`Memory::tell`] before its counts.
//!
//! The file is written whole, beside the old one, and takes its place by rename(2). A process that is
//! killed leaves the one or the other; [`mod@format`] has what makes sure of it.

mod format;
mod record;

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use rustix::fs::{FlockOperation, flock};

pub(crate) use self::{
    format::Refusal,
    record::{Left, Pod, Process, ProcessId, Tally, Told},
};
use crate::{snapshot::SeriesName, warn_once::WarnOnce};

/// The memory of one agent. Writes what it is told at once, if that is news.
#[derive(Debug)]
pub(crate) struct Memory(Mutex<State>);

/// A memory, and what was in it: or why that is not taken over.
#[derive(Debug)]
pub(crate) struct Opened {
    /// Takes the place of what was there.
    pub(crate) memory: Arc<Memory>,
    /// What is taken over.
    pub(crate) left: Result<Left, Refusal>,
}

/// Why there is no memory.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MemoryError {
    /// The directory cannot be used.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// What could not be opened or read.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Two agents cannot write to one.
    #[error("{path}: another statlink uses it", path = .0.display())]
    Taken(PathBuf),
}

#[derive(Debug)]
struct State {
    directory: PathBuf,
    boot: String,
    /// Held for as long as the agent lives; the kernel lets go of it at its death.
    _lock: File,
    /// Each with its line of the file.
    pods: BTreeMap<SeriesName, (Pod, String)>,
    told: BTreeMap<SeriesName, Told>,
    /// Whether the file lacks something.
    is_behind: bool,
    failing: WarnOnce,
}

impl Memory {
    /// Takes over what is in `directory`, for this agent alone.
    ///
    /// # Errors
    ///
    /// If the directory cannot be used, or another agent uses it.
    pub(crate) fn open(directory: &Path) -> Result<Opened, MemoryError> {
        let boot = read(Path::new(BOOT_ID))?.unwrap_or_default();
        Self::open_for_boot(directory, String::from_utf8_lossy(&boot).trim())
    }

    fn open_for_boot(directory: &Path, boot: &str) -> Result<Opened, MemoryError> {
        let lock = lock(&directory.join(LOCK))?;
        let left = match read(&directory.join(FILE))? {
            Some(bytes) => format::decode(&bytes, boot),
            None => Ok(Left::default()),
        };
        let mut state = State {
            directory: directory.to_owned(),
            boot: boot.to_owned(),
            _lock: lock,
            pods: BTreeMap::new(),
            told: BTreeMap::new(),
            is_behind: false,
            failing: WarnOnce::default(),
        };
        if let Ok(left) = &left {
            for pod in &left.pods {
                state.put(pod.clone());
            }
            for told in &left.told {
                state.told.insert(told.name.clone(), told.clone());
            }
        }
        state.is_behind = left.is_err();
        let memory = Arc::new(Self(Mutex::new(state)));
        Ok(Opened { memory, left })
    }

    /// What is known of these pods now. Before what they counted is shown anywhere.
    pub(crate) fn remember(&self, pods: impl IntoIterator<Item = Pod>) {
        let mut state = self.lock();
        for pod in pods {
            state.put(pod);
        }
        state.write_news();
    }

    /// Forgets the pods that are not kept.
    pub(crate) fn retain(&self, is_kept: impl Fn(&SeriesName) -> bool) {
        let mut state = self.lock();
        let before = state.pods.len() + state.told.len();
        state.pods.retain(|name, _| is_kept(name));
        state.told.retain(|name, _| is_kept(name));
        state.is_behind |= before != state.pods.len() + state.told.len();
        state.write_news();
    }

    /// The Collector has been told so far. Before it is told more.
    pub(crate) fn tell(&self, told: impl IntoIterator<Item = Told>) {
        let mut state = self.lock();
        for told in told {
            let name = told.name.clone();
            state.is_behind |= state.told.insert(name, told.clone()) != Some(told);
        }
        state.write_news();
    }

    /// How far the Collector was told of each pod.
    pub(crate) fn told(&self) -> Vec<Told> {
        self.lock().told.values().cloned().collect()
    }

    /// Since when a pod's series count, in nanoseconds since the Unix epoch.
    pub(crate) fn series_began(&self, name: &SeriesName) -> Option<u64> {
        self.lock().pods.get(name).map(|(pod, _)| pod.series_began)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn put(&mut self, pod: Pod) {
        let known = self.pods.get(&pod.name);
        if known.is_some_and(|(known, _)| *known == pod) {
            return;
        }
        let line = format::line_of_pod(&pod);
        self.pods.insert(pod.name.clone(), (pod, line));
        self.is_behind = true;
    }

    fn write_news(&mut self) {
        if !self.is_behind {
            return;
        }
        let lines = self.pods.values().map(|(_, line)| line.as_str());
        let bytes = format::encode(&self.boot, lines, self.told.values());
        match self.replace(&bytes) {
            Ok(()) => {
                self.is_behind = false;
                if let Some(recovery) = self.failing.succeeded(Instant::now()) {
                    tracing::info!(
                        lasted_s = recovery.lasted.as_secs_f64(),
                        "What a successor needs is written again."
                    );
                }
            }
            Err(error) => {
                // An old one would have a successor show less than was shown.
                let _ = fs::remove_file(self.directory.join(FILE));
                if self.failing.failed(Instant::now(), &error.to_string()) {
                    tracing::warn!(
                        directory = %self.directory.display(),
                        %error,
                        "What a successor needs cannot be written: its counters will begin at 0."
                    );
                }
            }
        }
    }

    fn replace(&self, bytes: &[u8]) -> io::Result<()> {
        let new = self.directory.join(NEW);
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(PRIVATE)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&new)?;
        file.write_all(bytes)?;
        // No fsync: a process's death leaves the page cache alone, and a machine's ends the boot that
        // the file is of.
        drop(file);
        fs::rename(new, self.directory.join(FILE))
    }
}

fn lock(path: &Path) -> Result<File, MemoryError> {
    let opened = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(PRIVATE)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path);
    let file = opened.map_err(failed(path))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(MemoryError::Taken(path.to_owned())),
        Err(error) => Err(failed(path)(error.into())),
    }
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, MemoryError> {
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(path)(error)),
    };
    let mut bytes = Vec::new();
    file.take(LARGEST)
        .read_to_end(&mut bytes)
        .map_err(failed(path))?;
    Ok(Some(bytes))
}

fn failed(path: &Path) -> impl Fn(io::Error) -> MemoryError {
    move |source| MemoryError::Io {
        path: path.to_owned(),
        source,
    }
}

const FILE: &str = "memory";
const NEW: &str = "memory.new";
const LOCK: &str = "memory.lock";
/// Of the boot: random(4). Times in the file are of one boot's clock, and process ids, too.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// For root alone, like the control socket.
const PRIVATE: u32 = 0o600;
/// Ten times what as many pods take as there are accounts of (some 600, 2 kB each): what is larger is
/// no memory.
const LARGEST: u64 = 12 << 20;

#[cfg(test)]
mod tests;

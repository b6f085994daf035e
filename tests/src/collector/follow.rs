//! Reads the file exporter's lines on a thread as they arrive, to note each one's arrival time.

use std::{
    fs::File,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, SystemTime},
};

use super::{Export, decode, registry};

#[derive(Debug)]
pub(super) struct Follower {
    file: PathBuf,
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Seen {
    exports: Vec<Export>,
    errors: Vec<String>,
}

impl Follower {
    /// Keeps the exports of resources with this attribute, or all.
    pub(super) fn start(file: PathBuf, of: Option<(&str, &str)>) -> Self {
        let of = of.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let seen = Arc::<Mutex<Seen>>::default();
        let stop = Arc::<AtomicBool>::default();
        let thread = {
            let (file, seen, stop) = (file.clone(), Arc::clone(&seen), Arc::clone(&stop));
            thread::spawn(move || follow(&file, of.as_ref(), &seen, &stop))
        };
        Self {
            file,
            seen,
            stop,
            thread: Some(thread),
        }
    }

    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    /// Reads all exports; new ones wait meanwhile.
    pub(super) fn read<T>(&self, look: impl FnOnce(&[Export]) -> T) -> T {
        look(&lock(&self.seen).exports)
    }

    /// Takes all exports out.
    pub(super) fn take(&self) -> Vec<Export> {
        std::mem::take(&mut lock(&self.seen).exports)
    }

    /// What could not be decoded, and why.
    pub(super) fn errors(&self) -> Vec<String> {
        lock(&self.seen).errors.clone()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // it only reads
        }
    }
}

fn follow(file: &Path, of: Option<&(String, String)>, seen: &Mutex<Seen>, stop: &AtomicBool) {
    let mut reader = None;
    let mut line = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        // It exists once the Collector runs.
        if reader.is_none() {
            reader = File::open(file).map(BufReader::new).ok();
        }
        let Some(reader) = reader.as_mut() else {
            thread::sleep(PERIOD);
            continue;
        };
        // A line may be read in parts: `line` keeps an incomplete one.
        while matches!(reader.read_until(b'\n', &mut line), Ok(n) if n > 0) {
            // Nobody looks at lines that are not read yet.
            if line.last() != Some(&b'\n') || stop.load(Ordering::Relaxed) {
                break;
            }
            let decoded = decode::line(&line, SystemTime::now());
            line.clear();
            let mut seen = lock(seen);
            match decoded {
                Ok(export) => {
                    if of.is_none_or(|(key, value)| export.is_of(key, value)) {
                        // An export repeats the one before: each fault is kept once.
                        for fault in registry::faults(&export) {
                            if !seen.errors.contains(&fault) {
                                seen.errors.push(fault);
                            }
                        }
                        seen.exports.push(export);
                    }
                }
                Err(e) => seen.errors.push(format!("{e:#}")),
            }
        }
        thread::sleep(PERIOD);
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

const PERIOD: Duration = Duration::from_millis(5);

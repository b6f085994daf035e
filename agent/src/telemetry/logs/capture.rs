//! For tests: captures what this thread logs, as the agent would print it.

use std::{
    io,
    sync::{Arc, LazyLock, Mutex},
};

use serde_json::Value;
use tracing::{
    Dispatch, Subscriber,
    subscriber::{DefaultGuard, NoSubscriber},
};

use super::{Format, subscriber};

/// Captures what this thread logs until it is dropped.
pub(crate) struct Capture {
    lines: Arc<Lines>,
    _guard: DefaultGuard,
}

impl Capture {
    /// Starts to capture events that pass `filter`.
    pub(crate) fn new(filter: &str) -> Self {
        let lines = Arc::<Lines>::default();
        let filter = filter.parse().unwrap();
        let subscriber = subscriber(Format::Json, filter, Arc::clone(&lines), None);
        Self {
            lines,
            _guard: on_this_thread(subscriber),
        }
    }

    /// The lines so far.
    pub(crate) fn lines(&self) -> Vec<Value> {
        let bytes = self.lines.0.lock().unwrap();
        let lines = serde_json::Deserializer::from_slice(&bytes).into_iter();
        lines.map(Result::unwrap).collect()
    }
}

#[derive(Default)]
struct Lines(Mutex<Vec<u8>>);

impl io::Write for &Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Installs `subscriber` for this thread until the guard is dropped.
pub(super) fn on_this_thread(subscriber: impl Subscriber + Send + Sync + 'static) -> DefaultGuard {
    // While the process has one subscriber, a call site asks only the first thread that reaches it
    // whether it is enabled (tracing-core, callsite.rs, `Rebuilder::JustOne`). If that thread is
    // another test's, without a subscriber, the call site is off for all. So keep a second
    // subscriber.
    static SECOND: LazyLock<Dispatch> = LazyLock::new(|| Dispatch::new(NoSubscriber::new()));
    LazyLock::force(&SECOND);
    tracing::subscriber::set_default(subscriber)
}

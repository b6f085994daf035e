//! What a test logs on its own thread, as the agent would print it.

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

/// What this thread logs while it lives.
pub(crate) struct Capture {
    lines: Arc<Lines>,
    _guard: DefaultGuard,
}

impl Capture {
    /// From now on, what passes `filter`.
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

/// Makes `subscriber` this thread's, until the guard is dropped.
pub(super) fn on_this_thread(subscriber: impl Subscriber + Send + Sync + 'static) -> DefaultGuard {
    // While there is one subscriber in the process, a call site asks only the thread that reaches
    // it first (tracing-core, callsite.rs, `Rebuilder::JustOne`): another test's thread, which has
    // none, would switch it off for all. So there are always two.
    static SECOND: LazyLock<Dispatch> = LazyLock::new(|| Dispatch::new(NoSubscriber::new()));
    LazyLock::force(&SECOND);
    tracing::subscriber::set_default(subscriber)
}

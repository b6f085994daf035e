//! Waiting for the agent before this one to end: whoever has the memory counts and exports, and nobody else.

use std::{path::Path, pin::pin, time::Duration};

use anyhow::Context as _;
use tokio::{sync::watch, time::sleep};

use crate::{
    discovery::{
        Discovery,
        kubernetes::{self, ConfigError},
    },
    kernel::{Kernel, tracefs::Tracefs},
    memory::{Memory, MemoryError, Opened},
    options::Options,
    telemetry::logs::{self, Lines},
};

/// The memory in `directory`, once it is this agent's turn; `None` if it is to `stop` before.
///
/// While another agent is at work, this one first does all that may fail. It is `ready` then, until it is its
/// turn: what replaces agents waits for that, and ends the other one.
///
/// # Errors
///
/// If this agent could not do its work, or whether another one is at work cannot be seen.
pub(super) async fn turn(
    directory: &Path,
    options: &Options,
    tracefs: &Tracefs,
    lines: &Lines,
    ready: &watch::Sender<bool>,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<Option<Opened>> {
    if let Some(opened) = open(directory)? {
        return Ok(Some(opened));
    }
    let _lines = logs::until_then(options.log_format, lines.clone());
    drop(Kernel::load(&options.watch, tracefs)?);
    wait(directory, listed(options), ready, stop).await
}

/// As [`turn`], of an agent that is `ready` once the API has `listed`.
async fn wait(
    directory: &Path,
    listed: impl Future<Output = Result<(), ConfigError>>,
    ready: &watch::Sender<bool>,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<Option<Opened>> {
    let mut stop = pin!(stop);
    let mut listed = pin!(listed);
    let mut free = pin!(Memory::free(directory));
    let mut late = pin!(sleep(PATIENCE));
    let mut is_late = false;
    let mut is_ready = false;
    loop {
        tokio::select! {
            () = &mut stop => return Ok(None),
            listed = &mut listed, if !is_ready => {
                listed?;
                is_ready = true;
                ready.send_replace(true);
                tracing::info!(
                    "Another agent is at work here. This one could be, and goes on where that one ends."
                );
            }
            () = &mut late, if !is_late => {
                is_late = true;
                warn(is_ready);
            }
            () = &mut free => match open(directory)? {
                Some(opened) => {
                    // Now it is to show that it works.
                    ready.send_replace(false);
                    return Ok(Some(opened));
                }
                // A third one was quicker.
                None => free.set(Memory::free(directory)),
            }
        }
    }
}

/// The memory, if no other agent has it.
fn open(directory: &Path) -> anyhow::Result<Option<Opened>> {
    match Memory::open(directory) {
        Ok(opened) => Ok(Some(opened)),
        Err(MemoryError::Taken(_)) => Ok(None),
        // To work on would be to count beside it.
        Err(error) => Err(error).context(UNSEEN),
    }
}

/// Waits until the Kubernetes API, if it is used, has listed everything once.
async fn listed(options: &Options) -> Result<(), ConfigError> {
    let Some(settings) = &options.kubernetes else {
        return Ok(());
    };
    let (sender, mut events) = kubernetes::event_queue();
    kubernetes::watch(&kubernetes::find().await?, settings, &sender)?;
    let mut discovery = Discovery::with_kubernetes(options.selector.clone());
    discovery.sync(&mut events).await;
    // The watches end with the queue.
    Ok(())
}

fn warn(is_ready: bool) {
    let waited_s = PATIENCE.as_secs();
    if is_ready {
        tracing::warn!(
            waited_s,
            "The agent at work here has not ended, and this one waits on, without a word to anybody: of two agents \
             on one node, that are not just being replaced, remove one."
        );
    } else {
        tracing::warn!(
            waited_s,
            "The Kubernetes API has not listed everything, so this agent is not ready to go on where the one at work \
             here ends; `statlink check` says why."
        );
    }
}

/// What replaces agents ends the other one within seconds, and that takes 10 s at most.
const PATIENCE: Duration = Duration::from_secs(30);
const UNSEEN: &str = "whether another agent is at work here cannot be seen: give --state-dir a directory that this \
     user may write to, or leave out --pin-directory";

#[cfg(test)]
mod tests {
    use std::{fs, future::pending};

    use serde_json::Value;
    use tokio::{sync::oneshot, task::yield_now, time::advance};

    use super::*;
    use crate::telemetry::logs::capture::Capture;

    /// Waits until there are so many lines, and gives the last one's level and beginning.
    async fn line(capture: &Capture, number: usize) -> (Value, bool) {
        while capture.lines().len() < number {
            yield_now().await;
        }
        let line = capture.lines().pop().unwrap();
        let message = line["message"].as_str().unwrap();
        (
            line["level"].clone(),
            message.starts_with("The Kubernetes API"),
        )
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_ready_from_when_the_api_has_listed_until_its_turn() {
        let directory = tempfile::tempdir().unwrap();
        let first = open(directory.path()).unwrap();
        let capture = Capture::new("info");
        let (ready, mut readiness) = watch::channel(false);
        let (list, listed) = oneshot::channel();
        let listed = async {
            listed.await.unwrap();
            Ok(())
        };
        let turn = wait(directory.path(), listed, &ready, pending());
        let steps = async {
            advance(PATIENCE + Duration::from_secs(1)).await;
            assert_eq!(line(&capture, 1).await, ("WARN".into(), true));
            assert!(!*readiness.borrow());
            list.send(()).unwrap();
            readiness.wait_for(|ready| *ready).await.unwrap();
            drop(first);
        };
        let (turn, ()) = tokio::join!(turn, steps);
        assert!(turn.unwrap().is_some());
        assert!(!*ready.borrow());
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_waits_for_long_says_so_and_stops_when_told() {
        let directory = tempfile::tempdir().unwrap();
        let first = open(directory.path()).unwrap();
        let capture = Capture::new("info");
        let (ready, readiness) = watch::channel(false);
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async { stopped.await.unwrap() };
        let turn = wait(directory.path(), async { Ok(()) }, &ready, stopped);
        let steps = async {
            assert_eq!(line(&capture, 1).await, ("INFO".into(), false));
            assert!(*readiness.borrow());
            advance(PATIENCE + Duration::from_secs(1)).await;
            assert_eq!(line(&capture, 2).await, ("WARN".into(), false));
            stop.send(()).unwrap();
        };
        let (turn, ()) = tokio::join!(turn, steps);
        assert!(turn.unwrap().is_none());
        // The thread that waits for it would keep the runtime.
        drop(first);
    }

    #[test]
    fn where_nobody_can_see_whose_turn_it_is_the_start_ends_and_leaves_what_is_there() {
        let directory = tempfile::tempdir().unwrap();
        let memory = directory.path().join("memory");
        fs::write(&memory, "another agent's").unwrap();
        fs::create_dir(directory.path().join("memory.lock")).unwrap();
        let error = open(directory.path()).unwrap_err();
        assert!(error.is::<MemoryError>(), "{error:?}");
        assert!(error.to_string().contains("--state-dir"), "{error:?}");
        assert!(memory.exists());
    }

    #[test]
    fn one_has_the_memory_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let first = open(directory.path()).unwrap();
        assert!(first.is_some());
        assert!(open(directory.path()).unwrap().is_none());
    }
}

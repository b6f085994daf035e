//! Following one resource. kube's runtime lists, watches, resumes, lists again and backs off.

use std::{
    collections::hash_map::RandomState,
    fmt::Debug,
    future::pending,
    hash::{BuildHasher as _, Hasher as _},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use futures_util::{FutureExt as _, StreamExt as _};
use kube::{
    Api, Resource,
    runtime::{
        WatchStreamExt as _,
        utils::{Backoff, ResetTimerBackoff},
        watcher,
        watcher::Event,
    },
};
use serde::de::DeserializeOwned;
use tokio::{
    sync::{Notify, mpsc},
    time::{Instant, sleep_until},
};

use super::{
    directory::{WatchEvent, WatchHealth, Watched},
    failure::WatchLog,
};
use crate::link::DOUBT;

/// Notified of every successful response. A watch that resumes after an outage yields no event
/// until an object changes, so only the response itself shows that it works again.
pub(super) type Answered = Arc<Notify>;

/// Notified when it is in doubt whether a watch still reports every change.
pub(super) type Doubted = Arc<Notify>;

/// Doubts whether the watches of the peer's addresses still report every change.
///
/// A watch is silent while nothing changes, so one whose API server is frozen, or cut off without a
/// word, looks like one that works, for minutes. To find that out costs requests, so it is done only
/// when something depends on it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Doubts {
    watches: Vec<Doubted>,
}

impl Doubts {
    /// A watch whose doubts are raised with the others'.
    pub(super) fn add(&mut self) -> Doubted {
        let doubted = Doubted::default();
        self.watches.push(Arc::clone(&doubted));
        doubted
    }

    /// Has each watch list anew. One that gets no answer within [`ANSWER_DUE`] is stale from then on.
    pub(crate) fn raise(&self) {
        for doubted in &self.watches {
            doubted.notify_one();
        }
    }
}

/// A resource that can be followed.
pub(super) trait Watchable:
    Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
    + Clone
    + Debug
    + DeserializeOwned
    + Send
    + 'static
{
}

impl<K> Watchable for K where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + 'static
{
}

/// Notifications for a watch.
#[derive(Debug, Default)]
pub(super) struct Signals {
    pub(super) answered: Answered,
    pub(super) doubted: Doubted,
}

/// Sends every change to `events`, wrapped by `wrap`, until the receiver is dropped. Reports
/// failures and recoveries to `log`, and to `events` as the health of `watched`.
pub(super) async fn follow<K: Watchable>(
    api: Api<K>,
    selection: watcher::Config,
    signals: Signals,
    wrap: impl Fn(Event<K>) -> WatchEvent,
    watched: Watched,
    mut log: Option<WatchLog>,
    events: mpsc::Sender<WatchEvent>,
) {
    let Signals { answered, doubted } = signals;
    let start = || {
        let pauses = ResetTimerBackoff::new(Pauses::default(), CALM);
        watcher(api.clone(), selection.clone()).backoff(pauses)
    };
    let mut changes = pin!(start());
    let mut health = WatchHealth::Current;
    // When the listing must be complete that a doubt asked for.
    let mut due: Option<Instant> = None;
    loop {
        let was = health;
        let until_due = async {
            match due {
                Some(due) => sleep_until(due).await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = answered.notified() => {
                health = WatchHealth::Current;
                if let Some(log) = &mut log {
                    log.succeeded();
                }
            }
            change = changes.next() => match change {
                Some(Ok(event)) => {
                    if matches!(event, Event::InitDone) {
                        due = None;
                    }
                    if events.send(wrap(event)).await.is_err() {
                        // The agent is stopping.
                        return;
                    }
                }
                Some(Err(error)) => {
                    // A response from before this failure does not end the outage.
                    let _ = answered.notified().now_or_never();
                    health = WatchHealth::Stale;
                    if let Some(log) = &mut log {
                        log.failed(&error);
                    }
                }
                None => return,
            },
            // One listing at a time, or a burst of doubts would let none complete.
            () = doubted.notified(), if due.is_none() && health == WatchHealth::Current => {
                // A response from before this doubt does not answer it.
                let _ = answered.notified().now_or_never();
                changes.set(start());
                due = Some(Instant::now() + ANSWER_DUE);
            }
            () = until_due => {
                // The request may wait on a connection that is dead: a new one will not.
                changes.set(start());
                due = Some(Instant::now() + RESTART);
                health = WatchHealth::Stale;
                if let Some(log) = &mut log {
                    log.unanswered(ANSWER_DUE);
                }
            }
            () = events.closed() => return,
        }
        if health != was {
            let event = WatchEvent::Health(watched, health);
            if events.send(event).await.is_err() {
                return;
            }
        }
    }
}

/// How long to wait between attempts while the API server is away: twice as long each time, up to
/// [`LONGEST_PAUSE`], minus a random part, so that the agents of a cluster do not all come at once.
#[derive(Debug, Default)]
struct Pauses {
    /// The number of pauses since the last success.
    taken: u32,
}

impl Iterator for Pauses {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let doubled = SHORTEST_PAUSE.saturating_mul(2_u32.saturating_pow(self.taken));
        self.taken = self.taken.saturating_add(1);
        let longest = doubled.min(LONGEST_PAUSE);
        // A hasher's keys are random, and that is random enough here.
        let random = RandomState::new().build_hasher().finish() % u64::from(PERCENT);
        let spare = longest / 2 / PERCENT * u32::try_from(random).unwrap_or_default();
        Some(longest - spare)
    }
}

impl Backoff for Pauses {
    fn reset(&mut self) {
        self.taken = 0;
    }
}

/// The first pause of client-go's reflector.
const SHORTEST_PAUSE: Duration = Duration::from_millis(800);
/// While a watch is away, the peer's addresses are not known, and a pod that begins to terminate is
/// taken for an outage. So a server that is back must be found soon. An attempt is one small
/// request.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How long an API server that is asked because of a doubt may take: it lists a few objects in
/// milliseconds. Shorter than a connection's address is left in doubt ([`DOUBT`]), so that an address
/// is never judged by a watch that is dead.
const ANSWER_DUE: Duration = Duration::from_millis(1_500);
const _: () = assert!(ANSWER_DUE.as_millis() < DOUBT.as_millis());
/// How long one that did not answer is waited for, before a new connection is tried.
const RESTART: Duration = Duration::from_secs(10);
/// A watch that has not failed for this long starts again with the shortest pause, as client-go
/// does.
const CALM: Duration = Duration::from_secs(120);
const PERCENT: u32 = 100;

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;

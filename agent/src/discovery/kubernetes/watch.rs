//! Following one resource. kube's runtime lists, watches, resumes, lists again and backs off.

use std::{fmt::Debug, pin::pin, sync::Arc};

use futures_util::{FutureExt as _, StreamExt as _};
use kube::{
    Api, Resource,
    runtime::{WatchStreamExt as _, watcher, watcher::Event},
};
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, mpsc};

use super::{directory::WatchEvent, failure::WatchLog};

/// Notified of every successful response. A watch that resumes after an outage yields no event
/// until an object changes, so only the response itself shows that it works again.
pub(super) type Answered = Arc<Notify>;

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

/// Sends every change to `events`, wrapped by `wrap`, until the receiver is dropped. Failures and
/// recoveries go to `log`.
pub(super) async fn follow<K: Watchable>(
    api: Api<K>,
    selection: watcher::Config,
    answered: Answered,
    wrap: impl Fn(Event<K>) -> WatchEvent,
    mut log: Option<WatchLog>,
    events: mpsc::Sender<WatchEvent>,
) {
    let mut changes = pin!(watcher(api, selection).default_backoff());
    loop {
        tokio::select! {
            () = answered.notified() => {
                if let Some(log) = &mut log {
                    log.succeeded();
                }
            }
            change = changes.next() => match change {
                Some(Ok(event)) => {
                    if events.send(wrap(event)).await.is_err() {
                        // The agent is stopping.
                        return;
                    }
                }
                Some(Err(error)) => {
                    // A response from before this failure does not end the outage.
                    let _ = answered.notified().now_or_never();
                    if let Some(log) = &mut log {
                        log.failed(&error);
                    }
                }
                None => return,
            },
            () = events.closed() => return,
        }
    }
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;

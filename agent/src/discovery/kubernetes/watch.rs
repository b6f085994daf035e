//! Following one kind: kube's runtime lists, watches, resumes, lists again and backs off.

use std::{fmt::Debug, pin::pin, sync::Arc};

use futures_util::{FutureExt as _, StreamExt as _};
use kube::{
    Api, Resource,
    runtime::{WatchStreamExt as _, watcher, watcher::Event},
};
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, mpsc};

use super::{News, outage::Outage};

/// Notified when the API server gave what it was asked for. A watch that goes on after an outage is
/// silent until something changes; its answer is not.
pub(super) type Answered = Arc<Notify>;

/// What can be followed.
pub(super) trait Kind:
    Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
    + Clone
    + Debug
    + DeserializeOwned
    + Send
    + 'static
{
}

impl<K> Kind for K where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + 'static
{
}

/// Sends what changes, until nobody listens. Whether it works is logged if it `tells`.
pub(super) async fn follow<K: Kind>(
    api: Api<K>,
    selection: watcher::Config,
    answered: Answered,
    of: impl Fn(Event<K>) -> News,
    tells: bool,
    news: mpsc::Sender<News>,
) {
    let mut outage =
        tells.then(|| Outage::new(&K::plural(&()), api.namespace().unwrap_or_default()));
    let mut events = pin!(watcher(api, selection).default_backoff());
    loop {
        tokio::select! {
            () = answered.notified() => {
                if let Some(outage) = &mut outage {
                    outage.over();
                }
            }
            event = events.next() => match event {
                Some(Ok(event)) => {
                    if news.send(of(event)).await.is_err() {
                        // The agent is stopping.
                        return;
                    }
                }
                Some(Err(error)) => {
                    // An answer from before this failure does not end the outage.
                    let _ = answered.notified().now_or_never();
                    if let Some(outage) = &mut outage {
                        outage.seen(&error);
                    }
                }
                None => return,
            },
            () = news.closed() => return,
        }
    }
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;

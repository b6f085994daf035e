//! One warning when a watch stops working, one line when it works again.

use kube::runtime::watcher;

use crate::chain::chain;

/// How the watch of one resource goes.
#[derive(Debug)]
pub(super) struct Outage {
    resource: String,
    namespace: String,
    /// What was warned of.
    told: Option<String>,
}

impl Outage {
    pub(super) fn new(resource: &str, namespace: &str) -> Self {
        Self {
            resource: resource.to_owned(),
            namespace: namespace.to_owned(),
            told: None,
        }
    }

    /// It failed; it is tried again by whoever watches.
    pub(super) fn seen(&mut self, error: &watcher::Error) {
        let Self {
            resource,
            namespace,
            told,
        } = self;
        let Some((verb, reason)) = failure(error) else {
            tracing::debug!(%error, "the watch of {resource} starts over");
            return;
        };
        // Another reason is news: an API server that comes back may refuse.
        if told.as_ref() != Some(&reason) {
            tracing::warn!(
                verb,
                resource,
                namespace,
                reason,
                "Kubernetes API does not tell: {verb} {resource} in {namespace}. What is known \
                 stays in use."
            );
            *told = Some(reason);
        }
    }

    /// It works.
    pub(super) fn over(&mut self) {
        let Self {
            resource,
            namespace,
            told,
        } = self;
        if told.take().is_some() {
            tracing::info!(
                resource,
                namespace,
                "Kubernetes API tells of {resource} again."
            );
        }
    }
}

/// The verb that failed and why; `None` for what belongs to a watch's life.
fn failure(error: &watcher::Error) -> Option<(&'static str, String)> {
    Some(match error {
        watcher::Error::InitialListFailed(error) => ("list", reason(error)),
        watcher::Error::WatchStartFailed(error) | watcher::Error::WatchFailed(error) => {
            ("watch", reason(error))
        }
        // Expired: the server no longer has the changes since; everything is listed anew.
        watcher::Error::WatchError(status) if status.code == GONE => return None,
        watcher::Error::WatchError(status) => ("watch", status.message.clone()),
        watcher::Error::NoResourceVersion => ("watch", error.to_string()),
    })
}

/// Why a request failed, with the cure where there is one.
pub(super) fn reason(error: &kube::Error) -> String {
    let kube::Error::Api(status) = error else {
        return chain(error);
    };
    let message = &status.message;
    match status.code {
        FORBIDDEN => {
            format!("{message}; give the ServiceAccount a Role there with get, list and watch")
        }
        UNAUTHORIZED => format!("{message}; the ServiceAccount's token is not valid"),
        _ => message.clone(),
    }
}

const UNAUTHORIZED: u16 = 401;
const FORBIDDEN: u16 = 403;
const GONE: u16 = 410;

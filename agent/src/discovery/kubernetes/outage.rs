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
        // Another answer is news: an API server that comes back may refuse. How it cannot be
        // reached changes from one attempt to the next.
        let is_news = is_answer(error) && told.as_ref() != Some(&reason);
        if told.is_none() || is_news {
            tracing::warn!(
                verb,
                resource,
                namespace,
                "Kubernetes API does not tell: {verb} {resource} in {namespace}: {reason}. What is \
                 known stays in use."
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

/// Whether the API server itself said no.
const fn is_answer(error: &watcher::Error) -> bool {
    matches!(
        error,
        watcher::Error::InitialListFailed(kube::Error::Api(_))
            | watcher::Error::WatchStartFailed(kube::Error::Api(_))
            | watcher::Error::WatchError(_)
    )
}

/// The verb that failed and why; `None` for what belongs to a watch's life.
fn failure(error: &watcher::Error) -> Option<(&'static str, String)> {
    Some(match error {
        watcher::Error::InitialListFailed(error) => ("list", reason(error)),
        // Cut, or expired when it was to go on: if starting it again fails, that is told.
        watcher::Error::WatchFailed(_) => return None,
        watcher::Error::WatchStartFailed(kube::Error::Api(status)) if status.code == GONE => {
            return None;
        }
        watcher::Error::WatchStartFailed(error) => ("watch", reason(error)),
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
            format!("{message}; give the ServiceAccount a Role there with list and watch")
        }
        UNAUTHORIZED => format!("{message}; the ServiceAccount's token is not valid"),
        _ => message.clone(),
    }
}

const UNAUTHORIZED: u16 = 401;
const FORBIDDEN: u16 = 403;
const GONE: u16 = 410;

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn status(code: u16, message: &str) -> Box<Status> {
        Box::new(Status {
            code,
            message: message.to_owned(),
            ..Status::default()
        })
    }

    #[test]
    fn a_refusal_names_the_verb_and_the_cure() {
        let error = kube::Error::Api(status(403, "no"));
        let told = "no; give the ServiceAccount a Role there with list and watch";
        assert_eq!(
            failure(&watcher::Error::WatchStartFailed(error)),
            Some(("watch", told.to_owned()))
        );
        let error = kube::Error::Api(status(500, "broken"));
        assert_eq!(
            failure(&watcher::Error::InitialListFailed(error)),
            Some(("list", "broken".to_owned()))
        );
    }

    #[test]
    fn an_expired_watch_is_no_failure() {
        let told = watcher::Error::WatchError(status(410, "too old"));
        assert_eq!(failure(&told), None);
        let error = kube::Error::Api(status(410, "too old"));
        assert_eq!(failure(&watcher::Error::WatchStartFailed(error)), None);
    }

    #[test]
    fn an_outage_is_told_once_for_each_answer() {
        let mut outage = Outage::new("pods", "knative-serving");
        let error =
            |message| watcher::Error::InitialListFailed(kube::Error::Api(status(500, message)));
        outage.seen(&error("one"));
        assert_eq!(outage.told.as_deref(), Some("one"));
        outage.seen(&error("another"));
        assert_eq!(outage.told.as_deref(), Some("another"));
        let unreachable = kube::Error::LinesCodecMaxLineLengthExceeded;
        outage.seen(&watcher::Error::WatchStartFailed(unreachable));
        assert_eq!(outage.told.as_deref(), Some("another"));
        outage.over();
        assert_eq!(outage.told, None);
    }
}

//! Failed requests to the API: which of them to log, why they failed, what to do.

use std::{
    fmt,
    time::{Duration, Instant},
};

use kube::runtime::watcher;

use crate::{chain::chain, warn_once::WarnOnce};

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RequestFailure {
    /// The verb of the request, as in a Role.
    pub verb: &'static str,
    /// The answer of the API server, or why there is none.
    pub reason: String,
    /// What to do, where that is known.
    pub cure: Option<&'static str>,
}

impl RequestFailure {
    pub(super) fn new(verb: &'static str, error: &kube::Error) -> Self {
        let kube::Error::Api(status) = error else {
            return Self {
                verb,
                reason: chain(error),
                cure: None,
            };
        };
        Self {
            verb,
            reason: status.message.clone(),
            cure: match status.code {
                FORBIDDEN => Some(NO_ROLE),
                UNAUTHORIZED => Some("the ServiceAccount's token is not valid"),
                _ => None,
            },
        }
    }
}

impl fmt::Display for RequestFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)?;
        self.cure.map_or(Ok(()), |cure| write!(f, "; {cure}"))
    }
}

/// Logs the health of one resource's watch: a warning when it fails, a line when it works again.
#[derive(Debug)]
pub(super) struct WatchLog {
    resource: String,
    namespace: String,
    warnings: WarnOnce,
}

impl WatchLog {
    pub(super) fn new(resource: &str, namespace: &str) -> Self {
        Self {
            resource: resource.to_owned(),
            namespace: namespace.to_owned(),
            warnings: WarnOnce::default(),
        }
    }

    /// The watch failed. kube's runtime tries again.
    pub(super) fn failed(&mut self, error: &watcher::Error) {
        let Some(failure) = failure(error) else {
            tracing::debug!(%error, "The watch of {} starts over.", self.resource);
            return;
        };
        if self.deserves_warning(is_answer(error), &failure) {
            self.warn(&failure);
        }
    }

    /// The API server was asked, and has not answered for this long.
    pub(super) fn unanswered(&mut self, waited: Duration) {
        let failure = RequestFailure {
            verb: "list",
            reason: format!("no answer within {} s", waited.as_secs_f64()),
            cure: None,
        };
        if self.deserves_warning(false, &failure) {
            self.warn(&failure);
        }
    }

    fn warn(&self, failure: &RequestFailure) {
        let (verb, resource, namespace) = (failure.verb, &self.resource, &self.namespace);
        tracing::warn!(
            verb,
            resource,
            namespace,
            "Watching {resource} failed: {verb} {resource} in {namespace}: {failure}. What is \
             known stays in use."
        );
    }

    /// The API server answered a request of this watch.
    pub(super) fn succeeded(&mut self) {
        if self.warnings.succeeded(Instant::now()).is_some() {
            let (resource, namespace) = (&self.resource, &self.namespace);
            tracing::info!(resource, namespace, "Watching {resource} works again.");
        }
    }

    /// Each answer of the API server deserves a warning: a server that comes back may refuse. The
    /// reason why it cannot be reached changes from one attempt to the next, so that deserves one
    /// warning at the start.
    fn deserves_warning(&mut self, is_answer: bool, failure: &RequestFailure) -> bool {
        let was_failing = self.warnings.is_failing();
        let is_new = self.warnings.failed(Instant::now(), &failure.reason);
        is_new && (is_answer || !was_failing)
    }
}

/// Whether the API server itself refused.
const fn is_answer(error: &watcher::Error) -> bool {
    matches!(
        error,
        watcher::Error::InitialListFailed(kube::Error::Api(_))
            | watcher::Error::WatchStartFailed(kube::Error::Api(_))
            | watcher::Error::WatchError(_)
    )
}

/// Why the watch failed; `None` for the interruptions that every watch has.
fn failure(error: &watcher::Error) -> Option<RequestFailure> {
    let watch = |reason| RequestFailure {
        verb: "watch",
        reason,
        cure: None,
    };
    Some(match error {
        watcher::Error::InitialListFailed(error) => RequestFailure::new("list", error),
        // The connection was cut or had expired. If the restart fails, that is an error of its own.
        watcher::Error::WatchFailed(_) => return None,
        watcher::Error::WatchStartFailed(error) => RequestFailure::new("watch", error),
        // The server no longer has the changes since that version; the runtime lists everything
        // again.
        watcher::Error::WatchError(status) if status.code == GONE => return None,
        watcher::Error::WatchError(status) => watch(status.message.clone()),
        watcher::Error::NoResourceVersion => watch(error.to_string()),
    })
}

/// The Role belongs in Knative's namespace. Kustomize's `namespace:` moves every object of an overlay.
const NO_ROLE: &str = "give the ServiceAccount a Role there with list and watch; if Kustomize installed \
     it with `namespace:`, that moved the Role and its RoleBinding to the agent's own namespace";
const UNAUTHORIZED: u16 = 401;
const FORBIDDEN: u16 = 403;
const GONE: u16 = 410;

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn refusal(code: u16, message: &str) -> Box<Status> {
        Box::new(Status {
            code,
            message: message.to_owned(),
            ..Status::default()
        })
    }

    #[test]
    fn a_refusal_names_the_verb_and_the_cure() {
        let error = kube::Error::Api(refusal(403, "no"));
        let denied = failure(&watcher::Error::WatchStartFailed(error)).unwrap();
        assert_eq!(denied.verb, "watch");
        assert_eq!(denied.to_string(), format!("no; {NO_ROLE}"));
        let error = kube::Error::Api(refusal(500, "broken"));
        let broken = failure(&watcher::Error::InitialListFailed(error)).unwrap();
        assert_eq!(broken.verb, "list");
        assert_eq!(broken.to_string(), "broken");
    }

    #[test]
    fn an_expired_watch_is_no_failure() {
        let expired = watcher::Error::WatchError(refusal(410, "too old"));
        assert_eq!(failure(&expired), None);
    }

    /// kube's runtime keeps asking for the version that was refused, so the watch would never
    /// deliver anything again.
    #[test]
    fn a_watch_that_is_refused_for_its_age_is_a_failure() {
        let error = kube::Error::Api(refusal(410, "too old"));
        let refused = failure(&watcher::Error::WatchStartFailed(error)).unwrap();
        assert_eq!(refused.verb, "watch");
        assert_eq!(refused.to_string(), "too old");
    }

    #[test]
    fn each_answer_of_an_outage_deserves_one_warning() {
        let mut log = WatchLog::new("pods", "knative-serving");
        let mut warns = |error: &watcher::Error| {
            let failure = failure(error).unwrap();
            log.deserves_warning(is_answer(error), &failure)
        };
        let answer =
            |message| watcher::Error::InitialListFailed(kube::Error::Api(refusal(500, message)));
        assert!(warns(&answer("one")));
        assert!(!warns(&answer("one")));
        assert!(warns(&answer("another")));
        // In the same outage, a server that cannot be reached deserves no second warning.
        let unreachable = kube::Error::LinesCodecMaxLineLengthExceeded;
        assert!(!warns(&watcher::Error::WatchStartFailed(unreachable)));
        assert!(!warns(&answer("one")));
    }
}

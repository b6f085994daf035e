//! Which warnings to log about processes without a link.
//!
//! Anybody on the node can start any number of processes with a client's name and end them at once.
//! So a warning is about a reason, not about a process, which is only its example.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::error::{DiscoveryError, Reason};

/// The reasons that were warned about.
#[derive(Debug, Default)]
pub(crate) struct Unseen {
    /// When each reason was last met.
    met: BTreeMap<Reason, Instant>,
}

impl Unseen {
    /// Whether to warn about a process that has no link because of `error`. Each reason gets one
    /// warning for as long as processes with it are met, and only the first few reasons of a kind
    /// do.
    pub(crate) fn deserves_warning(&mut self, now: Instant, error: &DiscoveryError) -> bool {
        self.met
            .retain(|_, met| now.saturating_duration_since(*met) < FORGOTTEN);
        let reason = error.reason();
        if let Some(met) = self.met.get_mut(&reason) {
            *met = now;
            return false;
        }
        let of_kind = self.met.keys().filter(|met| met.kind == reason.kind);
        let is_told = of_kind.count() < MOST_OF_A_KIND;
        if is_told {
            self.met.insert(reason, now);
        }
        is_told
    }
}

/// A reason that was not met for this long is warned about when it returns: somebody may have acted
/// on it. This is far longer than the time between two scans of `/proc`, so that processes that
/// come and go are one reason.
const FORGOTTEN: Duration = Duration::from_secs(600);
/// A person who has read this many of one kind knows what to look for, and `statlink check` lists
/// the current ones.
const MOST_OF_A_KIND: usize = 4;

#[cfg(test)]
mod tests {
    use super::{super::error::Unplaced, *};

    fn elsewhere(pid: u32, namespace: &str) -> DiscoveryError {
        DiscoveryError::OtherNamespace {
            pid,
            process: "activator".to_owned(),
            namespace: namespace.to_owned(),
            watched: "knative-serving".to_owned(),
        }
    }

    fn denied(pid: u32) -> DiscoveryError {
        DiscoveryError::Proc {
            path: format!("/proc/{pid}/environ"),
            source: std::io::ErrorKind::PermissionDenied.into(),
        }
    }

    #[test]
    fn many_processes_with_one_reason_are_one_warning() {
        let (mut unseen, start) = (Unseen::default(), Instant::now());
        let mut warnings = |error: fn(u32) -> DiscoveryError| {
            let pids = 1..10_000;
            let warned = pids.filter(|pid| {
                let now = start + Duration::from_secs((*pid).into());
                unseen.deserves_warning(now, &error(*pid))
            });
            warned.count()
        };
        assert_eq!(warnings(|pid| elsewhere(pid, "knative")), 1);
        assert_eq!(warnings(denied), 1);
        let bad_name = |pid| DiscoveryError::bad_name(pid, "POD_NAME", &format!("_{pid}"));
        assert_eq!(warnings(bad_name), 1);
    }

    #[test]
    fn reasons_without_end_are_a_few_warnings_of_each_kind() {
        let (mut unseen, now) = (Unseen::default(), Instant::now());
        let warned = (1..10_000).filter(|pid| {
            let error = elsewhere(*pid, &format!("namespace-{pid}"));
            unseen.deserves_warning(now, &error)
        });
        assert_eq!(warned.count(), MOST_OF_A_KIND);
        assert!(unseen.deserves_warning(now, &denied(1)));
        assert_eq!(unseen.met.len(), MOST_OF_A_KIND + 1);
    }

    #[test]
    fn strangers_of_one_kind_silence_no_other() {
        let (mut unseen, now) = (Unseen::default(), Instant::now());
        let whys = [
            Unplaced::NoContainer,
            Unplaced::NotListed,
            Unplaced::NotReported,
            Unplaced::NothingListed,
        ];
        for why in whys {
            for process in ["activator", "autoscaler"] {
                let warned = (1..100).filter(|pid| {
                    let error = DiscoveryError::unplaced(*pid, process, why, "0::/");
                    unseen.deserves_warning(now, &error)
                });
                assert_eq!(warned.count(), 1, "{process} {why:?}");
            }
        }
    }

    #[test]
    fn a_reason_that_was_gone_for_long_is_warned_of_when_it_comes_back() {
        let (mut unseen, start) = (Unseen::default(), Instant::now());
        let mut warned = |after: Duration| {
            let error = elsewhere(1, "knative");
            unseen.deserves_warning(start + after, &error)
        };
        let second = Duration::from_secs(1);
        assert!(warned(Duration::ZERO));
        assert!(!warned(FORGOTTEN - second));
        // The time counts from the last meeting.
        assert!(!warned(FORGOTTEN + second));
        assert!(warned(2 * FORGOTTEN + second));
    }
}

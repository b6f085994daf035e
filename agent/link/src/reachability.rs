//! How outages begin and end, for one link and for several together.

use crate::{
    Cause, EndedOutage, FailedAttempt, Legacy, OutageUnderWay, UnknownReason,
    outage_history::OutageHistory, time::Timestamp,
};

/// Whether there is an outage, and what is remembered for the events at its ends.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reachability {
    reach: Reach,
    was_reachable: bool,
    history: OutageHistory,
}

/// Whether it is reachable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Not decided: it was never reachable and is not due to be, or has nothing to reach.
    #[default]
    Undecided,
    Reachable {
        since: Option<Timestamp>,
    },
    Unreachable {
        since: Timestamp,
        /// The cause at onset, or the first that became known.
        onset: Cause,
    },
    /// The state is unknown.
    Unknown {
        since: Timestamp,
        reason: UnknownReason,
        /// When a former outage began, if there was one, and the cause at its onset.
        outage: Option<(Timestamp, Cause)>,
    },
    Ended,
}

/// It became reachable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Recovery {
    pub(crate) at: Timestamp,
    /// The outage that this ends, if there was one.
    pub(crate) outage: Option<EndedOutage>,
}

impl Reachability {
    pub(crate) fn reach(&self) -> Reach {
        self.reach
    }

    /// Whether it has ever been reachable.
    pub(crate) fn was_reachable(&self) -> bool {
        self.was_reachable
    }

    /// An outage begins at `at` with `cause`. Returns `false` if one is under way, or the link has
    /// ended. A former outage that was unknown for a while continues.
    pub(crate) fn begin_outage(&mut self, at: Timestamp, cause: Cause) -> bool {
        match self.reach {
            Reach::Undecided | Reach::Reachable { .. } => {
                self.reach = Reach::Unreachable {
                    since: at,
                    onset: cause,
                };
                true
            }
            Reach::Unknown { outage, .. } => {
                let (since, onset) = outage.unwrap_or((at, cause));
                self.reach = Reach::Unreachable { since, onset };
                true
            }
            Reach::Unreachable { .. } | Reach::Ended => false,
        }
    }

    /// From `at` on the state is unknown, for `reason`. Returns `false` if it was already.
    pub(crate) fn lose_sight(&mut self, at: Timestamp, reason: UnknownReason) -> bool {
        let (since, outage) = match self.reach {
            Reach::Undecided | Reach::Reachable { .. } => (at, None),
            Reach::Unreachable { since, onset } => (at, Some((since, onset))),
            Reach::Unknown { since, outage, .. } => (since, outage),
            Reach::Ended => return false,
        };
        let is_news = !matches!(self.reach, Reach::Unknown { .. });
        self.reach = Reach::Unknown {
            since,
            reason,
            outage,
        };
        is_news
    }

    /// The state can be told again: it is undecided, or the former outage continues. Returns the
    /// cause at its onset in that case.
    pub(crate) fn regain_sight(&mut self) -> Option<Cause> {
        let Reach::Unknown { outage, .. } = self.reach else {
            return None;
        };
        self.reach = outage.map_or(Reach::Undecided, |(since, onset)| Reach::Unreachable {
            since,
            onset,
        });
        outage.map(|(_, onset)| onset)
    }

    /// `cause` became known. Returns whether this is new for an outage whose cause was not known.
    pub(crate) fn name_cause(&mut self, cause: Cause) -> bool {
        match &mut self.reach {
            Reach::Unreachable { onset, .. } if *onset == Cause::Other && cause != Cause::Other => {
                *onset = cause;
                true
            }
            Reach::Unreachable { .. }
            | Reach::Undecided
            | Reach::Reachable { .. }
            | Reach::Unknown { .. }
            | Reach::Ended => false,
        }
    }

    /// The link has been reachable since `since`; `None` means longer than known, and then `at`
    /// counts. `errors` is the present count. Returns `None` if it was reachable already.
    pub(crate) fn recover(
        &mut self,
        since: Option<Timestamp>,
        at: Timestamp,
        errors: u64,
    ) -> Option<Recovery> {
        let (since, recovery) = match self.reach {
            Reach::Reachable { .. } | Reach::Ended => return None,
            Reach::Undecided | Reach::Unknown { outage: None, .. } => {
                (since, Recovery { at, outage: None })
            }
            Reach::Unreachable {
                since: began,
                onset,
            }
            | Reach::Unknown {
                outage: Some((began, onset)),
                ..
            } => {
                // The connection may have been answered before the outage began, and is confirmed
                // only now.
                let at = at.max(began);
                let outage = Some(self.history.outage(began, at, onset, errors));
                (Some(at), Recovery { at, outage })
            }
        };
        self.reach = Reach::Reachable { since };
        self.was_reachable = true;
        self.history.clear();
        Some(recovery)
    }

    /// Nothing is left to reach.
    pub(crate) fn rest(&mut self) {
        self.reach = Reach::Undecided;
        self.history.clear();
    }

    /// The link ends; nothing follows.
    pub(crate) fn end(&mut self) {
        self.reach = Reach::Ended;
    }
}

/// Succession: from one agent to the next.
impl Reachability {
    /// What a successor needs to know, with this many `errors` counted.
    pub(crate) fn legacy(&self, errors: u64) -> Legacy {
        let outage = match self.reach {
            Reach::Unreachable { since, onset }
            | Reach::Unknown {
                outage: Some((since, onset)),
                ..
            } => Some(OutageUnderWay {
                since,
                cause: onset,
                errors: self.history.errors(errors),
                attempts: self.history.attempts(),
            }),
            Reach::Undecided
            | Reach::Reachable { .. }
            | Reach::Unknown { outage: None, .. }
            | Reach::Ended => None,
        };
        Legacy {
            was_reachable: self.was_reachable,
            outage,
            wary: false,
        }
    }

    /// It was reachable before this agent.
    pub(crate) fn inherit_reachable(&mut self) {
        self.was_reachable = true;
    }

    /// The inherited outage continues, unless it was found to be over. Returns whether to show it.
    pub(crate) fn inherit_outage(&mut self, inherited: OutageUnderWay) -> bool {
        let began = (inherited.since, inherited.cause);
        self.reach = match self.reach {
            Reach::Undecided => Reach::Unreachable {
                since: began.0,
                onset: began.1,
            },
            Reach::Unknown {
                since,
                reason,
                outage: None,
            } => Reach::Unknown {
                since,
                reason,
                outage: Some(began),
            },
            Reach::Reachable { .. }
            | Reach::Unreachable { .. }
            | Reach::Unknown {
                outage: Some(_), ..
            }
            | Reach::Ended => return false,
        };
        self.history.inherit(inherited.errors);
        let own = self.history.attempts();
        self.history.clear_attempts();
        for failed in inherited.attempts.into_iter().chain(own) {
            self.history.remember(failed);
        }
        matches!(self.reach, Reach::Unreachable { .. })
    }
}

/// The history for the events at an outage's ends.
impl Reachability {
    /// Something is lost, or begins to fail, after this many errors: errors from now on belong to
    /// the outage, if one follows.
    pub(crate) fn errors_begin(&mut self, errors: u64) {
        self.history.begins(errors);
    }

    /// How many of these `errors` were counted since it was reachable.
    pub(crate) fn errors_since(&self, errors: u64) -> u64 {
        self.history.errors(errors)
    }

    pub(crate) fn remember(&mut self, failed: FailedAttempt) {
        self.history.remember(failed);
    }

    /// The last failed attempts since it was reachable, oldest first.
    pub(crate) fn attempts(&self) -> Vec<FailedAttempt> {
        self.history.attempts()
    }
}

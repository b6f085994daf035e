//! How outages begin and end: the same for one link and for several together.

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
    /// Neither is decided: it was never reachable and is not due to be, or has nothing to reach.
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
    /// Nobody can tell.
    Unknown {
        since: Timestamp,
        reason: UnknownReason,
        /// Since when there was an outage before, and the cause at its onset.
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

    /// An outage begins at `at`, for `cause`; `false` if one is under way, or nothing is to be
    /// said any more. One that nobody could tell of for a while goes on.
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

    /// From `at` on nobody can tell, for `reason`; `false` if that is no news.
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

    /// It can be told again what it is: undecided, or the outage of before goes on. The cause at
    /// its onset, if so.
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

    /// `cause` became known; whether that is news for an outage whose cause was not known.
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

    /// It is reachable `since` then; if that is longer than known, since `at`. With so many
    /// `errors` counted. `None` if that is no news.
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
                // It may have answered before the outage began, and be confirmed only now.
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

    /// There is nothing to reach any more.
    pub(crate) fn rest(&mut self) {
        self.reach = Reach::Undecided;
        self.history.clear();
    }

    /// Nothing follows.
    pub(crate) fn end(&mut self) {
        self.reach = Reach::Ended;
    }
}

/// From one agent to the next.
impl Reachability {
    /// What a successor has to know, with so many `errors` counted.
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

    /// The outage of before goes on, unless it was found to be over; whether that is to be shown.
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

/// What is remembered for the events at an outage's ends.
impl Reachability {
    /// Something is lost, or begins to fail, with so many errors counted before: what is counted
    /// from here on is the outage's, if one follows.
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

//! How connections are decided: what their steps and ends mean, which ones the client let go of,
//! and which lost a race.

use super::Connections;
use crate::{
    Cause,
    connection::{Connection, Step, Upgrade, Verdict},
    finding::{Facts, Finding},
    time::Timestamp,
};

impl Connections {
    pub(super) fn track(
        &mut self,
        mut connection: Connection,
        attempted: Timestamp,
        at: Timestamp,
    ) {
        if let Some(oldest) = self.table.in_the_way() {
            self.gone(oldest, at);
        }
        self.last_activity = self.last_activity.max(attempted);
        self.findings.push(Finding::Dialled(connection.peer));
        connection.first_check(self.addresses.check(connection.peer, at));
        connection.follows_outage(self.outage_before);
        if self.wary {
            connection.beware();
        }
        self.table.insert(connection);
    }

    pub(super) fn step(&mut self, connection: &Connection, step: Step) {
        match step {
            Step::HandshakeFailed { at } => {
                let cause = if connection.is_wrong() {
                    Cause::WrongPeer
                } else {
                    Cause::HandshakeFailed
                };
                self.attempt_failed(connection, at, cause, None);
            }
            Step::Misled { answered } => {
                self.attempt_failed(connection, answered, Cause::WrongPeer, None);
            }
            Step::Upgraded(upgrade) => self.upgraded(connection, upgrade),
            Step::Stalled { onset, cause } => self.lost(connection, onset, cause),
            Step::StillStalled => self.findings.push(Finding::StillStalled),
            Step::Healed { at } => self.findings.push(Finding::Healed {
                of: Facts::of(connection),
                at,
            }),
        }
    }

    /// `connection`, which is no longer in the table, has ended with this verdict.
    pub(super) fn decide(&mut self, connection: &Connection, at: Timestamp, verdict: Verdict) {
        self.table.bury(connection.id);
        self.last_activity = self.last_activity.max(at);
        match verdict {
            Verdict::Nothing => {}
            Verdict::Failed { cause, errno } => {
                self.attempt_failed(connection, at, cause, errno);
            }
            Verdict::Lost { cause, since } => {
                let onset = since.map_or(at, |since| at.max(since));
                self.lost(connection, onset, cause);
            }
        }
    }

    pub(super) fn upgraded(&mut self, connection: &Connection, upgrade: Upgrade) {
        // A connection that had to show more has shown it.
        self.wary = false;
        self.findings.push(Finding::Upgraded {
            of: Facts::of(connection),
            upgrade,
        });
    }

    fn attempt_failed(
        &mut self,
        connection: &Connection,
        at: Timestamp,
        cause: Cause,
        errno: Option<u16>,
    ) {
        self.findings.push(Finding::AttemptFailed {
            of: Facts::of(connection),
            at,
            cause,
            errno,
        });
    }

    /// A live connection, which is not in the table, was lost.
    pub(super) fn lost(&mut self, connection: &Connection, at: Timestamp, cause: Cause) {
        self.last_activity = self.last_activity.max(at);
        // Another one may have been live at that moment, or may be live since.
        let other = self.table.live_from(at);
        self.findings.push(Finding::Lost {
            of: Facts::of(connection),
            at,
            cause,
            other,
        });
    }
}

// === Letting go, and races ===

impl Connections {
    /// Whether an end means that the client let go of a live connection: if it may let go of the
    /// peer at all, it closes a live connection for no other reason.
    pub(super) fn is_let_go(&self, verdict: Verdict) -> bool {
        let cause = match verdict {
            Verdict::Lost { cause, .. } => cause,
            Verdict::Nothing | Verdict::Failed { .. } => return false,
        };
        self.may_withdraw && cause == Cause::LocalClosed
    }

    /// At `at` the client let go of `connection`, which is no longer in the table.
    pub(super) fn let_go(&mut self, connection: &Connection, at: Timestamp) {
        self.table.bury(connection.id);
        if self.table.is_empty() && self.last_activity <= at {
            self.findings.push(Finding::Withdrawn { at });
        } else if self.table.newest_live().is_none() {
            self.findings.push(Finding::LetGo { at });
        }
    }

    /// A connection was established: decides those that lost the race to it.
    pub(super) fn judge_losers(&mut self) {
        for id in self.table.losers() {
            if let Some(loser) = self.table.remove(id) {
                self.lose_race(&loser);
            }
        }
    }

    pub(super) fn lose_race(&mut self, loser: &Connection) {
        self.table.bury(loser.id);
        self.findings.push(Finding::LostRace);
    }
}

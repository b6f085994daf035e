//! The counts of a link: checks, errors by cause, connects.

use crate::{Cause, CheckKind};

/// What a link has counted since its discovery. Every number only grows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    checks: [u64; CheckKind::ALL.len()],
    errors: [[u64; Cause::ALL.len()]; CheckKind::ALL.len()],
    connects: u64,
    /// connect()s that are no attempts of their own, because another one of the same dial
    /// succeeded.
    races_lost: u64,
}

impl Counts {
    /// Checks of `kind`.
    pub fn checks(&self, kind: CheckKind) -> u64 {
        self.checks.get(kind as usize).copied().unwrap_or_default()
    }

    /// Failed checks of `kind` with `cause`.
    pub fn errors(&self, kind: CheckKind, cause: Cause) -> u64 {
        self.errors
            .get(kind as usize)
            .and_then(|by_cause| by_cause.get(cause as usize))
            .copied()
            .unwrap_or_default()
    }

    /// Connections that reached *upgraded*.
    pub const fn connects(&self) -> u64 {
        self.connects
    }

    /// connect()s that lost to another one of the same dial: no attempts. The connect checks and
    /// these add up to what the kernel counted.
    pub const fn races_lost(&self) -> u64 {
        self.races_lost
    }

    /// Checks of every kind.
    pub fn total_checks(&self) -> u64 {
        self.checks.iter().sum()
    }

    /// Errors of every kind and cause.
    pub fn total_errors(&self) -> u64 {
        self.errors.iter().flatten().sum()
    }

    /// Adds the counts of `other`.
    pub fn add(&mut self, other: &Self) {
        let own = self.checks.iter_mut().chain(self.errors.as_flattened_mut());
        let others = other.checks.iter().chain(other.errors.as_flattened());
        for (own, other) in own.zip(others) {
            *own = own.saturating_add(*other);
        }
        self.connect(other.connects);
        self.races_lost = self.races_lost.saturating_add(other.races_lost);
    }

    /// A connect() lost to another one of the same dial.
    pub(crate) fn lose_race(&mut self) {
        self.races_lost = self.races_lost.saturating_add(1);
    }

    /// `n` checks of `kind` passed.
    pub fn pass(&mut self, kind: CheckKind, n: u64) {
        if let Some(checks) = self.checks.get_mut(kind as usize) {
            *checks = checks.saturating_add(n);
        }
    }

    /// `n` checks of `kind` failed with `cause`.
    pub fn fail(&mut self, kind: CheckKind, cause: Cause, n: u64) {
        self.pass(kind, n);
        if let Some(errors) = self
            .errors
            .get_mut(kind as usize)
            .and_then(|by_cause| by_cause.get_mut(cause as usize))
        {
            *errors = errors.saturating_add(n);
        }
    }

    /// `n` connections reached *upgraded*.
    pub fn connect(&mut self, n: u64) {
        self.connects = self.connects.saturating_add(n);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_checks_and_totals_are_sums() {
        let mut counts = Counts::default();
        counts.pass(CheckKind::Liveness, 5);
        counts.fail(CheckKind::Connect, Cause::Timeout, 2);
        counts.connect(1);
        let mut sum = counts.clone();
        sum.add(&counts);
        for (counts, times) in [(&counts, 1), (&sum, 2)] {
            assert_eq!(counts.checks(CheckKind::Connect), 2 * times);
            assert_eq!(counts.errors(CheckKind::Connect, Cause::Timeout), 2 * times);
            let totals = (counts.total_checks(), counts.total_errors());
            assert_eq!(totals, (7 * times, 2 * times));
            assert_eq!(counts.connects(), times);
        }
    }
}

//! Races: several connect()s of one dial, of which one wins.
//!
//! For a name with several addresses, Go calls connect() for one after another, and for both
//! families at a time (Happy Eyeballs, RFC 8305). One dial is one attempt, so a failed connect() is
//! no failed attempt if another of the same dial succeeded. Nothing says which connect()s belong to
//! one dial, but the client pauses between two dials. So a connection that has ended before its
//! peer sent anything has lost to one that
//!
//! - goes to another address,
//! - began before it ended, or within [`SAME_DIAL`], and
//! - was established since it began, and still exists.
//!
//! While such a connection is being attempted, nothing is decided. If all fail, each counts.

use crate::{connection::Connection, timings::SAME_DIAL};

/// The result of a race for a connection that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Race {
    /// There was none, or nobody won it.
    None,
    /// Another one won it.
    Lost,
    /// Another one is still being attempted.
    Undecided,
}

/// The result for one that `ended`, in a race with `others`.
pub(crate) fn judge<'a>(ended: &Connection, others: impl Iterator<Item = &'a Connection>) -> Race {
    let Some(end) = ended.closed().filter(|closed| closed.may_have_lost) else {
        return Race::None;
    };
    let mut race = Race::None;
    for other in others.filter(|other| other.peer.ip() != ended.peer.ip()) {
        if other.began() > end.at + SAME_DIAL {
            continue;
        }
        match (other.established_at(), other.closed()) {
            (Some(established), None) if established >= ended.began() => return Race::Lost,
            (None, None) => race = Race::Undecided,
            // A third one may have followed it.
            (None, Some(later)) if later.may_have_lost && later.at > end.at => {
                race = Race::Undecided;
            }
            _ => {}
        }
    }
    race
}

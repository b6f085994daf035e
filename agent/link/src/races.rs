//! Several connect()s of one dial, of which one wins.
//!
//! A name with several addresses makes Go connect() to one after the other, and to both families at
//! a time (Happy Eyeballs, RFC 8305). One dial is one attempt, so a connect() that failed is none if
//! another of the same dial came up. Which belong to one dial, nothing says; but the client pauses
//! between two dials. So a connection that has ended without a word of its peer has lost to one that
//!
//! - goes to another address,
//! - began before it ended, or within [`SAME_DIAL`], and
//! - was established since it began, and still exists.
//!
//! While such a one is under way, nothing is decided. Where all fail, each counts.

use crate::{connection::Connection, timings::SAME_DIAL};

/// What a race makes of a connection that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Race {
    /// There was none, or nobody won it.
    None,
    /// Another one won it.
    Lost,
    /// Another one is under way.
    Undecided,
}

/// What the race with `others` makes of one that `ended`.
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
            // It may have been followed by a third.
            (None, Some(later)) if later.may_have_lost && later.at > end.at => {
                race = Race::Undecided;
            }
            _ => {}
        }
    }
    race
}
